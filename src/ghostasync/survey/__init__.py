"""Look at a fleet, change nothing."""
