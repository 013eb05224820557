"""The file that ships: written, verified."""
