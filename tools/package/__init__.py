"""`make package`: the zip that AWS Lambda runs, the same bytes each time it is built, and its SBOM."""
