"""Files in a folder or in S3, behind one protocol."""
