"""
The release that served before a run, one for the whole fleet, for a rollback to it.

How it works. The run to go back from is named, or is the one that brought what serves
now. Its journal says what each host served before it. Where the journal is lost, every
host is asked for its record of the last move. Hosts that served different releases are
refused: a person has to say which one the fleet is to have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

from .._engine.look import looked_at
from .._engine.spec import RunSpec
from .._local.paths import is_run_id, parse_package_id
from .._remote.facts import Facts
from ..errors import PlanError
from ..goal import Rollback
from ..history.past_run import PastRun
from ..history.runs import find_run, serving_run, unfinished_run
from ..model import State
from ..protocols import Transport
from .basis import Basis, spec_of_look
from .hosts import choose_hosts, place

__all__ = ["releases_before"]

Served = Mapping[str, Mapping[str, str]]
"""Module name to host name to the id of the release that the host served before; empty
where it served none."""


async def releases_before(
    basis: Basis,
    asked: Rollback,
    reach: Callable[[RunSpec], AbstractAsyncContextManager[Transport]],
) -> tuple[tuple[str, ...], str]:
    """
    Return the packages that served before a run, and that run's id.

    The id is empty where releases were named, or hosts do not name one and the same
    run.

    Args:
        basis: The plan, and its store.

        asked: The run, or the releases; these are returned as they are.

        reach: Opens a transport, where hosts have to be asked.

    Raises:
        PlanError: There is no such release, or not the same one for all hosts.
        StoreError: The store cannot be read.
    """
    if asked.to:
        return asked.to, ""
    if asked.run and not is_run_id(asked.run):
        raise PlanError(
            f"{asked.run!r} is no run's id, YYYYMMDDThhmmssZ-xxxxxx; for a release "
            "there is: ghostasync rollback --to RELEASE"
        )
    past = await _undone(basis, asked.run)
    if past is not None:
        served, run = _by_journal(past), past.id
    else:
        everyone = await choose_hosts(basis.plan, basis.store, ())
        modules = basis.plan.modules
        hosts, modules = place(everyone, modules, basis.hosts_of_module)
        look = spec_of_look(basis, hosts, modules, limited=False)
        async with reach(look) as transport:
            served, run = await _by_hosts(look, transport, asked.run)
    what = f"run {run}" if run else "what serves now"
    return _agreed(served, what), run


async def _undone(basis: Basis, run: str) -> PastRun | None:
    """Return the run to go back from; None where no journal tells of it."""
    runs = basis.store.runs
    if run:
        return await find_run(runs, run)
    modules = {module.name for module in basis.plan.modules}
    # A killed run may have left hosts on two releases; there is no one release that the
    # fleet served before.
    killed = await unfinished_run(runs, modules=modules)
    if killed and killed.changed:
        raise PlanError(
            f"run {killed.id} has not ended; if it was killed, `ghostasync resume "
            "--revert` puts back what it did, and `ghostasync resume` finishes it"
        )
    past = await serving_run(runs)
    if past is None or past.limited or past.finished is None:
        return past
    # A MANIFEST that names something else was moved by a later run, whose journal is
    # not here: to go back from this run would be to go back from the wrong one.
    named = {line.module: line.package for line in basis.manifest}
    moved = past.finished.releases if past.committed else {}
    lost = any(named.get(module) != package for module, package in moved.items())
    return None if lost else past


def _by_journal(past: PastRun) -> Served:
    """Return the releases that the hosts which the run changed served before it."""
    # A run that has ended put back what it did not bring live; one that was killed may
    # have left any host that it changed on its release.
    served: dict[str, dict[str, str]] = defaultdict(dict)
    changed = past.changed if past.finished is None else past.in_state(State.LIVE)
    for host in changed:
        for module, previous in past.previous.get(host, {}).items():
            served[module][host] = _release(previous)
    if not served:
        raise PlanError(f"run {past.id} left no host with another release")
    # A module that the run did not change anywhere, a forced deploy, say, is left out.
    return {
        module: hosts
        for module, hosts in served.items()
        if set(hosts.values()) != {past.packages.get(module)}
    }


async def _by_hosts(
    look: RunSpec, transport: Transport, run: str
) -> tuple[Served, str]:
    """Return the same from the hosts' records, and the run if all name the same."""
    facts = await looked_at(look, transport)
    seen = {host: known for host, known in facts.items() if isinstance(known, Facts)}
    if not seen:
        raise PlanError("no journal tells what served before, and no host can be asked")
    served: dict[str, dict[str, str]] = defaultdict(dict)
    runs: set[str] = set()
    for host, known in seen.items():
        for module, target in known.targets.items():
            # A host whose last move was another run's has nothing to say of this one.
            record = target.record
            if run and (record is None or record.run != run):
                continue
            if record is not None:
                runs.add(record.run)
            if target.live:
                previous = record.previous if record else target.before
                served[module][host] = _release(previous)
    if not served:
        what = f"run {run}" if run else "any run"
        raise PlanError(f"neither a journal nor a host has a record of {what}")
    return served, runs.pop() if len(runs) == 1 else ""


def _agreed(served: Served, what: str) -> tuple[str, ...]:
    """
    Return one release for each module; a host that had none gets it, too.

    Raises:
        PlanError: Hosts served different releases of a module, or none; or nothing was
            changed.
    """
    problems: list[str] = []
    packages: list[str] = []
    for module, hosts in served.items():
        groups: dict[str, list[str]] = defaultdict(list)
        for host, release in hosts.items():
            groups[release].append(host)
        known = [release for release in groups if release]
        if not known:
            problems.append(f"{module}: no release was served before {what}")
        elif len(known) > 1:
            had = "; ".join(f"{r} on {_few(groups[r])}" for r in known)
            problems.append(
                f"{module}: before {what} hosts served different releases: {had}; say "
                "which: ghostasync rollback --to RELEASE"
            )
        packages += known
    if problems:
        raise PlanError("\n".join(problems))
    if not packages:
        raise PlanError(f"{what} changed no release: there is nothing to go back to")
    return tuple(packages)


def _release(previous: str) -> str:
    """Return the id of the release that a link led to; empty for any other link."""
    release = previous.rpartition("/")[2]
    try:
        parse_package_id(release)
    except PlanError:
        return ""
    return release


def _few(names: Iterable[str]) -> str:
    first, *rest = names
    return f"{first} and {len(rest)} more" if rest else first
