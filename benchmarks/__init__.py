"""Benchmarks: each prints a table and one JSON object, and writes the object to benchmarks/results/NAME.json."""
