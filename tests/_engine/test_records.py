"""Numbers of runs, the fences of hosts, and the records that hosts keep of moves."""

from __future__ import annotations

from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import App, DeployFailed, Outcome, Plan, State, deploy, resume
from ghostasync import events as e
from ghostasync._engine.records import implausible, why_implausible
from ghostasync._local.paths import HostPaths
from ghostasync._remote.activation import Activation
from ghostasync._remote.facts import Facts, ModuleState
from ghostasync.errors import StoreError
from ghostasync.model import Deadlines
from ghostasync.stores.directory import DirectoryRunLog, DirectoryStore
from ghostasync.testing import Answer, Call, FakeHosts, FakeModule
from tests._engine.losing import OLDER
from tests.deploying import fails, of, run, states, with_rollout
from tests.killing import Scene

SITE = "/ghost/shop/prod/web/site"
STORE = "store/shop/prod/web"


def told(site: FakeModule) -> dict[int, tuple[str, str]]:
    """Return the releases and outcomes of a module's records, by their numbers."""
    return {n: (r["release"], r["outcome"]) for n, r in site.records.items()}


def seen_numbers(seen: list[e.Event]) -> list[tuple[int, str]]:
    """Return the numbers that a run has taken, and after which run."""
    return [(ev.generation, ev.after) for ev in seen if isinstance(ev, e.Numbered)]


def manifest(folder: Path) -> tuple[str, int]:
    """Return the package that MANIFEST names, and the number of its line."""
    _, package, _, _, number = (folder / STORE / "MANIFEST").read_text().split(":")
    return package, int(number)


def version(plan: Plan, text: str) -> None:
    (plan.base / "tree" / "index").write_text(text)


async def test_a_run_has_a_number_above_all_that_its_hosts_and_manifest_know(
    plan: Plan, tmp_path: Path
) -> None:
    hosts = FakeHosts()
    hosts["h4"].fence = "41 20000101T000000Z-000000"

    report, seen = await run(plan, hosts)

    assert seen_numbers(seen) == [(42, "")]
    assert {host.fence for host in hosts.hosts.values()} == {f"42 {report.run}"}
    assert manifest(tmp_path) == (report.releases["site"], 42)
    markers = tmp_path / STORE / "runs" / "by-generation"
    assert [path.name for path in markers.iterdir()] == [f"42-{report.run}"]

    version(plan, "2")
    for host in hosts.hosts.values():
        host.fence = ""
    assert seen_numbers((await run(plan, hosts))[1]) == [(43, report.run)]


async def test_no_host_hears_of_a_move_before_every_host_was_checked(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=fails("check", "h3"))
    plan = with_rollout(plan, max_failures=1)

    report, seen = await run(plan, hosts)

    numbered = [type(event) for event in seen].index(e.Numbered)
    over = [ev for ev in seen[:numbered] if isinstance(ev, e.Checked | e.Failed)]
    assert {event.host for event in over} == set(report.hosts)
    first = next(i for i, c in enumerate(hosts.calls) if c.name == "record_moves")
    assert {c.host for c in hosts.calls[:first] if c.name == "check"} == {*hosts.hosts}


async def test_a_fence_far_above_all_others_is_that_host_s_failure(plan: Plan) -> None:
    hosts = FakeHosts()
    hosts["h2"].fence = "900000000000000 x"
    plan = with_rollout(plan, max_failures=1)

    report, seen = await run(plan, hosts)

    assert report.outcome is Outcome.PARTIAL
    assert [number for number, _ in seen_numbers(seen)] == [1]
    assert states(report)["h2"] is State.FAILED
    assert report.hosts["h2"].reason.startswith(
        "/ghost/shop/prod/web/.ghost/fence says 900000000000000, far above all other"
    )


def _facts(*, fence: int = 0, record: int = 0) -> Facts:
    """Return the facts of a host that knows these numbers."""
    moves = (Activation(record, "r", "1_site_0000000"),) if record else ()
    targets = {"site": ModuleState(activations=moves)}
    return Facts(0, 0, frozenset(), "mv", "", None, None, targets, fence=fence)


WILD = 10**9
LAST = 10**15 - 1


@pytest.mark.parametrize(
    ("fences", "known", "high"),
    [
        ([5, WILD, 5], 5, {1}),
        ([5, WILD], 5, {1}),
        ([WILD], 5, {0}),
        ([WILD], 0, set()),
        ([WILD, WILD, 5], 5, set()),
        ([WILD, WILD, WILD], WILD, set()),
        ([0, WILD], 0, set()),
        ([0, 0, WILD], 0, {2}),
        ([LAST], 0, {0}),
        ([LAST, LAST, LAST], 0, {0, 1, 2}),
        ([LAST, WILD, 5], 5, {0, 1}),
        ([5, 6, 1_000_005], 6, set()),
    ],
)
def test_the_few_hosts_that_are_far_above_all_others_are_not_believed(
    fences: list[int], known: int, high: set[int]
) -> None:
    seen = {f"h{n}": _facts(fence=fence) for n, fence in enumerate(fences)}

    assert implausible(seen, [known]) == {f"h{n}" for n in high}


