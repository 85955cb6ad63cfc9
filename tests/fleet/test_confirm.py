"""With ``confirm`` a host puts its link back by itself when nobody is left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ghostasync import Rollout
from ghostasync.model import Deadlines
from tests.fleet.conftest import StartFleet
from tests.fleet.locked import HOSTS, WAITS, Fleet, deployed, end_of, until
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet


@pytest.fixture
def fleet(sshd_fleet: StartFleet, tmp_path: Path) -> Fleet:
    fleet = deployed(SampleApp.create(tmp_path, sshd_fleet(len(HOSTS)), "site"))
    rollout = Rollout(confirm=10, deadlines=Deadlines(connect=10, verify=15))
    fleet.console.configure(fleet.sample.plan(rollout=rollout))
    fleet.script("post_deploy", f'[ "$GHOST_ACTION" = rollback ] || {{ {WAITS}; }}')
    return fleet


def test_a_run_that_goes_well_leaves_no_timer(fleet: Fleet) -> None:
    fleet.let_go()

    outcome = fleet.console.deploy()

    assert outcome.exit == 0, outcome.stderr
    fleet.assert_serves(outcome.last["releases"]["site"])
    for host in HOSTS:
        ghost = fleet.path(host, "/ghost/shop/prod/web/blue/.ghost")
        assert {p.name for p in ghost.iterdir()} <= {
            *("lock", "holder", "beat", "fence", "scripts"),
        }
    until(lambda: not _timers(fleet))


def test_hosts_of_a_killed_run_go_back_by_themselves(fleet: Fleet) -> None:
    with fleet.console.running("deploy", "--output", "json") as process:
        until(fleet.waits)
        assert fleet.old not in fleet.sample.serves("site").values()
        process.kill()
        process.communicate()

    until(lambda: set(fleet.sample.serves("site").values()) == {fleet.old})

    until(lambda: not _timers(fleet))
    for host in HOSTS:
        last = fleet.sample.trace(host, "site")[-1]
        assert last[:3] == ["post_deploy", "rollback", fleet.old]
    fleet.heal()
    again = fleet.console.deploy()
    assert again.exit == 0, again.stderr
    fleet.assert_serves(again.last["releases"]["site"])


def test_a_run_that_comes_back_too_late_finds_its_hosts_gone_back(
    fleet: Fleet,
) -> None:
    with fleet.console.running("deploy", "--output", "json") as process:
        until(fleet.waits)
        process.send_signal(signal.SIGSTOP)
        until(lambda: set(fleet.sample.serves("site").values()) == {fleet.old})
        fleet.let_go()
        process.send_signal(signal.SIGCONT)
        outcome = end_of(process)

    assert outcome.exit == 1, outcome.stderr
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    assert "put its links back by itself" in outcome.stdout
    fleet.assert_serves(fleet.old)


def _timers(fleet: Fleet) -> bool:
    commands = [line for host in HOSTS for line in fleet.sample.fleet.commands(host)]
    return any("timer.sh" in line for line in commands)
