"""Latency, throughput, memory and the report."""