def test_a_record_far_above_all_others_is_not_believed_either() -> None:
    seen = {"a": _facts(fence=5), "b": _facts(fence=5, record=WILD)}

    assert implausible(seen, [5]) == {"b"}
    assert why_implausible(seen["b"], HostPaths("/g", App("a", "b", "c"))) == (
        f"/g/a/b/c/*/.ghost/activations/{WILD} has a number far above all other hosts "
        "and MANIFEST: remove that file"
    )


async def test_one_host_alone_does_not_spoil_the_numbers_of_its_store(
    plan: Plan,
) -> None:
    plan = attrs.evolve(plan, hosts=plan.hosts[:1])
    hosts = FakeHosts()
    await run(plan, hosts)
    hosts["h1"].fence = f"{LAST} x"
    version(plan, "2")

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert f"fence says {LAST}, far above" in report.hosts["h1"].reason
    folder = plan.base / STORE / "runs" / "by-generation"
    assert {int(file.name.partition("-")[0]) for file in folder.iterdir()} == {1, 2}


@pytest.mark.parametrize("text", ["x", "-1 x", "1e3 x", "1" * 16 + " x", "٣ x"])
async def test_a_damaged_fence_is_a_finding(plan: Plan, text: str) -> None:
    hosts = FakeHosts()
    hosts["h2"].fence = text

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert "/.ghost/fence is damaged: write the number" in report.hosts["h2"].reason
    assert hosts.asked("switch") == []


async def test_a_host_refuses_a_run_that_another_one_has_overtaken(plan: Plan) -> None:
    hosts = FakeHosts()

    def overtake(call: Call) -> None:
        if call.name == "record_moves" and call.host == "h2":
            hosts["h2"].fence = f"9 {OLDER}"

    hosts.breaks = overtake

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert "moved links here as number 9" in report.hosts["h2"].reason
    assert hosts.asked("switch") == []


async def test_a_record_says_who_moved_what_and_why(plan: Plan) -> None:
    hosts = FakeHosts()
    report = await deploy(plan, actor="ann", reason="a\nfix", transport=hosts.transport)

    record = hosts["h1"].module(SITE).records[1]

    store = DirectoryStore(plan.base / STORE)
    assert record.pop("at").endswith("Z")
    assert record.pop("fingerprint")
    assert record == {
        "outcome": "live",
        "generation": "1",
        "run": report.run,
        "goal": "deploy",
        "store": await store.identity(),
        "instance": "fake",
        "release": report.releases["site"],
        "target": "/srv/site",
        "actor": "ann",
        "key": "SHA256:fake",
        "no_return": "",
        "origin": "1",
        "reason": "a\\0012fix",
        **dict.fromkeys(
            ("previous", "aside", "commit", "subject", "undoes", "resumes"), ""
        ),
    }


async def test_the_record_of_a_resumption_tells_of_the_work_that_it_took_up(
    scene: Scene,
) -> None:
    """Goal and age of a release are those of the first run that was to bring it."""
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Undrained, "h1"))
    report = await resume(scene.plan, transport=scene.fleet.transport)

    record = scene.fleet["h4"].module(SITE).records[3]

    told = {key: record[key] for key in ("run", "goal", "resumes", "origin")}
    assert told == {
        "run": report.run,
        "goal": "deploy",
        "resumes": scene.run,
        "origin": "2",
    }


async def test_hosts_that_were_in_line_note_the_run_before_manifest_moves(
    plan: Plan, tmp_path: Path
) -> None:
    hosts = FakeHosts()
    first, _ = await run(attrs.evolve(plan, hosts=plan.hosts[:3]), hosts)

    second, _ = await run(plan, hosts)

    release = first.releases["site"]
    assert second.releases == first.releases
    assert told(hosts["h1"].module(SITE)) == {
        1: (release, "live"),
        2: (release, "live"),
    }
    assert told(hosts["h6"].module(SITE)) == {2: (release, "live")}
    assert manifest(tmp_path) == (release, 2)


async def test_a_run_that_changes_nothing_leaves_records_and_manifest(
    plan: Plan, tmp_path: Path
) -> None:
    hosts = FakeHosts()
    first, _ = await run(plan, hosts)
    hosts.calls.clear()

    second, _ = await run(plan, hosts)

    assert second.outcome is Outcome.UNCHANGED
    assert hosts.asked("record_moves") == []
    assert manifest(tmp_path) == (first.releases["site"], 1)


