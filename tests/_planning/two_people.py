"""
Two controllers and a fleet in memory, and a small model of what hosts serve.

The model knows nothing of numbers, journals or MANIFEST's form. It knows, for each
host, the moves that stand there, and, for each store, what MANIFEST names. Clocks of
the two differ by hours; they share a store, or each has its own.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import attrs
import pytest
from hypothesis import note

from ghostasync import (
    DeployFailed,
    Host,
    Outcome,
    Plan,
    PlanError,
    Rollout,
    RunOptions,
    converge,
    deploy,
    resume,
    revert,
    rollback,
    start,
    status,
)
from ghostasync import events as e
from ghostasync._planning import basis
from ghostasync.cli import _tables as tables
from ghostasync.testing import (
    Answer,
    Call,
    FakeHost,
    FakeHosts,
    FakeTransport,
    MemoryStore,
    _memory_store,
    step,
)
from ghostasync.views.board import Board
from ghostasync.views.summary import failure
from tests.killing import four_hosts

HOSTS: Final = ("h1", "h2", "h3")

# --- The model ----------------------------------------------------------------------


@attrs.define(eq=False)
class Run:
    """One run that brings a release; a later one has a higher *number*."""

    number: int
    release: int
    store: str = ""
    hosts: tuple[str, ...] = ()
    whole: bool = True
    live: bool = False
    by_manifest: bool = False
    touched: set[str] = attrs.field(factory=set)
    found: dict[str, int] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Moment:
    """What a controller left that died."""

    hosts: dict[str, FakeHost]
    store: MemoryStore
    run: str


@attrs.define
class Model:
    """The moves that stand on each host, the last one on top; and MANIFEST by store."""

    trails: dict[str, list[Run]]
    manifest: dict[str, Run] = attrs.field(factory=dict)
    killed: list[Run] = attrs.field(factory=list)
    seen: dict[str, int] = attrs.field(factory=dict)

    def serves(self, host: str) -> int:
        return self.trails[host][-1].release if self.trails[host] else 0

    @property
    def all(self) -> dict[str, int]:
        return {host: self.serves(host) for host in self.trails}

    def _without_killed(self, host: str) -> list[Run]:
        """What a killed run had brought was never proven; nothing goes back to it."""
        self.trails[host] = [run for run in self.trails[host] if run.live]
        return self.trails[host]

    def bring(self, run: Run, host: str) -> None:
        self.held[host].add(run.release)
        if self.serves(host) != run.release:
            self.trails[host].append(run)
            run.touched.add(host)

    def back(self, host: str, release: int, number: int) -> None:
        """A host goes to a release that it had, or that others have."""
        trail = self._without_killed(host)
        releases = [run.release for run in trail]
        if release in releases:
            del trail[len(releases) - releases[::-1].index(release) :]
        else:
            trail.append(Run(number, release, live=True, by_manifest=True))
        self.held[host].add(release)
        self.seen[host] = number

    def deploy(self, run: Run, hosts: Sequence[str]) -> None:
        run.live = True
        for host in hosts:
            if self.serves(host) == run.release and self.trails[host][-1].live:
                continue
            self.bring(run, host)
            self._without_killed(host)
        for host in hosts:
            self.seen[host] = run.number
        if run.whole:
            self.manifest[run.store] = run

    def unfinished(self, store: str) -> Run | None:
        for run in sorted(self.killed, key=lambda run: -run.number):
            if run.store == store and self.left(run):
                return run
        return None

    def left(self, run: Run) -> set[str]:
        """Where nothing has moved since a killed run: it is unfinished there."""
        named = self.manifest.get(run.store)
        if named is not None and named.number > run.number:
            return set()
        hosts = {h for h in run.touched if h in self.trails} or {*run.hosts}
        return {host for host in hosts if not self.overtaken(host, run)}

    def overtaken(self, host: str, run: Run) -> bool:
        """Tell whether another run has moved a host since *run* was killed."""
        now = self.serves(host)
        moved = now not in {run.found.get(host, 0), run.release}
        return self.later(host) > run.number or moved

    def foreign(self, host: str, run: Run) -> bool:
        """Tell whether a host serves what another store than that of *run* brought."""
        trail = self.trails.get(host, [])
        return bool(trail) and trail[-1].store != run.store

    def later(self, host: str) -> int:
        """The number of the last run that moved a host, or noted that it is in line."""
        trail = self.trails.get(host, [])
        return max(self.seen.get(host, 0), trail[-1].number if trail else 0)

    def rollback(self, store: str, number: int) -> bool:
        """Go back; return whether no host had to stay for lack of a package."""
        tops = {h: trail[-1] for h, trail in self.trails.items() if trail}
        runs = [run for run in tops.values() if not run.by_manifest]
        if not runs:
            raise LookupError
        undone = max(runs, key=lambda run: run.number)
        if any(r.number == undone.number and r is not undone for r in runs):
            raise LookupError  # they knew nothing of each other
        below = {
            host: ([0] + [run.release for run in trail[:-1] if run.live])[-1]
            for host, trail in self.trails.items()
        }
        own = {host: below[host] for host, run in tops.items() if run is undone}
        had = [release for release in own.values() if release]
        usual = max(had, key=had.count) if had else 0
        to = {host: release or usual for host, release in own.items()}
        for host, run in tops.items():
            if run.by_manifest and run.release == undone.release:
                to[host] = usual or below[host]
        asked = {host: release for host, release in to.items() if release}
        to = {
            host: release
            for host, release in asked.items()
            if release in self.held[host] | self.stored[store]
        }
        if not to:
            raise LookupError
        leaves = {undone.release, *(self.serves(host) for host in to)}
        named = self.manifest.get(store)
        if named and named.release in leaves and len({*to.values()}) == 1:
            release = next(iter(to.values()))
            if release in self.stored[store]:
                self.manifest[store] = Run(number, release, store, live=True)
        for host, release in to.items():
            self.trails[host].pop()
            self.back(host, release, number)
        return to == asked

    stored: dict[str, set[int]] = attrs.field(factory=dict)
    held: dict[str, set[int]] = attrs.field(factory=lambda: defaultdict(set))


# --- The fleet ----------------------------------------------------------------------


@attrs.define
class World:
    """A fleet in memory, two people, and the model beside them."""

    folder: Path
    plan: Plan
    monkeypatch: pytest.MonkeyPatch
    shared: bool
    hours: int
    fleet: FakeHosts = attrs.field(factory=FakeHosts)
    model: Model = attrs.field(init=False)
    stores: dict[str, MemoryStore] = attrs.field(factory=dict)
    packages: dict[str, int] = attrs.field(factory=dict)
    version: int = 0
    number: int = 0
    board: Board = attrs.field(factory=Board)
    spared: set[str] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.model = Model({host: [] for host in HOSTS})
        first = MemoryStore()
        self.stores = {"a": first, "b": first if self.shared else MemoryStore()}
        self.model.stored = {self.store("a"): set(), self.store("b"): set()}
        self.plan = attrs.evolve(
            self.plan,
            hosts=tuple(map(Host, HOSTS)),
            rollout=Rollout(max_failures=1),
            layout=attrs.evolve(self.plan.layout, keep=99),
        )

    def store(self, who: str) -> str:
        """What the model calls the store of a person."""
        return "a" if self.shared else who

    def sit_at(self, who: str) -> None:
        for name in ("STATE", "CACHE"):
            path = str(self.folder / who / name)
            self.monkeypatch.setenv(f"XDG_{name}_HOME", path)
        late = dt.timedelta(hours=self.hours if who == "b" else 0)

        class Clock(dt.datetime):
            @classmethod
            def now(cls, tz: dt.tzinfo | None = None) -> Clock:
                return super().now(tz) + late

        self.monkeypatch.setattr(basis, "datetime", Clock)
        # Packages of a folder have no commit in their ids; those of two stores would
        # have the same id if they were made in the same second.
        second = {"a": 0, "b": 5}[who]
        clock = SimpleNamespace(time=lambda: 1_700_000_000 + 10 * self.version + second)
        self.monkeypatch.setattr(_memory_store, "time", clock)

    def keys(self, who: str, dead: str = "") -> RunOptions:
        transport = FakeTransport(self.fleet, unreachable=frozenset({dead} - {""}))
        store, observe = self.stores[who], self.observe
        return {"transport": transport, "store": store, "observe": observe}

    def next_version(self) -> int:
        self.version += 1
        (self.plan.base / "tree" / "index").write_text(str(self.version))
        return self.version

    def note(self, who: str, packages: Sequence[str], version: int) -> None:
        for package in packages:
            self.packages[package] = version
        self.model.stored[self.store(who)].add(version)

    # --- What people do ---

    def observe(self, record: e.Record) -> None:
        if isinstance(record.event, e.Started):
            self.board = Board()
        self.board.apply(record)
        if (
            isinstance(record.event, e.HostWarned)
            and "is left alone" in record.event.text
        ):
            self.spared.add(record.event.host)
        if isinstance(record.event, e.Numbered):
            self.number = record.event.generation

    async def deploy(self, who: str, limit: str = "", dead: str = "") -> None:
        version = self.next_version()
        hosts = [h for h in self.model.trails if h != dead and (limit in {"", h})]
        keys = self.keys(who, dead)
        keys["limit"] = [limit] if limit else ()
        report = await deploy(self.plan, **keys)
        self.note(who, [*report.releases.values()], version)
        run = Run(self.number, version, self.store(who), whole=not limit)
        self.model.deploy(run, hosts)

    async def fail(self, who: str, host: str) -> None:
        version = self.next_version()
        plan = attrs.evolve(self.plan, rollout=Rollout())

        def breaks(call: Call) -> Answer | None:
            back = "GHOST_ACTION=rollback" in call.args
            broken = call.host == host and step(call) == "post_deploy" and not back
            return Answer(1, b"no\n") if broken else None

        self.fleet.breaks = breaks
        with pytest.raises(DeployFailed) as failed:
            await deploy(plan, **self.keys(who))
        self.fleet.breaks = lambda _: None
        report = failed.value.report
        self.note(who, [*report.releases.values()], version)
        for text in failure(report, self.board, tables.COMMAND):
            self.check_words(self.store(who), text)

    async def kill(self, who: str, switched: int) -> None:
        """A controller dies once some hosts have switched."""
        version, seen = self.next_version(), list[str]()
        moment: list[Moment] = []

        def observe(record: e.Record) -> None:
            self.observe(record)
            if isinstance(record.event, e.Switched):
                seen.append(record.event.host)
            due = isinstance(record.event, e.Prepared | e.Switched)
            if not moment and due and len(seen) == switched:
                kept = copy.deepcopy((self.fleet.hosts, self.stores[who]))
                moment.append(Moment(*kept, record.run))

        plan = attrs.evolve(self.plan, rollout=Rollout(waves=(1,), max_failures=1))
        keys = self.keys(who)
        keys["observe"] = observe
        async with start(plan, **keys) as run:
            report = await run.report()
        (died,) = moment
        self.fleet.hosts, self.stores[who] = died.hosts, died.store
        if self.shared:
            self.stores = dict.fromkeys(self.stores, died.store)
        for path in self.folder.glob(f"{who}/STATE/ghostasync/.runs/*/{died.run}"):
            shutil.rmtree(path)
        self.note(who, [*report.releases.values()], version)
        killed = Run(
            self.number, version, self.store(who), hosts=tuple(self.model.trails)
        )
        killed.found = self.model.all
        for host in self.model.trails:
            if self.serves[host] == version:
                self.model.bring(killed, host)
        self.model.killed.append(killed)

    async def resume(self, who: str) -> None:
        killed = self.model.unfinished(self.store(who))
        self.spared.clear()
        try:
            report = await resume(self.plan, **self.keys(who))
        except PlanError:
            # A journal that tells nothing yet, of a run that has moved nothing, may be
            # history.
            assert killed is None or not killed.touched
            return
        assert report.exit_status == 0
        assert killed is not None
        self.model.killed.remove(killed)
        # Where the journal had not told of the package yet, it was built again.
        self.note(who, [*report.releases.values()], killed.release)
        hosts = [h for h in killed.hosts if not self.model.overtaken(h, killed)]
        # What the journal had not handed in yet is not known: what a host has from
        # another store may be later.
        unknown = {h for h in self.spared if self.model.foreign(h, killed)}
        hosts = [h for h in hosts if h not in unknown]
        killed.whole = len(hosts) == len(killed.hosts)
        killed.number = self.number
        self.model.deploy(killed, hosts)
        # Who has joined since then is brought along, to what MANIFEST names.
        joined = self.model.trails.keys() - killed.hosts if killed.whole else ()
        for host in sorted(joined):
            if self.model.serves(host) != killed.release:
                self.model.back(host, killed.release, self.number)

    async def revert(self, who: str) -> None:
        killed = self.model.unfinished(self.store(who))
        try:
            report = await revert(self.plan, **self.keys(who))
        except PlanError:
            assert killed is None or not killed.touched
            return
        assert report.exit_status == 0
        assert killed is not None
        self.model.killed.remove(killed)
        for trail in self.model.trails.values():
            if trail and trail[-1] is killed:
                trail.pop()

    async def rollback(self, who: str) -> None:
        whole = True
        try:
            await rollback(self.plan, **self.keys(who))
        except PlanError as exc:
            note(str(exc))
            with pytest.raises(LookupError):
                self.model.rollback(self.store(who), 0)
            return
        except DeployFailed:
            whole = False
        assert self.model.rollback(self.store(who), self.number) == whole

    async def converge(self, who: str) -> None:
        named = self.model.manifest.get(self.store(who))
        if named is None:
            with pytest.raises(PlanError):
                await converge(self.plan, **self.keys(who))
            return
        report = await converge(self.plan, **self.keys(who))
        assert report.outcome in {Outcome.LIVE, Outcome.UNCHANGED}
        for host, trail in self.model.trails.items():
            if self.model.serves(host) != named.release or not trail[-1].live:
                self.model.back(host, named.release, self.number)

    async def join(self) -> None:
        name = f"h{len(self.model.trails) + 1}"
        self.model.trails[name] = []
        hosts = tuple(map(Host, self.model.trails))
        self.plan = attrs.evolve(self.plan, hosts=hosts)

    # --- What is true ---

    @property
    def serves(self) -> dict[str, int]:
        live = self.fleet.serves
        return {h: self.packages.get(live.get(h, ""), 0) for h in self.model.trails}

    async def check(self) -> None:
        assert self.serves == self.model.all
        for who in {self.store(name) for name in self.stores}:
            lines = await self.stores[who].manifest.read()
            named = self.model.manifest.get(who)
            assert [self.packages[line.package] for line in lines] == (
                [named.release] if named else []
            )
            self.sit_at(who)
            await self.check_advice(who)

    async def check_advice(self, who: str) -> None:
        """No command that is advised takes a host back, unless it says so."""
        transport, store = self.fleet.transport, self.stores[who]
        fleet = await status(self.plan, transport=transport, store=store)
        unfinished = self.model.unfinished(who)
        if unfinished is None or unfinished.touched:
            assert (fleet.run is None) == (unfinished is None)
        for text in tables.status(fleet):
            self.check_words(who, text)

    def check_words(self, who: str, text: str) -> None:
        if "back" in text or "ghostasync" not in text:
            return
        note(f"{who}: {text}")
        unfinished, named = self.model.unfinished(who), self.model.manifest.get(who)
        words = text.split()
        if "converge" in words:
            assert named is not None
            for host in words[words.index("converge") + 1 :]:
                assert named.release >= self.model.serves(host), text
        if "--package" in words:
            release = self.packages[words[-1]]
            assert release >= max(self.model.all.values()), text
        if "resume" in words and unfinished is not None:
            for host in self.model.left(unfinished):
                assert unfinished.release >= self.model.serves(host), text
        assert "rollback" not in words, text


@contextlib.contextmanager
def world(*, shared: bool, hours: int) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        plan = four_hosts(folder)
        module = attrs.evolve(
            plan.modules[0], after_all_deploy=type(plan.modules[0].pre_deploy)()
        )
        plan = attrs.evolve(plan, modules=(module,))
        yield World(folder, plan, patch, shared, hours)
