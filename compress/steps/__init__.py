"""The body of each stage of a run: reads its parents and writes into one folder."""
