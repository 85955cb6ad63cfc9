"""This machine: programs, scripts, paths, and what must not be printed."""
