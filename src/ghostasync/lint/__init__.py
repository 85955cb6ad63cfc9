"""The linter of scripts: calls that a script should not make, found by reading it."""
