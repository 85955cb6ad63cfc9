"""What a run can be put together from."""

from __future__ import annotations

import getpass
from pathlib import Path

import attrs
import pytest

from ghostasync import Plan, deploy, status
from ghostasync._planning.spec import open_transport
from ghostasync.errors import ConfigError
from ghostasync.model import Ssh
from ghostasync.testing import FakeHosts, FakeTransport


async def test_a_uid_without_a_name_deploys_as_a_number(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that was started with a user of its own."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", nobody)

    report = await deploy(plan, transport=FakeTransport(FakeHosts()))

    assert report.exit_status == 0


async def test_the_key_is_looked_for_beside_the_configuration(
    plan: Plan, tmp_path: Path
) -> None:
    """Whatever folder the command is typed in."""
    ssh = Ssh(identity="keys/deploy", known_hosts="known", config=False)
    plan = attrs.evolve(plan, base=tmp_path / "etc", ssh=ssh)

    with pytest.raises(ConfigError) as caught:
        open_transport(plan, {})

    assert (
        str(caught.value) == f"ssh.identity: {tmp_path}/etc/keys/deploy: no such file"
    )


@pytest.mark.parametrize("damaged", ["", "{}", "[1]", '{"hosts": {"h1": 3}}'])
async def test_a_damaged_report_hides_no_host(
    plan: Plan, tmp_path: Path, damaged: str
) -> None:
    hosts = FakeHosts()
    report = await deploy(plan, transport=FakeTransport(hosts))
    Path(report.log, "report.json").write_text(damaged)

    found = await status(plan, transport=FakeTransport(hosts))

    assert set(found.hosts) == {host.name for host in plan.hosts}
