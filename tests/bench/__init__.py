"""Benchmarks: each figure is a ratio to a baseline measured in turns with it, on the same servers."""
