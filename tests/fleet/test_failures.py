"""Every place where the pipeline can fail, and what is true of the fleet then."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from ghostasync import Rollout, Script, Verify
from ghostasync.model import Deadlines
from tests.fleet.command import Command
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console, Outcome
from tests.fleet.sample_app import SampleApp
from tests.fleet.staged import HOSTS, ON_H3, Stage

pytestmark = pytest.mark.fleet


def _logins(stage: Stage) -> int:
    return sum(stage.sample.fleet.log(host).count("Accepted") for host in HOSTS)


# --- Before any host is contacted ----------------------------------------------


def test_an_unknown_revision_is_refused_before_any_host_is_contacted(
    stage: Stage,
) -> None:
    before = _logins(stage)

    outcome = stage.console.deploy("site@no-such-branch")

    stage.assert_old_serves(outcome, exit_status=2)
    assert outcome.stdout == ""
    assert "no branch, tag or commit 'no-such-branch'" in outcome.stderr
    assert _logins(stage) == before


def test_an_empty_selection_is_refused_before_any_host_is_contacted(
    stage: Stage,
) -> None:
    outcome = stage.console.deploy("--limit", "db*")

    stage.assert_old_serves(outcome, exit_status=2)
    assert (outcome.stdout, "db*" in outcome.stderr) == ("", True)


# --- Source and build ----------------------------------------------------------


def test_a_source_that_is_gone_fails_the_run(stage: Stage) -> None:
    repository = stage.sample.repositories["site"].path
    repository.rename(repository.with_name("moved"))

    outcome = stage.console.deploy()

    stage.assert_old_serves(outcome)
    assert outcome.last["outcome"] == "failed"
    assert str(repository) in outcome.stderr


def test_a_buildpack_that_fails_leaves_the_hosts_alone(stage: Stage) -> None:
    stage.script("buildpack", "echo compiling; echo no such header >&2; exit 3")

    outcome = stage.fail()

    stage.assert_old_serves(outcome)
    failed = outcome.event("BuildFailed")
    assert failed["exit_status"] == 3
    assert "no such header" in outcome.stderr
    assert set(outcome.states.values()) == {"HALTED"}
    log = Path(outcome.last["log"]) / "build" / "site.log"
    assert "compiling\nno such header\n" in log.read_text()
    stage.assert_recovers()


def test_a_missing_script_is_named(stage: Stage) -> None:
    stage.module(pre_deploy=Script(path="deploy/nope"))

    outcome = stage.fail()

    stage.assert_old_serves(outcome)
    assert "site: pre_deploy: deploy/nope" in outcome.stderr


# --- Connect and check ---------------------------------------------------------


def test_a_host_that_is_down_stops_the_run_before_any_link_moves(
    stage: Stage,
) -> None:
    """Ghost defect 3: all other hosts were deployed to all the same."""
    stage.sample.fleet.kill("h3")

    outcome = stage.fail()

    assert outcome.exit == 1
    assert outcome.states["h3"] == "FAILED"
    assert outcome.event("Failed", "h3")["unreachable"] is True
    assert set(stage.sample.serves("site").values()) == {stage.old}
    assert "h3" in outcome.stderr
    log = Path(outcome.last["log"]) / "hosts" / "h3.log"
    assert "CONNECTING failed: 127.0.0.1:" in log.read_text()
    stage.sample.fleet.start("h3")
    stage.assert_recovers()


def test_a_wrong_host_key_is_refused(stage: Stage) -> None:
    """Ghost defect 15: host keys were ignored."""
    stage.sample.fleet.change_host_key("h3")

    outcome = stage.fail()

    stage.assert_old_serves(outcome)
    assert outcome.states["h3"] == "FAILED"
    assert "host key" in outcome.event("Failed", "h3")["reason"]


@pytest.mark.parametrize("what", ["directory", "file", "foreign link"])
def test_a_target_that_is_not_ours_is_refused(stage: Stage, what: str) -> None:
    """Ghost defect 18: a folder at the target was removed without backup."""
    target = stage.sample.fleet.path("h3", "/srv/site")
    target.unlink()
    if what == "directory":
        target.mkdir()
        (target / "precious").touch()
    elif what == "file":
        target.write_text("precious")
    else:
        target.symlink_to("/srv/elsewhere")

    outcome = stage.fail()

    assert (outcome.exit, outcome.states["h3"]) == (1, "FAILED")
    assert "adopt = true" in outcome.event("Failed", "h3")["reason"]
    if what == "directory":
        assert (target / "precious").exists()
    serves = stage.sample.serves("site")
    assert {serves[host] for host in ("h1", "h2", "h4")} == {stage.old}


def test_an_adopted_folder_is_put_back_by_a_rollback(stage: Stage) -> None:
    target = stage.sample.fleet.path("h3", "/srv/site")
    target.unlink()
    target.mkdir()
    (target / "precious").touch()
    stage.module(adopt=True)
    stage.script("post_deploy", ON_H3 + "exit 3")

    outcome = stage.fail()

    assert (outcome.exit, outcome.states["h3"]) == (1, "ROLLED_BACK")
    assert (target / "precious").exists()
    assert [p.name for p in target.parent.iterdir()] == ["site"]


# --- Upload and prepare --------------------------------------------------------


def test_a_host_that_cannot_extract_stops_the_run(stage: Stage) -> None:
    folder = stage.sample.module_folder("h3", "site")
    (folder / ".ghost").rename(folder / "kept")
    (folder / ".ghost").write_text("in the way")

    outcome = stage.fail()

    assert (outcome.exit, outcome.states["h3"]) == (1, "FAILED")
    assert outcome.event("Failed", "h3")["stage"] == "UPLOADING"
    (folder / ".ghost").unlink()
    (folder / "kept").rename(folder / ".ghost")
    stage.assert_old_serves(outcome)
    stage.assert_recovers()


def test_a_pre_deploy_that_fails_on_one_host_moves_no_link_anywhere(
    stage: Stage,
) -> None:
    stage.script("pre_deploy", ON_H3 + "{ echo out of $(pwd -P | wc -c); exit 4; }")

    outcome = stage.fail()

    stage.assert_old_serves(outcome)
    failed = outcome.event("Failed", "h3")
    assert (failed["stage"], failed["exit_status"]) == ("PREPARING", 4)
    assert outcome.states["h3"] == "FAILED"
    assert set(outcome.states.values()) <= {"HALTED", "FAILED"}
    assert "pre_deploy of site exited 4" in outcome.stderr
    report = json.loads((Path(outcome.last["log"]) / "report.json").read_text())
    assert report["hosts"]["h3"]["exit_status"] == 4
    stage.assert_recovers()


def test_a_pre_deploy_that_hangs_is_ended_at_its_deadline(stage: Stage) -> None:
    stage.script("pre_deploy", ON_H3 + "sleep 77")
    stage.change(rollout=Rollout(deadlines=Deadlines(pre_deploy=0.5)))

    outcome = stage.fail()

    stage.assert_old_serves(outcome)
    reason = outcome.event("Failed", "h3")["reason"]
    assert reason == (
        "pre_deploy of site not done within 0.5 s (rollout.deadlines.pre_deploy)"
    )
    left = stage.sample.fleet.commands("h3")
    assert not any("pre_deploy" in line or "sleep 77" in line for line in left)


# --- Switch, activate, verify --------------------------------------------------


def test_a_release_that_vanished_before_the_switch_rolls_the_fleet_back(
    stage: Stage,
) -> None:
    stage.script("pre_deploy", ON_H3 + 'rm -rf "$GHOST_RELEASE_PATH"; exit 0')

    outcome = stage.fail()

    assert outcome.exit == 1, outcome.stderr
    assert outcome.event("Failed", "h3")["stage"] == "SWITCHING"
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, stage.old)


def test_a_link_that_somebody_else_moved_is_left_to_a_person(stage: Stage) -> None:
    stage.script("pre_deploy", ON_H3 + 'ln -sfn /elsewhere "$GHOST_MODULE_PATH"')

    outcome = stage.fail()

    assert outcome.exit == 3, outcome.stderr
    assert outcome.last["outcome"] == "stranded"
    states = outcome.states
    assert states.pop("h3") == "STRANDED"
    assert set(states.values()) == {"ROLLED_BACK"}
    assert stage.sample.link("h3", "site") == "/elsewhere"
    assert "h3" in outcome.stderr
    status = stage.console("status")
    assert status.exit == 3


def test_a_post_deploy_that_fails_on_one_host_takes_the_fleet_back(
    stage: Stage,
) -> None:
    """Ghost defect 1: the broken release stayed live. Defect 23: no reason was told."""
    stage.script("post_deploy", ON_H3 + "{ echo port is taken; exit 5; }")

    outcome = stage.fail()

    stage.assert_old_serves(outcome)
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    failed = outcome.event("Failed", "h3")
    assert (failed["stage"], failed["exit_status"]) == ("ACTIVATING", 5)
    assert "port is taken" in outcome.stderr
    new = outcome.last["releases"]["site"]
    for host in HOSTS:
        last = stage.sample.trace(host, "site")[-1]
        if last[1] == "deploy":
            continue  # it was stopped before its post-deploy began
        assert last[:3] == ["post_deploy", "rollback", stage.old]
        seen = stage.sample.environment(host, "site", "post_deploy")
        assert seen["GHOST_FAILED_RELEASE_ID"] == new
        assert seen["GHOST_RELEASE_ID"] == stage.old
    stage.assert_recovers()


def test_a_verify_that_fails_on_one_host_takes_the_fleet_back(stage: Stage) -> None:
    stage.module(verify=Verify(command=ON_H3 + "! grep 2 version", interval=0.1))
    stage.change(rollout=Rollout(deadlines=Deadlines(verify=1)))

    outcome = stage.fail()

    stage.assert_old_serves(outcome)
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    assert outcome.event("Failed", "h3")["stage"] == "VERIFYING"
    assert "verify of site did not pass within 1 s" in outcome.stderr


def test_a_failed_first_deploy_leaves_no_link(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    """Ghost defect 7: after a failed first deploy, new hosts booted the package."""
    sample = SampleApp.create(tmp_path, sshd_fleet(2), "site")
    console = Console(sample)
    console.configure(sample.plan())
    sample.repositories["site"].script("post_deploy", "exit 1")
    sample.repositories["site"].commit("1")

    outcome = console.deploy()

    assert outcome.exit == 1, outcome.stderr
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    assert sample.serves("site") == {"h1": "", "h2": ""}
    assert sample.manifest() == []


def test_a_failed_release_that_followed_a_failed_one_never_removes_what_serves(
    stage: Stage,
) -> None:
    """Ghost defect 2: the second failure removed the release that served."""
    stage.script("post_deploy", ON_H3 + "exit 5")
    assert stage.fail().exit == 1
    stage.script("pre_deploy", "exit 4")

    outcome = stage.fail()

    stage.assert_old_serves(outcome)


def test_a_rollback_that_fails_strands_the_host_and_says_so(stage: Stage) -> None:
    stage.script(
        "post_deploy",
        ON_H3 + '[ "$GHOST_ACTION" = deploy ] || { echo no way back; exit 9; }',
    )
    good = stage.fail()
    assert good.exit == 0, good.stderr
    stage.script("post_deploy", ON_H3 + "exit 5")

    outcome = stage.fail()

    assert outcome.exit == 3, outcome.stderr
    states = outcome.states
    assert states.pop("h3") == "STRANDED"
    assert set(states.values()) == {"ROLLED_BACK"}
    release = good.last["releases"]["site"]
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, release)
    assert "no way back" in outcome.stderr


# --- After all is live ---------------------------------------------------------


def test_a_failed_after_all_deploy_leaves_the_fleet_live(stage: Stage) -> None:
    stage.module(after_all_deploy=Script(inline="echo no cdn; exit 6"))

    outcome = stage.fail()

    assert outcome.exit == 7, outcome.stderr
    new = outcome.last["releases"]["site"]
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, new)
    assert [line[1] for line in stage.sample.manifest()] == [new]
    assert "no cdn" in outcome.stderr


# --- Budgets and policies ------------------------------------------------------


def test_failures_within_the_budget_make_a_partial_run(stage: Stage) -> None:
    stage.script("post_deploy", ON_H3 + "exit 5")

    outcome = stage.fail("--max-failures", "1")

    assert (outcome.exit, outcome.last["outcome"]) == (0, "partial")
    new = outcome.last["releases"]["site"]
    expected = {**dict.fromkeys(HOSTS, new), "h3": stage.old}
    assert stage.sample.serves("site") == expected
    assert [line[1] for line in stage.sample.manifest()] == [new]


def test_rollback_host_leaves_what_is_live_and_stops(stage: Stage) -> None:
    stage.script("post_deploy", '[ "$GHOST_HOST" != h2 ] || exit 5')
    stage.change(rollout=Rollout(waves=(2, 1), on_failure="rollback-host"))

    outcome = stage.fail()

    assert (outcome.exit, outcome.last["outcome"]) == (5, "mixed")
    new = outcome.last["releases"]["site"]
    expected = {**dict.fromkeys(HOSTS, stage.old), "h1": new}
    assert stage.sample.serves("site") == expected
    assert [line[1] for line in stage.sample.manifest()] == [stage.old]
    assert outcome.states["h4"] == "HALTED"


def test_a_failure_in_the_first_wave_stops_whatever_the_budget(stage: Stage) -> None:
    stage.script("post_deploy", '[ "$GHOST_HOST" != h1 ] || exit 5')

    outcome = stage.fail("--waves", "2,100%", "--max-failures", "3")

    stage.assert_old_serves(outcome)
    assert outcome.states["h3"] == "HALTED"


def test_a_run_under_limit_does_not_move_the_manifest(stage: Stage) -> None:
    stage.commit()

    outcome = stage.console.deploy("--limit", "h[12]")

    assert outcome.exit == 0, outcome.stderr
    assert [line[1] for line in stage.sample.manifest()] == [stage.old]
    assert "--limit" in outcome.event("Warned")["text"]
    assert stage.console("status").exit == 6


# --- Lock and signals ----------------------------------------------------------


def _wait_for(process: Command, event: str) -> None:
    for line in process.stdout:
        if json.loads(line)["event"] == event:
            return
    raise AssertionError(f"{event} never came")


def test_a_second_run_is_told_who_holds_the_lock(stage: Stage) -> None:
    stage.script("pre_deploy", "sleep 30")
    stage.commit()
    with stage.console.running("deploy", "--output", "json") as first:
        _wait_for(first, "Uploaded")

        second = stage.console.deploy()

        assert (second.exit, second.last["outcome"]) == (4, "locked")
        assert f"(pid {first.pid})" in second.stderr
        first.send_signal(signal.SIGINT)
        out, _ = first.communicate(timeout=30)
    assert json.loads(out.splitlines()[-1])["outcome"] == "interrupted"
    stage.assert_recovers()


def test_a_lost_terminal_never_stops_a_run(stage: Stage) -> None:
    stage.script("pre_deploy", "sleep 1")
    stage.commit()
    with stage.console.running("deploy", "--output", "json") as process:
        _wait_for(process, "Uploaded")
        process.send_signal(signal.SIGHUP)
        process.stdout.close()

        assert process.wait(timeout=40) == 0

    (release,) = set(stage.sample.serves("site").values())
    assert release != stage.old
    (run,) = set((stage.sample.store / "runs").glob("*Z-*")) - {
        Path(stage.first.last["log"])
    }
    assert '"Finished"' in (run / "journal.jsonl").read_text()


HANGS = {
    "BuildStarted": "buildpack",
    "Uploaded": "pre_deploy",
    "Switched": "post_deploy",
}


MOMENTS = [
    *("Started", "BuildStarted", "Connected", "Checked", "Uploaded"),
    *("Prepared", "Admitted", "Switched", "Activated"),
]
INTERRUPTS = [(name, signal.SIGINT) for name in MOMENTS]


@pytest.mark.parametrize(
    ("event", "number"), [*INTERRUPTS, ("Switched", signal.SIGTERM)]
)
def test_a_signal_puts_every_link_back(
    stage: Stage, event: str, number: signal.Signals
) -> None:
    if event in HANGS:
        stage.script(HANGS[event], '[ "$GHOST_ACTION" = rollback ] || sleep 66')
    if event == "Activated":
        stage.module(verify=Verify(command="! grep 2 version || sleep 66"))
    stage.commit()
    with stage.console.running("deploy", "--output", "json") as process:
        _wait_for(process, event)
        process.send_signal(number)
        out, err = process.communicate(timeout=40)
    outcome = Outcome(process.returncode, out, err)

    stage.assert_old_serves(outcome, exit_status=130)
    assert outcome.last["outcome"] == "interrupted"
    assert set(outcome.states.values()) <= {"FAILED", "HALTED", "ROLLED_BACK"}
    for host in HOSTS:
        assert not any("sleep 66" in c for c in stage.sample.fleet.commands(host))
    stage.assert_recovers()
