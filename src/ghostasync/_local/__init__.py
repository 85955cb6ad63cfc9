"""This machine: its programs, scripts and paths, and the secrets in what they print."""
