"""Benchmarks, run as ``python -m benchmarks.<topic>.<name>``; they write to ``results/``."""
