"""The transports, which reach hosts: one module for each way."""

from __future__ import annotations

# The search for libraries happens in the first import of asyncssh, so that has to be
# this one, which starts no compiler.
from . import _asyncssh as _asyncssh
