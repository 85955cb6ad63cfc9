"""Who reaches hosts: one module for each way."""

from __future__ import annotations
