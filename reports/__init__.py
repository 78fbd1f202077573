"""Reports: coverage, CSV, HTML, the weekly report, and the files of a run."""
