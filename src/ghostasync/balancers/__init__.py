"""The balancers, which send visitors to hosts: one file for each kind."""
