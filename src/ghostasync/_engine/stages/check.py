"""CHECKING: take the host's lock, then find out whether it is fit for the plan."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

import anyio

from ... import events as e
from ..._remote.call import hold, query
from ..._remote.facts import Facts, ModuleState, parse_facts
from ...errors import HostError, LockHeld, Refused, RemoteError, StillRunning
from ...model import Module
from ..host import HostRun

__all__ = ["check", "findings", "inspect", "rights", "take_lock"]

STALE: Final = 90
"""Seconds without a beat, by the host's clock, after which a lock may be taken over."""

YIELDING: Final = 15.0
"""Seconds that an older run waits for a younger one to give its locks back."""

_AGAIN: Final = 1.0
_PATIENCE: Final = 10
"""Seconds that a script of a run which is gone has to end; ``run.sh`` takes up to 6."""

_HELD: Final = 75
_RUNNING: Final = 76
"""What ``lock.sh`` exits with: another run holds the lock, or still runs a script."""

_RUN: Final = re.compile(r"run (\S+) ")
"""How the text under which a lock is held begins; ids sort by time."""

_LOCK_BYTES = 64 << 10
_LOCK_INODES = 8
"""A disk with less has no room for the lock's own files."""


async def check(ctx: HostRun) -> e.Checked:
    """
    Take the lock, without waiting, and look at everything a release needs.

    A host that will only go back needs to be fit for nothing.

    Raises:
        LockHeld: Another run has it.
        Refused: The host is not fit; the text says what to do.
    """
    if ctx.attempt.lock is None:
        await take_lock(ctx)
    ctx.attempt.facts = await inspect(ctx)
    wrong: list[str] = []
    if not ctx.run.goal.only_back:
        wrong = [*findings(ctx, ctx.attempt.facts), *await rights(ctx)]
    if wrong:
        raise Refused(ctx.name, "; ".join(wrong))
    live = {name: target.live for name, target in ctx.attempt.facts.targets.items()}
    return e.Checked(ctx.name, live=live)


async def take_lock(ctx: HostRun) -> None:
    """
    Hold the host's lock until the connection ends.

    A run that had it before, on a connection that died, gets it again only if no other
    run had it in between. Of two runs that each hold some hosts the older keeps them:
    it asks again for a while, and the younger, refused as well, gives back what it has.

    Raises:
        LockHeld: Another run has it.
        Refused: There is no lock to be had here, or a script of another run still runs.
    """
    until = anyio.current_time() + min(YIELDING, ctx.run.deadlines.check / 2)
    while True:
        try:
            return await _ask_for_lock(ctx)
        except LockHeld as exc:
            younger = (found := _RUN.match(exc.holder)) and found[1] > ctx.run.id
            left = until - anyio.current_time()
            if not younger or left <= 0:
                raise
        await anyio.sleep(min(_AGAIN, left))


async def _ask_for_lock(ctx: HostRun) -> None:
    app_dir = ctx.session.app_dir = ctx.paths.app_dir
    stale = "-1" if ctx.run.spec.break_lock and not ctx.attempt.had_lock else str(STALE)
    again = "1" if ctx.attempt.had_lock else ""
    words = (
        ctx.session.holder,
        ctx.run.id,
        ctx.session.app,
        stale,
        str(_PATIENCE),
        again,
    )
    try:
        ctx.attempt.lock, said = await hold(
            ctx.session, "lock", app_dir, *words, sudo=ctx.sudo
        )
        ctx.attempt.had_lock = True
        found = re.match(r"locked (\d+)", said)
        ctx.session.pid = found[1] if found else ""
        if whose := said.partition("taken over ")[2]:
            ctx.warn(f"the lock was taken over {whose}")
    except RemoteError as exc:
        if exc.status == _HELD:
            # One line; what an rc file had to say comes before it.
            raise LockHeld(ctx.name, exc.tail.strip().rpartition("\n")[2]) from exc
        if exc.status == _RUNNING:
            raise StillRunning(
                ctx.name,
                f"another script has not ended: {exc.tail.strip()}; wait for it, "
                "or end it there",
            ) from exc
        raise Refused(ctx.name, await _why_unusable(ctx, exc)) from exc


