"""Two controllers and one fleet, connections that drop, and what they leave behind."""

from __future__ import annotations

import json
import re
import signal
from itertools import groupby
from pathlib import Path

import attrs
import pytest

from tests.fleet.command import Command
from tests.fleet.conftest import StartFleet
from tests.fleet.layout import USER, tools_but
from tests.fleet.locked import HOSTS, WAITS, Fleet, deployed, end_of, until
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet


@pytest.fixture
def fleet(sshd_fleet: StartFleet, tmp_path: Path) -> Fleet:
    return deployed(SampleApp.create(tmp_path, sshd_fleet(len(HOSTS)), "site"))


def _read_until(process: Command, event: str) -> None:
    for line in process.stdout:
        if json.loads(line)["event"] == event:
            return
    raise AssertionError(f"{event} never came")


def test_two_controllers_never_interleave(fleet: Fleet) -> None:
    """Request of users: concurrent deploys corrupted each other."""
    for round_ in range(3):
        fleet.sample.repositories["site"].commit(f"round {round_}")
        json_ = ("deploy", "--force", "--output", "json")
        with fleet.console.running(*json_) as one, fleet.console.running(*json_) as two:
            ends = [end_of(one), end_of(two)]
        assert {end.exit for end in ends} in ({0}, {0, 4}), [e.stderr for e in ends]
        (serves,) = set(fleet.sample.serves("site").values())
        assert serves in [e.last["releases"]["site"] for e in ends if not e.exit]
    for host in HOSTS:
        ids = [line[2] for line in fleet.sample.trace(host, "site")]
        runs = [release for release, _ in groupby(ids)]
        assert len(runs) == len(set(runs)), "the scripts of two runs are mixed"


def test_two_names_for_one_machine_are_refused(fleet: Fleet) -> None:
    """A person is not told to wait for the end of the run that says so."""
    hosts = fleet.sample.fleet.hosts
    alias = attrs.evolve(hosts[0], name="alias")
    fleet.console.configure(fleet.sample.plan(hosts=(*hosts, alias)))

    again = fleet.console.deploy("--force")
    looked = fleet.console("check")

    assert (again.exit, again.last["outcome"], looked.exit) == (1, "failed", 1)
    for said in (again.stderr, looked.stdout + looked.stderr):
        assert re.search(
            r"(h1|alias)(:|  ).*is the same machine as (alias|h1): leave one of", said
        )
    fleet.assert_serves(fleet.old)


def test_the_next_run_may_begin_at_once(sshd_fleet: StartFleet, tmp_path: Path) -> None:
    """Slow hosts, too, have heard of a run's end when the command returns."""
    slow = tmp_path / "rm"
    slow.write_text(
        '#!/bin/sh\ncase $* in *lock.d/*) sleep 2 ;; esac\nexec /bin/rm "$@"\n'
    )
    slow.chmod(0o755)
    tools = {**tools_but("flock"), "rm": str(slow)}
    servers = sshd_fleet(len(HOSTS), tools=[tools])
    fleet = deployed(SampleApp.create(tmp_path, servers, "site"))

    again = fleet.console.deploy("--force")

    assert again.exit == 0, again.stderr


def test_a_run_that_may_wait_gets_its_turn(fleet: Fleet) -> None:
    fleet.script("pre_deploy", WAITS)
    with fleet.console.running("deploy", "--output", "json") as first:
        until(fleet.waits)
        waiting = ("deploy", "--wait", "60", "--output", "json")
        with fleet.console.running(*waiting) as second:
            _read_until(second, "LockAwaited")
            fleet.let_go()
            one = end_of(first)
            two = end_of(second)

    assert (one.exit, two.exit) == (0, 0), two.stderr
    fleet.assert_serves(two.last["releases"]["site"])


def test_the_wait_for_a_lock_ends(fleet: Fleet) -> None:
    fleet.script("pre_deploy", WAITS)
    with fleet.console.running("deploy", "--output", "json") as first:
        until(fleet.waits)

        second = fleet.console.deploy("--wait", "1")

        assert second.exit == 4, second.stderr
        assert f"(pid {first.pid})" in second.stderr
        fleet.let_go()
        assert end_of(first).exit == 0


