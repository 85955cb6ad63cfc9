"""A run, from its first event to its report."""
