"""The reports as HTML, charts, CSV and mail."""
