"""
Check: a look at sources, scripts and hosts, by the same functions as a deploy's.

A check with rules of its own would pass hosts that a deploy then refuses.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from .._engine.host import HostRun
from .._engine.look import ask_each, facts_of
from .._engine.spec import RunSpec
from .._engine.stages.check import findings, rights, same_machine
from ..errors import HostError
from ..protocols import Transport
from ._scripts import complaints

__all__ = ["Finding"]


@attrs.frozen
class Finding:
    """
    Obstacle for a host, or for a module where *host* is empty.

    A *warning* keeps no host from a deploy.
    """

    host: str
    text: str
    module: str = ""
    warning: bool = False


async def find(spec: RunSpec, transport: Transport) -> tuple[Finding, ...]:
    """Return the obstacles of a deploy, those of modules first, in plan order."""
    all_findings = [
        Finding(
            "",
            str(chosen.error).removeprefix(f"{chosen.module.name}: "),
            chosen.module.name,
        )
        for chosen in spec.modules
        if chosen.error is not None
    ]
    for chosen in spec.modules:
        texts = await complaints(
            chosen, spec.plan.base, spec.plan.rollout.deadlines.build
        )
        all_findings += [Finding("", text, chosen.module.name) for text in texts]

    names: dict[str, str] = {}

    async def look(ctx: HostRun) -> list[Finding]:
        try:
            wrong = await obstacles(ctx, names)
        except HostError as exc:
            # A host that cannot be looked at is a finding, and no reason to stop.
            return [Finding(ctx.name, str(exc))]
        minor = [Finding(ctx.name, text, warning=True) for text in _warnings(ctx)]
        return [*(Finding(ctx.name, text) for text in wrong), *minor]

    for per_host in await ask_each(spec, transport, look):
        all_findings += per_host
    return tuple(all_findings)


async def obstacles(ctx: HostRun, names: dict[str, str]) -> list[str]:
    """
    Look at a host, note its facts, and return all that keeps it from the plan.

    *names* maps the places of hosts that were looked at to their names; it is added to.

    Raises:
        HostError: The host cannot be reached, or does not answer in time.
    """
    ctx.attempt.facts = facts = await facts_of(ctx)
    wrong = [*findings(ctx, facts), *await rights(ctx)]
    # A deploy finds that out as it takes the lock for the second time.
    twin = names.setdefault(facts.place or ctx.name, ctx.name)
    return [*wrong, same_machine(twin)] if twin != ctx.name else wrong


def _warnings(ctx: HostRun) -> Iterator[str]:
    """Yield facts that keep no host from the plan and are good to know."""
    store = ctx.run.spec.store_id
    for module, target in ctx.known.targets.items():
        # A link of an earlier path; prune keeps what it leads to.
        for link in target.elsewhere:
            yield (
                f"{link} still leads to a release of {module}, which was served from "
                "there earlier: remove the link once nobody uses it"
            )
        move = target.record
        if move is not None and move.store != store:
            by = f" by {move.actor}" if move.actor else ""
            yield (
                f"what it serves of {module} came from another store than "
                f"{ctx.run.spec.store_url}, with run {move.run}{by} at {move.at}"
            )
    # logind spares the processes of root.
    timed = ctx.run.plan.rollout.confirm and ctx.known.uid != 0
    if timed and ctx.known.ends_logins:
        yield (
            "logind ends what a login leaves behind (KillUserProcesses), so the timer "
            "of rollout.confirm would not outlive the connection: log in as root, or "
            "set ssh.sudo"
        )
