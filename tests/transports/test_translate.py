"""What is said of a host that lets nobody in can be typed as it stands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncssh
import attrs
import pytest

from ghostasync.model import Host, Ssh
from ghostasync.transports._endpoint import Endpoint
from ghostasync.transports._heard import Heard
from ghostasync.transports._translate import not_opened, unreachable
from ghostasync.transports._trust import Trust

TARGET = Endpoint("10.0.0.1", 2201, "me")
REFUSED = asyncssh.PermissionDenied("no")
WRONG = asyncssh.HostKeyNotVerifiable("no")


def told(known: Path, exc: Exception, endpoint: Endpoint = TARGET) -> str:
    trust = Trust(Ssh(known_hosts=str(known)))
    return str(unreachable(Host("web1"), endpoint, trust, exc, Heard()))


def test_a_key_is_learned_where_it_is_looked_for(tmp_path: Path) -> None:
    known = tmp_path / "my hosts"

    assert f"ssh-keyscan -p 2201 10.0.0.1 >> '{known}', or" in told(known, WRONG)


def test_the_key_of_a_host_with_an_alias_is_learned_under_that(tmp_path: Path) -> None:
    known, named = tmp_path / "known", attrs.evolve(TARGET, alias="i-0abc")
    said = told(known, WRONG, named)
    cure = said.partition("is unknown: ")[2].partition(", or")[0]
    scan, _, rest = cure.partition(" | ")

    line = f"echo '[10.0.0.1]:2201 ssh-ed25519 AAAA' | {rest}"
    subprocess.run(["sh", "-c", line], check=True)

    assert scan == "ssh-keyscan -p 2201 10.0.0.1"
    assert known.read_text() == "i-0abc ssh-ed25519 AAAA\n"


def test_a_key_is_forgotten_where_it_is_known(tmp_path: Path) -> None:
    known = tmp_path / "my hosts"
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known.write_text(f"[10.0.0.1]:2201 {key}")

    assert told(known, WRONG).endswith(f"ssh-keygen -R '[10.0.0.1]:2201' -f '{known}'")


def test_a_refused_login_is_tried_again_with_the_same_key(tmp_path: Path) -> None:
    chosen = attrs.evolve(TARGET, identity="/etc/my keys/deploy")

    said = told(tmp_path / "known", REFUSED, chosen)

    assert said.endswith("? ssh -v -i '/etc/my keys/deploy' -p 2201 me@10.0.0.1")
    assert told(tmp_path / "known", REFUSED).endswith("? ssh -v -p 2201 me@10.0.0.1")


@pytest.mark.parametrize(
    ("jump", "learn", "way"),
    [
        ("gate", "ssh gate ssh-keyscan -p 2201 10.0.0.1 >> ", "-J gate"),
        ("a,me@b:22", "ssh -J a ssh://me@b:22 ssh-keyscan -p 2201 ", "-J a,me@b:22"),
        ("", "ssh -o ProxyCommand='nc 10%%' -o UserKnown", "-o ProxyCommand='nc 10%%'"),
    ],
)
def test_what_is_to_be_typed_goes_the_way_to_the_host(
    tmp_path: Path, jump: str, learn: str, way: str
) -> None:
    known, command = tmp_path / "known", () if jump else ("nc", "10%")
    behind = attrs.evolve(TARGET, jump=jump, proxy_command=command)

    assert f" is unknown: {learn}" in told(known, WRONG, behind)
    assert f"? ssh -v {way} -p 2201 me@10.0.0.1" in told(known, REFUSED, behind)


def test_a_server_that_takes_no_second_command_is_told_how_to() -> None:
    refused = asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")

    assert not_opened(refused) == (
        "open failed: sshd takes no more commands on one connection: set MaxSessions "
        "in its sshd_config to 10, as it is by default"
    )
    assert not_opened(OSError("Broken pipe")) == "Broken pipe"
