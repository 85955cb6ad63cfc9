"""A script of a person, run on real hosts that serve a release."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ghostasync import DeployFailed, Rollout, Script, execute, load_plan, logs
from ghostasync import events as e
from ghostasync.model import Deadlines, Host
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.locked import Fleet, deployed, end_of, until
from tests.fleet.running import Running
from tests.fleet.sample_app import HOSTILE, SECRET, SampleApp, variables
from tests.fleet.staged import HOSTS, Stage

pytestmark = pytest.mark.fleet

SEES = 'pwd; env -0 >"/ghost/$GHOST_HOST.env"; cat; tail -n 1 version'


def test_a_script_sees_what_post_deploy_does_and_nothing_else_changes(
    stage: Stage,
) -> None:
    sample, console = stage.sample, stage.console
    links = {h: sample.fleet.path(h, "/srv/site").lstat().st_ino for h in HOSTS}
    records = {h: _records(sample, h) for h in HOSTS}
    before = sample.manifest()
    numbers = _numbers(sample)

    outcome = console("exec", "--", SEES, TOKEN="another", LOGNAME="bob")

    assert outcome.exit == 0, outcome.stderr
    assert outcome.stdout == "h[1-4]:\n  /srv/site\n  1\n"
    for host in HOSTS:
        data = sample.fleet.path(host, f"/ghost/{host}.env").read_bytes()
        seen = variables(data)
        deployed_as = sample.environment(host, "site", "post_deploy")
        expected = {
            **{key: deployed_as[key] for key in deployed_as if "GHOST" in key},
            "GHOST_ACTION": "exec",
            "GHOST_MODULE_USER": "bob",
            "GHOST_MODULE_COMMIT_MESSAGE_FILE": (
                "/ghost/shop/prod/web/blue/site/.ghost/exec/commit_message"
            ),
        }
        assert {key: seen[key] for key in seen if "GHOST" in key} == expected
        assert (seen["TOKEN"], seen["GREETING"]) == (SECRET, HOSTILE)
        assert seen["GHOST_WAVE"] == "1"
        assert sample.fleet.path(host, "/srv/site").lstat().st_ino == links[host]
        assert _records(sample, host) == records[host]
        assert sample.leftovers(host, "site") == set()
    assert (sample.manifest(), _numbers(sample)) == (before, numbers)


def _records(sample: SampleApp, host: str) -> dict[str, bytes]:
    folder = sample.module_folder(host, "site") / ".ghost/activations"
    fence = folder.parents[2] / ".ghost/fence"
    return {path.name: path.read_bytes() for path in (*folder.iterdir(), fence)}


def _numbers(sample: SampleApp) -> list[str]:
    return sorted(p.name for p in (sample.store / "runs/by-generation").iterdir())


def test_equal_outputs_are_told_once_and_words_stay_words(stage: Stage) -> None:
    console = stage.console

    alike = console("exec", "--", "echo", "a  b", "#", "$HOME")
    differ = console("exec", "--", '[ $GHOST_HOST = h3 ] && printf "x\\ny" || echo z')
    silent = console("exec", "--", "true")

    assert (alike.exit, alike.stdout) == (0, "h[1-4]: a  b # $HOME\n")
    assert differ.stdout == "h[1-2,4]: z\nh3:\n  x\n  y\n"
    assert (silent.exit, silent.stdout) == (0, "")
    assert "exec on 4 hosts" in silent.stderr


def test_a_file_is_run_by_what_its_first_line_says(stage: Stage) -> None:
    script = stage.sample.folder / "ask"
    script.write_text(
        f"#!/usr/bin/env python3\n# {'x' * 200_000}\nprint(__file__[-5:])\n"
    )

    outcome = stage.console("exec", "--module", "site", "--script", str(script))

    assert (outcome.exit, outcome.stdout) == (0, "h[1-4]: /exec\n"), outcome.stderr


def test_hosts_that_fail_are_told_with_their_reasons(stage: Stage) -> None:
    script = 'echo "token $TOKEN"; [ "$GHOST_HOST" != h3 ] || exit 3'

    outcome = stage.console("exec", "--", script, TOKEN="another-secret")
    run = stage.console("history", "--output", "json").events[0]
    kept = stage.console("logs", run["id"], "h3", "--script", "exec")

    assert outcome.exit == 1
    assert outcome.stdout.startswith("h[1-4]: token ***")
    said = outcome.stderr
    assert "h3  exec of site exited 3" in said
    assert f"next: ghostasync logs {run['id']} h3" in said
    assert "ghostasync: failed: 1 host failed, 0 allowed" in said
    assert (run["action"], run["outcome"], run["hosts"]) == ("exec", "failed", 4)
    assert "exec of site exited 3" in kept.stdout
    assert SECRET not in outcome.stdout + said + kept.stdout
    # What an exec did says nothing about releases.
    assert stage.console("status").exit == 0
    assert stage.console("resume").exit == 0
    refused = stage.console("converge", "@failed")
    assert (refused.exit, "@failed" in refused.stderr) == (2, True)


def test_later_waves_do_not_start_where_one_fails(stage: Stage) -> None:
    stage.change(rollout=Rollout(waves=(1, 2)))
    note = 'echo "$GHOST_WAVE" >"/ghost/$GHOST_HOST.ran"; [ "$GHOST_HOST" != h2 ]'

    outcome = stage.console("exec", "--output", "json", "--", note)
    allowed = stage.console(
        "exec", "--max-failures", "1", "--", "[ $GHOST_HOST != h2 ]"
    )

    assert outcome.exit == 1
    assert outcome.states == {
        "h1": "UNCHANGED",
        "h2": "FAILED",
        "h3": "UNCHANGED",
        "h4": "HALTED",
    }
    ran = [stage.sample.fleet.path(h, f"/ghost/{h}.ran") for h in HOSTS]
    assert [p.read_text() if p.exists() else "" for p in ran] == [
        "1\n",
        "2\n",
        "2\n",
        "",
    ]
    assert [w["wave"] for w in outcome.events if w["event"] == "WaveStarted"] == [1, 2]
    assert allowed.exit == 0, allowed.stderr
    assert "h2  exec of site exited 1" in allowed.stderr


def test_a_dead_host_keeps_no_other_of_its_wave_from_its_turn(stage: Stage) -> None:
    dead = Host("h0", address="127.0.0.1", port=1)
    stage.change(hosts=(dead, *stage.plan.hosts))

    outcome = stage.console("exec", "--", "cat version")

    assert outcome.exit == 1
    assert outcome.stdout == "h[1-4]: 1\n"
    assert "h0" in outcome.stderr
    assert "1 host failed, 0 allowed" in outcome.stderr
    assert stage.console("exec", "--limit", "!h0", "--", "true").exit == 0


def test_a_host_that_serves_nothing_yet_fails_by_name(stage: Stage) -> None:
    stage.sample.fleet.path("h2", "/srv/site").unlink()

    outcome = stage.console("exec", "--", "cat version")

    assert (outcome.exit, outcome.stdout) == (1, "h[1,3-4]: 1\n")
    assert "h2  checking: serves no release of site: ghostasync converge h2" in (
        outcome.stderr
    )


def test_what_cannot_be_run_is_refused_before_a_host_is_met(stage: Stage) -> None:
    cases = {
        ("exec",): "say --script FILE, or -- COMMAND",
        ("exec", "--script", "nowhere"): "nowhere: No such file",
        ("exec", "--script", "ghostasync.toml", "--", "x"): "not both",
        ("exec", "--module", "other", "--", "x"): "there is no module 'other'",
        ("exec", "--limit", "h9", "--", "x"): "h9",
    }
    for words, why in cases.items():
        outcome = stage.console(*words)
        assert (outcome.exit, outcome.stdout) == (2, ""), words
        assert why in outcome.stderr


def test_before_the_first_deploy_there_is_nothing_to_run_in(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    sample = SampleApp.create(tmp_path, sshd_fleet(1))
    console = Console(sample)
    console.configure(sample.plan())

    unnamed = console("exec", "--", "true")
    outcome = console("exec", "--module", "site", "--", "true")

    assert unnamed.exit == outcome.exit == 2
    assert "say which module, --module: site, worker" in unnamed.stderr
    assert "MANIFEST names no release of site yet" in outcome.stderr


def test_a_run_that_holds_a_host_is_waited_for_or_refuses(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet: Fleet = deployed(SampleApp.create(tmp_path, sshd_fleet(3), "site"))
    waits = "touch /ghost/$GHOST_HOST.waits; until [ -e /ghost/go ]; do sleep 0.1; done"
    with fleet.console.running("exec", "--output", "json", "--", waits) as first:
        until(fleet.waits)
        refused = fleet.console("exec", "--", "true")
        deploy = fleet.console.deploy("--force")
        with fleet.console.running("exec", "--wait", "50", "--", "echo", "x") as second:
            said = second.stderr.readline()
            while "waiting" not in said:
                said = second.stderr.readline()
            fleet.let_go()
            waited = end_of(second)
        assert end_of(first).exit == 0

    assert (refused.exit, refused.stdout, deploy.exit) == (4, "", 4)
    assert "next: ghostasync exec --wait 600 -- true" in refused.stderr
    assert (waited.exit, waited.stdout) == (0, "h[1-3]: x\n"), waited.stderr
    frozen = fleet.console("lock", "--reason", "night")
    assert frozen.exit == 0
    assert fleet.console("exec", "--", "true").exit == 4


def test_ctrl_c_ends_scripts_with_what_they_have_started(stage: Stage) -> None:
    script = "sleep 300 & echo $! >/ghost/$GHOST_HOST.pid; wait"

    with stage.console.running("exec", "--output", "json", "--", script) as process:
        running = Running(process)
        pids = [stage.sample.fleet.path(h, f"/ghost/{h}.pid") for h in HOSTS]
        until(lambda: all(p.exists() and p.read_text() for p in pids))
        process.send_signal(signal.SIGINT)
        outcome = running.finish(30)

    assert outcome.exit == 130
    assert set(outcome.states.values()) == {"HALTED"}
    cut = [w["host"] for w in outcome.events if w["event"] == "HostWarned"]
    assert sorted(cut) == [*HOSTS]
    for pid in pids:
        assert not _lives(pid.read_text().strip())
    for host in HOSTS:
        assert stage.sample.leftovers(host, "site") == set()


def test_a_controller_that_is_killed_leaves_nothing_to_put_right(stage: Stage) -> None:
    script = "sleep 300 & echo $! >/ghost/$GHOST_HOST.pid; wait"
    pids = [stage.sample.fleet.path(h, f"/ghost/{h}.pid") for h in HOSTS]

    with stage.console.running("exec", "--", script) as process:
        until(lambda: all(p.exists() and p.read_text() for p in pids))
        process.kill()
    again = stage.console("exec", "--wait", "20", "--", "echo again")

    assert (again.exit, again.stdout) == (0, "h[1-4]: again\n"), again.stderr
    assert not any(_lives(pid.read_text().strip()) for pid in pids)
    for host in HOSTS:
        assert stage.sample.leftovers(host, "site") == set()
    assert stage.console("status").exit == 0
    assert "killed" in stage.console("history").stdout
    unfinished = stage.console("resume")
    assert (unfinished.exit, unfinished.stdout) == (0, "")
    assert stage.console.deploy("--force").exit == 0


def _lives(pid: str) -> bool:
    try:
        return "sleep" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_a_script_is_ended_at_its_deadline(stage: Stage) -> None:
    stage.change(rollout=Rollout(deadlines=Deadlines(post_deploy=1)))

    outcome = stage.console("exec", "--", "echo began; sleep 60")

    assert (outcome.exit, outcome.stdout) == (1, "h[1-4]: began\n")
    assert "exec of site" in outcome.stderr
    assert "rollout.deadlines.post_deploy" in outcome.stderr


@pytest.mark.parametrize("poor", [False, True])
def test_a_script_runs_as_who_runs_post_deploy(
    sshd_fleet: StartFleet, tmp_path: Path, *, poor: bool
) -> None:
    sample = SampleApp.create(tmp_path, sshd_fleet(1, poor=poor), "site")
    sample.repositories["site"].script("post_deploy", "true\n")
    sample.repositories["site"].commit("1")
    nobody = Script(path="deploy/post_deploy", run_as="nobody")
    module = sample.module("site", post_deploy=nobody)
    console = Console(sample)
    console.configure(sample.plan(module))
    assert console.deploy().exit == 0
    script = (
        'id -un; echo "$TOKEN" | wc -c; cat "$GHOST_MODULE_COMMIT_MESSAGE_FILE" | '
        "wc -c; all=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '); "
        'case $all in *"$TOKEN"*) echo leaked ;; *) echo kept ;; esac'
    )

    outcome = console("exec", "--", script)

    sizes = f"{len(SECRET) + 1}\n  {len(HOSTILE)}\n  kept"
    assert outcome.stdout == f"h1:\n  nobody\n  {sizes}\n", outcome.stderr
    assert sample.leftovers("h1", "site") == set()


async def test_python_gets_a_report_and_reads_the_output(stage: Stage) -> None:
    plan = load_plan(stage.sample.folder / "ghostasync.toml")
    seen: list[e.Output] = []

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.Output) and record.event.final:
            seen.append(record.event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN", SECRET)
        report = await execute(plan, "echo hello", limit=["h1"], observe=observe)
        with pytest.raises(DeployFailed) as failed:
            await execute(plan, "exit 9", module="site")
        told = await logs(plan, report.run, script="exec")

    assert (report.exit_status, report.action) == (0, "exec")
    assert [(o.host, o.script, o.text) for o in seen] == [("h1", "exec", "hello\n")]
    assert b"hello" in told[0].text
    assert {h.exit_status for h in failed.value.report.hosts.values()} == {9}
