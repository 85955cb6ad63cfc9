"""One file per question; the question is its docstring."""

from __future__ import annotations
