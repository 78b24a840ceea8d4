"""Benchmarks, run as ``python -m benchmarks.<name>``; they write to ``results/``."""
