"""
Stages: a coroutine for each state, with one host, one effect and one event; and what
some of them share.

A stage returns the event that became true, and raises what kept it from doing so: the
pipeline makes an event of that, too. A stage may be begun again on a new connection,
so whatever it finds done already it leaves.
"""
