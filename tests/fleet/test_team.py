"""What real hosts, repositories and inventories do while a team deploys."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync import Layout, Rollout
from ghostasync.model import InventorySettings
from tests.fleet.conftest import StartFleet
from tests.fleet.people import Person, Town
from tests.fleet.running import Running
from tests.fleet.sample_app import SCRIPTS, SampleApp

pytestmark = pytest.mark.fleet

LONG: Final = 140_000
"""More than the kernel takes as one word of a program's environment."""


@pytest.fixture
def town(sshd_fleet: StartFleet, tmp_path: Path) -> Town:
    return Town(SampleApp.create(tmp_path, sshd_fleet(2), "site"))


def post_deploy(town: Town, line: str) -> None:
    text = f"{line}\n{SCRIPTS['post_deploy']}"
    town.sample.repositories["site"].script("post_deploy", text)


def of(outcome_events: list[dict[str, str]], kind: str) -> list[dict[str, str]]:
    return [event for event in outcome_events if event["event"] == kind]


# --- A path that was moved ----------------------------------------------------------


def test_the_link_of_an_earlier_path_keeps_what_it_leads_to(town: Town) -> None:
    ann = town.moves_in("ann")
    ann.change(layout=Layout(keep=2))
    first = ann.deploys("1").last["releases"]["site"]
    ann.module(path="/srv/www")
    ann.deploys("2")
    post_deploy(town, "exit 1")
    assert ann.tries("3").exit == 1
    post_deploy(town, "")
    ann.deploys("4")
    ann.deploys("5")

    for host in ("h1", "h2"):
        served = town.sample.fleet.shell(host, "cat /srv/site/version /srv/www/version")
        assert served == "15"
        assert (
            town.sample.fleet.shell(host, "readlink /srv/site").strip().endswith(first)
        )
    said = ann.read("check").stdout
    assert "h[1-2]: warning: /srv/site still leads to a release of site" in said


# --- What git and the kernel take ---------------------------------------------------


def test_a_branch_and_a_tag_of_one_name_are_told_apart_by_a_person(town: Town) -> None:
    ann = town.moves_in("ann")
    repository = town.sample.repositories["site"]
    tagged = repository.commit("tagged")
    repository.git("tag", "1.0")
    repository.git("branch", "1.0", "main~1")
    branch = repository.git("rev-parse", "refs/heads/1.0")

    refused = ann("deploy", "site@1.0")

    assert (refused.exit, refused.stdout) == (2, "")
    assert "site: '1.0' is ambiguous: say " in refused.stderr
    for spelling, commit in (("heads", branch), ("tags", tagged)):
        assert f"refs/{spelling}/1.0 ({commit[:7]})" in refused.stderr
    town.note("tagged", ann("deploy", "site@refs/tags/1.0"))
    assert town.serves() == town.all_on("tagged")


def test_what_no_program_can_be_given_is_refused_before_a_host_is_contacted(
    town: Town,
) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1")
    town.commit("2")
    ann.variables(NOTES="x" * LONG)

    refused = ann("deploy")

    assert (refused.exit, of(refused.events, "Connected")) == (2, [])
    assert "app.env_vars.NOTES" in refused.stderr
    assert town.serves() == town.all_on("1")


def test_a_commit_message_of_any_length_can_be_deployed(town: Town) -> None:
    ann = town.moves_in("ann")
    post_deploy(town, 'cat "$GHOST_MODULE_COMMIT_MESSAGE_FILE" >/srv/message')
    message = "fix\n\n" + "x" * LONG + "\n"
    town.sample.repositories["site"].commit("2", message)

    town.note("2", ann("deploy"))

    assert town.serves() == town.all_on("2")
    for host in ("h1", "h2"):
        seen = town.sample.environment(host, "site", "post_deploy")
        cut = seen["GHOST_MODULE_COMMIT_MESSAGE"]
        assert message.startswith(cut.removesuffix("…"))
        assert len(cut) < LONG
        whole = town.sample.fleet.path(host, "/srv/message").read_text()
        assert whole.strip() == message.strip()


# --- Inventories --------------------------------------------------------------------


@attrs.frozen
class Cloud:
    """Prints the hosts of *file*."""

    town: Town
    file: Path

    def names(self, *names: str) -> None:
        hosts = [h for h in self.town.sample.fleet.hosts if h.name in names]
        rows = [{"name": h.name, "address": h.address, "port": h.port} for h in hosts]
        self.file.write_text(json.dumps(rows))


