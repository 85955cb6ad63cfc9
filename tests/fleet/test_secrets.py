"""Secrets of today and of yesterday: none is in what a run leaves or shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.fleet.conftest import StartFleet
from tests.fleet.people import Person, Town
from tests.fleet.sample_app import SCRIPTS, SampleApp

pytestmark = pytest.mark.fleet

OLD: Final = "the-secret-of-yesterday"
NEW: Final = "the-secret-of-today"
OTHER: Final = "the-secret-of-one-host"
PRINTS: Final = 'echo "mine: ${TOKEN-}${API_KEY-}" | tee /dev/stderr'


@pytest.fixture
def town(sshd_fleet: StartFleet, tmp_path: Path) -> Town:
    town = Town(SampleApp.create(tmp_path, sshd_fleet(2), "site"))
    prints(town, "")
    return town


def prints(town: Town, then: str) -> None:
    text = f"{PRINTS}\n{SCRIPTS['post_deploy']}\n{then}\n"
    town.sample.repositories["site"].script("post_deploy", text)


def renames(person: Person, *names: str) -> None:
    app = person.plan.app
    person.change(app=attrs.evolve(app, secrets=names))


def kept(person: Person) -> dict[Path, bytes]:
    """Return what runs have left here: journals, reports, logs of hosts and builds."""
    folder = Path(person.plan.store.url)
    files = [path for path in folder.rglob("runs/**/*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    return {path: path.read_bytes() for path in files}


def assert_nowhere(person: Person, *secrets: str, said: str = "") -> None:
    found = [
        (secret, path)
        for path, data in kept(person).items()
        for secret in secrets
        if secret.encode() in data
    ]
    assert not found
    assert not [secret for secret in secrets if secret in said]
    # Something was printed, and is masked.
    assert any(b"mine: ***" in data for data in kept(person).values())


def test_a_secret_that_was_renamed_is_one_still_on_the_way_back(town: Town) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1", TOKEN=OLD)
    renames(ann, "API_KEY")
    prints(town, "exit 1")

    failed = ann.tries("2", API_KEY=NEW)

    assert failed.exit == 1
    assert town.serves() == town.all_on("1")
    assert_nowhere(ann, OLD, NEW, said=failed.stdout + failed.stderr)
    # Its post-deploy ran again, and has seen what it had seen before.
    assert town.sample.environment("h1", "site", "post_deploy")["TOKEN"] == OLD


def test_a_secret_of_some_hosts_alone_is_known_when_they_go_back(town: Town) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1", TOKEN=OLD)
    ann.deploys("2", "--limit", "h1", TOKEN=OTHER)
    renames(ann, "API_KEY")
    prints(town, "exit 1")
    failed = ann.tries("3", API_KEY=NEW)
    assert failed.exit == 1
    assert town.serves() == {"h1": "2", "h2": "1"}

    prints(town, "")
    ann.deploys("4", API_KEY=NEW)
    back = ann("rollback", API_KEY=NEW)

    assert back.exit == 0, back.stderr
    said = back.stdout + back.stderr + failed.stdout + failed.stderr
    assert_nowhere(ann, OLD, OTHER, NEW, said=said)


def test_secrets_around_a_killed_run_are_known_to_the_run_that_takes_it_back(
    town: Town,
) -> None:
    ann = town.moves_in("ann", secrets={"TOKEN": OLD, "API_KEY": OTHER})
    ann.deploys("1")
    renames(ann, "API_KEY")
    town.commit("2")
    ann.dies("deploy", after="Activated", host="h1")

    back = ann("resume", "--revert", API_KEY=NEW)

    assert back.exit == 0, back.stderr
    assert town.serves() == town.all_on("1")
    assert_nowhere(ann, OLD, OTHER, NEW, said=back.stdout + back.stderr)


def test_what_of_an_environment_is_secret_is_kept_with_it(town: Town) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1", TOKEN=OLD)

    release = town.release("1")
    on_host = town.sample.module_folder("h1", "site") / ".ghost" / release
    in_store = Path(ann.plan.store.url) / "shop/prod/web/blue/environments"

    for path in (on_host / "environment", in_store / f"{release}.sh"):
        assert path.read_text().startswith("ghost_secrets='TOKEN'\n")
        assert path.stat().st_mode & 0o077 == 0


def test_a_commit_message_with_a_secret_in_it_shows_it_to_scripts_alone(
    town: Town,
) -> None:
    ann = town.moves_in("ann")
    ann.deploys("1", TOKEN=OLD)
    town.sample.repositories["site"].commit("2", message=f"rotate {OLD} away")

    shown = ann("deploy", "--dry-run", TOKEN=OLD)
    done = town.note("2", ann("deploy", "--reason", f"was {OLD}", TOKEN=OLD))
    told = [ann.read(word).stdout for word in ("history", "status")]

    assert done.exit == 0, done.stderr
    assert (
        f"rotate {OLD} away"
        in town.sample.environment("h1", "site", "post_deploy")[
            "GHOST_MODULE_COMMIT_MESSAGE"
        ]
    )
    assert "rotate *** away" in told[0]
    said = shown.stdout + shown.stderr + done.stdout + done.stderr + "".join(told)
    assert_nowhere(ann, OLD, said=said)
    records = town.sample.module_folder("h1", "site") / ".ghost/activations"
    texts = [path.read_text() for path in records.iterdir()]
    assert "rotate *** away" in "".join(texts)
    assert OLD not in "".join(texts)
    json.loads(done.stdout.splitlines()[-1])
