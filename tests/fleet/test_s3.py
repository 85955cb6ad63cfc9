"""A store in S3, a real server of it, and people who share nothing else."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest

from ghostasync.model import StoreSettings
from tests.fleet.conftest import StartFleet
from tests.fleet.people import Person, Town
from tests.fleet.sample_app import SECRET, SampleApp
from tests.s3_servers import BUCKET, S3Server, make_bucket

pytestmark = pytest.mark.fleet


@pytest.fixture(params=["ministack_server", "swift_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    thread = threading.Thread(target=lambda: asyncio.run(make_bucket(found)))
    thread.start()
    thread.join()
    return found


@pytest.fixture
def settings(server: S3Server) -> StoreSettings:
    url = f"s3://{BUCKET}/{secrets.token_hex(4)}"
    return attrs.evolve(server.settings, url=url)


def moves_in(
    town: Town, server: S3Server, settings: StoreSettings, name: str
) -> Person:
    person = town.moves_in(name, secrets={"TOKEN": SECRET, **server.environ})
    person.change(store=settings)
    return person


def as_json(person: Person, *args: str) -> Any:
    outcome = person(*args)
    assert outcome.exit == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_a_machine_that_has_never_deployed_has_the_configuration_and_all_it_needs(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server, settings: StoreSettings
) -> None:
    town = Town(SampleApp.create(tmp_path, sshd_fleet(12), "site"))
    ann = moves_in(town, server, settings, "ann")
    for version in ("1", "2", "3"):
        ann.deploys(version)
    bob = moves_in(town, server, settings, "bob")

    status = bob.status
    assert status.exit == 0, status.stdout
    assert "unfinished" not in status.stdout
    told = bob("history")
    assert [row["actor"] for row in told.events] == ["ann"] * 3
    assert "post" in bob.read("logs", "--script", "post_deploy").stdout

    again = bob("deploy", "--package", town.release("2"), "--reason", "once more")
    assert again.exit == 0, again.stderr
    assert town.serves() == town.all_on("2")
    for version in ("3", "2", "1"):
        back = bob("rollback")
        assert back.exit == 0, back.stderr
        assert town.serves() == town.all_on(version)

    cleo = moves_in(town, server, settings, "cleo")
    expected = as_json(cleo, "status")["expected"]
    assert expected == {"site": town.release("1")}
    assert cleo("history", "--verify").exit == 0


def test_a_run_that_was_killed_is_resumed_from_another_machine(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server, settings: StoreSettings
) -> None:
    town = Town(SampleApp.create(tmp_path, sshd_fleet(3), "site"))
    ann = moves_in(town, server, settings, "ann")
    ann.deploys("1")
    gate = '[ "$GHOST_HOST" != h2 ] || until [ -e /ghost/gate ]; do sleep 0.1; done'
    site = town.sample.repositories["site"]
    site.script("post_deploy", f"#!/bin/sh\n{gate}\n")
    town.commit("2")
    run = ann.dies("deploy", after="Switched", host="h2")
    town.sample.fleet.path("h2", "/ghost/gate").touch()
    bob = moves_in(town, server, settings, "bob")

    status = bob.status
    assert status.exit == 6
    assert run in status.stdout
    resumed = bob("resume")

    assert resumed.exit == 0, resumed.stderr
    assert town.serves() == town.all_on("2")
    assert bob.status.exit == 0
