"""What every other part of the scanner uses: errors, settings, strict YAML, ARNs, the worker pool."""
