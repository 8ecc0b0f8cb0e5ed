"""Benchmarks: `make bench`. Every row stands beside the floor of the same run."""
