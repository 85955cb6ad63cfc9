"""Login shells of every kind, with what people put into their rc files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync import DeployFailed, Outcome, State, deploy
from ghostasync.transports.ssh import SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.console import Console
from tests.fleet.console import Outcome as Ended
from tests.fleet.sample_app import HOSTILE, SECRET, SampleApp
from tests.fleet.sshd import SshdFleet
from tests.transports.commands import run

pytestmark = pytest.mark.fleet

SHELLS: Final = (
    "/bin/bash",
    "/bin/dash",
    "/usr/bin/zsh",
    "/usr/bin/fish",
    "/usr/bin/tcsh",
    "/mnt/ash",
)

NOISE: Final = """\
echo "welcome to 'this' host"
echo "it is   \\$(old)" >&2
printf 'no newline at the end'
"""
"""Reads alike in every shell; csh has no >&2 and complains on stderr."""

RC_FILES: Final = {
    ".bashrc": NOISE + "set -x\nalias exec=false\nset -u\ncd /\n",
    ".zshenv": NOISE + "setopt xtrace\nsetopt sh_word_split\ncd /\n",
    ".config/fish/config.fish": NOISE + "cd /\nset fish_trace 1\n",
    ".tcshrc": NOISE.replace(">&2", "") + "set echo\nset verbose\ncd /\n",
    ".profile": NOISE,
    ".ssh/rc": NOISE,
}


def write_rc_files(sample: SampleApp) -> None:
    for host in sample.fleet.hosts:
        for name, text in RC_FILES.items():
            path = sample.fleet.path(host.name, f"~/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.mark.parametrize("user", ["root", "ghostuser"])
async def test_each_login_shell_with_noisy_rc_files_takes_a_deploy_and_a_rollback(
    user: str,
    sshd_fleet: StartFleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    fleet = sshd_fleet(len(SHELLS), user=user, shells=SHELLS)
    sample = SampleApp.create(tmp_path, fleet)
    write_rc_files(sample)
    plan = sample.plan(
        sample.module("site"),
        sample.module("worker"),
        ssh=attrs.evolve(fleet.ssh, sudo=user != "root"),
    )

    first = await deploy(plan)

    assert first.outcome is Outcome.LIVE, first.reason
    for host in plan.hosts:
        for name in sample.repositories:
            seen = sample.environment(host.name, name, "post_deploy")
            assert (seen["GREETING"], seen["TOKEN"]) == (HOSTILE, SECRET)
            assert sample.leftovers(host.name, name) == set()
            log = Path(first.hosts[host.name].log).read_text()
            assert "welcome" not in log
    sample.repositories["worker"].script("post_deploy", "exit 5")
    sample.repositories["worker"].commit("2")

    with pytest.raises(DeployFailed) as caught:
        await deploy(plan)

    states = {row.state for row in caught.value.report.hosts.values()}
    assert states == {State.ROLLED_BACK}
    for name in sample.repositories:
        assert set(sample.serves(name).values()) == {first.releases[name]}


async def test_the_noise_is_really_heard(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    """Or the test above would show nothing."""
    fleet = sshd_fleet(len(SHELLS), shells=SHELLS)
    write_rc_files(SampleApp.create(tmp_path, fleet))
    transport = SshTransport(fleet.ssh)
    heard: dict[str, int] = {}

    for host, shell in zip(fleet.hosts, SHELLS, strict=True):
        session = connect.session(transport, host)
        await session.open()
        heard[shell] = (await run(session, "true"))[1].count("welcome")

    # All hear ~/.ssh/rc; dash and ash read nothing when they are given a command.
    quiet = {"/bin/dash", "/mnt/ash"}
    assert {shell: count > 1 for shell, count in heard.items()} == {
        shell: shell not in quiet for shell in SHELLS
    }
    assert all(heard.values())


@pytest.mark.parametrize(
    ("shell", "options", "word"),
    [
        ("/usr/sbin/nologin", {}, "This account is currently not available"),
        ("/bin/false", {}, "it said nothing"),
        ("/bin/bash", {"ForceCommand": "echo only backups here"}, "only backups here"),
        ("/bin/bash", {"ForceCommand": "internal-sftp"}, "login does not run commands"),
    ],
)
def test_a_login_that_runs_something_else_is_named(
    shell: str,
    options: dict[str, str],
    word: str,
    sshd_fleet: StartFleet,
    tmp_path: Path,
) -> None:
    outcome = deployed(tmp_path, sshd_fleet(1, shells=[shell], options=options))

    failed = outcome.event("Failed", "h1")
    assert (outcome.exit, failed["stage"]) == (1, "CONNECTING")
    assert word in failed["reason"]
    assert "forced command" in failed["reason"]


def test_a_forced_command_of_the_key_is_named(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    keys = fleet.path("h1", "~/.ssh/authorized_keys")
    keys.write_text(f'command="cat >/dev/null; echo backup done" {keys.read_text()}')

    outcome = deployed(tmp_path, fleet)

    reason = outcome.event("Failed", "h1")["reason"]
    assert "backup done" in reason
    assert "forced command in authorized_keys" in reason


def test_an_rc_file_that_becomes_another_shell_is_named(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, shells=["/bin/bash"])
    fleet.path("h1", "~/.bashrc").write_text("exec fish\n")

    outcome = deployed(tmp_path, fleet)

    failed = outcome.event("Failed", "h1")
    assert (outcome.exit, failed["stage"]) == (1, "CONNECTING")
    assert "the login does not run commands" in failed["reason"]


def deployed(folder: Path, fleet: SshdFleet) -> Ended:
    sample = SampleApp.create(folder, fleet, "site")
    console = Console(sample)
    console.configure(sample.plan())
    return console.deploy()
