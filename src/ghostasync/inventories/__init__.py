"""The inventories, which name hosts: one file for each kind."""
