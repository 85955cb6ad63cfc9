"""What a build leaves behind: processes, and folders that the next build finds."""

from __future__ import annotations

import subprocess

import attrs
import pytest

from ghostasync import Module, Outcome, Plan, Script
from ghostasync import events as e
from ghostasync.testing import FakeHosts
from tests._local.started import running
from tests._packaging.trees import ROOT
from tests.deploying import run


def built_by(plan: Plan, script: str) -> Plan:
    """Return *plan* with a buildpack; its sources lie beside what it makes there."""
    module: Module = attrs.evolve(plan.modules[0], buildpack=Script(inline=script))
    return attrs.evolve(plan, modules=(module,))


async def test_a_process_that_a_buildpack_leaves_is_ended_and_named(plan: Plan) -> None:
    note = plan.base / "pids"
    # One of them in a session of its own, as a daemon is, and deaf.
    script = (
        f"sleep 60 & echo $! >{note}\n"
        f"setsid sh -c 'trap \"\" TERM; echo $$ >>{note}; sleep 60 & wait; wait' &\n"
        f"while [ $(wc -l <{note}) -lt 2 ]; do sleep 0.05; done"
    )

    report, events = await run(built_by(plan, script), FakeHosts())

    first, deaf = map(int, note.read_text().split())
    assert report.outcome is Outcome.LIVE
    [said] = [event.text for event in events if isinstance(event, e.Warned)]
    begin = "buildpack of site left processes behind, which were ended: "
    assert said.startswith(begin)
    assert {f"sleep ({first})", f"sh ({deaf})"} < {*said[len(begin) :].split(", ")}
    assert not running(first)
    assert not running(deaf)


async def test_a_process_elsewhere_is_its_own_affair(plan: Plan) -> None:
    note = plan.base / "pid"
    script = f"cd / && {{ sleep 60 & }}; echo $! >{note}"

    _, events = await run(built_by(plan, script), FakeHosts())

    pid = int(note.read_text())
    assert running(pid)
    assert not [event for event in events if isinstance(event, e.Warned)]
    subprocess.check_call(["kill", str(pid)])


@pytest.mark.skipif(not ROOT, reason="such a file takes root")
async def test_a_build_folder_that_cannot_be_emptied_says_what_to_type(
    plan: Plan,
) -> None:
    plan = built_by(plan, "mkdir made; touch made/it; chattr +i made/it")
    first, _ = await run(plan, FakeHosts())
    assert first.outcome is Outcome.LIVE

    second, _ = await run(plan, FakeHosts())

    assert second.outcome is Outcome.FAILED
    said, _, cure = second.hosts["h1"].reason.rpartition(": ")
    assert "the last build cannot be removed: rm: cannot remove" in said
    subprocess.check_call(cure.split())
    third, _ = await run(plan, FakeHosts())
    assert third.outcome is Outcome.LIVE
    subprocess.check_call(cure.split())
