"""LIVE: remove the links of modules that a rollback takes away as a whole."""

from __future__ import annotations

import anyio

from ..._remote.call import call
from ...errors import HostError
from ..host import HostRun, Move
from ..takeover import overtaken

__all__ = ["remove_links"]


async def remove_links(ctx: HostRun) -> bool:
    """
    Remove each link of a module that goes; return whether none is left.

    A failure is a warning, and a link that a later run has brought back stays.
    """
    back = ctx.run.spec.way_back
    goes = back.to.get(ctx.name, {}) if back else {}
    moves = []
    for module in ctx.modules:
        target = ctx.known.targets[module.name]
        goes_now = not goes.get(module.name) and target.live and target.record
        if goes_now and target.record and not overtaken(ctx, module):
            # To what was there before there was a link: nothing, or what was adopted.
            stand = [m for m in target.activations if m.outcome != "reverted"]
            adopted = next((m for m in stand if m.aside), target.record)
            moves.append(
                Move(
                    module=module.name,
                    folder=ctx.paths.module(module.name),
                    target=ctx.target(module),
                    previous="",
                    new=target.link,
                    aside=adopted.aside,
                    generation=adopted.generation,
                )
            )
    args = [word for move in moves for word in move.args]
    seconds = ctx.run.deadlines.switch
    try:
        if args:
            how = ctx.known.rename, ctx.busy_file, ctx.run.id
            with anyio.fail_after(seconds):
                await call(ctx.session, "restore", *how, *args, sudo=ctx.sudo)
    except (HostError, TimeoutError) as exc:
        names = ", ".join(move.module for move in moves)
        why = str(exc) or f"not done within {seconds:g} s"
        ctx.warn(f"the link of {names} was not removed: {why}")
        return False
    return True
