"""Benchmarks of the paper: data, harness, scoring."""
