"""The sources of trees: one file for each kind."""
