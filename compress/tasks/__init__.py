"""What an answer is: labels, decisions, metrics."""
