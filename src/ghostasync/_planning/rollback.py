"""
The plan of a rollback: which hosts go where, by what they themselves have on record.

How it works. Every chosen host is asked for its records. Together they say which run is
the newest that stands, whom it moved, and what each host served before (``ledger``). A
release that a host still has needs no store; another one is sent from there. Hosts that
do not answer are called again by the run, and go where the others go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import attrs

from .._engine.spec import ModuleToDeploy, WayBack
from .._remote.facts import Facts
from ..errors import PlanError, StoreError
from ..goal import Rollback
from ..history.runs import find_run
from ..model import Host, Package, Revision
from ..views.folding import short_hosts
from .basis import Basis, Task
from .hosts import leaves_out, place
from .ledger import Ledger, Undoing
from .look import Reach, choose_hosts, look_at
from .modules import wanted, whole_ids
from .unfinished import Seen

__all__ = ["held_packages", "plan_rollback"]


async def plan_rollback(
    basis: Basis, asked: Rollback, limit: Sequence[str], reach: Reach
) -> Task:
    """
    Return the task to undo a run, or to go to releases that were named.

    Args:
        basis: The plan, and its store.

        asked: The run, or the releases.

        limit: Expressions that choose hosts.

        reach: Opens a transport to hosts.

    Raises:
        PlanError: No run can be undone, or there is no such release.
        StoreError: The store cannot be read.
    """
    chosen, told_of_choice = await choose_hosts(basis, limit, reach)
    chosen, _ = place(chosen, basis.plan.modules, basis.hosts_of_module)
    seen = await look_at(basis, chosen, reach)
    told = {name: facts for name, facts in seen.items() if isinstance(facts, Facts)}
    if not told:
        name, error = next(iter(seen.items()))
        raise PlanError(f"no host answers, {name} because: {error}")
    held = held_packages(told)
    ledger = Ledger(told, await _committed(basis, told.values()))
    if asked.to:
        releases = await whole_ids(basis, asked.to, held)
        undoing = _named(basis, releases, chosen)
    else:
        undoing = ledger.undo(asked.run, remove=asked.remove)
        if asked.agreed not in {"", undoing.run}:
            raise PlanError(
                f"run {undoing.run} is the newest that stands by now, and not "
                f"{asked.agreed}, which was to be undone: look again"
            )
        undoing = _with_silent(
            basis, undoing, [h for h in chosen if h.name not in told]
        )
    stay = [*_stays(undoing), *_unmoved(undoing, told)]
    warnings = [*told_of_choice, *stay, *_groups(undoing)]
    undoing, lacking = await _possible(basis, undoing, told)
    warnings += lacking
    if not undoing.to:
        raise PlanError("\n".join(["there is nothing to go back to", *warnings]))
    if not asked.past_migrations:
        _require_way_back(ledger.passed(undoing.to))
    modules = [m for m in basis.plan.modules if m.name in undoing.targets]
    hosts = tuple(host for host in chosen if host.name in undoing.to)
    limited = leaves_out(basis.plan, basis.hosts_of_module, chosen, modules)
    return Task(
        goal=asked,
        hosts=hosts,
        modules=tuple(
            ModuleToDeploy(module, package=release, held=held.get(release))
            for module in modules
            for release in sorted(undoing.targets[module.name])
        ),
        limited=limited,
        follows=undoing.run,
        way_back=WayBack(
            to=undoing.to,
            serves=undoing.serves,
            manifest=frozenset() if limited else _manifest(basis, asked, undoing),
            brought=undoing.release,
            partly=bool(lacking),
            releases={
                module: releases
                for module, releases in ledger.releases().items()
                if module in {*undoing.targets, *undoing.stays}
            },
        ),
        warnings=(*basis.warnings, *warnings),
    )


def _require_way_back(passed: Mapping[str, str]) -> None:
    """
    Refuse a rollback past a migration without a way back.

    Raises:
        PlanError: *passed* maps modules to releases that came with one.
    """
    if passed:
        which = ", ".join(f"{module} {release}" for module, release in passed.items())
        raise PlanError(
            f"before_switch has no way back (no_return), and came with {which}: older "
            "releases may not work with what it left; --force goes back even so"
        )


async def _committed(basis: Basis, told: Iterable[Facts]) -> frozenset[str]:
    """Return the runs that went live by their journals, of those that hosts doubt."""
    records = (
        move
        for facts in told
        for target in facts.targets.values()
        for move in target.activations
    )
    runs = {move.run for move in records if move.outcome == "moved"}
    found = {run: await find_run(basis.store.runs, run) for run in runs}
    return frozenset(run for run, known in found.items() if known and known.committed)


def held_packages(seen: Seen) -> dict[str, Package]:
    """
    Return the releases that hosts have, as packages without an archive.

    The commit is known where a host has a record of the release.
    """
    held: dict[str, Package] = {}
    for facts in seen.values():
        targets = facts.targets.items() if isinstance(facts, Facts) else ()
        for module, target in targets:
            revisions = {
                move.release: Revision(commit=move.commit, message=move.subject)
                for move in target.activations
            }
            for release, scripts in target.scripts.items():
                revision = revisions.get(release, Revision())
                if release not in held or not held[release].revision.commit:
                    held[release] = Package(
                        id=release,
                        module=module,
                        revision=revision,
                        sha256="",
                        content="",
                        nbytes=0,
                        unpacked=0,
                        entries=0,
                        scripts=tuple(s for s in scripts if s != "environment"),
                    )
    return held


def _named(basis: Basis, releases: Sequence[str], hosts: Iterable[Host]) -> Undoing:
    """Return what going to *releases* means, one for each module."""
    _, packages = wanted(basis.plan, packages=releases)
    to: dict[str, dict[str, str]] = {}
    for host in hosts:
        mine = {m: p for m, p in packages.items() if _gets(basis, host, m)}
        if mine:
            to[host.name] = mine
    if not to:
        raise PlanError("no selected host gets any of these modules")
    return Undoing("", to, {}, {}, {})


def _with_silent(basis: Basis, undoing: Undoing, silent: Sequence[Host]) -> Undoing:
    """Have hosts that did not answer go where the others go, should they come back."""
    usual = {
        module: releases.pop()
        for module, releases in undoing.targets.items()
        if len(releases) == 1
    }
    to = dict(undoing.to)
    for host in silent:
        mine = {m: r for m, r in usual.items() if _gets(basis, host, m)}
        if mine:
            to[host.name] = mine
    return attrs.evolve(undoing, to=to)


def _gets(basis: Basis, host: Host, module: str) -> bool:
    where = basis.hosts_of_module
    return module not in where or host.name in where[module]


def _stays(undoing: Undoing) -> list[str]:
    """Say which modules the run has brought, and how they would go."""
    return [
        f"{module}: {undoing.release[module]} stays on {short_hosts(hosts)}: no "
        f"release was there before run {undoing.run}; ghostasync rollback --remove "
        "takes its link away"
        for module, hosts in undoing.stays.items()
    ]


def _unmoved(undoing: Undoing, told: Mapping[str, Facts]) -> list[str]:
    """Say which hosts stay as they are: the run that is undone moved none of them."""
    hosts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in undoing.release:
        for host, facts in told.items():
            target = facts.targets.get(module)
            goes = module in undoing.to.get(host, {})
            if target and not goes and host not in undoing.stays.get(module, ()):
                hosts[module, target.live].append(host)
    return [
        f"{module}: {short_hosts(names)} stay{'s' * (len(names) == 1)} on "
        f"{live or 'nothing'}: run {undoing.run} moved nothing there"
        for (module, live), names in hosts.items()
    ]


def _groups(undoing: Undoing) -> list[str]:
    """Say where hosts go, module by module, where they do not all go to one release."""
    lines = []
    for module, releases in undoing.targets.items():
        if len(releases) > 1:
            hosts = defaultdict(list)
            for host, modules in undoing.to.items():
                if module in modules:
                    hosts[modules[module]].append(host)
            groups = "; ".join(
                f"{r} on {short_hosts(names)}" for r, names in hosts.items()
            )
            lines.append(
                f"{module}: hosts go back to different releases: {groups}; MANIFEST "
                "stays as it is"
            )
    return lines


async def _possible(
    basis: Basis, undoing: Undoing, told: Mapping[str, Facts]
) -> tuple[Undoing, list[str]]:
    """Leave hosts out that lack a release which the store lacks as well; say so."""
    lacking: dict[tuple[str, str], list[str]] = defaultdict(list)
    to = {host: dict(modules) for host, modules in undoing.to.items()}
    for host, modules in undoing.to.items():
        for module, release in modules.items():
            facts = told.get(host)
            target = facts.targets.get(module) if facts else None
            if release and target and release not in target.releases:
                lacking[module, release].append(host)
    lines = []
    for (module, release), hosts in lacking.items():
        try:
            await basis.store.packages.package(release)
        except StoreError as exc:
            lines.append(
                f"{module}: {short_hosts(hosts)} cannot go to {release}: {exc}"
            )
            for host in hosts:
                del to[host][module]
    left = {host: modules for host, modules in to.items() if modules}
    serves = {
        host: {m: undoing.serves[host][m] for m in modules if m in undoing.serves[host]}
        for host, modules in left.items()
        if host in undoing.serves
    }
    return attrs.evolve(undoing, to=left, serves=serves), lines


def _manifest(basis: Basis, asked: Rollback, undoing: Undoing) -> frozenset[str]:
    """Return the modules whose lines in MANIFEST go back with the hosts."""
    # Where the undone run had not moved MANIFEST, it does not name what hosts leave.
    lines = {line.module: line.package for line in basis.manifest}
    moves = set()
    for module, releases in undoing.targets.items():
        left = {undoing.release.get(module)} - {None}
        left |= {
            serves[module] for serves in undoing.serves.values() if module in serves
        }
        if len(releases) == 1 and (asked.to or lines.get(module) in left):
            moves.add(module)
    return frozenset(moves)
