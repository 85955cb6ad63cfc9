"""A before_switch that takes long, on real hosts: nothing but itself ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync import Deadlines, Rollout, Script
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Outcome
from tests.fleet.locked import until
from tests.fleet.people import Person, Town
from tests.fleet.running import Running
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

MIGRATES: Final = """
echo "$(cat version) begun" >>/srv/migrations
until [ -e /srv/gate ]; do sleep 0.1; done
echo "$(cat version) over" >>/srv/migrations
"""


@attrs.frozen
class Migration:
    """Ann has deployed version 1; what comes next migrates until the gate is open."""

    town: Town
    ann: Person

    @property
    def host(self) -> Path:
        return self.town.sample.fleet.path("h1", "/srv")

    @property
    def told(self) -> list[str]:
        """What migrations there have been, begun and over."""
        path = self.host / "migrations"
        return path.read_text().splitlines() if path.exists() else []

    def open(self) -> None:
        (self.host / "gate").touch()

    def dies(self, version: str = "2") -> str:
        """Have Ann's controller killed while a version migrates."""
        self.town.commit(version)
        with self.running(self.ann, "deploy") as running:
            until(lambda: f"{version} begun" in self.told)
            running.signal("SIGKILL")
            self.town.note("", running.finish())
        return running.run

    @contextlib.contextmanager
    def running(self, person: Person, *args: str) -> Iterator[Running]:
        with person.console.running(*args, "--output", "json") as process:
            yield Running(process)

    def waits(self, running: Running, run: str) -> Outcome:
        """See a run wait for the migration by name, and go on once it is over."""
        running.until("HostWarned", "h1")
        (told,) = (e["text"] for e in running.events if e["event"] == "HostWarned")
        expected = (
            f"waiting: before_switch of site, which run {run} began, has not ended"
        )
        assert told.startswith(expected)
        assert self.told == ["2 begun"]
        self.open()
        return running.finish()


@pytest.fixture
def migration(sshd_fleet: StartFleet, tmp_path: Path) -> Migration:
    town = Town(SampleApp.create(tmp_path, sshd_fleet(2), "site"))
    ann = town.moves_in("ann")
    ann.deploys("1")
    town.sample.repositories["site"].script("before_switch", MIGRATES)
    ann.module(before_switch=Script(path="deploy/before_switch"))
    return Migration(town, ann)


def test_the_next_run_waits_for_a_migration_that_outlived_its_run(
    migration: Migration,
) -> None:
    killed = migration.dies()
    town, ann = migration.town, migration.ann
    text = "  migrates:        before_switch of site began on h1, and may be at work\n"
    assert text in ann.status.stdout
    told = f"run {killed} began a before_switch on h1, and no end of it is on record"
    assert f"warning: {told}" in ann.read("check").stdout.replace("site: ", "")
    town.commit("3")

    elsewhere = town.note("3", ann("deploy", "--limit", "h2", "--wait", "30"))
    assert (elsewhere.exit, migration.told) == (1, ["2 begun"])
    assert f"run {killed} began it on h1, which cannot be asked" in elsewhere.stderr
    with migration.running(ann, "deploy", "--wait", "30") as running:
        outcome = town.note("3", migration.waits(running, killed))

    assert outcome.exit == 0, outcome.stderr
    assert migration.told == ["2 begun", "2 over", "3 begun", "3 over"]
    assert town.serves() == town.all_on("3")


@pytest.mark.parametrize("when", ["over", "at work"])
def test_a_resumption_finds_out_how_a_migration_ended(
    migration: Migration, when: str
) -> None:
    killed = migration.dies()
    town, ann = migration.town, migration.ann
    if when == "over":
        migration.open()

    with migration.running(ann, "resume", "--wait", "30") as running:
        outcome = (
            running.finish() if when == "over" else migration.waits(running, killed)
        )

    assert outcome.exit == 0, outcome.stderr
    assert migration.told == ["2 begun", "2 over"]
    assert outcome.event("BeforeSwitchStarted")["begun_by"] == killed
    assert town.note("2", outcome) is outcome
    assert town.serves() == town.all_on("2")


def test_a_resumption_tells_that_a_migration_has_failed(migration: Migration) -> None:
    text = f"{MIGRATES}\ntest ! -e /srv/fails\n"
    migration.town.sample.repositories["site"].script("before_switch", text)
    (migration.host / "fails").touch()
    migration.dies()
    migration.open()

    failed = migration.ann("resume", "--wait", "30")
    (migration.host / "fails").unlink()
    again = migration.ann("deploy")

    assert failed.exit == 1
    assert "before_switch of site exited 1" in failed.stderr
    assert again.exit == 0, again.stderr
    assert migration.told == ["2 begun", "2 over"] * 2


def test_a_deadline_ends_a_run_and_no_migration(migration: Migration) -> None:
    town, ann = migration.town, migration.ann
    ann.change(rollout=Rollout(deadlines=Deadlines(before_switch=1)))

    late = ann.tries("2")

    assert late.exit == 1
    assert "not done within 1 s (rollout.deadlines.before_switch)" in late.stderr
    assert "it goes on there, and the next run waits for it" in late.stderr
    assert town.serves() == town.all_on("1")
    ann.change(rollout=Rollout())
    with migration.running(ann, "deploy") as running:
        outcome = town.note("2", migration.waits(running, late.events[0]["run"]))
    assert outcome.exit == 0, outcome.stderr
    assert migration.told == ["2 begun", "2 over"] * 2


def test_a_person_who_stops_a_run_ends_no_migration(migration: Migration) -> None:
    town, ann = migration.town, migration.ann
    town.commit("2")

    with migration.running(ann, "deploy") as running:
        until(lambda: migration.told == ["2 begun"])
        running.signal("SIGINT")
        stopped = running.finish()

    assert stopped.exit == 130
    assert "goes on without this run" in stopped.event("HostWarned")["text"]
    migration.open()
    ann.deploys("3")
    assert migration.told == ["2 begun", "2 over", "3 begun", "3 over"]


def test_a_rollback_waits_for_no_migration(migration: Migration) -> None:
    """What served before a migration serves beside it as well."""
    town, ann = migration.town, migration.ann
    migration.open()
    ann.deploys("2")
    (migration.host / "gate").unlink()
    migration.dies("3")

    back = ann("rollback", "--wait", "30")

    assert back.exit == 0, back.stderr
    assert town.serves() == town.all_on("1")
    assert migration.told == ["2 begun", "2 over", "3 begun"]
    migration.open()


def test_a_rollback_past_a_migration_without_a_way_back_takes_force(
    migration: Migration,
) -> None:
    town, ann = migration.town, migration.ann
    migration.open()
    script = Script(path="deploy/before_switch", no_return=True)
    ann.module(before_switch=script)
    ann.deploys("2")

    refused = ann.read("rollback")

    assert (refused.exit, town.serves()) == (2, town.all_on("2"))
    assert "before_switch has no way back (no_return)" in refused.stderr
    assert refused.stderr.endswith("--force goes back even so\n")
    outcome = town.note("1", ann("rollback", "--force"))
    assert (outcome.exit, town.serves()) == (0, town.all_on("1"))
