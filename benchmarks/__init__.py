"""Side by side against what people would use otherwise; results are append-only JSON lines in `results/`."""
