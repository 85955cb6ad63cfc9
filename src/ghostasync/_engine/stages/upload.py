"""
UPLOADING: get each release that the host lacks onto it, proven whole.

How it works. A host that the killed run brought live, or that serves all of it in the
same environment, is done here. For any other the releases that differ are delivered,
if they are not on the host's disk already, and each gets the environment of this run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

import anyio
import attrs

from ... import events as e
from ..._build.environment import exports, secret_names
from ..._build.release import Release
from ..._remote import answers
from ..._remote.call import query
from ..._remote.facts import ModuleState, Trial
from ..._remote.script import as_user, quote
from ...errors import Refused
from ...model import Action, Module, Package, Script
from ...protocols import Channel
from ..delivery import Delivery
from ..delivery.pull import Pull
from ..delivery.push import Push, tell_warnings
from ..host import HostRun
from ..scripts import host_variables, learn_secrets
from ..takeover import (
    brought_live_by_killed_run,
    move_of,
    moved_by_killed_run,
    moves_of_killed_run,
    overtaken,
)
from .check import cannot_start, inspect
from .prune import prune

__all__ = ["crowded", "no_room", "upload"]

T = TypeVar("T")

_SPARE_BYTES = 16 << 20
_SPARE_INODES = 64
"""The room for a release besides its files: records, folders, a log line or two."""


async def upload(ctx: HostRun) -> e.Uploaded | e.Unchanged | e.Resumed:
    """
    Send the releases that the host does not have yet, and their environments.

    A host that the killed run brought live is left alone.

    Raises:
        Refused: There is no room for the unpacked release, or its first script cannot
            be started.
        RemoteError: The host could not extract it, or it did not arrive whole.
        DeadlinePassed: It was not sent, or what it shares not copied, in time.
    """
    # Counted from here: an attempt before this one may have sent bytes already.
    started, before = anyio.current_time(), ctx.attempt.sent
    if resumed := brought_live_by_killed_run(ctx):
        return resumed
    # A host that an earlier run left stranded has to prove itself, even where its link
    # is right: its post-deploy may have failed on the way back.
    anew = ctx.run.goal.force or ctx.name in ctx.run.spec.stranded
    ctx.attempt.to_deploy = tuple(
        r for r in _not_overtaken(ctx) if anew or _differs(ctx, r)
    )
    if not ctx.attempt.to_deploy:
        return e.Unchanged(ctx.name)
    _note_killed_moves(ctx)
    missing = [
        r for r in ctx.attempt.to_deploy if r.id not in _target(ctx, r.module).releases
    ]
    # Failed releases may fill the disk before one goes live that would remove them.
    names = {release.module.name for release in ctx.attempt.to_deploy}
    with ctx.in_time("upload"):
        if missing and crowded(ctx, names):
            await prune(ctx)
            ctx.attempt.facts = await inspect(ctx)
        if full := no_room(ctx, [release.package for release in missing]):
            raise Refused(ctx.name, full)
        for release in missing:
            await _delivery(ctx, release).deliver(ctx, release)
            ctx.attempt.delivered |= {release.id}
    # What users have written in the live release may be much more than the release.
    with ctx.in_time("seed"):
        for release in ctx.attempt.to_deploy:
            await _share(ctx, release.module, release.id)
    with ctx.in_time("upload"):
        ctx.attempt.to_deploy = tuple(
            [await _keep_environment(ctx, release) for release in ctx.attempt.to_deploy]
        )
    if ctx.run.numbering:
        # A run without a number is history once it is killed; with all that it has sent
        # it should not be.
        await ctx.run.numbered.wait()
    return e.Uploaded(
        ctx.name,
        nbytes=ctx.attempt.sent - before,
        fetched=ctx.attempt.fetched,
        seconds=anyio.current_time() - started,
    )


def _delivery(ctx: HostRun, release: Release) -> Delivery:
    """Return the way in which a release gets to the host."""
    if ctx.run.plan.rollout.transfer == "push":
        return Push()
    if ctx.name not in ctx.run.pushed:
        return Pull()
    ctx.warn(f"{release.id}: {release.package.nbytes:,} bytes are sent from here")
    return Push()


async def _share(ctx: HostRun, module: Module, release: str) -> None:
    """Have a release share what its module shares, also if it came before that."""
    words = [f"d:{path}" for path in module.shared_dirs]
    words += [f"f:{path}" for path in module.shared_files]
    if words:
        owned = ctx.known.uid == 0 and (module.uid >= 0 or module.gid >= 0)
        folder, live = ctx.paths.module(module.name), ctx.serving(module)
        fresh = "fresh" if release in ctx.attempt.delivered else ""
        owner = "keep" if owned else "drop"
        args = (folder, release, live, owner, fresh, ctx.known.rename, *words)
        said = await query(ctx.session, "share", *args, read=str, sudo=ctx.sudo)
        tell_warnings(ctx, said)


def _not_overtaken(ctx: HostRun) -> list[Release]:
    """Return the host's releases, without modules that a later run has moved there."""
    left = [r for r in ctx.releases if not overtaken(ctx, r.module)]
    for release in ctx.releases:
        if release not in left:
            name = release.module.name
            ctx.run.overtaken.add(name)
            record = _target(ctx, release.module).record
            who = f"run {record.run}, maybe the later one," if record else "somebody"
            ctx.warn(f"{who} has moved {name} here: it is left alone")
    return left


