"""A login by a Kerberos ticket, where the configuration of ssh has GSSAPI."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.fleet.conftest import StartFleet, need
from tests.fleet.console import Console
from tests.fleet.kdc import KDC, Realm, realm
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

DEBIAN = Path("/usr/lib/python3/dist-packages")
"""Where the Python module is that needs a compiler to install it from elsewhere."""

BY_TICKET = {
    "GSSAPIAuthentication": "yes",
    "GSSAPIStrictAcceptorCheck": "no",
    "PubkeyAuthentication": "no",
}


@pytest.fixture
def kerberos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Realm]:
    need(Path(KDC).exists(), "needs krb5-kdc and krb5-admin-server")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    need((DEBIAN / f"gssapi/raw/creds{suffix}").exists(), "needs python3-gssapi")
    with realm(tmp_path / "realm") as here:
        for name, value in here.environ.items():
            monkeypatch.setenv(name, value)
        yield here


def deploy(console: Console, *, extra: bool = True) -> subprocess.CompletedProcess[str]:
    """Deploy with or without the module that the extra installs."""
    modules = console.sample.folder / "modules"
    modules.mkdir(exist_ok=True)
    for name in ("gssapi", "decorator.py"):
        link = modules / name
        if extra and not link.exists():
            link.symlink_to(DEBIAN / name)
    path = [str(modules), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "ghostasync", "deploy", "--output", "lines"],
        check=False,
        capture_output=True,
        text=True,
        cwd=console.sample.folder,
        env=console.environ({"PYTHONPATH": os.pathsep.join(path)}),
    )


def by_ticket(fleet_of: StartFleet, folder: Path, name: str = "localhost") -> Console:
    """Return a console of two hosts that take nothing but a ticket."""
    fleet = fleet_of(2, options=BY_TICKET)
    known = Path(fleet.ssh.known_hosts)
    text = known.read_text()
    known.write_text(text + text.replace("127.0.0.1", "localhost"))
    (folder / "config").write_text(f"GSSAPIAuthentication yes\nHostName {name}\n")
    sample = SampleApp.create(folder, fleet, "site")
    plan = sample.plan()
    ssh = attrs.evolve(plan.ssh, identity="", config=str(folder / "config"))
    hosts = [attrs.evolve(host, address="localhost") for host in plan.hosts]
    console = Console(sample)
    console.configure(attrs.evolve(plan, ssh=ssh, hosts=tuple(hosts)))
    return console


def test_a_ticket_opens_the_door(
    sshd_fleet: StartFleet, kerberos: Realm, tmp_path: Path
) -> None:
    console = by_ticket(sshd_fleet, tmp_path)

    refused = deploy(console)
    kerberos.log_in()
    deployed = deploy(console)

    assert refused.returncode == 1
    assert "No Kerberos credentials available" in refused.stderr
    assert "kinit" in refused.stderr
    assert deployed.returncode == 0, deployed.stderr
    assert "host/localhost" in kerberos.tickets()
    journals = (tmp_path / "store").rglob("journal.jsonl")
    assert any("root@EXAMPLE.TEST" in journal.read_text() for journal in journals)


def test_without_the_extra_it_says_what_to_install(
    sshd_fleet: StartFleet, kerberos: Realm, tmp_path: Path
) -> None:
    console = by_ticket(sshd_fleet, tmp_path)
    kerberos.log_in()

    refused = deploy(console, extra=False)

    assert refused.returncode == 1
    assert "pip install 'ghostasync[gssapi]'" in refused.stderr


def test_a_host_that_the_realm_does_not_know_is_told(
    sshd_fleet: StartFleet, kerberos: Realm, tmp_path: Path
) -> None:
    console = by_ticket(sshd_fleet, tmp_path, "127.0.0.1")
    kerberos.log_in()

    refused = deploy(console)

    assert refused.returncode == 1
    assert "not found in Kerberos database" in refused.stderr
