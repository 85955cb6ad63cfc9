"""
Preview: a deploy as it would go, by the word of sources, store and hosts.

Nothing is built, locked or changed. A package that there is already is compared with
what hosts have, as a deploy would compare it; one that would have to be built is not
guessed at.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Final

import attrs

from .._engine.older import Relation, relations
from .._engine.spec import ModuleToDeploy, RunSpec
from .._engine.waves import allowed, cut
from .._local.redact import Redactor
from .._remote.facts import Facts, ModuleState
from ..goal import Deploy
from ..model import Revision
from ..protocols import Transport
from ..views.folding import short_hosts
from .check import Look, look_at_hosts
from .coming import Coming, coming, migrates
from .status import who_holds

__all__ = ["Commits", "Preview", "Step"]

SUBJECTS: Final = 5
"""Commits of each kind that are named; more are counted."""


@attrs.frozen
class Step:
    """
    One module on one host: *live* is the release that serves, made of *commit*.

    *sends* is in bytes: 0 where the host has the release, None where it is not built
    yet. An *unchanged* host is left alone; *back* is whether the host served the
    release before what it serves now.
    """

    live: str = ""
    commit: str = ""
    sends: int | None = None
    unchanged: bool = False
    back: bool = False


@attrs.frozen
class Commits:
    """
    The commits between *old*, which hosts serve, and *new*, which comes.

    *ships* and *back* count those that come and those that go; both are None where the
    source does not know. *coming* and *going* are the newest of each: an abbreviated id
    and a subject.
    """

    old: str
    new: str
    ships: int | None = None
    back: int | None = None
    coming: tuple[str, ...] = ()
    going: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Preview:
    """
    A deploy as it would go.

    *modules* map names to revisions, or to package ids; *packages* to the stored
    package of that commit, where there is one; *same* are modules whose package is the
    one that MANIFEST names, unless their build comes out another. *hosts* map the names
    of hosts that answered to modules to steps, *commits* map modules to what lies
    between. *obstacles* map hosts to what keeps them from the plan, *silent* among them
    did not answer. *refused* says why the deploy would be refused, *held* who has
    frozen the app or holds a host, *stops* why hosts would end it; each is empty
    otherwise. *waves* hold host names; *allowed* is how many hosts may fail.
    """

    modules: Mapping[str, Revision | str]
    waves: tuple[tuple[str, ...], ...]
    allowed: int
    packages: Mapping[str, str] = attrs.field(factory=dict)
    same: frozenset[str] = frozenset()
    hosts: Mapping[str, Mapping[str, Step]] = attrs.field(factory=dict)
    commits: Mapping[str, tuple[Commits, ...]] = attrs.field(factory=dict)
    obstacles: Mapping[str, str] = attrs.field(factory=dict)
    silent: tuple[str, ...] = ()
    refused: str = ""
    held: str = ""
    stops: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """The exit status that the deploy would have, as far as can be seen."""
        if self.held:
            return 4
        return 2 if self.refused else int(bool(self.stops))


async def foresee(spec: RunSpec, transport: Transport) -> Preview:
    """
    Return what the run of *spec*, a deploy, would do.

    Raises:
        SourceError: A source could not say its revision.
        StoreError: The store cannot be read.
    """
    for chosen in spec.modules:
        if chosen.error is not None:
            raise chosen.error
    brings = {m.module.name: await coming(spec, m) for m in spec.modules}
    at_work = [
        f"{m.module.name}: {text}"
        for m in spec.modules
        if (text := await migrates(spec, m))
    ]
    looks = await look_at_hosts(spec, transport, brings)
    facts = {each.ctx.name: each.facts for each in looks if each.facts}
    wrong = {each.ctx.name: text for each in looks if (text := each.obstacle)}
    told: dict[str, tuple[Commits, ...]] = {}
    redactor = spec.redactor
    refused: list[str] = []
    for chosen in spec.modules:
        name, commit = chosen.module.name, brings[chosen.module.name].revision.commit
        if commit and (lineage := chosen.lineage) is not None:
            found = await relations(name, commit, lineage, facts.items())
            told[name] = tuple(
                [await _commits(chosen, each, redactor) for each in found]
            )
            # Whoever names a package gets it, as in a deploy.
            refused += [r.refusal for r in found if r.refusal and not chosen.package]
    back = isinstance(spec.goal, Deploy) and spec.goal.back
    rollout = spec.plan.rollout
    waves = cut(spec.hosts, rollout.waves, rollout.spread_by)
    silent = tuple(host for host in wrong if host not in facts)
    return Preview(
        modules={
            m.module.name: m.package or redactor.revision(m.revision)
            for m in spec.modules
        },
        waves=tuple(tuple(host.name for host in wave) for wave in waves),
        allowed=allowed(rollout.max_failures, len(spec.hosts)),
        packages={name: each.stored for name, each in brings.items() if each.stored},
        same=frozenset(
            m.module.name
            for m in spec.modules
            if brings[m.module.name].package and not m.package
        ),
        hosts={host: _steps(spec, host, seen, brings) for host, seen in facts.items()},
        commits=told,
        obstacles=wrong,
        silent=silent,
        refused="" if back else "; ".join(refused),
        held=await who_holds(spec.store, facts),
        stops=_stops(spec, len(silent), len(wrong) - len(silent)),
        warnings=(*spec.warnings, *at_work, *_warnings(looks)),
    )


def _warnings(looks: Iterable[Look]) -> Iterator[str]:
    """Yield what is good to know of hosts, those alike in one line."""
    hosts: dict[str, list[str]] = defaultdict(list)
    for finding in (each for seen in looks for each in seen.findings if each.warning):
        hosts[finding.text].append(finding.host)
    for text, names in hosts.items():
        yield f"{short_hosts(names)}: {text}"


async def _commits(
    chosen: ModuleToDeploy, relation: Relation, redactor: Redactor
) -> Commits:
    """Return what lies between two commits, with subjects."""
    old, new, lineage = relation.other, relation.commit, chosen.lineage
    if relation.distance is None or lineage is None:
        return Commits(old, new)
    ships, back = relation.distance
    subjects = partial(lineage.subjects, count=SUBJECTS)
    comes = await subjects(new, old) if ships else ()
    goes = await subjects(old, new) if back else ()
    coming, going = (tuple(map(redactor.text, each)) for each in (comes, goes))
    return Commits(old, new, ships, back, coming, going)


def _steps(
    spec: RunSpec, host: str, facts: Facts, brings: Mapping[str, Coming]
) -> dict[str, Step]:
    """Return what a host would get of each module that it has."""
    anew = spec.goal.force or host in spec.stranded
    return {
        name: _step(target, brings[name], anew=anew)
        for name, target in facts.targets.items()
    }


def _step(target: ModuleState, brings: Coming, *, anew: bool) -> Step:
    commit = target.record.commit if target.record else ""
    package = brings.package
    if package is None:
        return Step(target.live, commit)
    proven = target.live == package.id and target.fingerprint == brings.mark
    # Numbers say which came first; that of a release is the one that first brought it.
    first: dict[str, int] = {}
    for move in target.activations:
        first[move.release] = min(move.age, first.get(move.release, move.age))
    return Step(
        live=target.live,
        commit=commit,
        sends=0 if package.id in target.releases else package.nbytes,
        unchanged=proven and not target.dangling and not anew,
        back=first.get(package.id, sys.maxsize) < first.get(target.live, 0),
    )


def _stops(spec: RunSpec, silent: int, unfit: int) -> str:
    """Return why the deploy would stop before the first switch, by its budgets."""
    rollout, total = spec.plan.rollout, len(spec.hosts)
    if rollout.max_unreachable != "":
        limit = allowed(rollout.max_unreachable, total)
        if silent > limit:
            return f"{silent} of {total} hosts cannot be reached, {limit} may"
        silent = 0
    limit = allowed(rollout.max_failures, total)
    if silent + unfit > limit:
        return f"{silent + unfit} of {total} hosts cannot take it, {limit} may fail"
    return ""
