"""
The table of two controllers on real hosts: Ann's clock is three hours ahead.

Half of it, each state once; all of it with ``GHOSTASYNC_WHOLE_TABLE=1``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.fleet.clock import library
from tests.fleet.conftest import StartFleet, need
from tests.fleet.locked import until
from tests.fleet.people import Person, Town
from tests.fleet.sample_app import SampleApp
from tests.two_controllers import TABLE

pytestmark = pytest.mark.fleet

WAITS: Final = '[ "$GHOST_HOST" != h1 ] || until [ -e /srv/gate ]; do sleep 0.1; done'
HALF: Final = (
    ("killed", "own stores"),
    ("live", "one store"),
    ("rolled back", "own stores"),
    ("overtaken", "one store"),
)
SCENES: Final = TABLE if os.environ.get("GHOSTASYNC_WHOLE_TABLE") else HALF
READ: Final = ("status", "rollback --dry-run")


@attrs.frozen
class Scene:
    """A fleet with what people and hosts had before a command, to be had again."""

    town: Town
    people: tuple[Person, Person]

    @property
    def places(self) -> Iterator[tuple[Path, Path]]:
        """Folders, and where a copy of each is."""
        fleet, folder = self.town.sample.fleet, self.town.sample.folder
        for host in fleet.hosts:
            for path in ("/ghost", "/srv"):
                kept = folder / "kept" / host.name
                yield fleet.path(host.name, path), kept / path[1:]
        for person in self.people:
            home = folder / person.name
            yield home, folder / "kept" / person.name

    def keep(self) -> None:
        for there, kept in self.places:
            kept.mkdir(parents=True)
            subprocess.run(["cp", "-a", f"{there}/.", kept], check=True)

    def restore(self) -> None:
        for there, kept in self.places:
            # The folders of hosts are mounts: what is in them is replaced.
            for path in there.iterdir():
                is_folder = path.is_dir() and not path.is_symlink()
                (shutil.rmtree if is_folder else Path.unlink)(path)
            subprocess.run(["cp", "-a", f"{kept}/.", there], check=True)


def comes_to(town: Town, state: str, ann: Person, bob: Person) -> None:
    ann.deploys("1")
    ann.deploys("2")
    if state in {"killed", "overtaken"}:
        script = town.sample.repositories["site"].script
        script("post_deploy", WAITS)
        town.commit("3")
        ann.dies("deploy", after="Switched", host="h1")
        script("post_deploy", "true")
        town.sample.fleet.path("h1", "/srv/gate").touch()
        # Its lock goes once its script has ended.
        until(lambda: "was killed" in ann.status.stdout)
    else:
        ann.deploys("3")
    if state == "rolled back":
        assert ann("rollback").exit == 0
    if state == "overtaken":
        bob.deploys("4", "--wait", "30")


def serves(town: Town) -> str:
    return "".join(town.serves().values())


@pytest.mark.parametrize(("state", "stores"), SCENES)
def test_every_command_does_what_it_says(
    sshd_fleet: StartFleet, tmp_path: Path, state: str, stores: str
) -> None:
    need(library() is not None, "needs libfaketime")
    town = Town(SampleApp.create(tmp_path, sshd_fleet(3), "site"))
    ann = town.moves_in("ann", hours=3)
    bob = town.moves_in("bob", shares=ann if stores == "one store" else None)
    comes_to(town, state, ann, bob)
    scene = Scene(town, (ann, bob))
    scene.keep()
    for command, lines in TABLE[state, stores].items():
        for person, line in zip((ann, bob), (lines[0], lines[-1]), strict=True):
            words = command.split()
            if command == "deploy":
                person.town.commit(line[1][0])
            if command in READ:
                outcome = person.read(*words)
            else:
                outcome = town.note(line[1][0], person(*words, "--wait", "30"))

            said = outcome.stdout + outcome.stderr
            manifest = "/".join(p.manifest.get("site", "-") for p in (ann, bob))
            for package, version in town.versions.items():
                said = said.replace(package, version)
            got = (outcome.exit, serves(town), manifest)
            assert got == line[:3], (command, person.name, said)
            for part in line[3].split("RUN"):
                assert part in said, (command, person.name, said)
            if command not in READ:
                scene.restore()