def _note_killed_moves(ctx: HostRun) -> None:
    """Note whether the killed run moved a link to a release that is to be deployed."""
    # From here on a failure before the switch has to take the host back as well.
    if any(
        _target(ctx, r.module).live == r.id and moved_by_killed_run(ctx, r.module)
        for r in ctx.attempt.to_deploy
    ):
        moves = moves_of_killed_run(ctx)
        ctx.undo = attrs.evolve(ctx.undo, moves=moves, link_may_have_moved=True)
        ctx.run.note(e.KilledRunFound(ctx.name, moved=True))


def _target(ctx: HostRun, module: Module) -> ModuleState:
    return ctx.known.targets[module.name]


def crowded(ctx: HostRun, modules: Collection[str]) -> bool:
    """Tell whether failed releases pile up; only a run that goes live prunes."""
    usual = ctx.run.plan.layout.keep + 1
    return any(len(ctx.known.targets[name].releases) > usual for name in modules)


def _differs(ctx: HostRun, release: Release) -> bool:
    """Tell whether the host does not serve *release* yet, proven, as it is to be."""
    target = _target(ctx, release.module)
    if ctx.run.goal.recalls:
        # The release served there before, in the environment that is on record there.
        return target.live != release.id or target.dangling
    # The fingerprint is kept once a run has proven the release on the host; it covers
    # package and environment, so the same release in another one is not the same.
    same = target.live == release.id and target.fingerprint == release.fingerprint
    return not same or target.dangling


def no_room(ctx: HostRun, packages: Sequence[Package]) -> str:
    """
    Return that a host would take half of *packages*: bytes, then inodes.

    Empty where there is room; free space that is unknown is not judged.
    """
    if not packages:
        return ""
    root, cure = ctx.paths.root, "make room, or lower layout.keep"
    need = sum(package.unpacked for package in packages) + _SPARE_BYTES
    if ctx.run.plan.rollout.transfer != "push":
        # One that is fetched is on the disk before it is unpacked.
        need += max(package.nbytes for package in packages)
    free = ctx.known.free_bytes
    if free is not None and free < need:
        have, need = free >> 20, need >> 20
        return f"{root} has {have} MiB free, the release needs {need} MiB: {cure}"
    need = sum(package.entries for package in packages) + _SPARE_INODES
    left = ctx.known.free_inodes
    if left is not None and left < need:
        return f"{root} has {left} inodes free, the release needs {need}: {cure}"
    return ""


