from __future__ import annotations

import faulthandler
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from ghostasync import Plan
from ghostasync._planning.ci import SIGNS
from ghostasync.testing import FakeHosts
from tests.aws_server import Aws, emptied, moto
from tests.deploying import six_hosts
from tests.killing import Scene, four_hosts
from tests.s3_servers import S3Server, ministack, swift

TEST_SECONDS = 240

POLLS = {
    "_engine.locks._POLL_EVERY": (0.01, 0.05),
    "_engine.stages.reconnect._PAUSE": 0.02,
    "_engine.stages.rollback._PAUSE": 0.02,
}
"""Seconds between two looks at what a host in memory knows at once."""

# A machine that others keep busy is no reason to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SMALL_FILE_CALLS = ("io.", "os.")
"""Calls on local files, which the library makes on the loop where they are small."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def what_is_left_open_is_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    Fail the test that left a socket, a transport or a file open, and no later one.

    A transport lies in a circle with its protocol. It warns when the circle is
    collected, which otherwise happens by chance, in another test.
    """
    gc.freeze()  # what others made costs nothing to collect
    yield
    request.node.funcargs.clear()  # pytest keeps them a little longer
    gc.collect()


@pytest.fixture(autouse=True)
def polls_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in POLLS.items():
        monkeypatch.setattr(f"ghostasync.{name}", seconds)


@pytest.fixture(autouse=True)
def stuck_tests_tell_where() -> Iterator[None]:
    """End the run with all stacks where a test takes minutes."""
    faulthandler.dump_traceback_later(TEST_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def loop_is_never_blocked(
    request: pytest.FixtureRequest,
) -> Iterator[BlockBuster | None]:
    """Fail a test in which the library blocks the event loop."""
    if request.node.get_closest_marker("fleet"):
        yield None  # its processes are started and ended in between
        return
    with blockbuster_ctx("ghostasync") as found:
        for name, function in found.functions.items():
            if name.startswith(SMALL_FILE_CALLS):
                function.deactivate()
        yield found


@pytest.fixture(autouse=True)
def tests_are_no_job_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the same actor and the same findings where they are."""
    for name in SIGNS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def plan(tmp_path: Path, cache: None) -> Plan:
    return six_hosts(tmp_path)


@pytest.fixture
async def scene(tmp_path: Path, cache: None) -> Scene:
    """Four hosts that serve version 1."""
    return await Scene.begin(tmp_path, four_hosts(tmp_path), FakeHosts())


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with swift(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto(tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.fixture
def aws(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """An empty account, whose credentials are in the environment."""
    mine = emptied(moto_server)
    for name, value in mine.environ.items():
        monkeypatch.setenv(name, value)
    return mine
