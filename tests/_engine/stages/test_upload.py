from __future__ import annotations

import attrs
import pytest

from ghostasync import Deadlines, Plan, Script, State, build, deploy
from ghostasync import events as e
from ghostasync.errors import DeployFailed
from ghostasync.testing import Answer, Call, FakeHost, FakeHosts
from tests.deploying import of, run, states, with_rollout


async def test_a_package_is_sent_once(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)

    report, seen = await run(plan, hosts)

    assert hosts.asked("receive") == list(hosts.hosts)
    assert {type(event) for event in seen} >= {e.Unchanged}
    assert {row.state for row in report.hosts.values()} == {State.UNCHANGED}


async def test_a_release_that_is_there_is_deployed_without_being_sent(
    plan: Plan,
) -> None:
    hosts = FakeHosts()
    package = (await build(plan))["site"].id
    hosts["h1"].module("/ghost/shop/prod/web/site").releases.add(package)

    await deploy(plan, packages=[package], transport=hosts.transport)

    assert hosts.asked("receive") == ["h2", "h3", "h4", "h5", "h6"]
    assert set(hosts.serves.values()) == {package}


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ({"free_kb": 15 << 10}, "has 15 MiB free, the release needs 16 MiB"),
        ({"free_inodes": 9}, "/ghost has 9 inodes free, the release needs"),
    ],
)
async def test_a_host_without_room_is_sent_nothing(
    plan: Plan, lacks: dict[str, int], words: str
) -> None:
    hosts = FakeHosts({"h2": FakeHost(**lacks)})  # type: ignore[arg-type]  # its keys

    with pytest.raises(DeployFailed) as failed:
        await deploy(plan, transport=hosts.transport)

    row = failed.value.report.hosts["h2"]
    assert (row.state, row.stage) == (State.FAILED, State.UPLOADING)
    assert words in row.reason
    assert "h2" not in hosts.asked("receive")


async def test_what_becomes_shared_has_a_deadline_of_its_own(plan: Plan) -> None:
    hosts = FakeHosts(hangs={("h2", "share")})
    module = attrs.evolve(plan.modules[0], shared_dirs=("uploads",))
    plan = attrs.evolve(plan, modules=(module,))

    report, _ = await run(with_rollout(plan, deadlines=Deadlines(seed=0.2)), hosts)

    row = report.hosts["h2"]
    assert (row.state, row.stage) == (State.FAILED, State.UPLOADING)
    assert row.reason == "not done within 0.2 s (rollout.deadlines.seed)"


async def test_each_host_gets_the_compression_that_it_knows(plan: Plan) -> None:
    hosts = FakeHosts({"h2": FakeHost(tools=("tar", "gzip"))})

    await run(plan, hosts)

    sent = {call.host: call.args[2] for call in hosts.calls if call.name == "receive"}
    assert sent == {**dict.fromkeys(hosts.hosts, "zstd"), "h2": "gzip"}


async def test_what_was_sent_is_told_in_bytes(plan: Plan) -> None:
    hosts = FakeHosts()

    report, seen = await run(plan, hosts)

    sent = {c.host: c.payload_nbytes for c in hosts.calls if c.name == "receive"}
    told = {u.host: u.nbytes for u in of(e.Uploaded, seen) if isinstance(u, e.Uploaded)}
    assert told == sent
    assert report.nbytes == sum(sent.values())


async def test_releases_that_failed_make_room_before_another_one_comes(
    plan: Plan,
) -> None:
    layout = attrs.evolve(plan.layout, keep=2)
    plan = with_rollout(attrs.evolve(plan, layout=layout, hosts=plan.hosts[:1]))
    hosts = FakeHosts()
    await run(plan, hosts)
    site = hosts["h1"].module("/ghost/shop/prod/web/site")
    failed = {f"{number}_site_0000000" for number in range(4)}
    site.releases |= failed
    (plan.base / "tree/index").write_text("2")

    await run(plan, hosts)

    order = [c.name for c in hosts.calls if c.name in {"prune", "receive"}]
    assert order == ["receive", "prune", "prune", "receive", "prune"]
    assert not site.releases & failed


@pytest.mark.parametrize(
    ("before", "stage"),
    [("", State.UPLOADING), ("site", State.LIVE), ("other", State.LIVE)],
)
async def test_a_script_that_cannot_be_started_stops_a_host_unless_a_pre_deploy_helps(
    plan: Plan, before: str, stage: State
) -> None:
    """A pre_deploy, also that of a module before, may install what is missing."""

    def breaks(call: Call) -> Answer | None:
        lacks = call.name == "environment" and "/site/" in call.args[0]
        return Answer(output=b"unfit=post_deploy no node\n") if lacks else None

    (module,) = plan.modules
    other = attrs.evolve(module, name="other", path="/srv/other")
    modules = tuple(
        each if each.name == before else attrs.evolve(each, pre_deploy=Script())
        for each in (other, module)
    )
    hosts = FakeHosts(breaks=breaks)

    report, seen = await run(attrs.evolve(plan, modules=modules), hosts)

    text = "post_deploy of site cannot start: no node"
    told = {w.text for w in of(e.HostWarned, seen) if isinstance(w, e.HostWarned)}
    failures = [f for f in of(e.Failed, seen) if isinstance(f, e.Failed)]
    if stage is State.LIVE:
        assert states(report) == dict.fromkeys(hosts.hosts, stage)
        assert told == {text}
    else:
        assert {(f.stage, f.reason) for f in failures} == {(stage, text)}
