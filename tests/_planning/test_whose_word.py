"""
Two controllers and a fleet: whatever they do, hosts serve what a small model says.

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

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ghostasync import (
    DeployFailed,
    Host,
    Outcome,
    Plan,
    PlanError,
    Rollout,
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
    FakeHosts,
    FakeTransport,
    MemoryStore,
    _memory_store,
    step,
)
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


@attrs.define
class Model:
    """The moves that stand on each host, the last one on top; and MANIFEST by store."""

    trails: dict[str, list[Run]]
    manifest: dict[str, Run] = attrs.field(factory=dict)
    killed: list[Run] = attrs.field(factory=list)
    seen: dict[str, int] = attrs.field(factory=dict)
    count: int = 0

    def serves(self, host: str) -> int:
        return self.trails[host][-1].release if self.trails[host] else 0

    @property
    def all(self) -> dict[str, int]:
        return {host: self.serves(host) for host in self.trails}

    def new(self, release: int, store: str = "", **more: object) -> Run:
        self.count += 1
        return Run(self.count, release, store, **more)  # type: ignore[arg-type]  # keys

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
        return {host for host in hosts if self.later(host) <= run.number}

    def later(self, host: str) -> int:
        """The number of the last run that moved a host, or noted that it is in line."""
        trail = self.trails.get(host, [])
        return max(self.seen.get(host, 0), trail[-1].number if trail else 0)

    def rollback(self, store: str) -> None:
        number = self.new(0).number
        tops = {h: trail[-1] for h, trail in self.trails.items() if trail}
        runs = [run for run in tops.values() if not run.by_manifest]
        if not runs:
            raise LookupError
        undone = max(runs, key=lambda run: run.number)
        own = {
            host: trail[-2].release if len(trail) > 1 else 0
            for host, trail in self.trails.items()
            if trail and trail[-1] is undone
        }
        had = [release for release in own.values() if release]
        usual = max(had, key=had.count) if had else 0
        to = {host: release or usual for host, release in own.items()}
        for host, run in tops.items():
            if run.by_manifest and run.release == undone.release:
                below = [r.release for r in self.trails[host][:-1]]
                to[host] = usual or (below[-1] if below else 0)
        to = {
            host: release
            for host, release in to.items()
            if release in self.held[host] | self.stored[store] - {0}
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
        clock = SimpleNamespace(time=lambda: 1_700_000_000 + 10 * self.version)
        self.monkeypatch.setattr(_memory_store, "time", clock)

    def keys(self, who: str, dead: str = "") -> dict[str, object]:
        transport = FakeTransport(self.fleet, unreachable=frozenset({dead} - {""}))
        return {"transport": transport, "store": self.stores[who]}

    def next_version(self) -> int:
        self.version += 1
        (self.plan.base / "tree" / "index").write_text(str(self.version))
        return self.version

    def note(self, who: str, packages: Sequence[str], version: int) -> None:
        for package in packages:
            self.packages[package] = version
        self.model.stored[self.store(who)].add(version)

    # --- What people do ---

    async def deploy(self, who: str, limit: str = "", dead: str = "") -> None:
        version = self.next_version()
        hosts = [h for h in self.model.trails if h != dead and (limit in {"", h})]
        if not hosts or (dead and len(self.model.trails) == 1):
            return
        report = await deploy(
            self.plan,
            limit=[limit] if limit else (),
            **self.keys(who, dead),  # type: ignore[arg-type]  # its own
        )
        self.note(who, [*report.releases.values()], version)
        run = self.model.new(version, self.store(who), whole=not limit)
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
            await deploy(plan, **self.keys(who))  # type: ignore[arg-type]  # its own
        self.fleet.breaks = lambda _: None
        self.note(who, [*failed.value.report.releases.values()], version)
        self.model.new(0)

    async def kill(self, who: str, switched: int) -> None:
        """A controller dies once some hosts have switched."""
        version, seen = self.next_version(), []
        moment: list[object] = []

        def observe(record: e.Record) -> None:
            if isinstance(record.event, e.Switched):
                seen.append(record.event.host)
            due = isinstance(record.event, e.Prepared | e.Switched)
            if not moment and due and len(seen) == switched:
                # A host may be ahead of the journal.
                moment.extend(
                    copy.deepcopy((self.fleet.hosts, self.stores[who], record.run))
                )

        waves = Rollout(waves=(1,), max_failures=1)
        plan = attrs.evolve(self.plan, rollout=waves)
        async with start(
            plan,
            observe=observe,
            **self.keys(who),  # type: ignore[arg-type]  # its own
        ) as run:
            report = await run.report()
        if not moment:
            raise AssertionError("nobody switched")
        hosts, store, run_id = moment
        self.fleet.hosts, self.stores[who] = hosts, store  # type: ignore[assignment]
        if self.shared:
            self.stores = dict.fromkeys(self.stores, self.stores[who])
        for path in self.folder.glob(f"{who}/STATE/ghostasync/.runs/*/{run_id}"):
            shutil.rmtree(path)
        self.note(who, [*report.releases.values()], version)
        killed = self.model.new(
            version, self.store(who), hosts=tuple(self.model.trails)
        )
        serves = self.serves
        for host in self.model.trails:
            if serves[host] == version:
                self.model.bring(killed, host)
        self.model.killed.append(killed)

    async def resume(self, who: str) -> None:
        killed = self.model.unfinished(self.store(who))
        if killed is None:
            with pytest.raises(PlanError):
                await resume(self.plan, **self.keys(who))  # type: ignore[arg-type]
            return
        report = await resume(self.plan, **self.keys(who))  # type: ignore[arg-type]
        assert report.exit_status == 0
        self.model.killed.remove(killed)
        # Where the journal had not told of the package yet, it was built again.
        self.note(who, [*report.releases.values()], killed.release)
        hosts = [
            host for host in killed.hosts if self.model.later(host) <= killed.number
        ]
        killed.whole = len(hosts) == len(killed.hosts) and {*killed.hosts} == {
            *self.model.trails
        }
        killed.live, killed.number = True, self.model.new(0).number
        self.model.deploy(killed, hosts)

    async def revert(self, who: str) -> None:
        killed = self.model.unfinished(self.store(who))
        if killed is None:
            with pytest.raises(PlanError):
                await revert(self.plan, **self.keys(who))  # type: ignore[arg-type]
            return
        report = await revert(self.plan, **self.keys(who))  # type: ignore[arg-type]
        assert report.exit_status == 0
        self.model.new(0)
        self.model.killed.remove(killed)
        for trail in self.model.trails.values():
            if trail and trail[-1] is killed:
                trail.pop()

    async def rollback(self, who: str) -> None:
        try:
            self.model.rollback(self.store(who))
        except LookupError:
            with pytest.raises(PlanError):
                await rollback(self.plan, **self.keys(who))  # type: ignore[arg-type]
        else:
            report = await rollback(self.plan, **self.keys(who))  # type: ignore[arg-type]
            assert report.exit_status == 0

    async def converge(self, who: str) -> None:
        named = self.model.manifest.get(self.store(who))
        if named is None:
            with pytest.raises(PlanError):
                await converge(self.plan, **self.keys(who))  # type: ignore[arg-type]
            return
        report = await converge(self.plan, **self.keys(who))  # type: ignore[arg-type]
        assert report.outcome in {Outcome.LIVE, Outcome.UNCHANGED}
        number = self.model.new(0).number
        for host, trail in self.model.trails.items():
            if self.model.serves(host) != named.release or not trail[-1].live:
                self.model.back(host, named.release, number)

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
        fleet = await status(self.plan, **self.keys(who))  # type: ignore[arg-type]
        unfinished = self.model.unfinished(who)
        assert (fleet.run is None) == (unfinished is None)
        named = self.model.manifest.get(who)
        for text in tables.status(fleet):
            if "back" in text or "ghostasync" not in text:
                continue
            note(f"{who}: {text}")
            words = text.split()
            if "converge" in words:
                chosen = words[words.index("converge") + 1 :]
                assert named is not None
                for host in chosen:
                    assert named.release >= self.model.serves(host), text
            if "--package" in words:
                release = self.packages[words[-1]]
                assert release >= max(self.model.all.values()), text
            if "resume" in words and unfinished is not None:
                for host in self.model.left(unfinished):
                    assert unfinished.release >= self.model.serves(host), text


hosts = st.sampled_from(HOSTS)
people = st.sampled_from("ab")
deeds = st.one_of(
    st.tuples(st.just("deploy"), people),
    st.tuples(st.just("deploy"), people, hosts),
    st.tuples(st.just("deploy"), people, st.just(""), hosts),
    st.tuples(st.just("fail"), people, hosts),
    st.tuples(st.just("kill"), people, st.integers(0, 2)),
    st.tuples(st.just("rollback"), people),
    st.tuples(st.just("resume"), people),
    st.tuples(st.just("revert"), people),
    st.tuples(st.just("converge"), people),
    st.tuples(st.just("join")),
)


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


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    shared=st.booleans(),
    hours=st.sampled_from([-3, 0, 3]),
    told=st.lists(deeds, min_size=3, max_size=9),
)
def test_hosts_serve_what_the_model_says(
    *, shared: bool, hours: int, told: list[tuple[str, ...]]
) -> None:
    async def act() -> None:
        with world(shared=shared, hours=hours) as here:
            for deed, *words in told:
                note(f"{deed} {words}")
                here.sit_at(words[0] if words else "a")
                await getattr(here, deed)(*words)
                await here.check()

    anyio.run(act)
