"""A controller that is killed at any moment: what is served, and how it goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
import pytest

from ghostasync import Script
from tests.fleet.console import Outcome
from tests.fleet.staged import HOSTS, ON_H3, Stage

pytestmark = pytest.mark.fleet

GATE: Final = "/ghost/gate"
WAITS: Final = f'[ "$GHOST_HOST" != h2 ] || until [ -e {GATE} ]; do sleep 0.1; done'


@attrs.frozen
class Moment:
    """When to kill: after *count* events of this name, with a script that waits."""

    event: str
    count: int = 1
    waits: str = ""


MOMENTS: Final = {
    "build": Moment("Numbered", waits="buildpack"),
    "upload": Moment("Prepared"),
    "pre_deploy": Moment("Uploaded", 4, waits="pre_deploy"),
    "barrier": Moment("Judged"),
    "switch": Moment("Switched", 2),
    "wave": Moment("Undrained", 3, waits="post_deploy"),
    "manifest": Moment("ManifestMoved", waits="after_all_deploy"),
}


@attrs.define
class Killed:
    """A run of version 2 whose controller is gone."""

    stage: Stage
    run: str
    events: list[dict[str, Any]]  # JSON

    @property
    def new(self) -> str:
        """The release it made; empty where it had not come so far."""
        made = [line["package"] for line in self.events if line["event"] == "Packaged"]
        return str(made[0]) if made else ""

    def __call__(self, *args: str) -> Outcome:
        """Run a command; the dead run's lock may take a moment to be free."""
        while True:
            outcome = self.stage.console(*args, "--output", "json")
            if outcome.exit != 4:
                return outcome

    def assert_whole(self) -> None:
        """Check that every host serves one of the two releases, all of it."""
        sample = self.stage.sample
        for host, release in sample.serves("site").items():
            assert release in {self.stage.old, self.new}
            version = b"1" if release == self.stage.old else b"2"
            assert sample.read(host, "site", "version") == version
            assert sample.read(host, "site", "twin") == version

    def assert_in_line(self, release: str) -> None:
        sample = self.stage.sample
        assert sample.serves("site") == dict.fromkeys(HOSTS, release)
        assert [line[1] for line in sample.manifest()] == [release]
        for host in HOSTS:
            assert sample.leftovers(host, "site") == set()
        status = self("status")
        assert (status.exit, json.loads(status.stdout)["run"]) == (0, None)


class Kill(Protocol):
    def __call__(self, when: Moment) -> Killed: ...


@pytest.fixture
def kill(stage: Stage, tmp_path: Path) -> Kill:
    """Kill a deploy of version 2 with SIGKILL at a moment, then let scripts go on."""

    def kill(when: Moment) -> Killed:
        gate = tmp_path / "gate"
        says = 'echo "$GHOST_ACTION"'
        here = f"until [ -e {gate} ]; do sleep 0.1; done"
        if when.waits == "after_all_deploy":
            stage.module(after_all_deploy=Script(inline=f"{says} >>{gate}.ran; {here}"))
        elif when.waits == "buildpack":
            stage.script("buildpack", here)
        elif when.waits:
            stage.script(when.waits, WAITS)
        stage.commit()
        events = []
        with stage.console.running("deploy", "--output", "json") as process:
            for line in process.stdout:
                events.append(json.loads(line))
                seen = [event["event"] for event in events]
                if seen.count(when.event) == when.count:
                    process.send_signal(signal.SIGKILL)
                    break
            events += [json.loads(line) for line in process.stdout if line[-1] == "\n"]
            process.wait(20)
        assert "Finished" not in {event["event"] for event in events}
        gate.touch()
        for host in HOSTS:
            stage.sample.fleet.path(host, GATE).touch()
        return Killed(stage, events[0]["run"], events)

    return kill


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_is_finished(kill: Kill, moment: str, tmp_path: Path) -> None:
    run = kill(MOMENTS[moment])
    run.assert_whole()

    outcome = run("resume")

    assert (outcome.exit, outcome.last["outcome"]) == (0, "live"), outcome.stderr
    assert outcome.event("Started")["of"] == run.run
    assert not run.new or outcome.last["releases"] == {"site": run.new}
    if moment in {"wave", "manifest"}:
        live = {e["host"] for e in run.events if e["event"] == "Undrained"}
        assert {e["host"] for e in outcome.events if e["event"] == "Resumed"} == live
        assert outcome.last["nbytes"] == 0
    if moment == "manifest":
        # That of the killed run may have begun, and come to write only now.
        assert (tmp_path / "gate.ran").read_text().split().count("resume") == 1
    run.assert_in_line(outcome.last["releases"]["site"])
    again = run("resume")
    assert (again.exit, again.stdout) == (0, "")
    assert again.stderr == (
        "ghostasync: there is no unfinished run: nothing is left to resume\n"
    )


