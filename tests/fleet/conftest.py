from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.fleet.sshd import SSHD, SshdFleet


class StartFleet(Protocol):
    def __call__(
        self,
        count: int,
        *,
        user: str = "root",
        poor: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> SshdFleet: ...


@pytest.fixture(scope="session")
def sshd() -> None:
    """Skip, or in CI fail, where there is no OpenSSH server to run against."""
    if shutil.which(SSHD) is not None:
        return
    reason = f"{SSHD} is not installed: apt-get install openssh-server"
    if os.environ.get("CI") or os.environ.get("GHOSTASYNC_REQUIRE_FLEET"):
        pytest.fail(reason)
    pytest.skip(reason)


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
            options: Mapping[str, str] | None = None,
        ) -> SshdFleet:
            nonlocal started
            started += 1
            folder = tmp_path / f"fleet{started}"
            return fleets.enter_context(
                SshdFleet(count, folder, user=user, poor=poor, options=options)
            )

        yield start
