"""Benchmarks that anyone can run, from the repository's root: ``python -m benchmarks.sweep``."""
