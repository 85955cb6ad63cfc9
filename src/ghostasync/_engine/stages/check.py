"""
CHECKING: take the host's lock, then find out whether it is fit for the plan.

How it works. All hosts are asked for their locks at once. Two runs that begin together
may then each hold some: the younger gives all back, and the older asks again for
``YIELDING`` seconds, so that one of them goes on. Longer waits are not made here but in
``_engine/locks.py``. All facts of the host come in one answer of ``check.sh``; every
finding in it is told, not only the first, each with what to do.

One file, though long: all that a host may be refused for.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import anyio

from ... import events as e
from ..._remote import answers
from ..._remote.call import call, hold, query
from ..._remote.facts import Facts, ModuleState, Trial
from ...errors import HostError, LockHeld, Refused, RemoteError, StillRunning
from ...model import Module
from ..delivery.pull import why_it_cannot
from ..host import HostRun

__all__ = [
    "cannot_start",
    "check",
    "doubts",
    "findings",
    "inspect",
    "no_room_at_all",
    "no_way_to_store",
    "rights",
    "same_machine",
    "strangers",
    "take_lock",
]

STALE: Final = 90
"""Seconds without a beat, by the host's clock, after which a lock may be taken over."""

YIELDING: Final = 15.0
"""Seconds that an older run waits for a younger one to give its locks back."""

_ASK_EVERY: Final = 1.0
"""Seconds between two questions for a lock."""

_PATIENCE: Final = 10
"""Seconds that a script of a run which is gone has to end; ``run.sh`` takes up to 6."""

_HELD: Final = 75
"""The exit status of ``lock.sh`` where another run holds the lock."""

_RUNNING: Final = 76
"""The exit status of ``lock.sh`` where a script of another run has not ended."""

_WAYS: Final = {
    "owner": (
        'belongs to {who}: `chown {login} {folder}`, or layout.trusted = ["{who}"]'
    ),
    "group": (
        "may be written to by the group {who}: `chmod g-w {folder}`, or "
        'layout.trusted = ["@{who}"]'
    ),
    "others": "may be written to by everybody: `chmod o-w {folder}`",
    "anybody": (
        "lets everybody make names: `chmod o-w {folder}`, or use a folder of its own"
    ),
    "acl": "may be written to by others, by an ACL: `setfacl -b {folder}`",
    "link": "is a link: remove it, for it has to be a folder of ours",
}
"""How others may change a folder, as ``parts/owners.sh`` tells it, and what to do."""

_LOCK_BYTES = 64 << 10
_LOCK_INODES = 8
"""The room for the lock's own files; a disk with less of either is full."""

_FULL: Final = "No space left on device"
_READ_ONLY: Final = "Read-only file system"


async def check(ctx: HostRun) -> e.Checked:
    """
    Take the host's lock and look at everything that a release needs.

    Raises:
        LockHeld: Another run has the lock.
        Refused: The host is not fit; the text says what to do.
    """
    # The lock first: facts of a host that another run is changing are soon wrong.
    if ctx.attempt.lock is None:
        await take_lock(ctx)
    ctx.attempt.facts = await inspect(ctx)
    unfit = [
        # A way back, too, runs what it finds there.
        *strangers(ctx, ctx.attempt.facts),
        *await _unfit(ctx, ctx.attempt.facts),
        *_moved_meanwhile(ctx, ctx.attempt.facts),
    ]
    if unfit:
        raise Refused(ctx.name, "; ".join(unfit))
    live = {name: target.live for name, target in ctx.attempt.facts.targets.items()}
    return e.Checked(ctx.name, live=live)


async def _unfit(ctx: HostRun, facts: Facts) -> Iterable[str]:
    """Return all that keeps the host from what the run is for, each with what to do."""
    goal = ctx.run.goal
    if goal.script:
        return [*_serves_nothing(ctx, facts), *await rights(ctx)]
    if goal.active_color:
        # A host that only loses its visitors may be as it is.
        return _off_manifest(ctx, facts) if ctx.run.spec.gets_visitors else ()
    # A way back needs nothing of what a new release needs: a host without room, or
    # without zstd, must still be able to go back.
    if goal.only_back:
        return ()
    unfit = [*findings(ctx, facts), *await rights(ctx)]
    # Releases that a rollback goes to are on the hosts, in nearly all cases.
    if not unfit and not goal.recalls:
        unfit = [text for text in (await no_way_to_store(ctx),) if text]
    return unfit


