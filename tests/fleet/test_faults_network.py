"""Networks that break for real, and waits that no deadline of the user's shortens."""

from __future__ import annotations

import faulthandler
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import TEST_SECONDS
from tests.fleet import evidence
from tests.fleet.conftest import need
from tests.fleet.evidence import eventually
from tests.fleet.fault_fleet import FaultFleet
from tests.fleet.sshd import namespaces_work

pytestmark = pytest.mark.fleet

NOTICED: Final = 60.0
"""Seconds after which a dead peer is known to be dead: three keepalives of 15 s."""

SLACK: Final = 20.0
"""Seconds for all else, on a busy machine."""

CONNECT: Final = 15.0
"""Seconds for which a host is looked for again: a busy machine needs some to log in."""

VICTIM: Final = "h2"

NEVER_ANSWERS: Final = f"127.9.{os.getpid() // 256 % 256}.{os.getpid() % 256}"
RESOLVER: Final = f"nameserver {NEVER_ANSWERS}\noptions timeout:30 attempts:3\n"
WITH_RESOLVER: Final = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


@pytest.fixture(autouse=True)
def namespaces(sshd: None) -> None:
    need(namespaces_work(), "needs root, and unshare with CAP_SYS_ADMIN")
    faulthandler.dump_traceback_later(2 * TEST_SECONDS, exit=True)


def _serve_something(faulty: FaultFleet) -> str:
    faulty.configure()
    faulty.commit()
    first = faulty.deploy()
    assert first.exit == 0, first.stderr
    release: str = first.last["releases"]["site"]
    return release


def _check_next_deploy(faulty: FaultFleet) -> None:
    faulty.heal()
    assert not eventually(lambda: evidence.locks(faulty, faulty.names))
    assert not eventually(lambda: evidence.survivors(faulty, faulty.names))
    _serve_something(faulty)
    assert not evidence.leftovers(faulty, faulty.names)


def test_a_connection_that_fell_silent_is_noticed_and_opened_again(
    tmp_path: Path,
) -> None:
    """As when a NAT forgets it: nobody is told, and new connections work."""
    with FaultFleet.create(tmp_path, 2) as faulty:
        _serve_something(faulty)
        faulty.commit()
        gate = faulty.gate(VICTIM, "post_deploy-deploy")
        with gate as script, faulty.deploying() as running:
            script.wait()
            faulty.half_open(VICTIM)
            running.until("HostWarned", VICTIM, NOTICED + SLACK)
            outcome = running.finish()

        assert outcome.exit == 0, outcome.stderr
        assert not evidence.links(faulty, {outcome.last["releases"]["site"]})
        _check_next_deploy(faulty)


def test_a_host_whose_network_is_gone_is_noticed_within_a_minute(
    tmp_path: Path,
) -> None:
    with _network(2) as (namespace, cables):
        addresses = {name: cable.address for name, cable in cables.items()}
        with FaultFleet.create(tmp_path, 2, addresses=addresses) as faulty:
            inside = ("ip", "netns", "exec", namespace)
            faulty.configure(connect=CONNECT)
            faulty.commit()
            with faulty.deploying(prefix=inside) as running:
                first = running.finish()
            assert first.exit == 0, first.stderr
            old = evidence.served(faulty, VICTIM)
            faulty.commit()
            gate = faulty.gate(VICTIM, "pre_deploy")
            with gate as script, faulty.deploying(prefix=inside) as running:
                script.wait()
                cables[VICTIM].pull()
                running.until("Failed", VICTIM, NOTICED + CONNECT + SLACK)
                outcome = running.finish()

            assert outcome.exit == 1, outcome.stderr
            assert outcome.states[VICTIM] == "FAILED"
            assert not evidence.links(faulty, {old})
            assert not evidence.words(outcome, about=VICTIM)
            cables[VICTIM].plug_in()
            faulty.heal()
            faulty.commit()
            with faulty.deploying(prefix=inside) as running:
                last = running.finish()
            assert last.exit == 0, last.stderr


def test_a_name_server_that_never_answers_costs_only_its_host(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(RESOLVER)
    prefix = ("unshare", "--mount", "sh", "-c", WITH_RESOLVER, str(resolver))
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind((NEVER_ANSWERS, 53))
    with closing(silent), FaultFleet.create(tmp_path / "faulty", 2) as faulty:
        old = _serve_something(faulty)
        faulty.rename(VICTIM, "slow.example.com")
        faulty.configure(connect=8)
        faulty.commit()
        began = time.monotonic()

        with faulty.deploying(prefix=prefix) as running:
            outcome = running.finish()

        assert time.monotonic() - began < 8 + SLACK
        assert outcome.exit == 1, outcome.stderr
        assert outcome.states[VICTIM] == "FAILED"
        assert "slow.example.com" in outcome.stderr
        assert not evidence.links(faulty, {old})
        assert not evidence.words(outcome, about=VICTIM)
        _check_next_deploy(faulty)


def _address(number: int, end: int) -> str:
    """Return an address for an *end* of a cable of this process, from 198.18.0.0/15."""
    net = os.getpid() % 512
    return f"198.{18 + net // 256}.{net % 256}.{4 * number + end}"


class _Cable:
    """A cable from the controller's network namespace to one host."""

    def __init__(self, namespace: str, number: int) -> None:
        # Of those that are set aside for measurements: another run of these tests may
        # have cables on this machine at the same time.
        self.address = _address(number, 1)
        self._near = f"gn{os.getpid()}.{number}"[:15]
        far = f"gf{os.getpid()}.{number}"[:15]
        _ip(f"link add {self._near} type veth peer name {far} netns {namespace}")
        _ip(f"addr add {self.address}/30 dev {self._near}")
        _ip(f"-n {namespace} addr add {_address(number, 2)}/30 dev {far}")
        _ip(f"-n {namespace} link set {far} up")
        self.plug_in()

    def pull(self) -> None:
        """Lose every packet from now on."""
        _ip(f"link set {self._near} down")

    def plug_in(self) -> None:
        _ip(f"link set {self._near} up")


@contextmanager
def _network(count: int) -> Iterator[tuple[str, dict[str, _Cable]]]:
    """Make a network namespace for a controller, with one cable to each host."""
    namespace = f"ghost{os.getpid()}"
    _ip(f"netns add {namespace}")
    try:
        _ip(f"-n {namespace} link set lo up")
        yield namespace, {f"h{n}": _Cable(namespace, n) for n in range(1, count + 1)}
    finally:
        _ip(f"netns del {namespace}")


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)
