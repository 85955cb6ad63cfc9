"""Calls to services of AWS, other than S3; the extra ``aws`` is imported here alone."""