def doubts(ctx: HostRun) -> Iterator[str]:
    """Yield what keeps a host from nothing, and is the same on many."""
    if ctx.run.plan.store.signers and "ssh-keygen" not in ctx.known.tools:
        yield "ssh-keygen is missing: new hosts like it could not boot (store.signers)"
    if not _works_as_root(ctx, ctx.known):
        yield from _in_hands_of_others(ctx, ctx.known)


async def no_way_to_store(ctx: HostRun) -> str:
    """Return why a release cannot get to the host as planned; empty where it can."""
    rollout, pushed = ctx.run.plan.rollout, ctx.run.pushed
    if rollout.transfer == "push" or ctx.name in pushed:
        return ""
    if not (why := await why_it_cannot(ctx)):
        return ""
    text = f"cannot fetch from the store: {why}"
    if rollout.transfer == "pull":
        return f"{text} (rollout.transfer)"
    if len(pushed) >= rollout.max_push:
        return f"{text}; releases are sent to {len(pushed)} hosts (rollout.max_push)"
    pushed.add(ctx.name)
    ctx.warn(f"{text}; releases are sent from here")
    return ""


def _serves_nothing(ctx: HostRun, facts: Facts) -> Iterator[str]:
    """Yield the modules of which there is no release that a script could run in."""
    for module in ctx.modules:
        target = facts.targets[module.name]
        if not target.live or target.dangling:
            name, cure = module.name, f"ghostasync converge {ctx.name}"
            yield f"serves no release of {name}: {cure}"


def _off_manifest(ctx: HostRun, facts: Facts) -> Iterator[str]:
    """Yield the modules of which a host serves something else than MANIFEST says."""
    for line in ctx.run.spec.manifest:
        target = facts.targets.get(line.module)
        if target is None or (target.live == line.package and not target.dangling):
            continue
        now = f"serves {target.live or 'nothing'} of {line.module}"
        yield f"{now}, and MANIFEST says {line.package}: converge it first"


def _moved_meanwhile(ctx: HostRun, facts: Facts) -> Iterator[str]:
    """Yield what a host serves that is not what a rollback was planned on."""
    back = ctx.run.spec.way_back
    serves = back.serves.get(ctx.name, {}) if back else {}
    for module, release in serves.items():
        now = facts.targets[module].live
        if now not in {release, back.to[ctx.name][module] if back else ""}:
            yield (
                f"serves {now or 'nothing'} now, and {release or 'nothing'} when the "
                f"rollback was planned: another run has moved {module}; look again"
            )


async def take_lock(ctx: HostRun) -> None:
    """
    Hold the host's lock until the connection ends.

    A run that had the lock before, on a connection that died, gets it again only if no
    other run had it in between. Of two runs that each hold some hosts the older keeps
    them: it asks again for a while, and the younger, refused as well, gives all back.

    Raises:
        LockHeld: Another run has the lock.
        StillRunning: A script of a run that is gone has not ended yet.
        Refused: No lock can be made on this host, or it is another host of this run.
    """
    # At most half of the deadline: the rest of CHECKING needs the other half.
    until = anyio.current_time() + min(YIELDING, ctx.run.deadlines.check / 2)
    while True:
        try:
            return await _ask_for_lock(ctx)
        except LockHeld as exc:
            _refuse_twin(ctx, exc)
            younger = answers.run_of(exc.holder) > ctx.run.id
            left = until - anyio.current_time()
            if not younger or left <= 0:
                raise
        await anyio.sleep(min(_ASK_EVERY, left))


def _refuse_twin(ctx: HostRun, exc: LockHeld) -> None:
    """
    Do nothing, unless the lock is held by this run itself, under another host's name.

    Raises:
        Refused: The inventory has two names for this machine.
    """
    ours = f"{ctx.run.spec.holder} as "
    twin = exc.holder.removeprefix(ours)
    # Under its own name it is a lock of a dead connection, which the host still has.
    if exc.holder.startswith(ours) and twin != ctx.name:
        raise Refused(ctx.name, same_machine(twin)) from exc


def same_machine(twin: str) -> str:
    """Return the finding that *twin* is another name of the same host."""
    return f"is the same machine as {twin}: leave one of the two names out"


