"""A host as a balancer gets it, on which nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from ghostasync import Host

__all__ = ["Access"]


@attrs.define
class Access:
    """A host, with the *seconds* that a call has; *ran* are scripts and where."""

    host: Host
    seconds: float = 20
    variables: Mapping[str, str] = attrs.field(factory=dict)
    ran: list[tuple[str, str]] = attrs.field(factory=list)

    async def run(self, text: str, *, on: Literal["controller", "host"]) -> None:
        self.ran.append((text, on))
