"""A short soak; ``make soak`` is the long one."""

from __future__ import annotations

import faulthandler
from pathlib import Path

import pytest

from tests.conftest import TEST_SECONDS
from tests.fleet.conftest import need
from tests.fleet.fault_fleet import FaultFleet
from tests.fleet.fault_plans import draw_plan
from tests.fleet.soak import Soak
from tests.fleet.sshd import namespaces_work

pytestmark = [
    pytest.mark.fleet,
    # A proxy of the tests may be cut while it is being taken.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SEED = 54
DEPLOYS = 8
HOSTS = 4


def test_what_happens_follows_from_the_seed_and_the_number_alone() -> None:
    hosts = ("h1", "h2", "h3")

    assert draw_plan(1, 5, hosts) == draw_plan(1, 5, hosts)
    assert len({draw_plan(1, number, hosts).faults for number in range(50)}) > 40


def test_what_must_always_hold_holds_whatever_breaks(
    sshd: None, tmp_path: Path
) -> None:
    need(namespaces_work(), "needs root, and unshare with CAP_SYS_ADMIN")
    disks = tuple(f"h{number}" for number in range(1, HOSTS + 1))
    with FaultFleet.create(tmp_path, HOSTS, disks=disks) as faulty:
        Soak(faulty, SEED, say=_another).run(1, DEPLOYS)


def _another(_: str) -> None:
    """Give each deploy the time of a test."""
    faulthandler.dump_traceback_later(TEST_SECONDS, exit=True)
