"""Disks that are full, of bytes or of inodes, fill up meanwhile, or are read-only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ghostasync import Rollout
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console, Outcome
from tests.fleet.sample_app import SCRIPTS, SampleApp

pytestmark = pytest.mark.fleet

MIB = 1 << 20
FULL = "No space left on device"


def takes_all_bytes(path: str) -> str:
    """Return a command that leaves no byte of a disk free."""
    whole = f"dd if=/dev/zero of={path} bs=65536"
    rest = f"dd if=/dev/zero of={path} bs=1 count=65536 oflag=append conv=notrunc"
    return f"{whole} 2>/dev/null || {rest} 2>/dev/null || :"


def takes_all_inodes(path: str) -> str:
    """Return a command that leaves no inode of a disk free."""
    more = f"while true >{path}/$i; do i=$((i + 1)); done"
    return f"mkdir {path}; i=0; {more} 2>/dev/null"


def on_hosts(**lines: str) -> str:
    """Return a script that does another line on each host."""
    cases = "".join(f"{host}) {line} ;;\n" for host, line in lines.items())
    return f'case "$GHOST_HOST" in\n{cases}esac\n'


def live(fleet_world: SampleApp) -> tuple[Console, str]:
    """Deploy version 1 everywhere; afterwards each host fails for itself."""
    console = Console(fleet_world)
    hosts = len(fleet_world.fleet.hosts)
    console.configure(fleet_world.plan(rollout=Rollout(max_failures=hosts)))
    first = console.deploy()
    assert (first.exit, first.stderr) == (0, "")
    return console, first.last["releases"]["site"]


def reasons(outcome: Outcome) -> dict[str, str]:
    return {
        event["host"]: f"{event['stage']}: {event['reason']}"
        for event in outcome.events
        if event["event"] == "Failed"
    }


def assert_nothing_lost(sample: SampleApp, old: str, *hosts: str) -> None:
    for host in hosts:
        assert sample.serves("site")[host] == old
        assert sample.read(host, "site", "version") == b"1"
        assert sample.leftovers(host, "site") == set(), host


def assert_recovers(sample: SampleApp, console: Console) -> None:
    """Check that the next deploy works, once there is room again."""
    for host in sample.fleet.hosts:
        sample.fleet.shell(host.name, "rm -rf /ghost/full /srv/full")
    for key, text in SCRIPTS.items():
        sample.repositories["site"].script(key, text)
    sample.repositories["site"].commit("3")
    outcome = console.deploy()
    assert (outcome.exit, reasons(outcome)) == (0, {})


def test_a_disk_without_room_is_found_before_a_byte_is_sent(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    disks = [
        {"/ghost": "size=24m"},
        {"/ghost": "size=64m,nr_inodes=110"},
        {"/ghost": "size=24m"},
        {"/ghost": "size=64m,nr_inodes=400"},
        {"/ghost": "size=24m"},
        {},
    ]
    sample = SampleApp.create(tmp_path, sshd_fleet(len(disks), disks=disks), "site")
    console, old = live(sample)
    for host in ("h3", "h4"):  # which have not been locked before
        sample.fleet.shell(host, "rm -f /ghost/shop/prod/web/blue/.ghost/*")
    sample.fleet.shell("h3", takes_all_bytes("/ghost/full"))
    sample.fleet.shell("h4", takes_all_inodes("/ghost/full"))
    sample.fleet.shell("h5", takes_all_bytes("/ghost/full"))
    # No compressor makes it smaller.
    (sample.repositories["site"].path / "big").write_bytes(os.urandom(12 * MIB))
    sample.repositories["site"].commit("2")

    outcome = console.deploy()

    said = reasons(outcome)
    assert "/ghost has 23 MiB free, the release needs 28 MiB" in said["h1"]
    assert "inodes free, the release needs" in said["h2"]
    assert "no room on /ghost/shop/prod/web/blue" in said["h3"]
    assert "no room on /ghost/shop/prod/web/blue" in said["h4"]
    assert "/ghost has 0 MiB free, the release needs 28 MiB" in said["h5"]
    assert all("\n" not in reason for reason in said.values())
    assert outcome.last["nbytes"] == outcome.event("Uploaded")["nbytes"]
    assert outcome.event("Uploaded")["host"] == "h6"
    assert_nothing_lost(sample, old, "h1", "h2", "h3", "h4", "h5")


def test_a_disk_that_fills_up_meanwhile_says_so_and_loses_nothing(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    disks = [
        {"/ghost": "size=40m"},
        {"/ghost": "size=40m"},
        {"/ghost": "size=40m,nr_inodes=400"},
        {"/srv": "nr_inodes=50"},
        {"/ghost": "size=40m", "/srv": "size=1m,nr_inodes=50"},
        {"/ghost": "size=40m"},
        {},
    ]
    sample = SampleApp.create(tmp_path, sshd_fleet(len(disks), disks=disks), "site")
    console, old = live(sample)
    wrap(sample, "h1", "tar", takes_all_bytes("/ghost/full"))
    # The first cat after the second release has arrived is that of its environment.
    two = "set -- /ghost/shop/prod/web/blue/site/*_site_*; [ $# -lt 2 ]"
    wrap(sample, "h6", "cat", f"( {two} || {{ {takes_all_bytes('/ghost/full')}; }} )")
    site = sample.repositories["site"]
    pre_deploy = on_hosts(
        h2=takes_all_bytes("/ghost/full"),
        h3=takes_all_inodes("/ghost/full"),
        h4=takes_all_inodes("/srv/full"),
    )
    site.script("pre_deploy", SCRIPTS["pre_deploy"] + pre_deploy)
    fills = f"{takes_all_bytes('/ghost/full')}; {takes_all_bytes('/srv/full')}"
    fails = f'[ "$GHOST_ACTION" != deploy ] || {{ {fills}; exit 5; }}'
    site.script("post_deploy", on_hosts(h5=fails))
    site.commit("2")

    outcome = console.deploy()

    said = reasons(outcome)
    assert sorted(said) == ["h1", "h2", "h3", "h4", "h5", "h6"]
    assert said["h1"].startswith("UPLOADING: ")
    assert said["h2"].startswith("PREPARING: ")
    assert said["h3"].startswith("PREPARING: ")
    assert said["h4"].startswith("SWITCHING: ")
    assert said["h6"].startswith("UPLOADING: environment ")
    assert [host for host in said if FULL not in said[host]] == ["h5"], said
    assert (outcome.states["h4"], outcome.states["h5"]) == ("ROLLED_BACK",) * 2
    assert outcome.states["h7"] == "LIVE"
    for host in ("h4", "h5"):
        sample.fleet.shell(host, "rm -r /srv/full")
    assert_nothing_lost(sample, old, "h1", "h2", "h3", "h4", "h5", "h6")
    wrap(sample, "h1", "tar", "")
    wrap(sample, "h6", "cat", "")
    assert_recovers(sample, console)


@pytest.mark.parametrize("user", ["root", "ghostuser"])
def test_a_read_only_disk_is_found_in_checking(
    user: str, sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(2, disks=[{"/ghost": "ro"}, {"/srv": "ro"}], user=user)
    console = Console(SampleApp.create(tmp_path, fleet, "site"))
    console.configure(console.sample.plan(rollout=Rollout(max_failures=1)))

    outcome = console.deploy()

    said = reasons(outcome)
    assert outcome.exit == 1
    assert said["h1"].startswith("CHECKING: ")
    assert "Read-only file system" in said["h1"]
    assert "may not write to /srv" in said["h2"]


def wrap(sample: SampleApp, host: str, tool: str, line: str) -> None:
    """Have a host's login shell find a tool that does *line* first."""
    folder = sample.fleet.path(host, "~/bin")
    folder.mkdir(exist_ok=True)
    wrapper = folder / tool
    wrapper.write_text(f'#!/bin/sh\n{line}\nexec /bin/{tool} "$@"\n')
    wrapper.chmod(0o755)
    sample.fleet.path(host, "~/.bashrc").write_text('PATH="$HOME/bin:$PATH"\n')


def test_a_target_disk_without_inodes_does_not_stop_the_way_back(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    disks = [{"/srv": "nr_inodes=50"}]
    sample = SampleApp.create(tmp_path, sshd_fleet(1, disks=disks), "site")
    console, old = live(sample)
    fails = f"{takes_all_inodes('/srv/full')}; exit 5"
    text = f'[ "$GHOST_ACTION" != deploy ] || {{ {fails}; }}\n'
    sample.repositories["site"].script("post_deploy", text)
    sample.repositories["site"].commit("2")

    outcome = console.deploy()

    assert outcome.states == {"h1": "ROLLED_BACK"}
    sample.fleet.shell("h1", "rm -r /srv/full")
    assert_nothing_lost(sample, old, "h1")
