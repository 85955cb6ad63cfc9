from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    Gate,
    Hook,
    Plan,
    PlanError,
    Script,
    deploy,
    logs,
)
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport, MemoryStore, step


def prints(call: Call) -> Answer | None:
    """Have scripts print what they are, and h2's post-deploy fail."""
    if (what := step(call)) not in {"pre_deploy", "post_deploy"}:
        return None
    text = f"{what} of this site\n--- a/diff\n+++ b/diff\n".encode()
    fails = (call.host, what) == ("h2", "post_deploy")
    back = "GHOST_ACTION=rollback" in call.args
    return Answer(1 if fails and not back else 0, text)


@pytest.fixture
def plan(plan: Plan) -> Plan:
    module = attrs.evolve(plan.modules[0], buildpack=Script(inline="echo built here"))
    return attrs.evolve(plan, modules=(module,))


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest) -> MemoryStore | None:
    return MemoryStore() if request.param == "memory" else None


async def _fail(plan: Plan, store: MemoryStore | None) -> str:
    transport = FakeTransport(FakeHosts(breaks=prints))
    with pytest.raises(DeployFailed) as failed:
        await deploy(plan, transport=transport, store=store)
    return failed.value.report.run


async def test_all_that_scripts_printed_is_told(
    plan: Plan, store: MemoryStore | None
) -> None:
    run = await _fail(plan, store)

    found = await logs(plan, run, store=store)

    assert [log.module or log.host for log in found] == [
        *("site", "h1", "h2", "h3", "h4", "h5", "h6")
    ]
    assert b"built here" in found[0].text
    for log in found[1:]:
        assert b"pre_deploy of this site" in log.text
        assert b"post_deploy of this site" in log.text


async def test_one_script_of_one_host_is_told(
    plan: Plan, store: MemoryStore | None
) -> None:
    run = await _fail(plan, store)

    (log,) = await logs(plan, run, host="h2", script="post_deploy", store=store)

    assert (log.host, log.module) == ("h2", "")
    lines = log.text.decode().splitlines()
    assert lines[0] == "--- post_deploy of site in /srv/site"
    assert lines[1:4] == ["post_deploy of this site", "--- a/diff", "+++ b/diff"]
    assert "pre_deploy" not in log.text.decode()
    assert "exited 1" in log.text.decode()


async def test_the_output_of_the_buildpack_is_that_of_its_module(plan: Plan) -> None:
    run = await _fail(plan, None)

    found = await logs(plan, run, script="buildpack")

    assert [(log.module, log.host) for log in found] == [("site", "")]


async def test_hooks_and_the_gate_after_a_wave_are_told(plan: Plan) -> None:
    rollout = attrs.evolve(
        plan.rollout,
        drain=Hook("out", on="host"),
        undrain=Hook("in", on="host"),
        after_wave=Gate("echo few errors"),
    )
    plan = attrs.evolve(plan, rollout=rollout)
    report = await deploy(plan, transport=FakeTransport(FakeHosts()))

    (gate,) = await logs(plan, report.run, script="after_wave")
    drained = await logs(plan, report.run, script="drain")

    assert (gate.module, gate.text) == ("after_wave", b"few errors\n")
    assert [log.host for log in drained] == ["h1", "h2", "h3", "h4", "h5", "h6"]
    assert b"undrain" not in drained[0].text
    assert gate in await logs(plan, report.run)


async def test_a_run_is_named_by_the_beginning_of_its_id(plan: Plan) -> None:
    first, second = await _fail(plan, None), await _fail(plan, None)

    assert await logs(plan, first[:-1]) == await logs(plan, first)
    assert await logs(plan) == await logs(plan, second)
    with pytest.raises(PlanError, match=f"2 runs begin with 2: {second} is the last"):
        await logs(plan, "2")


async def test_what_is_not_there_is_named(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="there is no run yet"):
        await logs(plan)
    run = await _fail(plan, None)
    with pytest.raises(PlanError, match="there is no run 1999"):
        await logs(plan, "1999")
    with pytest.raises(PlanError, match="there is no script 'post_depoly'; there are "):
        await logs(plan, run, script="post_depoly")
    with pytest.raises(PlanError, match=f"run {run} had no host h9"):
        await logs(plan, run, host="h9")
