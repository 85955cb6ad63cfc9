"""Rights that a login lacks, each with the command that grants it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync import Rollout
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

ROOT_ONLY: Final = "root ALL=(ALL) ALL\n"


def reasons(console: Console) -> dict[str, str]:
    """Deploy, let each host fail for itself, and return why."""
    hosts = console.sample.fleet.hosts
    plan = console.sample.plan(rollout=Rollout(max_failures=len(hosts)))
    sudo = (console.sample.folder / "sudo").exists()
    console.configure(attrs.evolve(plan, ssh=attrs.evolve(plan.ssh, sudo=sudo)))
    failed = [e for e in console.deploy().events if e["event"] == "Failed"]
    return {event["host"]: f"{event['stage']}: {event['reason']}" for event in failed}


def test_each_way_in_which_sudo_may_refuse_is_told_with_its_cure(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(5, user="ghostuser")
    console = Console(SampleApp.create(tmp_path, fleet, "site"))
    (tmp_path / "sudo").touch()
    for host, lines in {
        "h1": "",
        "h2": "ghostuser ALL=(ALL) ALL\n",
        "h3": "Defaults requiretty\nghostuser ALL=(ALL) NOPASSWD: ALL\n",
        "h4": "ghostuser ALL=(root) NOPASSWD: /bin/sh\n",
    }.items():
        fleet.shell(host, f"printf '%s' '{ROOT_ONLY}{lines}' >/etc/sudoers")
    fleet.shell("h5", "mount --bind /dev/null /usr/bin/sudo")

    said = reasons(console)

    grant = "echo 'ghostuser ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/ghostasync"
    assert sorted(said) == ["h1", "h2", "h3", "h5"]
    for host in ("h1", "h2"):
        assert said[host].startswith("CONNECTING: sudo -n refused: sudo: ")
        assert grant in said[host]
    assert "tty" in said["h3"]
    assert "echo 'Defaults:ghostuser !requiretty' >/etc/sudoers.d/" in said["h3"]
    assert "install sudo, or log in as root" in said["h5"]
    assert all("\n" not in reason for reason in said.values())


def test_a_folder_that_the_login_may_not_write_to_is_told_with_its_cure(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(2, user="ghostuser")
    console = Console(SampleApp.create(tmp_path, fleet, "site"))
    fleet.shell("h1", "chown 0:0 /ghost")
    fleet.shell("h2", "chown 0:0 /srv")

    said = reasons(console)

    assert said["h1"].startswith("CHECKING: cannot use /ghost/shop/prod/web/blue: ")
    assert "`install -d -o ghostuser /ghost`, or set ssh.sudo" in said["h1"]
    assert said["h2"].startswith("CHECKING: ghostuser may not write to /srv (for /srv")
    assert "`chown ghostuser /srv`, or set ssh.sudo" in said["h2"]


def test_sudo_that_was_on_for_one_release_is_told_before_anything_changes(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(2, user="ghostuser")
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = Console(sample)
    grant = "ghostuser ALL=(root) NOPASSWD: ALL"
    for host in ("h1", "h2"):
        fleet.shell(host, f"printf '%s' '{ROOT_ONLY}{grant}\n' >/etc/sudoers")
    plan = sample.plan()
    with_sudo = attrs.evolve(plan, ssh=attrs.evolve(plan.ssh, sudo=True))
    releases = []
    for version, configured in (("1", plan), ("2", with_sudo)):
        sample.repositories["site"].commit(version)
        console.configure(configured)
        outcome = console.deploy()
        assert outcome.exit == 0, outcome.stderr
        releases.append(outcome.last["releases"]["site"])
    sample.repositories["site"].commit("3")
    console.configure(plan)

    refused, checked = console.deploy(), console("check")

    meta = f"/ghost/shop/prod/web/blue/site/.ghost/{releases[1]}"
    text = (
        f"{meta} belongs to root, and ghostuser may not read it: an earlier run "
        "worked as root; set ssh.sudo again, or "
        "`chown -R ghostuser /ghost/shop/prod/web/blue` there, as root"
    )
    failed = [e["reason"] for e in refused.events if e["event"] == "Failed"]
    assert failed == [text, text]
    assert (checked.exit, checked.stdout) == (1, f"h[1-2]: {text}\n")
    assert set(sample.serves("site").values()) == {releases[1]}
    # Either cure is one.
    for host in ("h1", "h2"):
        fleet.shell(host, "chown -R ghostuser /ghost/shop/prod/web/blue")
    cured = console.deploy()
    assert cured.exit == 0, cured.stderr
    console.configure(with_sudo)
    sample.repositories["site"].commit("4")
    assert console.deploy().exit == 0


def test_people_who_log_in_as_themselves_share_one_user_of_the_hosts(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    """Everything belongs to that user, whoever deploys or rolls back."""
    fleet = sshd_fleet(2, user="ghostuser")
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = Console(sample)
    grant = "ghostuser, bob ALL=(deploy) NOPASSWD: ALL"
    for host in ("h1", "h2"):
        fleet.shell(
            host,
            f"""
printf '%s' '{ROOT_ONLY}{grant}\n' >/etc/sudoers
echo deploy:x:4321:4321::/home/deploy:/bin/sh >>/etc/passwd
echo bob:x:4322:4322::/home/bob:/bin/sh >>/etc/passwd
echo 'bob:*:20000::::::' >>/etc/shadow
cp -r /home/ghostuser /home/bob
chown -R bob /home/bob
chown -R deploy /ghost /srv
""",
        )
    sample.repositories["site"].script("post_deploy", "id -un >/srv/who")
    plan = sample.plan()
    ann = attrs.evolve(plan, ssh=attrs.evolve(plan.ssh, sudo="deploy"))
    bob = attrs.evolve(ann, ssh=attrs.evolve(ann.ssh, user="bob"))
    releases = []
    for version, person in (("1", ann), ("2", bob), ("3", ann)):
        sample.repositories["site"].commit(version)
        console.configure(person)
        outcome = console.deploy()
        assert outcome.exit == 0, outcome.stderr
        releases.append(outcome.last["releases"]["site"])

    console.configure(bob)
    back = console("rollback", "--output", "json")

    assert back.exit == 0, back.stderr
    assert set(sample.serves("site").values()) == {releases[1]}
    assert console("check").stdout.splitlines()[1] == (
        "user    deploy, by sudo of bob on all hosts"
    )
    for host in ("h1", "h2"):
        foreign = "find /ghost /srv ! -user deploy"
        assert fleet.shell(host, f"{foreign}; cat /srv/who") == "deploy\n"


def test_a_team_whose_members_took_turns_is_told_of_one_user_for_all(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, user="ghostuser")
    sample = SampleApp.create(tmp_path, fleet, "site")
    console = Console(sample)
    plan = sample.plan()
    fleet.shell("h1", "echo bob:x:4321:4321::/home/bob:/bin/sh >>/etc/passwd")
    console.configure(plan)
    assert console.deploy().exit == 0
    fleet.shell("h1", "chown -R bob /ghost/shop")

    said = console("check").stdout

    assert 'log in as bob, or set ssh.sudo = "bob", or `chown' in said
