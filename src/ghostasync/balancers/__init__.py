"""Who sends visitors to hosts: a file for each way to tell it."""
