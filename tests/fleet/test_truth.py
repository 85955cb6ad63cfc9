"""
Two people and one fleet: who says what serves, what was before, and what is left to do.

Their clocks differ by three hours; they share a store, or know nothing of each other.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from ghostasync import Deadlines, Rollout
from tests.fleet.clock import library
from tests.fleet.conftest import StartFleet, need
from tests.fleet.console import Outcome
from tests.fleet.people import Person, Town
from tests.fleet.running import Running
from tests.fleet.sample_app import SCRIPTS, SECRET, SampleApp
from tests.fleet.terminal import on_a_terminal

pytestmark = pytest.mark.fleet

GATE: Final = "/ghost/gate"
WAITS: Final = f"until [ -e {GATE} ]; do sleep 0.1; done"
ONE_MAY_FAIL: Final = Rollout(max_failures=1)


@pytest.fixture
def town(sshd_fleet: StartFleet, tmp_path: Path) -> Town:
    """Three hosts, and nobody yet."""
    need(library() is not None, "needs libfaketime")
    return Town(SampleApp.create(tmp_path, sshd_fleet(3), "site"))


def warnings(outcome: Outcome) -> list[str]:
    return [e["text"] for e in outcome.events if e["event"] == "Warned"]


def as_json(outcome: Outcome) -> Any:
    return json.loads(outcome.stdout)


def assert_nothing_is_left(town: Town, person: Person) -> None:
    """Check that a person sees a fleet in line, and no run to go on with."""
    before, status, resumed = town.links, person.status, person("resume")
    assert (status.exit, "run " in status.stdout) == (0, False), status.stdout
    assert (resumed.exit, resumed.stdout) == (0, "")
    assert resumed.stderr == (
        "ghostasync: there is no unfinished run: nothing is left to resume\n"
    )
    assert town.links == before


def without_secrets(person: Person) -> Person:
    """Return the same person, in a shell that has not exported the app's secrets."""
    env = {k: v for k, v in person.console.env.items() if k != "TOKEN"}
    return attrs.evolve(person, console=attrs.evolve(person.console, env=env))


def seen_by(town: Town, host: str) -> dict[str, str]:
    """Return what the last post-deploy on a host saw."""
    return town.sample.environment(host, "site", "post_deploy")


def script(town: Town, key: str, line: str) -> None:
    """Give the next version a script that begins with *line*."""
    head, _, rest = SCRIPTS[key].rpartition("set -eu\n")
    text = f"{head}set -eu\n{line}\n{rest}"
    town.sample.repositories["site"].script(key, text)


def dies_in_the_middle(town: Town, person: Person) -> str:
    """Have a deploy of version 2 killed once h1 is live and h2 has switched."""
    script(town, "post_deploy", f'[ "$GHOST_HOST" != h2 ] || {WAITS}')
    town.commit("2")
    run = person.dies("deploy", after="Switched", host="h2")
    script(town, "post_deploy", "")
    assert town.serves() == {"h1": "2", "h2": "2", "h3": "1"}
    return run


