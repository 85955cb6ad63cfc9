"""``check`` reads scripts as a deploy will; ``deploy`` warns of them and goes on."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ghostasync import App, DirectorySource, GitSource, Module, Plan, Script, check
from ghostasync.model import Layout, StoreSettings
from ghostasync.testing import InProcessFleet
from tests.cli.typed import config, ghostasync
from tests.fleet.sample_app import Repository

CURL = "set -e\ncurl https://example.com/x\n"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[InProcessFleet]:
    async with InProcessFleet(1, tmp_path / "hosts") as fleet:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/pre_deploy.sh").write_text(CURL)
        (tmp_path / "ghostasync.toml").write_text(config(tmp_path, fleet))
        yield fleet


async def texts(fleet: InProcessFleet, module: Module, base: Path) -> list[str]:
    """Return what ``check`` says of a module."""
    plan = Plan(
        app=App("shop", "test", "web"),
        modules=(module,),
        hosts=fleet.hosts,
        store=StoreSettings(str(base / "store")),
        ssh=fleet.ssh,
        layout=Layout(root="~/ghost"),
        base=base,
    )
    found = await check(plan)
    assert {(item.module, item.host, item.warning) for item in found} <= {
        ("site", "", False)
    }
    return [item.text for item in found]


async def test_check_names_the_lines_and_counts_them_as_findings(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    found = await ghostasync(tmp_path, "check")
    (tmp_path / "tree/pre_deploy.sh").write_text("# ghostasync: allow\ncurl x\n")
    clean = await ghostasync(tmp_path, "check")

    assert found.stdout.decode() == (
        "site: pre_deploy calls curl (line 2): hosts may have no network, and should "
        "all get the same package; where it is meant: # ghostasync: allow\n"
    )
    assert found.returncode == 1
    assert clean.stdout.endswith(b"\n\nnothing stands in the way\n")
    assert clean.returncode == 0


async def test_deploy_warns_once_for_each_script_and_goes_on(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    path = tmp_path / "ghostasync.toml"
    script = 'post_deploy = { inline = "true || npm ci\\ntrue || wget x" }\n'
    path.write_text(path.read_text() + script)
    (tmp_path / "tree/pre_deploy.sh").write_text("false && curl x || true\n")

    deployed = await ghostasync(tmp_path, "deploy", "--output", "json")
    *events, last = map(json.loads, deployed.stdout.splitlines())
    package = last["releases"]["site"]
    again = await ghostasync(tmp_path, "deploy", "--package", package, "--force",
                             "--output", "json")  # fmt: skip

    warned = [event["text"] for event in events if event["event"] == "Warned"]
    assert deployed.returncode == again.returncode == 0
    assert [text.partition(": hosts")[0] for text in warned] == [
        "site: pre_deploy calls curl (line 1)",
        "site: post_deploy calls npm ci (line 1), wget (line 2)",
    ]
    assert b"Warned" not in again.stdout


@pytest.mark.parametrize(
    "key",
    ["buildpack", "pre_deploy", "before_switch", "post_deploy", "after_all_deploy"],
)
async def test_a_script_that_cannot_work_is_told_before_a_host_has_anything(
    tmp_path: Path, fleet: InProcessFleet, key: str
) -> None:
    path = tmp_path / "ghostasync.toml"
    path.write_text(
        config(tmp_path, fleet).partition("pre_deploy")[0] + f'{key} = "s"\n'
    )
    (tmp_path / "tree/s").write_bytes(b"#!/bin/sh\r\nset -eu\r\ntouch ~/ran\r\n")

    found = await ghostasync(tmp_path, "check")
    deployed = await ghostasync(tmp_path, "deploy", "--output", "json")

    why = f"site: {key}: s: line 1 ends in CR LF, "
    assert found.stdout.decode().startswith(why)
    # Hosts are not asked about what is known to fail.
    assert "cannot start" not in found.stdout.decode()
    assert found.returncode == deployed.returncode == 1
    events = list(map(json.loads, deployed.stdout.splitlines()))
    (failed,) = (event for event in events if event["event"] == "BuildFailed")
    assert failed["reason"].startswith(why)
    assert not {"Packaged", "Uploaded"} & {event["event"] for event in events}


async def test_scripts_of_a_git_source_are_read_at_the_revision(
    tmp_path: Path, fleet: InProcessFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = Repository(tmp_path / "repository")
    old = repository.git("rev-parse", "HEAD")
    repository.script("post_deploy", "#!/bin/bash\ngit pull\n")
    repository.commit("2")
    pre, post = (
        Script(path="deploy/pre_deploy"),
        Script(path="deploy/post_deploy"),
    )

    def module(rev: str) -> Module:
        source = GitSource(str(repository.path), rev)
        return Module("site", "~/site", source, pre_deploy=pre, post_deploy=post)

    (said,) = await texts(fleet, module("main"), tmp_path)
    assert said.startswith("post_deploy calls git pull (line 2): ")
    assert await texts(fleet, module(old), tmp_path) == []


async def test_a_script_that_is_nowhere_is_found_unless_the_buildpack_may_make_it(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    source = DirectorySource("tree")
    missing = Module("site", "~/site", source, pre_deploy=Script(path="made"))
    built = Module(
        "site",
        "~/site",
        source,
        buildpack=Script(inline="echo true >made; pip install x"),
        pre_deploy=Script(path="made"),
        post_deploy=Script(file="beside"),
    )

    (tmp_path / "beside").write_text("wget x\n")
    assert await texts(fleet, missing, tmp_path) == [
        "pre_deploy: made: No such file or directory"
    ]
    assert [
        text.partition(" (")[0] for text in await texts(fleet, built, tmp_path)
    ] == [
        "buildpack calls pip install",
        "post_deploy calls wget",
    ]


async def test_a_source_that_cannot_be_fetched_is_a_finding(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    os.mkfifo(tmp_path / "tree/pipe")
    module = Module(
        "site", "~/site", DirectorySource("tree"), pre_deploy=Script(path="x")
    )

    (said,) = await texts(fleet, module, tmp_path)
    assert "pipe" in said
