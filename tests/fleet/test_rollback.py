"""The fleet taken back by command, on real hosts."""

from __future__ import annotations

import shutil

import pytest

from tests.fleet.console import Outcome
from tests.fleet.staged import HOSTS, Stage

pytestmark = pytest.mark.fleet


def go(stage: Stage, *args: str) -> Outcome:
    return stage.console(*args, "--output", "json")


@pytest.fixture
def second(stage: Stage) -> str:
    """Deploy version 2; return its release."""
    stage.commit()
    outcome = stage.console.deploy()
    assert outcome.exit == 0, outcome.stderr
    return str(outcome.last["releases"]["site"])


def test_a_rollback_goes_the_road_of_a_deploy(stage: Stage, second: str) -> None:
    outcome = go(stage, "rollback")

    assert (outcome.exit, outcome.last["outcome"]) == (0, "live"), outcome.stderr
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, stage.old)
    assert [line[1] for line in stage.sample.manifest()] == [stage.old]
    assert outcome.event("ManifestMoved")["releases"] == {"site": stage.old}
    for host in HOSTS:
        assert stage.sample.leftovers(host, "site") == set()
        # The release is there, and has run its pre-deploy when it came.
        assert [line[:3] for line in stage.sample.trace(host, "site")[-2:]] == [
            ["post_deploy", "deploy", second],
            ["post_deploy", "rollback", stage.old],
        ]
    assert go(stage, "status").exit == 0
    refused = go(stage, "rollback")
    assert (refused.exit, refused.stdout) == (2, "")
    assert "there is nothing to go back to" in refused.stderr
    assert "rollback --remove takes its link away" in refused.stderr


def test_a_host_that_lacks_the_release_is_sent_it(stage: Stage, second: str) -> None:
    folder = stage.sample.module_folder("h3", "site")
    shutil.rmtree(folder / stage.old)
    shutil.rmtree(folder / ".ghost" / stage.old)

    outcome = go(stage, "rollback", "--to", stage.old)

    assert outcome.exit == 0, outcome.stderr
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, stage.old)
    sent = {e["host"]: e["nbytes"] for e in outcome.events if e["event"] == "Uploaded"}
    assert [host for host, nbytes in sent.items() if nbytes] == ["h3"]
    assert stage.sample.read("h3", "site", "version") == b"1"


def test_hosts_know_what_was_before_where_the_journals_are_lost(
    stage: Stage, second: str
) -> None:
    shutil.rmtree(stage.sample.store / "runs")

    outcome = go(stage, "rollback")

    assert outcome.exit == 0, outcome.stderr
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, stage.old)
    assert [line[1] for line in stage.sample.manifest()] == [stage.old]


def test_a_run_and_a_release_are_not_both_said(stage: Stage) -> None:
    outcome = go(stage, "rollback", "20260101T000000Z-abcdef", "--to", stage.old)

    assert (outcome.exit, outcome.stdout) == (2, "")
    assert outcome.stderr == "ghostasync: rollback: say RUN or --to RELEASE, not both\n"
