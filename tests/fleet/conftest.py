from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from ghostasync.model import Host, Ssh
from ghostasync.transports.ssh import SshSession, SshTransport
from tests.fleet.console import Console
from tests.fleet.layout import USER
from tests.fleet.sample_app import SampleApp
from tests.fleet.sshd import SSHD, SshdFleet, namespaces_work
from tests.fleet.staged import HOSTS, Stage


class StartFleet(Protocol):
    def __call__(
        self,
        count: int,
        *,
        user: str = "root",
        poor: bool = False,
        tools: Sequence[Mapping[str, str]] = (),
        shells: Sequence[str] = (),
        disks: Sequence[Mapping[str, str]] = (),
        address: str = "127.0.0.1",
        options: Mapping[str, str] | None = None,
    ) -> SshdFleet: ...


REQUIRED = bool(os.environ.get("CI") or os.environ.get("GHOSTASYNC_REQUIRE_FLEET"))
"""Whether servers have to be there; tests themselves are no part of a CI job."""


def need(what: bool, reason: str) -> None:
    """Skip a test for which something is missing; in CI, fail it."""
    if what:
        return
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def sshd() -> None:
    need(shutil.which(SSHD) is not None, "needs openssh-server")


@pytest.fixture
def sshd_fleet(sshd: None, tmp_path: Path) -> Iterator[StartFleet]:
    """Start fleets of real OpenSSH servers; they end with the test."""
    with ExitStack() as fleets:
        started = 0

        def start(
            count: int,
            *,
            user: str = "root",
            poor: bool = False,
            tools: Sequence[Mapping[str, str]] = (),
            shells: Sequence[str] = (),
            disks: Sequence[Mapping[str, str]] = (),
            address: str = "127.0.0.1",
            options: Mapping[str, str] | None = None,
        ) -> SshdFleet:
            nonlocal started
            started += 1
            if user == USER or shells or disks:
                need(namespaces_work(), "needs root, and unshare with CAP_SYS_ADMIN")
                need(shutil.which("sudo") is not None, "needs sudo")
            if poor or tools or shells:
                need(shutil.which("busybox") is not None, "needs busybox")
            for shell in shells:
                need(Path(shell).exists() or shell == "/mnt/ash", f"needs {shell}")
            return fleets.enter_context(
                SshdFleet(
                    count,
                    tmp_path / f"fleet{started}",
                    user=user,
                    poor=poor,
                    tools=tools,
                    shells=shells,
                    disks=disks,
                    address=address,
                    options=options,
                )
            )

        yield start


class Connect:
    """Hands out transports and sessions, and closes them with the test."""

    def __init__(self, resources: AsyncExitStack) -> None:
        self._resources = resources

    def session(self, transport: SshTransport, host: Host) -> SshSession:
        session = transport.session(host)
        self._resources.push_async_callback(transport.aclose)
        self._resources.push_async_callback(session.close)
        return session

    async def __call__(
        self, fleet: SshdFleet, settings: Ssh | None = None
    ) -> SshSession:
        """Log in to the first host."""
        session = self.session(SshTransport(settings or fleet.ssh), fleet.hosts[0])
        await session.open()
        return session


@pytest.fixture
async def connect(sshd_fleet: StartFleet) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as resources:
        yield Connect(resources)


@pytest.fixture
def stage(sshd_fleet: StartFleet, tmp_path: Path) -> Stage:
    """Hosts that serve version 1, and what deploys to them."""
    sample = SampleApp.create(tmp_path, sshd_fleet(len(HOSTS)), "site")
    console = Console(sample)
    plan = sample.plan()
    console.configure(plan)
    first = console.deploy()
    assert first.exit == 0, first.stderr
    return Stage(sample, console, plan, first)
