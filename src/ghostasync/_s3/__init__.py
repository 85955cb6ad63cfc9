"""Calls to S3, for all that keep or fetch something there, and what went wrong."""
