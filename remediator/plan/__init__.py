"""The plan: frozen changes as data."""
