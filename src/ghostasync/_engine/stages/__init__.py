"""A coroutine for each state: one host, one effect, one fact that became true."""
