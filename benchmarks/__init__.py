"""Measurements: `python -m benchmarks.NAME [key=value]` prints a table and writes it as JSON."""
