"""A look at hosts before a run is planned: they know best what they serve."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from .._engine.look import looked_at
from .._engine.spec import RunSpec
from ..model import Host
from ..protocols import Transport
from .basis import Basis, spec_of_look
from .hosts import place
from .unfinished import Seen

__all__ = ["Reach", "look_at", "look_at_all"]

Reach = Callable[[RunSpec], AbstractAsyncContextManager[Transport]]
"""Opens a transport to the hosts of a spec, for a look at them."""


async def look_at_all(basis: Basis, reach: Reach) -> Seen:
    """Return what every host of the plan tells, by name."""
    return await look_at(basis, basis.plan.hosts, reach)


async def look_at(basis: Basis, hosts: tuple[Host, ...], reach: Reach) -> Seen:
    """Return what *hosts* tell of all their modules, by name."""
    hosts, modules = place(hosts, basis.plan.modules, basis.hosts_of_module)
    look = spec_of_look(basis, hosts, modules, limited=False)
    async with reach(look) as transport:
        return await looked_at(look, transport)