async def _why_unusable(ctx: HostRun, exc: RemoteError) -> str:
    """Say why the host's folder takes no lock: there is no room, or no right to it."""
    root = ctx.paths.app_dir
    with contextlib.suppress(HostError):
        facts = await inspect(ctx)
        if facts.free_bytes is not None and facts.free_bytes < _LOCK_BYTES:
            return f"no room on {root}: {facts.free_bytes} bytes are free"
        if facts.free_inodes is not None and facts.free_inodes < _LOCK_INODES:
            return f"no room on {root}: {facts.free_inodes} inodes are free"
    said = exc.tail.strip().rpartition("\n")[2] or str(exc)
    return (
        f"cannot use {root}: {said}; create it with "
        f"`install -d -o {_login(ctx)} {ctx.paths.root}`, or set ssh.sudo"
    )


async def inspect(ctx: HostRun) -> Facts:
    """Ask the host what it is and has; changes nothing that lasts."""
    folders = {ctx.paths.module(m.name): m for m in ctx.modules}
    args = [word for folder, m in folders.items() for word in (folder, ctx.target(m))]
    text = await query(ctx.session, "check", ctx.paths.app_dir, *args, sudo=ctx.sudo)
    return parse_facts(text, {folder: m.name for folder, m in folders.items()})


def findings(ctx: HostRun, facts: Facts) -> Iterator[str]:
    """Yield what keeps the host from taking the plan, each with what to do."""
    if "tar" not in facts.tools:
        yield "tar is missing: install it"
    if not facts.tools & {"zstd", "gzip"}:
        yield "zstd and gzip are missing: install one of them"
    if facts.unwritable:
        yield f"{_login(ctx)} may not write to {facts.unwritable}"
    elif not facts.rename:
        yield "nothing here renames a link in one step: install coreutils or python3"
    for module in ctx.modules:
        yield from _module(ctx, facts, module, facts.targets[module.name])


def _module(
    ctx: HostRun, facts: Facts, module: Module, target: ModuleState
) -> Iterator[str]:
    path = ctx.target(module)
    if target.unwritable:
        where, login = target.unwritable, _login(ctx)
        cure = f"`chown {login} {where}`, or set ssh.sudo"
        if facts.uid == 0:
            cure = "is its disk read-only?"
        yield f"{login} may not write to {where} (for {path}): {cure}"
    foreign = target.kind == "link" and not target.live
    if (foreign or target.kind in {"directory", "file"}) and not module.adopt:
        what = f"a link to {target.link}" if foreign else f"a {target.kind}"
        yield (
            f"{path} is {what}, not a release of {module.name}: move it away, or set "
            "adopt = true to have it moved aside"
        )
    others = (module.uid not in {-1, facts.uid}) or (module.gid not in {-1, facts.gid})
    if others and facts.uid != 0:
        yield (
            f"{module.name} is owned by {module.uid}:{module.gid}, which needs root: "
            "log in as root or set ssh.sudo"
        )


async def rights(ctx: HostRun) -> list[str]:
    """Return what keeps scripts from running as other users, each with what to do."""
    users = {user: m.name for m in ctx.modules for user in sorted(m.users)}
    users.pop(ctx.login, None)
    return [
        finding
        for user, module in users.items()
        if (finding := await _run_as_finding(ctx, user, module))
    ]


async def _run_as_finding(ctx: HostRun, user: str, module: str) -> str:
    try:
        await query(ctx.session, "change_user", user, "exit 0", sudo=ctx.sudo)
    except RemoteError as exc:
        why = exc.tail.strip() or str(exc)
    else:
        return ""
    finding = f"scripts of {module} cannot run as {user}: {why}"
    if ctx.login == "root" or why.startswith("there is no user"):
        return finding
    return f"{finding}; add to sudoers: {ctx.login} ALL=({user}) NOPASSWD: ALL"


def _login(ctx: HostRun) -> str:
    return ctx.login
