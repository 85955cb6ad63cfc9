"""Where hosts come from, one file per kind of inventory."""
