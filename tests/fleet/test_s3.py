"""S3, a real server of it: people who share nothing else, and what others built."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest

from ghostasync import S3Source, StoreSettings
from tests.fleet.conftest import StartFleet
from tests.fleet.people import Person, Town
from tests.fleet.processes import descendants, send
from tests.fleet.running import Running
from tests.fleet.sample_app import SECRET, SampleApp
from tests.s3_servers import BUCKET, VERSIONED, S3Server, apart, make_bucket, versioned

pytestmark = pytest.mark.fleet

T = TypeVar("T")


@pytest.fixture(params=["ministack_server", "swift_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    apart(make_bucket(found))
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


def uploads(town: Town, server: S3Server, key: str) -> str:
    """Write an archive of the newest commit, as a CI would; return its version."""
    command = ["git", "archive", "--format=tar.gz", "HEAD"]
    path = town.sample.repositories["site"].path
    data = subprocess.run(command, cwd=path, check=True, capture_output=True).stdout

    async def put() -> str:
        async with versioned(server) as (s3, bucket):
            answer = await s3.put_object(Bucket=bucket, Key=key, Body=data)
        return str(answer["VersionId"])

    return apart(put())


def test_an_archive_that_others_have_built_is_deployed_by_its_versions(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    town = Town(SampleApp.create(tmp_path, sshd_fleet(3), "site"))
    key = f"{secrets.token_hex(4)}/site.tar.gz"
    url = f"s3://{VERSIONED}/{key}"
    store = attrs.evolve(server.settings, url=str(tmp_path / "store"))
    ann = moves_in(town, server, store, "ann")
    ann.module(source=S3Source(url))
    apart(make_bucket(server, VERSIONED))

    missing = ann.read("deploy")
    town.commit("1")
    first = uploads(town, server, key)
    checked = ann("check")
    town.note("1", ann("deploy"))
    same = ann("deploy")
    town.commit("2")
    second = uploads(town, server, key)
    coming = ann.read("deploy", "--dry-run")
    town.note("2", ann("deploy"))
    newest = town.serves()
    seen = town.sample.environment("h2", "site", "post_deploy")
    again = town.note("1", ann("deploy", f"site@{first}"))

    assert missing.exit == 2
    assert missing.stdout == ""
    assert f"s3://{VERSIONED} has no object at or below '{key}'" in missing.stderr
    assert checked.exit == 0, checked.stdout
    assert same.last["outcome"] == "unchanged"
    assert second[:20] in coming.stdout
    assert newest == town.all_on("2")
    assert seen["GHOST_MODULE_REPO"] == url
    assert seen["GHOST_MODULE_REV"] == second
    assert len(seen["GHOST_MODULE_COMMIT"]) == 40
    assert seen["GHOST_MODULE_COMMIT_MESSAGE"].startswith("site.tar.gz, ")
    assert again.exit == 0, again.stderr
    assert f"version {first}" in ann("history").events[0]["subjects"]["site"]
    assert town.serves() == town.all_on("1")
    assert ann("deploy", "site@none").exit == 2
    assert ann("rollback").exit == 0
    assert town.serves() == town.all_on("2")


# In Swift others wait a minute for the turn of one who sleeps (test_s3_writes.py).
@pytest.mark.parametrize("server", ["ministack_server"], indirect=True)
def test_a_controller_that_slept_for_an_hour_before_its_first_switch_moves_nothing(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server, settings: StoreSettings
) -> None:
    """Its checks are an hour old; another has released meanwhile, and is gone."""
    town = Town(SampleApp.create(tmp_path, sshd_fleet(2), "site"))
    fleet, site = town.sample.fleet, town.sample.repositories["site"]
    ann = moves_in(town, server, settings, "ann")
    bob = moves_in(town, server, settings, "bob")
    ann.deploys("1")
    gate = "until [ -e /ghost/gate ]; do sleep 0.1; done\n"
    old = (site.path / "deploy/pre_deploy").read_text()
    site.script("pre_deploy", f'{old}[ "$GHOST_MODULE_USER" = bob ] || {gate}')
    town.commit("2")
    with ann.console.running("deploy", "--output", "json") as process:
        running = Running(process)
        for host in ("h1", "h2"):
            running.until("Uploaded", host)
        for pid in (process.pid, *descendants(process.pid)):
            send(pid, signal.SIGSTOP)
        for host in ("h1", "h2"):
            beat = fleet.path(host, "/ghost/shop/prod/web/blue/.ghost/beat")
            beat.write_text(f"{int(time.time()) - 3600}\n")
        released = bob.deploys("3")
        for pid in (process.pid, *descendants(process.pid)):
            send(pid, signal.SIGCONT)
        for host in ("h1", "h2"):
            fleet.path(host, "/ghost/gate").touch()
        woken = running.finish(60)

    assert woken.exit == 4, woken.stderr
    assert town.serves() == town.all_on("3")
    expected = as_json(bob, "status")["expected"]
    assert expected == {"site": released.last["releases"]["site"]}
    assert bob.status.exit == 0, bob.status.stdout
