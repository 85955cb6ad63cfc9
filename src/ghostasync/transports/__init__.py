"""Who reaches hosts: one module for each way."""

from __future__ import annotations

# The first import of asyncssh is this one: it starts no compiler.
from . import _asyncssh as _asyncssh