def test_a_run_that_was_killed_before_it_had_a_number_is_history(kill: Kill) -> None:
    run = kill(Moment("Started"))

    status, resumed = run("status"), run("resume")

    assert (status.exit, json.loads(status.stdout)["run"]) == (0, None)
    assert (resumed.exit, resumed.stdout) == (0, "")
    assert "nothing is left to resume" in resumed.stderr
    again = run("deploy")
    assert again.exit == 0, again.stderr
    run.assert_in_line(again.last["releases"]["site"])


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_is_taken_back(kill: Kill, moment: str) -> None:
    run = kill(MOMENTS[moment])

    outcome = run("resume", "--revert")

    assert outcome.exit == 0, outcome.stderr
    assert set(outcome.states.values()) <= {"ROLLED_BACK", "UNCHANGED"}
    if moment == "manifest":
        assert set(outcome.states.values()) == {"ROLLED_BACK"}
        assert outcome.event("ManifestMoved")["releases"] == {"site": run.stage.old}
    for host in HOSTS:
        back = outcome.states[host] == "ROLLED_BACK"
        last = run.stage.sample.trace(host, "site")[-1][:3]
        assert (last == ["post_deploy", "rollback", run.stage.old]) == back
    run.assert_in_line(run.stage.old)


@pytest.mark.parametrize("moment", ["upload", "wave", "manifest"])
def test_a_new_deploy_makes_up_for_a_killed_run(kill: Kill, moment: str) -> None:
    run = kill(MOMENTS[moment])
    run.stage.sample.repositories["site"].commit("3")

    outcome = run("deploy")

    assert outcome.exit == 0, outcome.stderr
    run.assert_in_line(outcome.last["releases"]["site"])


def test_status_says_what_is_mixed_and_what_to_type(kill: Kill) -> None:
    run = kill(MOMENTS["wave"])
    while (found := json.loads(run("status").stdout))["run"]["holder"]:
        pass

    text = run.stage.console("status")

    assert run("status").exit == text.exit == 6
    assert found["run"]["id"] == run.run
    assert found["run"]["releases"] == {"site": run.new}
    assert found["hosts"]["h1"]["runs"] == {"site": run.run}
    lines = text.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(f"run {run.run}"))
    assert lines[at].endswith(" was killed while it switched")
    said = [line.partition(": ")[2].strip() for line in lines[at + 1 :]]
    assert said[0] in {"new on h[1-4]", "new on h[1,3-4], old on h2"}
    assert said[1:] == [
        "ghostasync resume",
        "ghostasync resume --revert",
    ]


def test_status_says_that_a_run_is_going_on(stage: Stage) -> None:
    stage.script("post_deploy", WAITS)
    stage.commit()
    with stage.console.running("deploy", "--output", "json") as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "Undrained":
                break

        status = stage.console("status")
        locked = stage.console("resume")

        stage.sample.fleet.path("h2", GATE).touch()
        process.communicate(timeout=60)
    assert process.returncode == 0
    said = status.stdout.splitlines()[-1]
    assert status.exit == 6
    assert said.startswith(f"run {json.loads(line)['run']} by ")
    assert said.endswith(" is going on")
    assert locked.exit == 4, locked.stderr
    assert stage.console("status").exit == 0
    assert stage.console("resume").exit == 0


def test_a_run_whose_journal_is_lost_is_taken_back_by_host_records(kill: Kill) -> None:
    run = kill(MOMENTS["manifest"])
    (run.stage.sample.store / "runs" / run.run / "journal.jsonl").unlink()

    refused = run("resume", run.run)
    outcome = run("resume", run.run, "--revert")

    assert (refused.exit, refused.stdout) == (2, "")
    assert "has no journal" in refused.stderr
    assert outcome.exit == 0, outcome.stderr
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    run.assert_in_line(run.stage.old)


def test_a_run_that_was_killed_on_its_way_back_goes_all_the_way(
    stage: Stage, kill: Kill
) -> None:
    stage.script("post_deploy", ON_H3 + "exit 5")
    run = kill(Moment("FleetRollbackStarted"))

    outcome = run("resume")

    assert outcome.exit == 0, outcome.stderr
    assert outcome.event("Started")["revert"] is True
    run.assert_in_line(stage.old)
