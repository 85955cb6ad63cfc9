"""Who reaches hosts: one module for each way."""

from __future__ import annotations

# Before another module here imports asyncssh in its own way.
from . import _asyncssh as _asyncssh
