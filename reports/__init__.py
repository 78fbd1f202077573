"""Tells: coverage, CSV, HTML, the weekly report, and where files go."""
