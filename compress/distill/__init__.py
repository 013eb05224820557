"""The objectives, the schedule, and the one training loop."""
