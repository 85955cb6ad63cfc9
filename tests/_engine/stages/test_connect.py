from __future__ import annotations

import attrs
import pytest

from ghostasync import Plan, State, deploy
from ghostasync.errors import DeployFailed
from ghostasync.model import Deadlines, Ssh
from ghostasync.testing import Answer, FakeHosts
from tests.deploying import fails, run, with_rollout


async def test_a_login_that_runs_no_commands_is_named(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("probe", "h2"))

    report, _ = await run(plan, hosts)

    row = report.hosts["h2"]
    assert (row.state, row.stage) == (State.FAILED, State.CONNECTING)
    assert "it needs a shell, and no forced command" in row.reason


async def test_a_login_whose_first_command_never_ends_is_named(plan: Plan) -> None:
    hosts = FakeHosts(hangs={("h2", "probe")})
    plan = with_rollout(plan, deadlines=Deadlines(connect=0.2))

    report, _ = await run(attrs.evolve(plan, hosts=plan.hosts[1:2]), hosts)

    assert "its first command was not done within 0.2 s" in report.hosts["h2"].reason


@pytest.mark.parametrize(
    ("sudo", "said", "cure"),
    [
        (True, "sudo: not found", "install sudo, or log in as root"),
        (True, "sorry, you must have a tty", "Defaults:ann !requiretty"),
        (True, "a password is required", "ann ALL=(root) NOPASSWD: ALL"),
        ("deploy", "a password is required", "ann ALL=(deploy) NOPASSWD: ALL"),
        ("deploy", "unknown user: deploy", "as root: useradd --system deploy"),
    ],
)
async def test_a_sudo_that_refuses_comes_with_its_cure(
    plan: Plan, *, sudo: bool | str, said: str, cure: str
) -> None:
    who = b"home=/home/ann\nuid=1000\nuser=ann\n"
    hosts = FakeHosts()
    hosts.breaks = lambda call: (
        Answer(0, who + f"sudo={said}\n".encode()) if call.name == "probe" else None
    )

    with pytest.raises(DeployFailed) as failed:
        await deploy(attrs.evolve(plan, ssh=Ssh(sudo=sudo)), transport=hosts.transport)

    reason = failed.value.report.hosts["h1"].reason
    assert f"sudo -n refused: {said}" in reason
    assert cure in reason
