"""Lower precision after training, one file per method."""