async def _ask_for_lock(ctx: HostRun) -> None:
    app_dir = ctx.session.app_dir = ctx.paths.app_dir
    # --break-lock is for the holder that a person knows of. A run that reconnects may
    # meet another one that has taken its lock over since: that one is not ended.
    stale = "-1" if ctx.run.spec.break_lock and not ctx.attempt.had_lock else str(STALE)
    again = "1" if ctx.attempt.had_lock else ""
    # What is frozen may still go back: nobody freezes a fleet on a bad release.
    goal = ctx.run.goal
    goes_back = "1" if goal.recalls or goal.only_back else ""
    args = (
        ctx.trusted,
        ctx.session.holder,
        ctx.run.id,
        ctx.session.app,
        stale,
        str(_PATIENCE),
        again,
        goes_back,
    )
    try:
        ctx.attempt.lock, locked = await hold(
            ctx.session, "lock", app_dir, *args, read=answers.locked, sudo=ctx.sudo
        )
        ctx.attempt.had_lock = True
        # The process that holds the lock goes into the fence of every later script: one
        # that an earlier, dead session of this run had sent must not begin late.
        ctx.session.process = locked.process
        if locked.taken_from:
            ctx.warn(f"the lock was taken over from {locked.taken_from}")
    except RemoteError as exc:
        if exc.status == _HELD:
            raise LockHeld(ctx.name, answers.holder(exc.tail)) from exc
        if exc.status == _RUNNING:
            raise _still_running(ctx, exc.tail.strip()) from exc
        raise Refused(ctx.name, await _why_unusable(ctx, exc)) from exc


def _still_running(ctx: HostRun, what: str) -> StillRunning:
    """Return the error for the scripts of another run that have not ended."""
    if script := answers.outlived(what):
        text = f"before_switch of {script.module}, which run {script.run} began, has"
        return StillRunning(
            ctx.name, f"{text} not ended (pid {script.pid})", lasting=True
        )
    text = f"another script has not ended: {what}; wait for it, or end it there"
    return StillRunning(ctx.name, text)


async def _why_unusable(ctx: HostRun, exc: RemoteError) -> str:
    """Return why the host's folder takes no lock: no room, or no right to write."""
    # On a full disk dash says "I/O error"; df says what it is. A host that does not
    # answer now keeps the first error, which is about the lock.
    with contextlib.suppress(HostError):
        facts = await inspect(ctx)
        if facts.closed:
            return _closed(ctx, *facts.closed[0])
        for whose in strangers(ctx, facts):
            return whose
        if full := no_room_at_all(ctx, facts):
            return full
    return _unusable(ctx, answers.reason(exc.tail) or str(exc))


def _unusable(ctx: HostRun, error: str) -> str:
    """Return that the app's folder takes nothing, and what to do."""
    root = ctx.paths.root
    cure = f"create it with `install -d -o {ctx.login} {root}`, or set ssh.sudo"
    if error == _READ_ONLY:
        cure = f"have the disk of {root} writable, or choose another layout.root"
    return f"cannot use {ctx.paths.app_dir}: {error}; {cure}"


def no_room_at_all(ctx: HostRun, facts: Facts) -> str:
    """Return that not even the lock has room; empty where it has."""
    free = {"bytes": facts.free_bytes, "inodes": facts.free_inodes}
    for what, least in (("bytes", _LOCK_BYTES), ("inodes", _LOCK_INODES)):
        left = free[what]
        if left is not None and left < least:
            return f"no room on {ctx.paths.app_dir}: {left} {what} are free"
    return ""


async def inspect(ctx: HostRun) -> Facts:
    """Return the facts that the host tells now; changes nothing that lasts."""
    folders = {ctx.paths.module(m.name): m for m in ctx.modules}
    args = [word for folder, m in folders.items() for word in (folder, ctx.target(m))]
    names = {folder: module.name for folder, module in folders.items()}
    return await query(
        ctx.session,
        *("check", ctx.paths.app_dir, ctx.trusted, str(ctx.run.records), *args),
        read=functools.partial(answers.facts, modules=names),
        sudo=ctx.sudo,
    )


def findings(ctx: HostRun, facts: Facts) -> Iterator[str]:
    """Yield all that keeps the host from taking the plan, each with what to do."""
    if "tar" not in facts.tools:
        yield "tar is missing: install it"
    if not facts.tools & {"zstd", "gzip"}:
        yield "zstd and gzip are missing: install one of them"
    if facts.closed:
        yield _closed(ctx, *facts.closed[0])
    # A full disk is judged later: failed releases may go first, and make room.
    elif facts.untried and facts.untried != _FULL:
        yield _unusable(ctx, facts.untried)
    elif facts.unwritable:
        yield f"{ctx.login} may not write to {facts.unwritable}"
    elif not facts.rename and not facts.untried and not facts.foreign:
        yield "nothing here renames a link in one step: install coreutils or python3"
    if facts.fence is None and not facts.closed:
        yield (
            f"{ctx.paths.app_meta}/fence is damaged: write the number of another host "
            "there, or remove the file"
        )
    for module in ctx.modules:
        yield from _module_findings(ctx, facts, module, facts.targets[module.name])


