"""What ``check`` says of real hosts is what a deploy then says; it leaves nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from ghostasync import Layout, Rollout
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.layout import tools_but
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

CHECKED = "CHECKING: "


def scene(sample: SampleApp, **changes: object) -> Console:
    """Configure the sample app; however many hosts fail, all are asked."""
    console = Console(sample)
    hosts = len(sample.fleet.hosts)
    plan = sample.plan(rollout=Rollout(max_failures=hosts))
    console.configure(attrs.evolve(plan, **changes))  # type: ignore[arg-type]  # keys
    return console


def found(console: Console) -> dict[str, list[str]]:
    """Return what ``check`` finds on each host, warnings aside."""
    said: dict[str, list[str]] = {}
    for line in console("check", "--output", "json").events:
        if not line.get("warning", True):
            said.setdefault(line["host"], []).append(line["text"])
    return said


def failed(console: Console) -> dict[str, str]:
    """Deploy, and return why hosts have failed."""
    events = console.deploy().events
    return {e["host"]: e["reason"] for e in events if e["event"] == "Failed"}


def everything(sample: SampleApp) -> list[str]:
    """Return all that lies on hosts where ghostasync works."""
    hosts = sample.fleet.hosts
    return [sample.fleet.shell(host.name, "find /ghost /srv") for host in hosts]


def with_another_tmp(sample: SampleApp, host: str, options: str, then: str) -> None:
    """Give a host a /tmp of its own, in which its sshd still finds its files."""
    home = sample.fleet.path(host, "~").parents[1]
    back = f"mount --bind /media/{home.relative_to('/tmp')} {home}"
    sample.fleet.shell(
        host,
        f"mount --bind /tmp /media; mount -t tmpfs -o {options} none /tmp\n"
        f"mkdir -p {home}; {back}\n{then}",
    )


@pytest.fixture
def site(sshd_fleet: StartFleet, tmp_path: Path) -> SampleApp:
    return SampleApp.create(tmp_path, sshd_fleet(2), "site")


def test_what_a_host_lacks_is_told_as_a_deploy_tells_it(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    lacks = (("tar",), ("zstd", "gzip"), ())
    fleet = sshd_fleet(
        3, tools=[tools_but(*names) for names in lacks], user="ghostuser"
    )
    fleet.shell("h3", "chown 0:0 /ghost /srv")
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = scene(sample)
    before = everything(sample)

    said = found(console)

    assert everything(sample) == before
    assert said["h3"][0] == (
        "cannot use /ghost/shop/prod/web/blue: Permission denied; create it with "
        "`install -d -o ghostuser /ghost`, or set ssh.sudo"
    )
    reasons = failed(console)
    assert [reasons[host] for host in ("h1", "h2")] == said["h1"] + said["h2"]
    assert said["h3"][0] == reasons["h3"]
    assert "(for /srv/site): `chown ghostuser /srv`" in said["h3"][1]


def test_a_server_that_takes_one_command_at_a_time_is_found(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, options={"MaxSessions": "1"})
    console = scene(SampleApp.create(tmp_path, fleet, "site"))

    said, reasons = found(console), failed(console)

    assert said == {"h1": [reasons["h1"]]}
    assert reasons["h1"].endswith(
        "set MaxSessions in its sshd_config to 10, as it is by default"
    )


def test_a_script_that_cannot_be_started_is_found_and_keeps_a_deploy_from_hosts(
    site: SampleApp,
) -> None:
    repository = site.repositories["site"]
    repository.script("pre_deploy", "#!/opt/node -x\ntrue\n")
    repository.script("post_deploy", "#!/usr/bin/env -S nope -u\ntrue\n")
    repository.commit("2")
    console = scene(site)

    said = console("check")
    outcome = console.deploy()

    pre = (
        "pre_deploy of site cannot start: /opt/node, which its first line names, is "
        "not there: install it"
    )
    post = (
        "post_deploy of site cannot start: nope, which its first line names, is not on "
        "the PATH: install it, or set PATH"
    )
    assert (said.exit, said.stdout) == (1, f"h[1-2]: {pre}\nh[1-2]: {post}\n")
    failures = [e for e in outcome.events if e["event"] == "Failed"]
    assert {(e["stage"], e["reason"]) for e in failures} == {("UPLOADING", pre)}

    # A pre_deploy may bring what its post_deploy needs; it is said, and tried.
    repository.script("pre_deploy", "true\n")
    repository.commit("3")
    outcome = console.deploy()
    warned = [e["text"] for e in outcome.events if e["event"] == "HostWarned"]
    assert warned == [post, post]
    stages = {e["stage"] for e in outcome.events if e["event"] == "Failed"}
    assert stages == {"ACTIVATING"}


def test_a_release_that_brings_its_interpreter_is_no_finding(site: SampleApp) -> None:
    repository = site.repositories["site"]
    repository.script("post_deploy", "#!/srv/site/bin/sh\ntrue\n")
    (repository.path / "bin/sh").symlink_to("/bin/sh")
    repository.commit("2")
    console = scene(site)

    assert found(console) == {}
    assert console.deploy().exit == 0


def test_a_root_from_which_nothing_is_started_matters_to_scripts_with_interpreters(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, disks=[{"/ghost": "noexec"}])
    site = SampleApp.create(tmp_path, fleet, "site")
    console = scene(site)

    plain = console("check")
    assert (plain.exit, console.deploy().exit) == (0, 0)
    assert "h1: warning: /ghost is mounted noexec" in plain.stdout

    site.repositories["site"].script("post_deploy", "#!/bin/sh\ntrue\n")
    site.repositories["site"].commit("2")
    said, reasons = found(console), failed(console)

    assert said == {"h1": [reasons["h1"]]}
    assert reasons["h1"] == (
        "post_deploy of site cannot start: /ghost is mounted noexec: `mount -o "
        "remount,exec /ghost` there, or leave out its first line, and /bin/sh reads it"
    )
    assert set(site.serves("site").values()) != {""}


def test_a_disk_without_room_for_the_last_release_is_found(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    disks = [{"/ghost": "size=24m"}, {"/ghost": "size=64m,nr_inodes=60"}, {}]
    site = SampleApp.create(tmp_path, sshd_fleet(3, disks=disks), "site")
    (site.repositories["site"].path / "big").write_bytes(bytes(12 << 20))
    site.repositories["site"].commit("2")
    console = scene(site)
    assert found(console) == {}, "nobody knows how large it is"

    reasons = failed(console)
    said = found(console)

    # What is tried at the same moment takes an inode or two.
    assert said.keys() == reasons.keys() == {"h1", "h2"}
    for host, reason in reasons.items():
        assert [re.sub(r"\d+ inodes", "", text) for text in said[host]] == [
            re.sub(r"\d+ inodes", "", reason)
        ]
    assert (
        "/ghost has 23 MiB free, the release needs 28 MiB: make room" in reasons["h1"]
    )
    assert "inodes free, the release needs" in reasons["h2"]


def test_a_tmp_that_takes_nothing_is_a_warning_and_the_deploy_goes_well(
    site: SampleApp,
) -> None:
    with_another_tmp(site, "h1", "size=1m", "mount -o remount,ro /tmp")
    fill = "dd if=/dev/zero of=/tmp/full bs=65536 2>/dev/null || :"
    with_another_tmp(site, "h2", "size=1m", fill)
    console = scene(site)

    said = console("check")

    assert said.exit == 0, said.stdout
    words = "scripts and tools that need one would fail"
    for host, why in (
        ("h1", "Read-only file system"),
        ("h2", "No space left on device"),
    ):
        assert (
            f"{host}: warning: no temporary file can be made in /tmp: {why}: {words}\n"
            in said.stdout
        )
    assert console.deploy().exit == 0


@pytest.fixture
def closed_store(site: SampleApp) -> Iterator[Path]:
    """A store that nobody may write to, root included."""
    folder = site.folder / "store"
    folder.mkdir()
    options = ["-o", "ro,mode=755"]
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_store_that_takes_nothing_is_told_before_anything_is_built(
    site: SampleApp, closed_store: Path
) -> None:
    console = scene(site)

    looked, deployed = console("check"), console.deploy()

    text = (
        f"{closed_store}: Read-only file system; remount it writable or choose another "
        "store.url"
    )
    assert (looked.exit, looked.stdout) == (1, f"{text}\n")
    assert deployed.exit == 1
    assert text in deployed.stderr


def test_a_fleet_in_order_is_shown(site: SampleApp) -> None:
    console = scene(site, layout=Layout(root="/ghost"))
    before = everything(site)
    commit = site.repositories["site"].git("rev-parse", "--short=7", "HEAD")
    store = site.folder / "store"

    first = console("check")

    assert everything(site) == before
    assert first.exit == 0
    assert first.stdout.splitlines() == [
        "hosts   2: h[1-2]",
        "user    root on all hosts",
        "live    site  nothing on all hosts",
        f'deploy  site  main is {commit} "it\'s `id` "$(id)" \\"',
        "              to be built",
        f"store   {store}",
        "",
        "nothing stands in the way",
    ]
    release = console.deploy().last["releases"]["site"]
    again = console("check").stdout.splitlines()
    assert again[2] == f"live    site  {release} on all hosts"
    assert again[4].strip() == f"{release} again, unless the build differs"


def test_what_adopt_moves_aside_is_told(site: SampleApp) -> None:
    site.fleet.shell("h2", "mkdir /srv/site; echo old >/srv/site/index")
    console = scene(site, modules=(site.module("site", adopt=True),))

    told = "h2: /srv/site is a directory: it is moved aside (adopt)"
    for command in (("check",), ("deploy", "--dry-run")):
        looked = console(*command)
        assert looked.exit == 0, looked.stdout
        assert told in looked.stdout.replace("warning: ", "")
    assert console.deploy().exit == 0
    assert site.fleet.shell("h2", "cat /srv/.site.before-*/index") == "old\n"
