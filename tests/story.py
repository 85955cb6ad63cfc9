"""Runs that never were: records as the engine would write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from ghostasync import events as e
from ghostasync.machine import HostMachine
from ghostasync.model import HostReport, Outcome, Report, Revision, State
from ghostasync.views.board import Board

OLD, NEW = "1763800000_site_0a1b2c3", "1763856184_site_4f2a9c1"
RUN = "20251123T001624Z-a1b2c3"
BEGAN = 1_763_856_184.0
NBYTES = 51_234_567


def names(count: int) -> tuple[str, ...]:
    width = len(str(count))
    return tuple(f"web{number:0{width}}" for number in range(1, count + 1))


@attrs.define
class Story:
    """Tell events; each becomes a record with the state the machine says."""

    hosts: tuple[str, ...]
    records: list[e.Record] = attrs.field(factory=list)
    at: float = BEGAN
    machines: dict[str, HostMachine] = attrs.field(factory=dict)
    waves: dict[str, int] = attrs.field(factory=dict)

    def tell(self, event: e.Event, *, after: float = 0.0) -> None:
        self.at += after
        state, wave = None, None
        if isinstance(event, e.Admitted):
            self.waves[event.host] = event.wave
        if isinstance(event, e.HostEvent):
            machine = self.machines.setdefault(event.host, HostMachine())
            if not isinstance(event, e.Output | e.HostWarned):
                machine.apply(event)
            state, wave = machine.state, self.waves.get(event.host)
        counted = not isinstance(event, e.Progressed)
        seq = (self.records[-1].seq if self.records else 0) + counted
        self.records.append(e.Record(seq, self.at, RUN, event, state, wave))

    def each(
        self,
        what: Callable[[str], e.HostEvent],
        hosts: Iterable[str] = (),
        *,
        every: float = 0.01,
    ) -> None:
        for host in hosts or self.hosts:
            self.tell(what(host), after=every)

    def in_state(self, *states: State) -> list[str]:
        return [h for h, m in self.machines.items() if m.state in states]

    def revert(self, of: str) -> None:
        """Begin to take back what another run did."""
        self.tell(
            e.Started(
                "rollback", "shop/prod/web", ("site",), self.hosts, of=of, revert=True
            )
        )

    def start(self, modules: Sequence[str] = ("site",), action: str = "deploy") -> None:
        self.tell(
            e.Started(
                action,
                "shop/prod/web",
                tuple(modules),
                self.hosts,
                actor="ada",
                reason="the basket forgets its coupons",
                manifest=dict.fromkeys(modules, OLD),
            )
        )

    def build(self, modules: Sequence[str] = ("site",)) -> None:
        for name in modules:
            self.tell(
                e.Resolved(
                    name, Revision("https://git.example/site", "main", "4f2a9c1" * 5)
                ),
                after=0.1,
            )
            self.tell(e.BuildStarted(name), after=0.4)
            text = "collecting assets\n\x1b[32mbundled\x1b[0m 312 modules\n"
            self.tell(e.BuildOutput(name, "buildpack", text), after=1.0)

    def package(self, modules: Sequence[str] = ("site",)) -> None:
        for name in modules:
            package = NEW.replace("site", name)
            self.tell(
                e.Packaged(name, package, NBYTES, 3 * NBYTES, 4836, seconds=2.1),
                after=0.3,
            )

    def connect(self, hosts: Iterable[str] = ()) -> None:
        self.each(lambda h: e.Connected(h, 0.2), hosts)
        self.each(lambda h: e.Checked(h, {"site": OLD}), hosts)

    def upload(self, hosts: Iterable[str] = ()) -> None:
        self.each(lambda h: e.Uploaded(h, NBYTES, 0.8), hosts)

    def wave(self, number: int, waves: int, hosts: Sequence[str]) -> None:
        self.tell(e.WaveStarted(number, waves, tuple(hosts)))
        self.each(lambda h: e.Admitted(h, number), hosts, every=0)
        self.each(e.Drained, hosts, every=0)
        self.each(e.Switched, hosts, every=0.001)

    def finish(self, outcome: str, exit_status: int, reason: str = "") -> None:
        live = {h: m.state.name for h, m in self.machines.items()}
        releases = {"site": NEW} if exit_status == 0 else {}
        self.tell(
            e.Finished(
                outcome,
                exit_status,
                releases,
                live,
                seconds=self.at - BEGAN,
                nbytes=NBYTES * len(self.hosts),
                skew_ms=84.0,
                log="/var/lib/ghostasync/shop/prod/web/runs/" + RUN,
                reason=reason,
            ),
            after=0.1,
        )


def good_run(count: int = 3) -> Story:
    """A deployment in one wave on which nothing goes wrong."""
    story = Story(names(count))
    story.start()
    story.connect()
    story.build()
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.tell(e.Judged(count, 0, 0))
    story.wave(1, 1, story.hosts)
    story.each(e.Activated)
    story.each(e.Verified)
    story.each(e.Undrained)
    story.tell(e.WaveFinished(1, count, 0, 0.084))
    story.tell(e.ManifestMoved({"site": NEW}))
    story.finish("live", 0)
    return story


def gated_run(count: int = 6) -> Story:
    """A migration, a canary that is drained and let through, and a gate that closes."""
    story = Story(names(count))
    story.start()
    story.connect()
    story.build()
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.tell(e.Judged(count, 0, 0))
    first = story.hosts[0]
    story.tell(e.BeforeSwitchStarted("site", first))
    said = "altering table orders\n40 % of 2 million rows\n"
    story.tell(e.Output(first, "site", "before_switch", said), after=3.0)
    story.tell(e.BeforeSwitchPassed("site", first, 9.0), after=6.0)
    text = "asking for the error rate\n0.2 % of requests\n"
    for number, hosts in enumerate((story.hosts[:1], story.hosts[1:3]), start=1):
        story.tell(e.WaveStarted(number, 3, hosts))
        story.each(lambda h, n=number: e.Admitted(h, n), hosts)  # type: ignore[misc]  # bound
        story.each(lambda h: e.Output(h, "", "drain", "12 connections left\n"), hosts)
        story.each(lambda h: e.Drained(h, 2.5), hosts, every=2.5)
        for what in (e.Switched, e.Activated, e.Verified):
            story.each(what, hosts)
        story.each(lambda h: e.Undrained(h, 0.3), hosts)
        story.tell(e.WaveFinished(number, len(hosts), 0, 0.01))
        story.tell(e.AfterWaveStarted(number))
        story.tell(e.BuildOutput("", "after_wave", text), after=1.0)
        if number == 1:
            story.tell(e.AfterWavePassed(number, 2.0), after=1.0)
    reason = "after_wave exited 1"
    story.tell(e.AfterWaveFailed(2, reason, 1, text), after=1.0)
    story.tell(e.Stopped(f"wave 2: {reason}"))
    live = story.in_state(State.LIVE)
    story.tell(e.FleetRollbackStarted(f"wave 2: {reason}", tuple(live)))
    story.each(lambda h: e.RollbackRequested(h, reason), live)
    story.each(lambda h: e.RolledBack(h, {"site": OLD}), live)
    story.finish("failed", 1, f"wave 2: {reason}")
    return story


def failed_run(count: int = 300) -> Story:
    """Some never answer, some have no room, and the second wave does not verify."""
    story = Story(names(count))
    lost, full = story.hosts[2], story.hosts[4:7]
    story.start()
    story.tell(
        e.Failed(lost, "no answer within 30 s", State.CONNECTING, unreachable=True)
    )
    story.connect([h for h in story.hosts if h != lost])
    story.build()
    story.package()
    for third in (1, 2):
        sent = {h: NBYTES * third // 3 - 997 * n for n, h in enumerate(story.hosts[7:])}
        story.tell(e.Progressed(sum(sent.values()), sent), after=1.0)
    fit = [h for h in story.hosts if h not in {lost, *full}]
    story.upload([*fit, *full])
    tail = "checking the disk\nneeded 2.1 GB\nNo space left on device\n"
    story.each(
        lambda h: e.Failed(
            h, "pre_deploy exited 28: No space left", State.PREPARING, 28, tail
        ),
        full,
    )
    story.each(e.Prepared, fit)
    story.tell(e.Judged(len(fit), 4, 15))
    canary, second = fit[:1], fit[1:75]
    story.wave(1, 5, canary)
    for what in (e.Activated, e.Verified, e.Undrained):
        story.each(what, canary)
    story.tell(e.WaveFinished(1, 1, 0, 0.0))
    story.wave(2, 5, second)
    story.each(e.Activated, second)
    story.each(e.Verified, second[20:])
    story.each(e.Undrained, second[20:])
    story.each(
        lambda h: e.Failed(
            h, "verify exited 22: 503 Service Unavailable", State.VERIFYING, 22
        ),
        second[:20],
    )
    story.tell(e.WaveFinished(2, 54, 20, 0.031))
    reason = "24 hosts failed and 15 may"
    story.tell(e.Stopped(reason))
    live = story.in_state(State.LIVE)
    story.tell(e.FleetRollbackStarted(reason, tuple(live + second[:20])))
    story.each(lambda h: e.RollbackRequested(h, reason), live, every=0)
    story.each(lambda h: e.RolledBack(h, {"site": OLD}), second[:20])
    story.each(lambda h: e.RolledBack(h, {"site": OLD}), live)
    story.finish("failed", 1, reason)
    return story


def folded(records: Iterable[e.Record]) -> Board:
    board = Board()
    for record in records:
        board.apply(record)
    return board


def report_of(story: Story) -> Report:
    """The report that the engine would hand out beside the last record."""
    over = story.records[-1].event
    assert isinstance(over, e.Finished)
    reasons = {
        r.event.host: (r.event.reason, r.event.stage)
        for r in story.records
        if isinstance(r.event, e.Failed)
    }
    rows = {
        host: HostReport(
            State[state],
            stage=reasons.get(host, ("", None))[1],
            reason=reasons.get(host, ("", None))[0],
        )
        for host, state in over.hosts.items()
    }
    return Report(
        RUN,
        Outcome(over.outcome),
        over.exit,
        over.releases,
        rows,
        nbytes=over.nbytes,
        skew=over.skew_ms / 1000,
        seconds=over.seconds,
        log=over.log,
        reason=over.reason,
    )
