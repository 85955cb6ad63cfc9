"""Folders on hosts that others could change, while root works there."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import Layout, Plan, Rollout, Ssh
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

APP = "/ghost/shop/prod/web/blue"
REPLACE = "others could replace what runs here: "


def console_of(sample: SampleApp, ssh: Ssh | None = None) -> Console:
    console = Console(sample)
    plan = sample.plan(rollout=Rollout(max_failures=len(sample.fleet.hosts)))
    console.configure(attrs.evolve(plan, ssh=ssh or plan.ssh))
    return console


def failures(console: Console) -> dict[str, str]:
    events = console.deploy().events
    failed = [event for event in events if event["event"] == "Failed"]
    return {event["host"]: f"{event['stage']}: {event['reason']}" for event in failed}


def test_root_works_in_no_folder_that_another_user_may_change(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(6)
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = console_of(sample)
    mine = f"mkdir -p {APP}/.ghost; echo mine >{APP}/.ghost/holder"
    for host, command in {
        "h1": "chown nobody /ghost",
        "h2": f"{mine}; chown -R nobody /ghost/shop",
        "h3": "chown nobody /srv",
        "h4": "chmod 1777 /srv",
        "h5": f"mkdir -p {APP} /ghost/other; ln -s /ghost/other {APP}/.ghost;"
        f" chown -h nobody {APP}/.ghost",
    }.items():
        fleet.shell(host, command)

    checked = console("check").stdout
    said = failures(console)

    assert sorted(said) == ["h1", "h2", "h3", "h4", "h5"]
    trusted = 'or layout.trusted = ["nobody"]'
    assert said["h1"] == (
        f"CHECKING: {REPLACE}/ghost belongs to nobody: `chown root /ghost`, {trusted}"
    )
    assert said["h2"].startswith(f"CHECKING: {REPLACE}/ghost/shop belongs to nobody")
    assert said["h3"].startswith(f"CHECKING: {REPLACE}/srv belongs to nobody: `chown")
    assert said["h4"] == (
        f"CHECKING: {REPLACE}/srv lets everybody make names: `chmod o-w /srv`, or use "
        "a folder of its own"
    )
    assert f"{APP}/.ghost belongs to nobody" in said["h5"]
    # check says the same, of every host, and nothing was changed where it is not ours.
    for host, reason in said.items():
        assert f"{host}: {reason.removeprefix('CHECKING: ')}\n" in checked
    assert fleet.shell("h1", "ls -A /ghost") == ""
    assert fleet.shell("h2", f"find {APP} -type f | xargs cat") == "mine\n"
    assert fleet.shell("h5", "ls -A /ghost/other") == ""

    fleet.shell("h1", "chown root /ghost")
    fleet.shell("h2", "chown -R root /ghost; rm -r /ghost/shop")
    fleet.shell("h4", "chmod 755 /srv")
    fleet.shell("h5", f"rm {APP}/.ghost")
    console.configure(attrs.evolve(sample.plan(), layout=Layout(trusted=("nobody",))))
    assert console.deploy().exit == 0
    assert fleet.shell("h1", f"stat -c '%U %a' {APP}/.ghost") == "root 700\n"


def test_a_way_back_is_refused_as_well(sshd_fleet: StartFleet, tmp_path: Path) -> None:
    """What lies in the place of a release by now could be anybody's."""
    fleet = sshd_fleet(2)
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = console_of(sample)
    sample.repositories["site"].script("post_deploy", "id -un >>/srv/ran")
    for version in ("1", "2"):
        sample.repositories["site"].commit(version)
        assert console.deploy().exit == 0
    before = sample.serves("site")
    fleet.shell("h1", "chown nobody /ghost/shop; rm /srv/ran")

    back = console("rollback", "--output", "json")

    reasons = [e["reason"] for e in back.events if e["event"] == "Failed"]
    assert len(reasons) == 1
    assert "/ghost/shop belongs to nobody" in reasons[0]
    assert sample.serves("site")["h1"] == before["h1"]
    assert fleet.shell("h1", "ls /srv") == "site\n"


def test_a_login_that_is_not_root_is_told(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(2, user="ghostuser")
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = console_of(sample)
    for host in ("h1", "h2"):
        fleet.shell(host, "chmod 777 /srv")

    done = console.deploy()

    text = f"{REPLACE}/srv may be written to by everybody: `chmod o-w /srv`"
    assert done.exit == 0
    warned = [e["text"] for e in done.events if e["event"] == "Warned"]
    assert f"h[1-2]: {text}" in warned
    # People read it once, whatever the number of hosts.
    assert console("check").stdout.count(text) == 1
    sample.repositories["site"].commit("2")
    plain = console("deploy")
    assert (plain.stdout + plain.stderr).count(text) == 1


def with_sudo(plan: Plan) -> Plan:
    return attrs.evolve(plan, ssh=attrs.evolve(plan.ssh, sudo=True))


def test_the_login_is_no_stranger_where_sudo_makes_it_root(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(2, user="ghostuser")
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = console_of(sample, ssh=with_sudo(sample.plan()).ssh)
    rights = "root ALL=(ALL) ALL\nghostuser ALL=(ALL) NOPASSWD: ALL\n"
    for host in ("h1", "h2"):
        fleet.shell(host, f"printf '%s' '{rights}' >/etc/sudoers")
        fleet.shell(host, "chown ghostuser /srv /ghost")
    fleet.shell("h2", "mkdir /ghost/shop; chown daemon /ghost/shop")

    said = failures(console)

    assert list(said) == ["h2"]
    assert "/ghost/shop belongs to daemon: `chown root /ghost/shop`" in said["h2"]
    assert sample.serves("site")["h1"]
