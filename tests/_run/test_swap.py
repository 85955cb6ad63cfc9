"""A swap on hosts in memory: what balancers are told, and what is taken back."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import (
    App,
    DeployFailed,
    Hook,
    Host,
    Layout,
    Outcome,
    Plan,
    PlanError,
    Report,
    Rollout,
    RunOptions,
    State,
    StoreSettings,
    Swap,
    Verify,
    converge,
    deploy,
    freeze,
    past_runs,
    resume,
    revert,
    start,
    status,
    swap,
)
from ghostasync import events as e
from ghostasync.errors import ConnectionDied, Frozen, NothingToResume, StoreError
from ghostasync.protocols import ActiveColor
from ghostasync.stores import DirectoryStore, _texts
from ghostasync.testing import (
    Answer,
    Break,
    Call,
    FakeHosts,
    FakeTransport,
    InProcessFleet,
    step,
)
from tests.deploying import fails, of, six_hosts, states
from tests.s3_servers import BUCKET, S3Server, make_bucket

RUN = "20990101T000000Z-abcdef"


def tells(word: str) -> Hook:
    return Hook(f'echo "{word} $GHOST_HOST $GHOST_ACTIVE_COLOR" >>told', "controller")


@attrs.define
class Colors:
    """Two fleets of two hosts, b1 and b2, g1 and g2; each has been deployed to."""

    blue: Plan
    green: Plan
    hosts: FakeHosts
    seen: list[e.Event] = attrs.field(factory=list)
    heard: Callable[[e.Event], None] = lambda _: None

    @property
    def told(self) -> list[str]:
        """What balancers were told: to drain or undrain whom, by which active color."""
        path = self.blue.base / "told"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(Path(self.blue.store.url) / "shop/prod/web/blue")

    def rollout(self, color: str, **changes: object) -> None:
        plan = getattr(self, color)
        rollout = attrs.evolve(plan.rollout, **changes)
        setattr(self, color, attrs.evolve(plan, rollout=rollout))

    def observe(self, record: e.Record) -> None:
        self.seen.append(record.event)
        self.heard(record.event)

    async def swap(
        self, *, to: str = "", away: frozenset[str] = frozenset(), **more: object
    ) -> Report:
        options = RunOptions(
            observe=self.observe,
            transport=FakeTransport(self.hosts, unreachable=away),
            actor="ada",
            reason="a fair",
        )
        options.update(more)  # type: ignore[typeddict-item]  # keys of it
        try:
            return await swap(self.blue, self.green, to=to, **options)
        except DeployFailed as failed:
            return failed.report


@pytest.fixture
async def colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Colors:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = six_hosts(tmp_path)
    hosts = FakeHosts()
    plans: list[Plan] = []
    for color in ("blue", "green"):
        app = attrs.evolve(plan.app, color=color, active_color="blue")
        named = tuple(Host(f"{color[0]}{number}") for number in (1, 2))
        one = attrs.evolve(plan, app=app, hosts=named)
        await deploy(one, transport=hosts.transport)
        balanced = Rollout(drain=tells("drain"), undrain=tells("undrain"))
        plans.append(attrs.evolve(one, rollout=balanced))
    hosts.calls.clear()
    return Colors(plans[0], plans[1], hosts)


OUT = [f"drain {host} green" for host in ("b1", "b2")]
IN = [f"undrain {host} blue" for host in ("g1", "g2")]
AGAIN = [f"drain {host} blue" for host in ("g1", "g2")]


async def test_visitors_get_the_other_color_and_then_lose_this_one(
    colors: Colors,
) -> None:
    links = colors.hosts.serves

    report = await colors.swap()

    assert (report.outcome, report.exit_status, report.reason) == (Outcome.LIVE, 0, "")
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, OUT)
    active = await colors.store.active_color()
    assert active == ActiveColor(
        "green", 1, report.run, "ada", "a fair", active.at if active else 0
    )
    assert states(report) == dict.fromkeys(("b1", "b2", "g1", "g2"), State.UNCHANGED)
    assert colors.hosts.serves == links
    locks = [call for call in colors.hosts.calls if call.name == "lock"]
    assert len(locks) == 4
    assert all(report.run in call.args for call in locks)
    turns = [type(each) for each in colors.seen if not isinstance(each, e.HostEvent)]
    assert [
        each for each in turns if each in {e.WaveFinished, e.ColorMoved, e.Numbered}
    ] == [e.WaveFinished, e.ColorMoved, e.WaveFinished]


async def test_the_same_again_takes_visitors_back(colors: Colors) -> None:
    await colors.swap()

    report = await colors.swap()

    assert report.exit_status == 0
    assert sorted(colors.told[4:6]) == ["undrain b1 green", "undrain b2 green"]
    assert sorted(colors.told[6:]) == ["drain g1 blue", "drain g2 blue"]
    active = await colors.store.active_color()
    assert active is not None
    assert (active.color, active.number, active.run) == ("blue", 2, report.run)


async def test_either_configuration_comes_first(colors: Colors) -> None:
    colors.blue, colors.green = colors.green, colors.blue

    await colors.swap()

    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, OUT)


async def test_a_host_that_is_not_healthy_changes_nothing(colors: Colors) -> None:
    colors.hosts.breaks = fails("verify", "g2")
    deadlines = attrs.evolve(colors.green.rollout.deadlines, verify=0.1)
    colors.rollout("green", deadlines=deadlines)

    report = await colors.swap()

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert report.reason == "1 host failed, 0 allowed"
    assert "verify of site did not pass within 0.1 s" in report.hosts["g2"].reason
    assert (colors.told, await colors.store.active_color()) == ([], None)


async def test_a_host_off_manifest_changes_nothing(colors: Colors) -> None:
    link = colors.hosts.hosts["g1"].link
    colors.hosts.hosts["g1"].link = f"{link.rpartition('/')[0]}/1600000000_site_0000000"

    report = await colors.swap()

    assert report.exit_status == 1
    assert report.hosts["g1"].reason.startswith(
        "serves 1600000000_site_0000000 of site, and MANIFEST says "
    )
    assert (colors.told, await colors.store.active_color()) == ([], None)


async def test_hosts_that_the_budget_allows_to_fail_get_no_visitors(
    colors: Colors,
) -> None:
    colors.rollout("green", max_failures=1)

    report = await colors.swap(away=frozenset({"g2"}))

    assert (report.outcome, report.exit_status) == (Outcome.PARTIAL, 0)
    assert (colors.told[:1], sorted(colors.told[1:])) == (["undrain g1 blue"], OUT)


async def test_hosts_that_got_visitors_lose_them_where_one_cannot_have_them(
    colors: Colors,
) -> None:
    command = tells("undrain").run + "; test $GHOST_HOST = g1"
    colors.rollout("green", undrain=Hook(command, "controller"))

    report = await colors.swap()

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, AGAIN)
    assert await colors.store.active_color() is None
    assert states(report)["b1"] is State.HALTED


async def test_a_host_that_cannot_be_taken_out_again_is_told(colors: Colors) -> None:
    colors.rollout("green", undrain=Hook("test $GHOST_HOST = g1"), drain=Hook("exit 3"))

    report = await colors.swap()

    assert report.exit_status == 1
    warned = [each for each in colors.seen if isinstance(each, e.HostWarned)]
    assert {each.host for each in warned} == {"g1", "g2"}
    assert all(each.text.startswith("gets visitors still: drain") for each in warned)


async def test_a_stop_takes_back_what_got_visitors(colors: Colors) -> None:
    script = 'test $GHOST_HOST = g1 || exec sleep 60; echo "undrain g1 blue" >>told'
    colors.rollout("green", undrain=Hook(script, "controller"))
    transport = colors.hosts.transport

    with anyio.fail_after(20):
        async with start(colors.blue, Swap(colors.green), transport=transport) as run:
            async for record in run.events():
                event = record.event
                if isinstance(event, e.Unchanged) and event.host == "g1":
                    await run.stop()
            report = await run.report()

    assert (report.outcome, report.exit_status) == (Outcome.INTERRUPTED, 130)
    assert (colors.told[0], sorted(colors.told[1:])) == ("undrain g1 blue", AGAIN)
    assert await colors.store.active_color() is None


async def test_a_swap_that_another_one_has_overtaken_tells_no_balancer(
    colors: Colors,
) -> None:
    other = ActiveColor("green", 1, RUN, "bob", "", 0.0)

    def overtakes(event: e.Event) -> None:
        if isinstance(event, e.Connected):
            path = Path(colors.store.url).parent / "ACTIVE"
            path.write_bytes(_texts.dump(other))

    colors.heard = overtakes
    report = await colors.swap()

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert report.reason == (
        "the active color has moved since the run was planned: it is green since "
        "1970-01-01 00:00 UTC, by bob"
    )
    assert (colors.told, await colors.store.active_color()) == ([], other)


async def test_the_record_moves_only_from_what_it_was(colors: Colors) -> None:
    other = ActiveColor("blue", 1, RUN, "bob", "", 0.0)

    def overtakes(event: e.Event) -> None:
        if isinstance(event, e.WaveStarted):
            path = Path(colors.store.url).parent / "ACTIVE"
            path.write_bytes(_texts.dump(other))

    colors.heard = overtakes
    report = await colors.swap()

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert "is not what it was when it was read" in report.reason
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, AGAIN)
    assert await colors.store.active_color() == other


async def test_hosts_that_were_never_reached_are_not_said_to_get_visitors(
    colors: Colors,
) -> None:
    colors.rollout("green", max_failures=1, undrain=Hook("exit 3"))

    report = await colors.swap(away=frozenset({"g2"}))

    assert report.exit_status == 1
    assert colors.told == ["drain g1 blue"]
    assert of(e.HostWarned, colors.seen) == []


@pytest.mark.parametrize("moves", [True, False])
async def test_where_the_move_fails_the_record_says_who_keeps_visitors(
    colors: Colors, moves: bool
) -> None:
    class Failing(DirectoryStore):
        async def move_active_color(
            self, moved: ActiveColor, expected: ActiveColor | None
        ) -> None:
            if moves:
                await super().move_active_color(moved, expected)
            raise StoreError("no answer")

    report = await colors.swap(store=Failing(Path(colors.store.url)))

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert report.reason == "the active color could not be moved: no answer"
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (
        *(IN, [] if moves else AGAIN),
    )


async def test_a_swap_to_the_active_color_never_takes_it_out(colors: Colors) -> None:
    """It finishes a swap that was killed once the record had moved."""
    await colors.swap()
    finished = await colors.swap(to="green")
    colors.rollout("green", undrain=Hook("exit 3"))

    report = await colors.swap(to="green")

    assert (finished.exit_status, report.exit_status) == (0, 1)
    assert [line for line in colors.told if line.startswith("drain g")] == []
    active = await colors.store.active_color()
    assert active is not None
    assert (active.color, active.run) == ("green", finished.run)


async def test_a_color_whose_hosts_are_dead_can_be_left(colors: Colors) -> None:
    report = await colors.swap(away=frozenset({"b1", "b2"}))

    assert (report.outcome, report.exit_status) == (Outcome.PARTIAL, 1)
    assert sorted(colors.told) == IN
    active = await colors.store.active_color()
    assert active is not None
    assert active.color == "green"
    warned = [each for each in colors.seen if isinstance(each, e.HostWarned)]
    assert [(each.host, each.text) for each in warned] == [
        (host, "may get visitors still; swap --to green takes it out")
        for host in ("b1", "b2")
    ]


@pytest.mark.parametrize("color", ["blue", "green"])
async def test_a_deploy_that_a_swap_has_overtaken_moves_no_link(
    colors: Colors, color: str
) -> None:
    """It would take hosts for idle that have visitors by now, or the other way."""
    plan, links = getattr(colors, color), colors.hosts.serves

    def overtakes(record: e.Record) -> None:
        if isinstance(record.event, e.Connected):
            path = Path(colors.store.url).parent / "ACTIVE"
            path.write_bytes(_texts.dump(ActiveColor("green", 1, RUN, "bob", "", 0.0)))

    transport = colors.hosts.transport
    with pytest.raises(DeployFailed) as failed:
        await deploy(plan, force=True, transport=transport, observe=overtakes)

    report = failed.value.report
    assert report.exit_status == 1
    assert report.reason == (
        "the active color has moved since the run was planned: it is green since "
        "1970-01-01 00:00 UTC, by bob"
    )
    assert (colors.told, colors.hosts.serves) == ([], links)


async def test_a_deploy_after_a_swap_runs_scripts_with_the_new_word(
    colors: Colors,
) -> None:
    plan, transport = colors.blue, colors.hosts.transport
    before = await deploy(plan, transport=transport)
    await colors.swap()
    colors.hosts.calls.clear()

    after = await deploy(plan, transport=transport)
    again = await deploy(plan, transport=transport)

    outcomes = [before.outcome, after.outcome, again.outcome]
    assert outcomes == [Outcome.UNCHANGED, Outcome.LIVE, Outcome.UNCHANGED]


def held(host: str, times: int) -> Break:
    """Have another run hold a host, for the first questions."""
    left = [None] * times

    def breaks(call: Call) -> Answer | None:
        if call.name == "lock" and call.host == host and left:
            left.pop()
            return Answer(75, errors=b"run 20200101T000000Z-aaaaaa by bob on pc")
        return None

    return breaks


@pytest.mark.parametrize("host", ["b1", "g1"])
async def test_a_host_of_either_color_that_another_run_holds_stops_it(
    colors: Colors, host: str
) -> None:
    colors.hosts.breaks = held(host, 99)

    report = await colors.swap()

    assert (report.outcome, report.exit_status) == (Outcome.LOCKED, 4)
    assert (colors.told, await colors.store.active_color()) == ([], None)


@pytest.mark.parametrize("host", ["b1", "g1"])
async def test_a_lock_on_either_color_is_waited_for(colors: Colors, host: str) -> None:
    colors.hosts.breaks = held(host, 1)

    report = await colors.swap(wait=30)

    assert report.exit_status == 0
    assert len(of(e.LockAwaited, colors.seen)) == 1
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, OUT)


async def test_hosts_of_the_other_color_that_are_at_work_begin_again_after_a_lock(
    colors: Colors,
) -> None:
    at_work, left = anyio.Event(), ["lock", "verify"]

    async def answer(call: Call) -> Answer:
        if (call.host, call.name) == ("b1", "lock") and "lock" in left:
            await at_work.wait()
            left.remove("lock")
            return Answer(75, errors=b"run 20200101T000000Z-aaaaaa by bob on pc")
        if (call.host, step(call)) == ("g1", "verify") and "verify" in left:
            left.remove("verify")
            at_work.set()
            await anyio.sleep_forever()
        return await colors.hosts(call)

    with anyio.fail_after(20):
        report = await colors.swap(wait=30, transport=FakeTransport(answer))

    assert (report.exit_status, left) == (0, [])
    assert of(e.Halted, colors.seen) == []
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, OUT)


async def test_a_connection_that_dies_is_made_again(colors: Colors) -> None:
    left = ["g1", "b1"]

    def dies(call: Call) -> Answer | None:
        if call.name == "assert_lock" and call.host in left:
            left.remove(call.host)
            raise ConnectionDied(call.host, "connection lost")
        return None

    colors.hosts.breaks = dies

    report = await colors.swap()

    assert (report.exit_status, left) == (0, [])
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, OUT)


@pytest.mark.parametrize("color", ["blue", "green"])
async def test_a_freeze_of_either_color_stops_it(colors: Colors, color: str) -> None:
    await freeze(getattr(colors, color), "a fair", transport=colors.hosts.transport)

    with pytest.raises(Frozen):
        await colors.swap()
    assert colors.told == []


async def test_it_is_a_run_on_record_and_says_nothing_of_releases(
    colors: Colors,
) -> None:
    report = await colors.swap(away=frozenset({"b1"}))
    transport = colors.hosts.transport

    newest = (await past_runs(colors.blue, transport=transport))[0]
    found = await status(colors.blue, transport=transport)

    assert (newest.id, newest.action, newest.outcome) == (
        *(report.run, "swap", "partial"),
    )
    assert (newest.actor, newest.reason) == ("ada", "a fair")
    assert {host.state for host in found.hosts.values()} == {"in-line"}
    assert (found.color, found.active_color) == ("blue", "green")
    with pytest.raises(PlanError, match="no host"):
        await converge(colors.blue, transport=transport, limit=["@failed"])


@pytest.mark.parametrize("take_up", [resume, revert])
async def test_one_that_was_killed_is_finished_by_another_and_not_resumed(
    colors: Colors, take_up: Callable[..., Awaitable[Report]]
) -> None:
    report = await colors.swap()
    path = Path(colors.store.url) / "runs" / report.run / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"Finished"' not in line))
    transport = colors.hosts.transport

    with pytest.raises(PlanError) as refused:
        await take_up(colors.blue, run=report.run, transport=transport)
    with pytest.raises(NothingToResume):
        await take_up(colors.blue, transport=transport)

    assert str(refused.value) == (
        f"run {report.run} is a swap: `ghostasync swap --to COLOR` finishes it, or "
        "takes it back"
    )
    assert (await status(colors.blue, transport=transport)).run is None


async def test_each_color_is_reached_as_its_own_configuration_says(
    tmp_path: Path,
) -> None:
    module = attrs.evolve(
        six_hosts(tmp_path).modules[0], path="~/site", verify=Verify()
    )
    async with (
        InProcessFleet(1, tmp_path / "b") as blue,
        InProcessFleet(1, tmp_path / "g") as green,
    ):
        plans = [
            Plan(
                app=App("shop", "prod", "web", color, "blue"),
                modules=(module,),
                hosts=tuple(attrs.evolve(h, name=color) for h in fleet.hosts),
                store=StoreSettings(url=str(tmp_path / "store")),
                ssh=fleet.ssh,
                layout=Layout("~/ghost"),
                rollout=Rollout(
                    drain=Hook('echo "drain $GHOST_HOST" >>~/told', "host"),
                    undrain=Hook('echo "undrain $GHOST_HOST" >>~/told', "host"),
                ),
                base=tmp_path,
            )
            for color, fleet in (("blue", blue), ("green", green))
        ]
        for plan in plans:
            await deploy(plan)
        told = [fleet.home("host-1") / "told" for fleet in (blue, green)]
        for path in told:
            path.unlink()

        report = await swap(plans[0], plans[1])

    assert report.exit_status == 0
    assert [path.read_text() for path in told] == ["drain blue\n", "undrain green\n"]


@pytest.mark.fleet
async def test_colors_in_s3_share_their_record_and_leave_no_connection_open(
    colors: Colors, ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ministack_server.environ.items():
        monkeypatch.setenv(name, value)
    await make_bucket(ministack_server)
    url = f"s3://{BUCKET}/{secrets.token_hex(4)}"
    settings = attrs.evolve(ministack_server.settings, url=url)
    colors.blue = attrs.evolve(colors.blue, store=settings)
    colors.green = attrs.evolve(colors.green, store=settings)
    transport = colors.hosts.transport
    for plan in (colors.blue, colors.green):
        plain = attrs.evolve(plan, rollout=Rollout())
        await deploy(plain, force=True, transport=transport)

    report = await colors.swap()
    found = await status(colors.green, transport=transport)

    assert (report.exit_status, report.reason) == (0, "")
    assert (sorted(colors.told[:2]), sorted(colors.told[2:])) == (IN, OUT)
    assert found.active is not None
    assert (found.active.color, found.active.run) == ("green", report.run)


async def refused(colors: Colors, **options: object) -> str:
    with pytest.raises(PlanError) as failed:
        await colors.swap(**options)  # type: ignore[arg-type]  # keys of it
    assert (colors.hosts.calls, colors.told) == ([], [])
    return str(failed.value)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("color", "blue", "app.color is blue and blue: one is to be blue, one green"),
        ("color", "", "app.color is blue and empty: one is to be blue, one green"),
        ("role", "api", "app.role is web and api: these are two apps"),
        ("active_color", "green", "nobody has said which color is active: say --to"),
    ],
)
async def test_two_plans_that_are_no_colors_of_one_app_are_refused(
    colors: Colors, key: str, value: str, text: str
) -> None:
    words = {key: value}
    app = attrs.evolve(colors.green.app, **words)  # type: ignore[arg-type]  # keys
    colors.green = attrs.evolve(colors.green, app=app)

    assert (await refused(colors)).startswith(f"swap: {text}")


async def test_a_color_to_which_nothing_is_deployed_gets_no_visitors(
    colors: Colors,
) -> None:
    url = Path(colors.green.store.url)
    (url / "shop/prod/web/green/MANIFEST").unlink()

    assert await refused(colors) == (
        "swap: nothing is deployed to green yet: deploy to it first"
    )


async def test_the_first_word_of_which_is_active_needs_no_other_color(
    colors: Colors,
) -> None:
    url = Path(colors.green.store.url)
    (url / "shop/prod/web/green/MANIFEST").unlink()

    report = await colors.swap(to="blue")

    assert report.exit_status == 0
    assert sorted(colors.told) == ["undrain b1 blue", "undrain b2 blue"]
    active = await colors.store.active_color()
    assert active is not None
    assert active.color == "blue"


@pytest.mark.parametrize("swaps", [0, 1, 2])
async def test_a_deploy_tells_balancers_of_the_active_color_alone(
    colors: Colors, swaps: int
) -> None:
    for _ in range(swaps):
        await colors.swap()
    before = len(colors.told)
    transport = colors.hosts.transport

    await deploy(colors.blue, force=True, transport=transport)
    await deploy(colors.green, force=True, transport=transport)

    told = {line.split()[1] for line in colors.told[before:]}
    # Before the first swap nobody has said which color visitors get.
    assert (
        told
        == (
            {"b1", "b2", "g1", "g2"},
            {"g1", "g2"},
            {"b1", "b2"},
        )[swaps]
    )


async def test_colors_in_stores_apart_are_refused(
    colors: Colors, tmp_path: Path
) -> None:
    url = Path(colors.green.store.url)
    url.joinpath("shop/prod/web/green").rename(tmp_path / "green")
    there = tmp_path / "other/shop/prod/web"
    there.mkdir(parents=True)
    (tmp_path / "green").rename(there / "green")
    settings = StoreSettings(url=str(tmp_path / "other"))
    colors.green = attrs.evolve(colors.green, store=settings)

    assert "let store.url be the same for both colors" in await refused(colors)


async def test_a_host_of_both_colors_is_refused(colors: Colors) -> None:
    colors.green = attrs.evolve(colors.green, hosts=(Host("b1"), Host("g1")))

    assert await refused(colors) == (
        "swap: b1 in both colors: give each host a name of its own"
    )


async def test_other_words_are_refused(colors: Colors) -> None:
    assert await refused(colors, to="red") == "swap --to red: allowed: blue or green"
    assert await refused(colors, limit=["b1"]) == (
        "limit: a swap is of all hosts of both colors"
    )
