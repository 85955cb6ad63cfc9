"""The inventory that the configuration lists itself."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..model import Host

__all__ = ["Static"]


@attrs.frozen
class Static:
    """An inventory of given hosts, which never changes."""

    _hosts: tuple[Host, ...]

    async def hosts(self) -> Sequence[Host]:
        """Return the hosts in the order they are listed."""
        return self._hosts
