"""LIVE: remove the links of modules that a rollback takes away as a whole."""

from __future__ import annotations

from ..._remote.call import call
from ...errors import HostError
from ..host import HostRun, Move

__all__ = ["remove_links"]


async def remove_links(ctx: HostRun) -> None:
    """Remove each link of a module that goes; a failure is a warning."""
    back = ctx.run.spec.way_back
    goes = back.to.get(ctx.name, {}) if back else {}
    moves = []
    for module in ctx.modules:
        target = ctx.known.targets[module.name]
        if not goes.get(module.name) and target.live and target.record:
            # To where it was before there was a link: to nothing.
            moves.append(
                Move(
                    module=module.name,
                    folder=ctx.paths.module(module.name),
                    target=ctx.target(module),
                    previous="",
                    new=target.link,
                    generation=target.record.generation,
                )
            )
    args = [word for move in moves for word in move.args]
    try:
        if args:
            how = ctx.known.rename, ctx.busy_file
            await call(ctx.session, "restore", *how, *args, sudo=ctx.sudo)
    except HostError as exc:
        names = ", ".join(move.module for move in moves)
        ctx.warn(f"the link of {names} was not removed: {exc}")