def test_people_have_their_own_clocks(town: Town) -> None:
    for name, hours in {"ann": 3, "bob": 0, "carol": -3}.items():
        run = town.moves_in(name, hours=hours).deploys("1").last["run"]
        begun = datetime.strptime(run[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        off = begun - datetime.now(UTC) - timedelta(hours=hours)
        assert abs(off) < timedelta(minutes=10)


# --- A run that was killed, and one store -----------------------------------------


@pytest.mark.parametrize(("hours", "who"), [(3, "ann"), (3, "bob"), (-3, "ann")])
def test_a_killed_run_that_another_one_made_up_for_is_over(
    town: Town, hours: int, who: str
) -> None:
    ann = town.moves_in("ann", hours=hours)
    bob = town.moves_in("bob", shares=ann)
    ann.deploys("1")
    killed = dies_in_the_middle(town, ann)

    bob.deploys("3", "--wait", "30")

    assert town.serves() == town.all_on("3")
    for person in (bob, ann):
        assert_nothing_is_left(town, person)
        by_name = person("resume", killed)
        assert (by_name.exit, by_name.stdout) == (0, "")
        assert "nothing is left to resume" in by_name.stderr
    back = {"ann": ann, "bob": bob}[who]("rollback")
    assert (back.exit, back.last["outcome"]) == (0, "live"), back.stderr
    assert town.serves() == town.all_on("1")
    assert ann.manifest == bob.manifest == {"site": "1"}
    for person in (ann, bob):
        assert_nothing_is_left(town, person)


# --- A store for each -------------------------------------------------------------


@attrs.frozen
class Strangers:
    """Ann has deployed versions 1 and 2; Bob, in *run*, version 3: two stores."""

    ann: Person
    bob: Person
    run: str

    @property
    def manifests(self) -> tuple[dict[str, str], dict[str, str]]:
        return self.ann.manifest, self.bob.manifest


@pytest.fixture(params=[3, -3], ids=["ahead", "behind"])
def strangers(town: Town, request: pytest.FixtureRequest) -> Strangers:
    ann = town.moves_in("ann", hours=request.param)
    bob = town.moves_in("bob")
    ann.deploys("1")
    ann.deploys("2")
    return Strangers(ann, bob, bob.deploys("3").last["run"])


def test_a_fleet_goes_back_from_a_run_of_another_store(
    town: Town, strangers: Strangers
) -> None:
    ann = strangers.ann
    seen = ann.status
    assert seen.exit == 6
    assert f"run {strangers.run} by bob 20" in seen.stdout
    assert " brought what all hosts serve, from another store;" in seen.stdout
    assert f"this one does not know it: {ann.plan.store.url}" in seen.stdout

    back = ann("rollback")

    assert (back.exit, back.last["outcome"]) == (0, "live"), back.stderr
    assert town.serves() == town.all_on("2")
    # Ann's had never named what Bob brought.
    assert strangers.manifests == ({"site": "2"}, {"site": "3"})
    assert ann.status.exit == 0
    assert ann("resume").exit == 0


def test_hosts_hold_what_the_store_of_the_caller_has_never_seen(
    town: Town, strangers: Strangers
) -> None:
    back = without_secrets(strangers.bob)("rollback")

    assert (back.exit, back.last["outcome"]) == (0, "live"), back.stderr
    assert town.serves() == town.all_on("2")
    assert strangers.manifests == ({"site": "2"}, {"site": "3"})
    third = town.release("3")
    stays = f"MANIFEST still names {third}: a host that boots gets it"
    assert stays in warnings(back)
    for host in town.all_on("2"):
        assert seen_by(town, host)["TOKEN"] == SECRET
    assert strangers.ann.status.exit == 0


def test_a_new_machine_without_anything_takes_the_fleet_back(
    town: Town, strangers: Strangers
) -> None:
    carol = town.moves_in("carol", secrets={})

    back = carol("rollback")

    assert (back.exit, back.last["outcome"]) == (0, "live"), back.stderr
    assert town.serves() == town.all_on("2")
    assert carol.manifest == {}
    assert strangers.manifests == ({"site": "2"}, {"site": "3"})
    again = carol("rollback")
    assert again.exit == 0, again.stderr
    assert town.serves() == town.all_on("1")


def test_nobody_goes_on_with_a_run_of_another_store(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob")
    ann.deploys("1")
    killed = dies_in_the_middle(town, ann)

    refused = bob("resume", "--wait", "30")

    assert (refused.exit, refused.stdout) == (2, "")
    assert f"run {killed} by ann has moved 2 hosts" in refused.stderr
    assert f"ghostasync resume {killed} --revert" in refused.stderr
    assert town.serves() == {"h1": "2", "h2": "2", "h3": "1"}
    assert f"run {killed} by ann" in bob.status.stdout


def test_anybody_takes_back_a_killed_run(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob")
    ann.deploys("1")
    killed = dies_in_the_middle(town, ann)

    back = bob("resume", killed, "--revert", "--wait", "30")

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    assert bob("resume").exit == 0


def test_a_run_that_was_taken_back_from_another_store_is_over(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob")
    ann.deploys("1")
    killed = dies_in_the_middle(town, ann)
    bob("resume", killed, "--revert", "--wait", "30")
    town.sample.fleet.path("h2", GATE).touch()

    assert_nothing_is_left(town, ann)


def test_a_killed_run_can_be_rolled_back_from_another_store(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", secrets={})
    ann.deploys("1")
    dies_in_the_middle(town, ann)

    back = bob("rollback", "--wait", "30")

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    assert ann.status.exit == 0
    resumed = ann("resume")
    assert (resumed.exit, resumed.stdout) == (0, "")
    assert "nothing is left to resume" in resumed.stderr


# --- A part of the fleet ----------------------------------------------------------


def assert_says_back(status: Outcome) -> None:
    """Check that no line takes hosts back without a word."""
    for line in status.stdout.splitlines():
        assert "converge" not in line or "back" in line


def advised(status: Outcome, words: str) -> str:
    """Return the only command that is advised with *words*."""
    (line,) = [line for line in status.stdout.splitlines() if words in line]
    return line[line.index("ghostasync ") :]


@pytest.mark.parametrize("hours", [3, -3])
def test_a_canary_can_go_both_ways(town: Town, hours: int) -> None:
    ann = town.moves_in("ann", hours=hours)
    bob = town.moves_in("bob", shares=ann)
    bob.deploys("1")
    ann.deploys("2", "--limit", "h1")
    assert (town.serves(), ann.manifest) == (
        {"h1": "2", "h2": "1", "h3": "1"},
        {"site": "1"},
    )
    status = ann.status
    assert status.exit == 6
    assert_says_back(status)
    assert "h1: moved by a later run than MANIFEST's" in status.stdout
    assert bob.status == status

    along = bob.types(advised(status, "take the others along"))

    assert along.exit == 0, along.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("2"), {"site": "2"})
    assert ann.status.exit == bob.status.exit == 0

    bob.deploys("3", "--limit", "h1")
    back = ann.types(advised(ann.status, "or take these back"))

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("2"), {"site": "2"})
    assert ann.status.exit == bob.status.exit == 0


def test_a_canary_of_another_store_goes_back_where_it_is_said(town: Town) -> None:
    ann = town.moves_in("ann", hours=-3)
    bob = town.moves_in("bob")
    ann.deploys("1")
    bob.deploys("2", "--limit", "h1")

    status = ann.status

    assert status.exit == 6
    assert_says_back(status)
    assert "brought what h1 serves, from another store;" in status.stdout
    assert bob.manifest == {}
    assert_says_back(bob.status)
    back = bob("rollback", "--limit", "h1")
    assert back.exit == 0, back.stderr
    assert town.serves() == town.all_on("1")
    assert ann.status.exit == 0
    assert ann("resume").exit == 0


def test_a_limit_that_leaves_nobody_out_is_none(town: Town) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1")

    ann.deploys("2", "--limit", "h*")

    assert (town.serves(), ann.manifest) == (town.all_on("2"), {"site": "2"})
    assert ann.status.exit == 0


# --- A module that came with the run ----------------------------------------------


@pytest.fixture
def second_module(sshd_fleet: StartFleet, tmp_path: Path) -> tuple[Town, Person]:
    """Version 1 of the site; then version 2, and the first one of an api."""
    town = Town(SampleApp.create(tmp_path, sshd_fleet(3), "site", "api"))
    ann = town.moves_in("ann")
    ann.deploys("1")
    ann.change(modules=(*ann.plan.modules, ann.sample.module("api")))
    ann.deploys("2")
    assert ann.manifest == {"site": "2", "api": "2"}
    return town, ann


def test_a_module_that_a_run_brought_stays_where_the_run_is_undone(
    second_module: tuple[Town, Person],
) -> None:
    town, ann = second_module

    back = ann("rollback")

    assert back.exit == 0, back.stderr
    assert town.serves("site") == town.all_on("1")
    assert town.serves("api") == town.all_on("2")
    assert ann.manifest == {"site": "1", "api": "2"}
    assert any(
        text.startswith(f"api: {town.release('2', 'api')} stays on h[1-3]: ")
        and "ghostasync rollback --remove takes its link away" in text
        for text in warnings(back)
    )
    assert ann.status.exit == 0


def test_a_module_that_a_run_brought_is_removed_where_that_is_said(
    second_module: tuple[Town, Person],
) -> None:
    town, ann = second_module

    back = ann("rollback", "--remove")

    assert back.exit == 0, back.stderr
    assert town.serves("site") == town.all_on("1")
    assert town.serves("api") == {}
    assert ann.manifest == {"site": "1"}
    for host in town.all_on("1"):
        assert not town.sample.link(host, "api")


def test_what_stays_can_be_removed_afterwards(
    second_module: tuple[Town, Person],
) -> None:
    town, ann = second_module
    back = ann("rollback")
    (text,) = [text for text in warnings(back) if text.startswith("api: ")]
    (command,) = [part for part in text.split("; ") if part.startswith("ghostasync")]

    removed = ann.types(command.partition(" takes ")[0])

    assert removed.exit == 0, removed.stderr
    assert town.serves("site") == town.all_on("1")
    assert town.serves("api") == {}
    assert ann.manifest == {"site": "1"}


# --- Hosts that were away ---------------------------------------------------------


def test_a_host_that_missed_a_release_is_where_the_others_go(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", shares=ann)
    ann.deploys("1")
    ann.deploys("2")
    bob.change(rollout=ONE_MAY_FAIL)
    town.sample.fleet.kill("h3")
    missed = bob.deploys("3")
    assert missed.last["outcome"] == "partial"
    town.sample.fleet.start("h3")
    assert town.serves() == {"h1": "3", "h2": "3", "h3": "2"}

    first = ann("rollback")

    assert first.exit == 0, first.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("2"), {"site": "2"})
    assert_nothing_is_left(town, bob)
    second = bob("rollback")
    assert second.exit == 0, second.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    assert_nothing_is_left(town, ann)


def test_a_dead_host_does_not_keep_the_others(town: Town) -> None:
    ann = town.moves_in("ann", hours=-3)
    ann.deploys("1")
    ann.deploys("2")
    town.sample.fleet.kill("h2")

    back = ann("rollback")

    assert back.exit == 3, back.stderr
    assert "h2" in back.stderr
    assert (town.serves(), ann.manifest) == (
        {"h1": "1", "h2": "2", "h3": "1"},
        {"site": "1"},
    )
    town.sample.fleet.start("h2")
    status = ann.status
    assert_says_back(status)
    late = ann("converge", "h2")
    assert late.exit == 0, late.stderr
    assert town.serves() == town.all_on("1")
    assert_nothing_is_left(town, ann)


@pytest.mark.parametrize(("dies", "at"), [("h3", "h2"), ("h1", "h1")])
def test_a_host_that_dies_in_the_middle_does_not_keep_the_others(
    town: Town, dies: str, at: str
) -> None:
    """Before its link has moved, and after, in the first wave."""
    ann = town.moves_in("ann")
    soon = Deadlines(connect=4, rollback=4)
    ann.change(rollout=Rollout(waves=(1,), deadlines=soon))
    waits = f'[ "$GHOST_HOST $GHOST_ACTION" != "{at} rollback" ] || {WAITS}'
    script(town, "post_deploy", waits)
    ann.deploys("1")
    ann.deploys("2")

    with ann.console.running("rollback", "--output", "json") as process:
        running = Running(process)
        running.until("Switched", at)
        town.sample.fleet.kill(dies)
        town.sample.fleet.path(at, GATE).touch()
        back = running.finish()

    assert back.exit == 3, back.stderr
    assert ann.manifest == {"site": "1"}
    others = {host: v for host, v in town.serves().items() if host != dies}
    assert others == {host: "1" for host in town.all_on("1") if host != dies}
    town.sample.fleet.start(dies)
    late = ann("converge", dies)
    assert late.exit == 0, late.stderr
    assert town.serves() == town.all_on("1")


def test_a_host_that_was_lost_and_comes_back_is_not_put_on_the_bad_release(
    town: Town,
) -> None:
    ann = town.moves_in("ann")
    soon = Deadlines(connect=4, rollback=60)
    ann.change(rollout=Rollout(deadlines=soon))
    waits = f'[ "$GHOST_HOST $GHOST_ACTION" != "h1 rollback" ] || {WAITS}'
    script(town, "post_deploy", waits)
    ann.deploys("1")
    ann.deploys("2")

    with ann.console.running("rollback", "--output", "json") as process:
        running = Running(process)
        running.until("Switched", "h1")
        town.sample.fleet.kill("h1")
        running.until("Failed", "h1")
        town.sample.fleet.start("h1")
        town.sample.fleet.path("h1", GATE).touch()
        back = running.finish()

    assert back.exit == 3, back.stderr
    assert town.serves() == town.all_on("1")
    assert ann.manifest == {"site": "1"}
    assert "once it answers converge takes it along" in back.stderr
    # Its post-deploy was cut off with the connection, and is run now.
    late = ann("converge", "h1")
    assert '"Activated"' in late.stdout
    assert_nothing_is_left(town, ann)


# --- Runs that did not go live ----------------------------------------------------


def test_a_deploy_that_was_taken_back_is_not_what_a_rollback_undoes(
    town: Town,
) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", shares=ann)
    ann.deploys("1")
    ann.deploys("2")
    script(town, "post_deploy", '[ "$GHOST_HOST" != h3 ] || exit 5')
    failed = ann.tries("3")
    assert (failed.exit, town.serves()) == (1, town.all_on("2"))

    back = bob("rollback")

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    assert_nothing_is_left(town, ann)


@pytest.mark.parametrize("hours", [3, -3])
def test_a_killed_deploy_is_what_a_rollback_undoes(town: Town, hours: int) -> None:
    ann = town.moves_in("ann", hours=hours)
    bob = town.moves_in("bob", shares=ann)
    ann.deploys("1")
    killed = dies_in_the_middle(town, ann)

    back = bob("rollback", "--wait", "30")

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    assert sorted(back.states) == ["h1", "h2"]
    for person in (ann, bob):
        assert_nothing_is_left(town, person)
    assert killed not in ann.status.stdout


def test_a_dry_rollback_says_where_each_host_would_go(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", shares=ann)
    ann.deploys("1")
    ann.deploys("2")
    run = bob.deploys("3", "--limit", "h1").last["run"]
    before = town.links, ann.manifest

    one, two, three = (town.release(version) for version in "123")
    newest = ann.read("rollback", "--dry-run")
    named = ann.read("rollback", run[:-1], "--dry-run")
    machine = as_json(ann("rollback", run, "--dry-run"))

    assert newest.exit == named.exit == 0
    assert f"undoes run {run}" in newest.stdout
    assert f"site: {three} -> {two}, on h1\n" in newest.stdout
    assert newest.stdout == named.stdout
    assert machine["to"] == {"h1": {"site": two}}
    all_back = ann.read("rollback", "--to", one, "--dry-run")
    assert f"{one}, on h[1-3]" in all_back.stdout
    assert (town.links, ann.manifest) == before


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"])
def test_a_person_at_a_terminal_is_shown_what_goes_back_and_asked(
    town: Town, answer: bytes
) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1")
    ann.deploys("2")
    before = town.links, ann.manifest

    exit_status, shown = on_a_terminal(ann.console, "rollback", types=answer)

    told = shown.decode()
    one, two = (town.release(version) for version in "12")
    assert exit_status == 1
    assert f"site: {two} -> {one}, on h[1-3]\r\n" in told
    assert f"  {two[-7:]}  ann  h[1-3]  it's" in told
    assert told.endswith("take 3 hosts back? [y/N] nothing was changed\r\n")
    assert (town.links, ann.manifest) == before

    exit_status, shown = on_a_terminal(ann.console, "rollback", types=b"y\n")
    assert exit_status == 0, shown.decode()
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})


@pytest.mark.parametrize(
    ("words", "types"),
    [
        ((), None),
        (("--yes",), b""),
        (("--to", "{one}"), b""),
        (("{run}",), b""),
        (("--output", "json"), b""),
    ],
    ids=["no terminal", "yes", "release", "run", "json"],
)
def test_whoever_is_no_person_or_knows_what_to_undo_is_not_asked(
    town: Town, words: tuple[str, ...], types: bytes | None
) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1")
    run = ann.deploys("2").last["run"]
    known = {"one": town.release("1"), "run": run}
    asked = [word.format(**known) for word in words]

    exit_status, shown = on_a_terminal(ann.console, "rollback", *asked, types=types)

    assert exit_status == 0, shown.decode()
    assert "[y/N]" not in shown.decode()
    assert town.serves() == town.all_on("1")


def test_a_dry_deploy_says_what_ships_and_what_goes_back(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", shares=ann)
    ann.deploys("1")
    ann.deploys("2", "--limit", "h2")
    town.commit("3")
    site = town.sample.repositories["site"]
    old, mid, new = (site.git("rev-parse", f"HEAD~{n}") for n in (2, 1, 0))
    before = town.links, ann.manifest
    records = [path.name for path in ann.sample.store.glob("runs/*")]

    ahead = bob.read("deploy", "--dry-run")
    back = bob("deploy", f"site@{old[:9]}", "--dry-run")
    meant = as_json(bob("deploy", f"site@{old[:9]}", "--dry-run", "--back"))
    real = bob("deploy", f"site@{old[:9]}")
    town.sample.fleet.kill("h3")
    dead = bob.read("deploy", "--dry-run")

    one, two = (town.release(version) for version in "12")
    assert ahead.exit == 0, ahead.stderr
    assert f"  h[1,3]: now {one}; to be sent\n" in ahead.stdout
    assert f"    ships 2 commits, {old[:7]}..{new[:7]}\n" in ahead.stdout
    assert f"  h2: now {two}; to be sent\n" in ahead.stdout
    assert f"    ships 1 commit, {mid[:7]}..{new[:7]}\n" in ahead.stdout
    assert (back.exit, back.stdout) == (real.exit, "") == (2, "")
    assert f"site: {old[:7]} is 1 commit older than {mid[:7]}, which h2" in back.stderr
    (between,) = meant["commits"]["site"]
    assert (between["ships"], between["back"]) == (0, 1)
    assert meant["hosts"]["h1"]["site"]["unchanged"]
    assert meant["hosts"]["h2"]["site"]["sends"] == 0
    assert dead.exit == 1
    assert "h3: 127.0.0.1:" in dead.stdout
    assert "1 of 3 hosts cannot take it, 0 may fail; nothing was changed" in dead.stdout
    assert (town.links, ann.manifest) == before
    assert len([*ann.sample.store.glob("runs/*")]) == len(records) + 1  # the real one


def test_the_beginning_of_an_id_names_a_run(town: Town) -> None:
    ann = town.moves_in("ann", hours=-3)
    bob = town.moves_in("bob", shares=ann)
    ann.deploys("1")
    second = ann.deploys("2").last["run"]
    bob.deploys("3")
    refused = bob("rollback", second[:4])
    assert (refused.exit, refused.stdout) == (2, "")
    assert f"3 runs begin with {second[:4]}" in refused.stderr

    back = bob("rollback", second[:-1])

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})


# --- Hosts that join --------------------------------------------------------------


def test_a_host_that_joined_later_goes_back_with_the_others(town: Town) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", shares=ann)
    everyone = ann.plan.hosts
    ann.change(hosts=everyone[:2])
    ann.deploys("1")
    ann.deploys("2")
    joined = bob("converge", "h3")
    assert (joined.exit, town.serves()) == (0, town.all_on("2"))

    back = bob("rollback")

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    assert_nothing_is_left(town, bob)


# --- A rollback that is killed ----------------------------------------------------


@pytest.mark.parametrize("hours", [3, -3])
def test_a_killed_rollback_is_finished(town: Town, hours: int) -> None:
    ann = town.moves_in("ann", hours=hours)
    bob = town.moves_in("bob", shares=ann)
    waits = f'[ "$GHOST_HOST $GHOST_ACTION" != "h2 rollback" ] || {WAITS}'
    script(town, "post_deploy", waits)
    ann.deploys("1")
    ann.deploys("2")
    killed = ann.dies("rollback", after="Switched", host="h2")
    assert ann.manifest == {"site": "1"}
    assert len(set(town.serves().values())) == 2
    town.sample.fleet.path("h2", GATE).touch()

    finished = bob("resume", "--wait", "30")

    assert (finished.exit, finished.last["outcome"]) == (0, "live"), finished.stderr
    assert finished.event("Started")["of"] == killed
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    for person in (ann, bob):
        assert_nothing_is_left(town, person)


# --- Secrets ----------------------------------------------------------------------


FIRST: Final = "the-first-one"
SECOND: Final = "the-second-one"
THIRD: Final = "the-third-one"


@pytest.mark.parametrize(
    ("exported", "options", "sees", "holds"),
    [
        ({"TOKEN": THIRD}, (), THIRD, True),
        ({}, (), SECOND, True),
        ({}, (), SECOND, False),
        ({}, ("--recorded-secrets",), FIRST, True),
        ({}, ("--recorded-secrets",), FIRST, False),
        ({"TOKEN": THIRD}, ("--recorded-secrets",), FIRST, True),
    ],
    ids=["callers", "hosts", "hosts-sent", "old", "old-sent", "old-all-the-same"],
)
def test_a_secret_that_was_changed_does_not_lock_out_the_old_release(
    town: Town,
    exported: dict[str, str],
    options: tuple[str, ...],
    sees: str,
    *,
    holds: bool,
) -> None:
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", shares=ann, secrets=exported)
    ann.variables(GREETING="hello, 1")
    ann.deploys("1", TOKEN=FIRST)
    ann.variables(GREETING="hello, 2")
    ann.deploys("2", TOKEN=SECOND)
    bob.variables(GREETING="hello, Bob")
    if not holds:  # h2 is sent the release, which runs its pre-deploy, too
        folder, first = town.sample.module_folder("h2", "site"), town.release("1")
        shutil.rmtree(folder / first)
        shutil.rmtree(folder / ".ghost" / first)

    back = bob("rollback", *options)

    assert back.exit == 0, back.stderr
    assert (town.serves(), ann.manifest) == (town.all_on("1"), {"site": "1"})
    for host in town.all_on("1"):
        seen = seen_by(town, host)
        assert (seen["GREETING"], seen["TOKEN"]) == ("hello, 1", sees)
        assert seen["GHOST_ACTION"] == "rollback"
    for secret in (FIRST, SECOND, THIRD):
        assert secret not in back.stdout + back.stderr
