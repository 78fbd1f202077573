"""The risk engine: the catalogue of checks, and the verdict on each function."""