async def _keep_environment(ctx: HostRun, release: Release) -> Release:
    """
    Give a release its environment on the host; return it as the host will run it.

    It goes over stdin: secrets stand in no argument list.
    """
    name = release.module.name
    meta = ctx.paths.meta(name, release.id)
    previous = move_of(ctx, release).previous
    ours = host_variables(ctx, release.module, release.id, meta, previous)
    # What a killed run has begun there may have had other secrets.
    if ctx.run.killed is not None:
        await learn_secrets(ctx, meta)
    if ctx.run.goal.recalls and ctx.has_served(release):
        return await _recall(ctx, release, ours)
    # Beside the exports, for a later way back to this release: how it proves its health
    # and who runs its post-deploy. The plan of that day may say something else.
    verify = attrs.asdict(release.module.verify)
    health = json.dumps({**verify, "post_deploy_as": release.module.post_deploy.run_as})
    names = ctx.run.spec.secrets_of(release.variables)
    data = secret_names(names) + exports({**release.variables, **ours})
    data += b"ghost_verify=" + quote(health) + b"\n"
    if run_as := release.module.post_deploy.run_as:
        # timer.sh runs when no controller is left that could render run_as.sh for it.
        files = (f"{meta}/post_deploy", "", f"{meta}/environment")
        again = as_user(run_as, *files, {"GHOST_ACTION": Action.ROLLBACK.value})
        data += b"ghost_activate=" + quote(again) + b"\n"
    own = ctx.target(release.module)
    scripts = [key for key in ("pre_deploy", "post_deploy") if _started(release, key)]
    words = (meta, own, *scripts)
    trial = await _send(ctx, "environment", data, *words, read=answers.trial)
    _require_startable(ctx, release, trial, scripts)
    return release


def _started(release: Release, key: str) -> bool:
    """Tell whether a script is there, and started by the one who logs in."""
    script: Script = getattr(release.module, key)
    return key in release.package.scripts and not script.run_as


def _require_startable(
    ctx: HostRun, release: Release, trial: Trial, scripts: Iterable[str]
) -> None:
    """
    Do nothing, unless it is certain that a script cannot be started.

    Raises:
        Refused: Why, and what to do.
    """
    name = release.module.name
    # The first pre_deploy may bring what all later scripts need.
    first = next(
        (
            (r.module.name, "pre_deploy")
            for r in ctx.attempt.to_deploy
            if "pre_deploy" in r.package.scripts
        ),
        None,
    )
    whats = {key: f"{key} of {name}" for key in scripts}
    for key, why in cannot_start(trial, whats).items():
        if key in trial.noexec or first in {None, (name, key)}:
            raise Refused(ctx.name, why)
        ctx.warn(why)


async def _recall(ctx: HostRun, release: Release, ours: dict[str, str]) -> Release:
    """Have the host make the environment out of the one that the release had there."""
    spec, module = ctx.run.spec, release.module
    meta = ctx.paths.meta(module.name, release.id)
    target = _target(ctx, module)
    recorded = spec.goal.recorded_secrets
    given = {} if recorded else spec.secrets
    # Of secrets that the caller has not, the host knows those of what serves now.
    missing = () if recorded else sorted({*spec.plan.app.secrets} - given.keys())
    run = {"GHOST_ACTION": spec.goal.action.value, "GHOST_MODULE_USER": spec.actor}
    data = secret_names({*given, *missing}) + exports({**given, **run, **ours})
    live = ctx.paths.meta(module.name, target.live or release.id)
    await learn_secrets(ctx, meta, live)
    # It proves its health as it did then, and not as a later release would.
    health, run_as = await _send(
        ctx, "recall", data, *(meta, live, *missing), read=answers.health
    )
    post_deploy = attrs.evolve(module.post_deploy, run_as=run_as)
    module = attrs.evolve(module, verify=health, post_deploy=post_deploy)
    return attrs.evolve(release, module=module)


async def _send(
    ctx: HostRun,
    script: str,
    data: bytes,
    meta: str,
    *words: str,
    read: Callable[[str], T],
) -> T:
    async def send(channel: Channel) -> None:
        await channel.write(data)
        channel.write_eof()

    size = str(len(data))
    args = (script, meta, *words[:1], size, *words[1:])
    return await query(ctx.session, *args, read=read, sudo=ctx.sudo, feed=send)