@pytest.fixture
def cloud(sshd_fleet: StartFleet, tmp_path: Path) -> tuple[Cloud, Person]:
    town = Town(SampleApp.create(tmp_path, sshd_fleet(3), "site"))
    cloud = Cloud(town, tmp_path / "hosts.json")
    cloud.names("h1", "h2", "h3")
    ann = town.moves_in("ann")
    ann.change(hosts=(), inventory=InventorySettings(command=f"cat {cloud.file}"))
    return cloud, ann


def test_a_throttled_inventory_moves_nothing(cloud: tuple[Cloud, Person]) -> None:
    there, ann = cloud
    ann.deploys("1")
    there.names("h1")

    refused = ann.tries("2")

    assert (refused.exit, there.town.serves()) == (2, there.town.all_on("1"))
    assert ann.manifest == {"site": "1"}
    assert "names 1 host, and the last whole run had 3" in refused.stderr
    there.town.note("2", ann("deploy", "--inventory-shrank"))
    assert there.town.serves() == {"h1": "2", "h2": "1", "h3": "1"}


def test_a_host_that_is_terminated_while_it_switches_takes_nobody_back(
    cloud: tuple[Cloud, Person],
) -> None:
    there, ann = cloud
    town = there.town
    ann.change(rollout=Rollout())
    ann.deploys("1")
    wait = "until [ -e /srv/gate ]; do sleep 0.1; done"
    post_deploy(town, f'[ "$GHOST_HOST" != h3 ] || {wait}')
    town.commit("2")

    with ann.console.running("deploy", "--output", "json") as process:
        running = Running(process)
        running.until("Switched", "h3")
        there.names("h1", "h2")
        town.sample.fleet.kill("h3")
        outcome = town.note("2", running.finish())

    assert outcome.exit == 0, outcome.stderr
    assert [event["host"] for event in of(outcome.events, "Gone")] == ["h3"]
    assert ann.manifest == {"site": "2"}
    assert {host: town.serves()[host] for host in ("h1", "h2")} == {
        "h1": "2",
        "h2": "2",
    }


# --- Hosts that join ----------------------------------------------------------------


@pytest.fixture
def growing(cloud: tuple[Cloud, Person]) -> tuple[Cloud, Person]:
    """Two hosts that serve 1, and a third with 1 that the inventory names next time."""
    there, ann = cloud
    ann.deploys("1")
    everyone = there.file.rename(there.file.with_name("everyone"))
    there.names("h1", "h2")
    command = f"cat {there.file}; cp {everyone} {there.file}"
    ann.change(inventory=InventorySettings(command=command))
    return there, ann


def test_a_host_that_joined_meanwhile_is_brought_along(
    growing: tuple[Cloud, Person],
) -> None:
    there, ann = growing
    town = there.town

    outcome = ann.deploys("2", "--inventory-shrank")

    assert outcome.event("Joined")["hosts"] == ["h3"]
    assert (outcome.last["outcome"], outcome.states["h3"]) == ("live", "LIVE")
    assert (town.serves(), ann.manifest) == (town.all_on("2"), {"site": "2"})
    seen = town.sample.environment("h3", "site", "post_deploy")
    assert (seen["GHOST_ACTION"], seen["GHOST_WAVE"]) == ("converge", "")
    assert town.sample.leftovers("h3", "site") == set()
    assert ann.status.exit == 0
    back = ann("rollback")
    assert (back.exit, town.serves()) == (0, town.all_on("1")), back.stderr


def test_a_host_that_joined_and_fails_takes_nobody_back(
    growing: tuple[Cloud, Person],
) -> None:
    there, ann = growing
    town = there.town
    post_deploy(town, "[ ! -e /srv/broken ] || exit 1")
    broken = town.sample.fleet.path("h3", "/srv/broken")
    broken.touch()

    outcome = ann.deploys("2", "--inventory-shrank")

    assert outcome.last["outcome"] == "live"
    assert (outcome.states["h3"], ann.manifest) == ("ROLLED_BACK", {"site": "2"})
    assert town.serves() == {"h1": "2", "h2": "2", "h3": "1"}
    (told,) = [event["text"] for event in of(outcome.events, "Warned")]
    assert told.startswith("joined since the run was planned: h3; not brought along: ")
    broken.unlink()
    assert ann.types(told.rpartition(": ")[2]).exit == 0
    assert town.serves() == town.all_on("2")