def strangers(ctx: HostRun, facts: Facts) -> Iterator[str]:
    """Yield which folders others may change, where root works; and what to do."""
    if _works_as_root(ctx, facts):
        yield from _in_hands_of_others(ctx, facts)


def _works_as_root(ctx: HostRun, facts: Facts) -> bool:
    return facts.uid == 0 or any("root" in module.users for module in ctx.modules)


def _in_hands_of_others(ctx: HostRun, facts: Facts) -> Iterator[str]:
    told = [
        f"{folder} {_WAYS[how].format(who=who, folder=folder, login=ctx.login)}"
        for how, who, folder in facts.foreign
    ]
    if told:
        more = f"; and {len(told) - 1} more" * (len(told) > 1)
        yield f"others could replace what runs here: {told[0]}{more}"


def _closed(ctx: HostRun, owner: str, path: str) -> str:
    """Say that an earlier run worked as another user, and how to go on as one user."""
    earlier = owner or "another user"
    chown = f"`chown -R {ctx.login} {ctx.paths.app_dir}` there, as root"
    how = "set ssh.sudo again"
    if owner not in {"", "root"}:
        how = f'log in as {owner}, or set ssh.sudo = "{owner}"'
    return (
        f"{path} belongs to {earlier}, and {ctx.login} may not read it: an earlier run "
        f"worked as {earlier}; {how}, or {chown}"
    )


def _module_findings(
    ctx: HostRun, facts: Facts, module: Module, target: ModuleState
) -> Iterator[str]:
    path = ctx.target(module)
    if target.unwritable:
        where, login = target.unwritable, ctx.login
        cure = f"`chown {login} {where}`, or set ssh.sudo"
        if facts.uid == 0:
            cure = "is its disk read-only?"
        yield f"{login} may not write to {where} (for {path}): {cure}"
    if target.foreign and not module.adopt:
        yield (
            f"{path} is {target.foreign}, not a release of {module.name}: move it "
            "away, or set adopt = true to have it moved aside"
        )
    others = (module.uid not in {-1, facts.uid}) or (module.gid not in {-1, facts.gid})
    if others and facts.uid != 0:
        yield (
            f"{module.name} is owned by {module.uid}:{module.gid}, which needs root: "
            "log in as root or set ssh.sudo"
        )
    can_set = "python3" in facts.tools or facts.tools >= {"setfattr", "getfattr"}
    if module.attributes == "keep" and not can_set:
        yield (
            f"nothing here sets the attributes of {module.name} (modules.attributes): "
            "install setfattr, which is in the package attr, or python3"
        )


def cannot_start(trial: Trial, scripts: Mapping[str, str]) -> dict[str, str]:
    """
    Return why scripts cannot be started on a host, each with what to do.

    Args:
        trial: What the host has tried.

        scripts: What the host calls them, to what people do.
    """
    whys = dict(trial.unfit)
    for name, mount in trial.noexec.items():
        whys[name] = (
            f"{mount} is mounted noexec: `mount -o remount,exec {mount}` there, or "
            "leave out its first line, and /bin/sh reads it"
        )
    return {
        name: f"{script} cannot start: {whys[name]}"
        for name, script in scripts.items()
        if name in whys
    }


async def rights(ctx: HostRun) -> list[str]:
    """Return all that keeps scripts from running as other users, with what to do."""
    # One question for each user, whatever number of modules names it.
    users = {user: m.name for m in ctx.modules for user in sorted(m.users)}
    users.pop(ctx.login, None)
    return [
        finding
        for user, module in users.items()
        if (finding := await _run_as_finding(ctx, user, module))
    ]


async def _run_as_finding(ctx: HostRun, user: str, module: str) -> str:
    try:
        await call(ctx.session, "change_user", user, "exit 0", sudo=ctx.sudo)
    except RemoteError as exc:
        why = exc.tail.strip() or str(exc)
    else:
        return ""
    finding = f"scripts of {module} cannot run as {user}: {why}"
    if ctx.login == "root" or why.startswith("there is no user"):
        return finding
    return f"{finding}; add to sudoers: {ctx.login} ALL=({user}) NOPASSWD: ALL"
