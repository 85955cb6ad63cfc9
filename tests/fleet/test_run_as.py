"""Scripts that run on real hosts as a user who may read nothing of ours."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import Rollout, Script, Verify
from ghostasync.model import Deadlines
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import HOSTILE, SECRET, SampleApp, variables

pytestmark = pytest.mark.fleet

USER = "nobody"
SEEN = """\
set -eu
printf '%s' "$TOKEN" >/srv/out/token
cat /proc/[0-9]*/cmdline 2>/dev/null | grep -acF -f /srv/out/token >/srv/out/argv || :
rm /srv/out/token
echo "$(id -un) $GHOST_ACTION $(pwd -P)" >>"/srv/out/{key}"
env -0 >"/srv/out/{key}.env"
cat >>/srv/out/stdin
cat "$GHOST_MODULE_COMMIT_MESSAGE_FILE" >/srv/out/{key}.message
"""


def scene(
    start: StartFleet, tmp_path: Path, user: str, *, poor: bool = False
) -> tuple[SampleApp, Console]:
    """A module whose scripts on hosts all run as nobody; *user* may be "sudo"."""
    login = "ghostuser" if user == "sudo" else user
    sample = SampleApp.create(tmp_path, start(2, user=login, poor=poor), "site")
    for key in ("pre_deploy", "post_deploy"):
        sample.repositories["site"].script(key, SEEN.format(key=key))
    sample.repositories["site"].commit("1")
    for host in sample.fleet.hosts:
        out = sample.fleet.path(host.name, "/srv/out")
        out.mkdir()
        out.chmod(0o777)
    console = Console(sample)
    module = sample.module(
        "site",
        pre_deploy=Script(path="deploy/pre_deploy", run_as=USER),
        post_deploy=Script(path="deploy/post_deploy", run_as=USER),
        verify=Verify(command="id -un >/srv/out/verify", run_as=USER),
        shared_dirs=(),
        shared_files=(),
    )
    rollout = Rollout(deadlines=Deadlines(post_deploy=5))
    ssh = attrs.evolve(sample.fleet.ssh, sudo=user == "sudo")
    console.configure(sample.plan(module, rollout=rollout, ssh=ssh))
    return sample, console


def out(sample: SampleApp, host: str, name: str) -> str:
    return (sample.fleet.path(host, "/srv/out") / name).read_text()


@pytest.mark.parametrize(
    ("user", "poor"),
    [
        ("root", False),
        ("root", True),
        ("ghostuser", False),
        ("ghostuser", True),
        ("sudo", False),
    ],
)
def test_scripts_run_as_the_user_they_name(
    sshd_fleet: StartFleet, tmp_path: Path, user: str, *, poor: bool
) -> None:
    sample, console = scene(sshd_fleet, tmp_path, user, poor=poor)

    outcome = console.deploy()

    assert outcome.exit == 0, outcome.stderr
    release = outcome.last["releases"]["site"]
    folder = f"/ghost/shop/prod/web/blue/site/{release}"
    for host in ("h1", "h2"):
        for key in ("pre_deploy", "post_deploy"):
            assert out(sample, host, key) == f"nobody deploy {folder}\n"
            data = (sample.fleet.path(host, "/srv/out") / f"{key}.env").read_bytes()
            seen = variables(data)
            assert (seen["GREETING"], seen["TOKEN"]) == (HOSTILE, SECRET)
            assert (seen["GHOST_HOST"], seen["HOME"]) == (host, "/nonexistent")
            assert seen["GHOST_RELEASE_ID"] == release
            assert out(sample, host, f"{key}.message") == HOSTILE
            kept = seen["GHOST_MODULE_COMMIT_MESSAGE_FILE"]
            assert kept.startswith("/tmp/ghost-message.")
            assert not Path(kept).exists(), "hosts have their /tmp from this machine"
        assert out(sample, host, "verify") == "nobody\n"
        assert out(sample, host, "argv") == "0\n", "no secret in an argument list"
        assert out(sample, host, "stdin") == ""
        meta = sample.module_folder(host, "site") / ".ghost" / release
        assert [p.name for p in meta.iterdir() if p.name.startswith("as.")] == []


def test_a_missing_right_is_found_in_checking(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    sample, console = scene(sshd_fleet, tmp_path, "ghostuser")
    sudoers = sample.fleet.path("h2", "/ghost").parent / "etc/sudoers"
    text = sudoers.read_text()
    sudoers.write_text(text.replace("ALL=(ALL:ALL) NOPASSWD: ALL", "ALL=(bin) ALL"))

    outcome = console.deploy()
    checked = console("check")

    assert outcome.exit == 1
    failed = outcome.event("Failed", "h2")
    assert failed["stage"] == "CHECKING"
    line = "ghostuser ALL=(nobody) NOPASSWD: ALL"
    assert failed["reason"] == (
        "scripts of site cannot run as nobody: sudo: a password is required;"
        f" add to sudoers: {line}"
    )
    assert checked.exit == 1
    assert line in checked.stdout + checked.stderr

    sudoers.write_text(text.replace("ghostuser ALL=(ALL:ALL) NOPASSWD: ALL", line))

    assert console.deploy().exit == 0, "what was asked for is enough"


def test_a_user_who_is_not_there_is_found_in_checking(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    sample, console = scene(sshd_fleet, tmp_path, "root")
    verify = Verify(command="true", run_as="app")
    console.configure(sample.plan(sample.module("site", verify=verify)))

    outcome = console.deploy()

    # The first to fail stops the others.
    failed = [event["reason"] for event in outcome.events if event["event"] == "Failed"]
    assert set(failed) == {"scripts of site cannot run as app: there is no user app"}


@pytest.mark.parametrize("user", ["root", "ghostuser"])
def test_a_deadline_ends_what_runs_as_another_user(
    sshd_fleet: StartFleet, tmp_path: Path, user: str
) -> None:
    sample, console = scene(sshd_fleet, tmp_path, user)
    first = console.deploy()
    assert first.exit == 0, first.stderr
    sample.repositories["site"].script(
        "post_deploy", '[ "$GHOST_HOST" = h1 ] || exit 0\nsleep 300 & wait\n'
    )
    sample.repositories["site"].commit("2")

    outcome = console.deploy()

    assert outcome.exit == 1
    assert outcome.states == {"h1": "ROLLED_BACK", "h2": "ROLLED_BACK"}
    reason = outcome.event("Failed", "h1")["reason"]
    assert "post_deploy of site not done within 5 s" in reason
    assert not [line for line in sample.fleet.commands("h1") if "sleep 300" in line]
    old = f"/ghost/shop/prod/web/blue/site/{first.last['releases']['site']}"
    lines = out(sample, "h1", "post_deploy").splitlines()
    assert lines[-1] == f"nobody rollback {old}", (
        "as its own user says, from its record"
    )
