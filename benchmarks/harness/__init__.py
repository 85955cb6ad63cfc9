"""What the benchmarks share: a tree, hosts, contestants, a meter and a table."""

from __future__ import annotations
