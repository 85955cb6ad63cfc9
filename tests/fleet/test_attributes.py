"""Capabilities, ACLs and attributes, on real hosts; and scripts that lead out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs
import pytest

from ghostasync import DeployFailed, DirectorySource, Module, Outcome, check, deploy
from ghostasync.errors import BuildError
from ghostasync.model import Plan, Script
from tests.fleet.conftest import StartFleet
from tests.fleet.layout import (
    POOR_TOOLS,
    RICH_TOOLS,
    USER,
    poor_tools,
    tools,
)
from tests.fleet.sample_app import SECRET, SampleApp
from tests.hostile_trees import CANARY, Private, leaked

pytestmark = [
    pytest.mark.fleet,
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(os.geteuid() != 0, reason="capabilities take root"),
]


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a file that has a capability, one with an ACL, a default ACL."""
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "version").write_text("1")
    (tree / "bin" / "ping").write_text("#!/bin/sh\n")
    (tree / "bin" / "ping").chmod(0o755)
    (tree / "private").write_text("for bob")
    (tree / "private").chmod(0o600)
    run("setcap", "cap_net_raw+ep", tree / "bin" / "ping")
    run("setfacl", "-m", "u:4242:rw", tree / "private")
    run("setfacl", "-dm", "g:4243:rx", tree / "bin")
    os.setxattr(tree / "version", "user.made by", b"me\n")
    return tree


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True)


def has(tree: Path) -> dict[str, dict[str, bytes]]:
    """Return what files and folders of a tree have, labels of the machine aside."""
    return {
        str(path.relative_to(tree)): found
        for path in tree.rglob("*")
        if (
            found := {
                name: os.getxattr(path, name)
                for name in os.listxattr(path)
                if name != "security.selinux"
            }
        )
    }


def plan_of(sample: SampleApp, tree: Path, **changes: object) -> Plan:
    module = Module("site", "/srv/site", DirectorySource(str(tree)))
    return sample.plan(attrs.evolve(module, **changes))  # type: ignore[arg-type]  # keys


def release(sample: SampleApp, host: str) -> Path:
    (name,) = {sample.link(host, "site").rpartition("/")[2]}
    return sample.module_folder(host, "site") / name


def hands_an_acl_down(sample: SampleApp, host: str) -> None:
    folder = sample.fleet.path(host, "/ghost")
    folder.mkdir(exist_ok=True)
    run("setfacl", "-dm", "u:4242:rwx,g:4243:rwx", folder)


async def test_what_is_kept_is_the_same_on_every_host(
    sshd_fleet: StartFleet, tmp_path: Path, tree: Path
) -> None:
    usual = tools({*POOR_TOOLS, *RICH_TOOLS})
    fleet = sshd_fleet(
        3,
        tools=[
            {**usual, **tools(["setfattr", "getfattr"])},
            usual,  # python3
            {**poor_tools(), **tools(["setfattr", "getfattr", "setfacl"])},
        ],
    )
    sample = SampleApp(tmp_path, fleet, {})
    for host in ("h1", "h2", "h3"):
        hands_an_acl_down(sample, host)
    plan = plan_of(sample, tree, attributes="keep")

    report = await deploy(plan)
    again = await deploy(plan)
    os.setxattr(tree / "version", "user.made by", b"you")
    changed = await deploy(plan)

    assert (report.outcome, again.outcome) == (Outcome.LIVE, Outcome.UNCHANGED)
    assert changed.outcome is Outcome.LIVE
    for host in ("h1", "h2", "h3"):
        assert has(release(sample, host)) == has(tree)
        mode = (release(sample, host) / "private").stat().st_mode
        assert mode == (tree / "private").stat().st_mode


async def test_without_being_kept_nobody_gets_more_on_a_host(
    sshd_fleet: StartFleet, tmp_path: Path, tree: Path
) -> None:
    sample = SampleApp(tmp_path, sshd_fleet(1), {})
    hands_an_acl_down(sample, "h1")

    report = await deploy(plan_of(sample, tree))

    assert report.outcome is Outcome.LIVE
    assert has(release(sample, "h1")) == {}
    mode = (release(sample, "h1") / "private").stat().st_mode
    assert mode & 0o777 == 0o600


async def test_a_host_that_cannot_set_attributes_is_found_in_checking(
    sshd_fleet: StartFleet, tmp_path: Path, tree: Path
) -> None:
    usual = tools({*POOR_TOOLS, *RICH_TOOLS} - {"python3"})
    sample = SampleApp(tmp_path, sshd_fleet(1, tools=[usual]), {})
    plan = plan_of(sample, tree, attributes="keep")

    found = [each.text for each in await check(plan) if each.host == "h1"]
    with pytest.raises(DeployFailed) as caught:
        await deploy(plan)

    text = "nothing here sets the attributes of site (modules.attributes): install "
    assert [each for each in found if each.startswith(text)]
    row = caught.value.report.hosts["h1"]
    assert (row.stage.name if row.stage else "", text in row.reason) == (
        "CHECKING",
        True,
    )
    assert sample.link("h1", "site") == ""


async def test_capabilities_without_root_fail_the_host_and_serve_nothing(
    sshd_fleet: StartFleet, tmp_path: Path, tree: Path
) -> None:
    sample = SampleApp(tmp_path, sshd_fleet(1, user=USER), {})

    with pytest.raises(DeployFailed) as caught:
        await deploy(plan_of(sample, tree, attributes="keep"))

    reason = caught.value.report.hosts["h1"].reason
    assert "attributes not set (capabilities take root): " in reason
    assert "Operation not permitted" in reason
    assert sample.link("h1", "site") == ""
    assert not list(sample.module_folder("h1", "site").glob("*_site_*"))


@pytest.mark.parametrize("key", ["buildpack", "pre_deploy", "post_deploy"])
async def test_a_script_that_is_a_link_to_a_private_file_is_never_sent(
    sshd_fleet: StartFleet, tmp_path: Path, key: str
) -> None:
    private = Private.make(tmp_path / "private")
    sample = SampleApp.create(tmp_path, sshd_fleet(1), "site")
    repository = sample.repositories["site"]
    (repository.path / "deploy" / key).unlink()
    (repository.path / "deploy" / key).symlink_to(private.path / "run")
    repository.commit("2")
    module = sample.module("site", **{key: Script(path=f"deploy/{key}")})

    with pytest.raises((DeployFailed, BuildError)) as caught:
        await deploy(sample.plan(module))

    assert f"{key}: deploy/{key} (in the tree): is a link that leads out" in str(
        caught.value
    )
    assert leaked(sample.fleet.path("h1", "/ghost"), sample.folder / "store") == []
    assert CANARY.decode() not in str(caught.value)
    assert sample.link("h1", "site") == ""