async def test_what_went_back_is_on_record_as_reverted(plan: Plan) -> None:
    hosts = FakeHosts()
    first, _ = await run(plan, hosts)
    version(plan, "2")
    hosts.breaks = fails("post_deploy", "h6")

    await run(plan, hosts)

    (new,) = hosts["h1"].releases - {first.releases["site"]}
    for host in hosts.hosts.values():
        expected = {1: (first.releases["site"], "live"), 2: (new, "reverted")}
        assert told(host.module(SITE)) == expected


async def test_hosts_that_stay_live_beside_old_ones_note_it(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)
    version(plan, "2")
    hosts.breaks = fails("post_deploy", "h4")
    plan = with_rollout(plan, waves=(2,), on_failure="rollback-host")

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.MIXED
    ends = {n: host.module(SITE).records.get(2) for n, host in hosts.hosts.items()}
    outcomes = {name: record and record["outcome"] for name, record in ends.items()}
    # The last wave never began: its links did not move, whatever its records say.
    assert outcomes == {
        "h1": "live", "h2": "live", "h3": "live",
        "h4": "reverted", "h5": "moved", "h6": "moved",
    }  # fmt: skip


async def test_a_manifest_that_another_run_moved_takes_the_fleet_back(
    plan: Plan, tmp_path: Path
) -> None:
    hosts = FakeHosts()
    first, _ = await run(plan, hosts)
    version(plan, "2")
    store = DirectoryStore(tmp_path / STORE)
    (line,) = await store.manifest.read()

    def other(call: Call) -> None:
        # A run on other hosts, say: it holds no lock of ours.
        if call.name == "switch":
            path = tmp_path / STORE / "MANIFEST"
            path.write_text(
                path.read_text().replace(f"{line.sha256}:1", f"{'0' * 64}:7")
            )

    hosts.breaks = other

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert "another run has moved MANIFEST meanwhile" in report.reason
    assert set(hosts.serves.values()) == {first.releases["site"]}
    assert manifest(tmp_path) == (first.releases["site"], 7)


async def test_a_store_that_gives_no_number_stops_the_run_before_a_link_moves(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hosts = FakeHosts()
    store = DirectoryStore(tmp_path / STORE)

    async def reserve(*_: object) -> int:
        raise StoreError("no answer")

    monkeypatch.setattr(DirectoryRunLog, "reserve", reserve)

    with pytest.raises(DeployFailed) as failed:
        await deploy(plan, store=store, transport=hosts.transport)

    assert failed.value.report.exit_status == 1
    assert failed.value.report.reason == "the run could not be numbered: no answer"
    assert hosts.asked("switch") == []


async def test_a_run_that_waited_for_a_lock_is_numbered_after_the_wait(
    plan: Plan,
) -> None:
    numbered = anyio.Event()
    numbers: list[int] = []

    class Hosts(FakeHosts):
        taken = False

        async def __call__(self, call: Call) -> Answer:
            # Another run takes a host over once all are checked, and is done soon.
            if call.name == "environment" and call.host == "h2" and not self.taken:
                self.taken = True
                await numbered.wait()
                self["h2"].fence = "7 other"
                return Answer(lost_to=OLDER)
            return await super().__call__(call)

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.Numbered):
            numbers.append(record.event.generation)
            numbered.set()

    hosts = Hosts()

    report = await deploy(plan, wait=30, observe=observe, transport=hosts.transport)

    assert report.outcome is Outcome.LIVE
    assert numbers == [1, 8]
    assert hosts["h1"].fence == hosts["h2"].fence == f"8 {report.run}"


async def test_a_host_that_cannot_note_the_run_keeps_no_other_from_it(
    plan: Plan, tmp_path: Path
) -> None:
    """It serves the release already, and the store has nothing to do with it."""
    hosts = FakeHosts()
    plan = with_rollout(plan, deadlines=Deadlines(check=0.3))
    first = await deploy(plan, limit=["h2"], transport=hosts.transport)
    hosts.hangs = {("h2", "record_moves")}
    seen: list[e.Event] = []

    report = await deploy(
        plan,
        packages=list(first.releases.values()),
        observe=lambda record: seen.append(record.event),
        transport=hosts.transport,
    )

    assert (report.outcome, report.exit_status) == (Outcome.LIVE, 0)
    text = "its records do not say yet that this run is live: not done within 0.3 s"
    assert of(e.HostWarned, seen) == [e.HostWarned("h2", text)]
    assert manifest(tmp_path)[0] == first.releases["site"]
