"""Data sets that the benchmarks draw, download or enlarge."""