@pytest.mark.parametrize("back", [False, True])
def test_a_controller_that_dies_while_it_brings_a_host_along(
    growing: tuple[Cloud, Person], *, back: bool
) -> None:
    there, ann = growing
    town = there.town
    post_deploy(town, '[ "$GHOST_HOST" != h3 ] || sleep 1')
    town.commit("2")
    ann.dies("deploy", "--inventory-shrank", after="Switched", host="h3")
    assert (town.serves(), ann.manifest) == (town.all_on("2"), {"site": "2"})

    taken_up = ann("resume", *["--revert"] * back, "--wait", "30")

    version = "1" if back else "2"
    assert taken_up.exit == 0, taken_up.stderr
    assert town.serves() == town.all_on(version)
    assert (ann.manifest, ann.status.exit) == ({"site": version}, 0)
    assert ann("resume").stdout == "", "nothing is left"


# --- A freeze, and what there was ---------------------------------------------------


def test_a_freeze_is_for_every_store_and_history_tells_why(town: Town) -> None:
    ann, bob = town.moves_in("ann"), town.moves_in("bob")
    ann.deploys("1")
    ann.deploys("2", "--reason", "a fix")
    locked = ann("lock", "--reason", "sale until Monday")
    assert locked.exit == 0
    assert locked.last == {"v": 1, "text": "frozen: sale until Monday", "left": {}}

    for person in (ann, bob):
        refused = person.tries("3")
        assert (refused.exit, town.serves()) == (4, town.all_on("2"))
        assert "frozen by ann" in refused.stderr
        assert "sale until Monday" in refused.stderr
        assert "sale until Monday" in person.status.stdout
    assert bob("rollback").exit == 0
    assert town.serves() == town.all_on("1")
    assert ann("unlock").last["text"] == "nothing is frozen"
    ann.deploys("3")

    told = ann.read("history").stdout
    assert "why: a fix" in told
    assert [line.split()[0] for line in told.splitlines() if line[0] == "#"] == [
        "#4",
        "#2",
        "#1",
    ]
    # Bob's run is in his store; a newcomer is told by hosts of all that moved.
    shutil.rmtree(town.sample.folder / "bob" / "store", ignore_errors=True)
    carol = town.moves_in("carol").read("history").stdout
    outcomes = [line.split() for line in carol.splitlines() if line[0] == "#"]
    assert [words[:1] + words[2:4] for words in outcomes] == [
        ["#4", "deploy", "live"],
        ["#3", "rollback", "live"],
        ["#2", "deploy", "live"],
        ["#1", "deploy", "live"],
    ]
    assert ann.read("history", "--verify").exit == 0


def test_the_logs_of_a_run_are_those_of_its_scripts(town: Town) -> None:
    ann = town.moves_in("ann")
    post_deploy(town, 'echo "hello from $GHOST_HOST"')
    run = ann.deploys("2").last["run"]

    told = ann.read("logs", run[:18], "h2", "--script", "post_deploy").stdout
    assert told.splitlines() == [
        "--- post_deploy of site in /srv/site",
        "hello from h2",
        "",
        "--- post_deploy of site exited 0",
    ]


# --- Hosts that do not do what they say ----------------------------------------------

LOSES_LINKS: Final = r"""
cp /usr/bin/mv /srv/mv
printf '%s\n' '#!/bin/sh' 'case $* in *".site.ghost-new-"*" /srv/site") exit;; esac' \
    'exec /srv/mv "$@"' >/srv/loses
chmod +x /srv/loses
mount --bind /srv/loses /usr/bin/mv
"""


def test_a_switch_that_moved_nothing_is_a_failure(town: Town) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1")
    town.sample.fleet.shell("h2", LOSES_LINKS)

    failed = ann.tries("2")

    assert (failed.exit, town.serves()) == (1, town.all_on("1")), failed.stderr
    assert "h2  switching: " in failed.stderr
    first, second = town.release("1"), town.release("2")
    assert f"/srv/site leads to /ghost/shop/prod/web/blue/site/{first}, not to" in (
        failed.stderr
    )
    assert f"/{second}" in failed.stderr
    assert ann.manifest == {"site": "1"}
