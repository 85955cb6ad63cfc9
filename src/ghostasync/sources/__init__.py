"""Where trees come from."""
