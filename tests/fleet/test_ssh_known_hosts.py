"""Lines of ``known_hosts``: what ssh believes is believed here, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
import asyncssh
import attrs
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import HostKeys
from ghostasync.transports.ssh import SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.sshd import SshdFleet

pytestmark = pytest.mark.fleet

CASES: Final = {
    "its name and port": "[localhost]:PORT KEY",
    "upper case": "[LocalHost]:PORT KEY",
    "a list": "web1,[localhost]:PORT,web2 KEY",
    "without the port": "localhost KEY",
    "another key without the port": "localhost OTHER",
    "right with, wrong without": "localhost OTHER\n[localhost]:PORT KEY",
    "wrong with, right without": "localhost KEY\n[localhost]:PORT OTHER",
    "another key with the port": "[localhost]:PORT OTHER",
    "another port": "[localhost]:1 KEY",
    "all": "* KEY",
    "a pattern": "local* KEY",
    "a pattern with a port": "[local*]:PORT KEY",
    "brackets are no set": "[l]ocalhost KEY",
    "excluded": "!localhost,!\\[localhost]:PORT,* KEY",
    "excluded with the port": "*,![localhost]:PORT KEY",
    "hashed": "HASH([localhost]:PORT) KEY",
    "hashed in upper case": "HASH([LOCALHOST]:PORT) KEY",
    "hashed without the port": "HASH(localhost) KEY",
    "hashed with another key": "HASH([localhost]:PORT) OTHER",
    "another host": "web1 KEY",
    "its address alone": "[127.0.0.1]:PORT KEY",
    "an authority for all": "@cert-authority * OTHER\n[localhost]:PORT KEY",
    "an authority, unknown otherwise": "@cert-authority * OTHER",
    "an authority, known without the port": "@cert-authority * OTHER\nlocalhost KEY",
    "an authority that is its own key": "@cert-authority * KEY",
    "another kind": "[localhost]:PORT RSA",
    "another kind, hashed": "HASH([localhost]:PORT) RSA",
    "another kind as well": "[localhost]:PORT RSA\n[localhost]:PORT KEY",
    "a merge": "<<<<<<< HEAD\n[localhost]:PORT KEY\n=======\n>>>>>>> branch",
    "a broken key before": "[localhost]:PORT ssh-ed25519 AAAA\n[localhost]:PORT KEY",
    "a broken hash before": "|1|x|y KEY\n|2|eA==|eA== KEY\n[localhost]:PORT KEY",
    "a marker of later": "@later * KEY\n[localhost]:PORT KEY",
    "blanks and comments": "# caf\udce9\n\n \t# x\n  [localhost]:PORT\tKEY caf\udce9",
    "a key that lacks its kind": "[localhost]:PORT DATA\n",
    "no newline in names": "x\u2028[localhost]:PORT KEY",
    "an alias": "web1 KEY",
    "an alias with the port": "[web1]:PORT OTHER\nweb1 KEY",
    "an alias, by its host": "[localhost]:PORT KEY",
    "an alias, hashed": "HASH(web1) KEY",
}

CERTIFIED: Final = {
    "its authority": "@cert-authority [localhost]:PORT AUTHORITY",
    "its authority without the port": "@cert-authority localhost AUTHORITY",
    "its authority, hashed": "@cert-authority HASH([localhost]:PORT) AUTHORITY",
    "its authority, upper case": "@cert-authority LOCAL* AUTHORITY",
    "its authority for an alias": "@cert-authority web1 AUTHORITY",
    "its authority for another alias": "@cert-authority web2 AUTHORITY",
    "another authority": "@cert-authority * OTHER",
    "another authority, and its key": "@cert-authority * OTHER\n[localhost]:PORT KEY",
    "another as well": "@cert-authority * OTHER\n@cert-authority * AUTHORITY",
    "no authority, its key": "[localhost]:PORT KEY",
    "no authority, another key": "[localhost]:PORT OTHER",
    "its authority, another key": "@cert-authority * AUTHORITY\nlocalhost OTHER",
    "nothing": "",
}

EXPIRED: Final = {
    "its authority": "@cert-authority * AUTHORITY",
    "its authority, its key": "@cert-authority * AUTHORITY\n[localhost]:PORT KEY",
    "its authority, another key": "@cert-authority * AUTHORITY\nlocalhost OTHER",
    "its key": "[localhost]:PORT KEY",
    "its key, revoked": "@cert-authority * AUTHORITY\nlocalhost KEY\n@revoked * KEY",
}
"""And so for a certificate that is for another name."""


def hashed(name: str, path: Path) -> str:
    """Return *name* as ssh hashes it."""
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    path.write_text(f"{name} {key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True)
    return path.read_text().split()[0]


async def believed_by_ssh(
    fleet: SshdFleet, known: Path, alias: str, mode: HostKeys
) -> bool:
    options = {
        "BatchMode": "yes",
        "GlobalKnownHostsFile": "/dev/null",
        "UserKnownHostsFile": str(known),
        "StrictHostKeyChecking": "yes" if mode == "strict" else mode,
    }
    if alias:
        options["HostKeyAlias"] = alias
    words = [f"-o{name}={value}" for name, value in options.items()]
    where = ["-i", fleet.ssh.identity, "-p", str(fleet.hosts[0].port)]
    command = ["ssh", "-F", "none", *words, *where, f"{fleet.user}@LocalHost", "true"]
    return (await anyio.run_process(command, check=False)).returncode == 0


async def believed_here(
    fleet: SshdFleet, connect: Connect, known: Path, alias: str, mode: HostKeys
) -> bool:
    settings = attrs.evolve(fleet.ssh, known_hosts=str(known), host_keys=mode)
    host = attrs.evolve(fleet.hosts[0], address="LocalHost", host_key_alias=alias)
    session = connect.session(SshTransport(settings), host)
    try:
        await session.open()
    except Unreachable as exc:
        if " key " not in str(exc):
            raise
        return False
    await session.close()
    return True


@pytest.mark.parametrize("mode", ["strict", "accept-new"])
@pytest.mark.parametrize("until", ["", "+1h", "-1h"])
async def test_what_ssh_believes_is_believed(
    sshd_fleet: StartFleet,
    connect: Connect,
    tmp_path: Path,
    mode: HostKeys,
    until: str,
) -> None:
    cases = {"": CASES, "+1h": CERTIFIED, "-1h": EXPIRED}[until]
    certificate = tmp_path / "host-cert.pub"
    options = {"HostCertificate": str(certificate)} if until else {}
    fleet = sshd_fleet(1, options=options)
    words = {name: public(generated(name)) for name in ("OTHER", "RSA")}
    words["KEY"] = " ".join(Path(fleet.ssh.known_hosts).read_text().split()[1:3])
    words |= {"DATA": words["KEY"].split()[1], "PORT": str(fleet.hosts[0].port)}
    if until:
        key = tmp_path / "fleet1/h1/host_key"
        words["AUTHORITY"] = certify(fleet, key, certificate, until)
    told: dict[str, list[bool]] = {name: [] for name in cases}

    async def ask(name: str, number: int) -> None:
        text = filled_in(cases[name], words, tmp_path / f"{number} hashed")
        alias = "web1" if "alias" in name else ""
        for by in ("ssh", "us"):
            known = tmp_path / f"{number}-{by}"
            known.touch(mode=0o600)
            known.write_text(text + "\n", errors="surrogateescape")
            told[name].append(
                await believed_here(fleet, connect, known, alias, mode)
                if by == "us"
                else await believed_by_ssh(fleet, known, alias, mode)
            )

    async with anyio.create_task_group() as tasks:
        for number, name in enumerate(cases):
            tasks.start_soon(ask, name, number)

    assert {name: by for name, by in told.items() if by[0] != by[1]} == {}
    assert {True, False} == {by[0] for by in told.values()}


def generated(word: str) -> asyncssh.SSHKey:
    kind = "ssh-rsa" if word == "RSA" else "ssh-ed25519"
    return asyncssh.generate_private_key(kind)


def public(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split())


def certify(fleet: SshdFleet, key: Path, certificate: Path, until: str) -> str:
    """Give the first host a certificate; return the key of who gave it."""
    authority = generated("ed25519")
    fleet.kill("h1")
    authority.generate_host_certificate(
        asyncssh.read_private_key(key),
        "h1",
        principals=["localhost", "web1"],
        valid_after="-1d",
        valid_before=until,
    ).write_certificate(certificate)
    fleet.start("h1")
    return public(authority)


def filled_in(case: str, words: Mapping[str, str], scratch: Path) -> str:
    for word, value in words.items():
        case = case.replace(word, value)
    before, call, rest = case.partition("HASH(")
    if not call:
        return case
    name, _, after = rest.partition(")")
    return before + hashed(name, scratch) + after


async def test_a_host_learns_one_key_that_ssh_believes_too(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet, known = sshd_fleet(1), tmp_path / "known"
    known.touch(mode=0o600)

    for alias in ("", "web1"):
        for mode in ("accept-new", "strict"):
            assert await believed_here(fleet, connect, known, alias, mode)
        assert await believed_by_ssh(fleet, known, alias, "strict")

    port = fleet.hosts[0].port
    names = [line.split()[0] for line in known.read_text().splitlines()]
    assert names == [f"[localhost]:{port}", "web1"]