def test_a_silent_run_is_taken_over_and_changes_nothing_any_more(
    fleet: Fleet,
) -> None:
    fleet.script(
        "pre_deploy",
        f"[ -e /ghost/go ] || {{ {WAITS}; touch /ghost/went-on; }}",
    )
    with fleet.console.running("deploy", "--output", "json") as first:
        until(fleet.waits)
        first.send_signal(signal.SIGSTOP)
        fleet.silence()
        fleet.heal()

        # On another machine: on this one it would wait for the first one's build.
        elsewhere = str(fleet.sample.folder / "elsewhere")
        second = fleet.console.deploy(XDG_CACHE_HOME=elsewhere)

        assert second.exit == 0, second.stderr
        warned = [e for e in second.events if e["event"] == "HostWarned"]
        assert len(warned) == len(HOSTS)
        assert "taken over from run" in warned[0]["text"]
        for host in HOSTS:
            assert not any("pre_deploy" in c for c in fleet.sample.fleet.commands(host))
        first.send_signal(signal.SIGCONT)
        fleet.let_go()
        one = end_of(first)

    assert one.exit == 4, one.stderr
    assert "another run holds the lock: run 2" in one.stderr
    fleet.assert_serves(second.last["releases"]["site"])
    for host in HOSTS:
        assert not fleet.path(host, "/ghost/went-on").exists()


def test_a_broken_lock_stops_the_other_run_where_it_is(fleet: Fleet) -> None:
    fleet.script("post_deploy", '[ "$GHOST_ACTION" = rollback ] || { ' + WAITS + "; }")
    with fleet.console.running("deploy", "--output", "json") as first:
        until(fleet.waits)
        fleet.heal()

        second = fleet.console.deploy("--break-lock")
        one = end_of(first)

    assert second.exit == 0, second.stderr
    fleet.assert_serves(second.last["releases"]["site"])
    # It had moved links and may not touch them any more: that is for a person to see.
    assert one.exit == 3, one.stderr
    assert "another run holds the lock" in one.stderr


def test_a_dropped_connection_costs_a_moment(fleet: Fleet) -> None:
    fleet.script("pre_deploy", WAITS)
    with fleet.console.running("deploy", "--output", "json") as process:
        until(fleet.waits)
        fleet.sample.fleet.hang_up("h2")
        fleet.let_go()
        end = end_of(process)

    assert end.exit == 0, end.stderr
    assert "connected again after" in end.event("HostWarned", "h2")["text"]
    fleet.assert_serves(end.last["releases"]["site"])


@pytest.mark.parametrize("sudo", [False, True])
def test_the_script_of_a_killed_controller_ends_before_the_next_begins(
    sshd_fleet: StartFleet, tmp_path: Path, sudo: bool
) -> None:
    servers = sshd_fleet(len(HOSTS), user=USER if sudo else "root")
    sample = SampleApp.create(tmp_path, servers, "site")
    fleet = deployed(sample, attrs.evolve(servers.ssh, sudo=sudo))
    deaf = "trap '' TERM; " if sudo else ""
    fleet.script("pre_deploy", f"[ -e /ghost/go ] || {{ {deaf}{WAITS}; }}")
    with fleet.console.running("deploy", "--output", "json") as first:
        until(fleet.waits)
        first.kill()
        first.communicate()
    fleet.heal()

    second = fleet.console.deploy()

    assert second.exit == 0, second.stderr
    for host in HOSTS:
        assert not any("pre_deploy" in c for c in sample.fleet.commands(host))
    fleet.assert_serves(second.last["releases"]["site"])


def test_a_daemon_that_a_post_deploy_left_behind_is_left_alone(fleet: Fleet) -> None:
    fleet.script("post_deploy", "sleep 4321 </dev/null >/dev/null 2>&1 &")
    assert fleet.console.deploy().exit == 0
    fleet.heal()

    outcome = fleet.console.deploy("--break-lock")

    assert outcome.exit == 0, outcome.stderr
    for host in HOSTS:
        assert "sleep 4321" in fleet.sample.fleet.commands(host)
