from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest

from ghostasync import events as e
from ghostasync.cli._exits import Interrupted
from ghostasync.cli._frontend import FrontEnd
from ghostasync.cli._running import Signals, run_async, supervise, what_follows
from ghostasync.errors import PlanError
from tests.story import Story, folded, good_run

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_signal_after_the_run_belies_no_exit_status(number: int) -> None:
    """A soak found a process that ended with -15 after a run that was live."""

    async def work(_: Signals) -> int:
        return 0

    assert await supervise(FrontEnd("json", io.StringIO()), work) == 0
    os.kill(os.getpid(), number)


LATE = """\
import atexit, os, sys
from ghostasync import cli

def execute(tokens):
    atexit.register(os.kill, os.getpid(), int(sys.argv[1]))
    return 5

cli.execute = execute
cli.main()
"""


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_to_a_process_that_ends_belies_no_exit_status(number: int) -> None:
    """Handlers that others registered are at work then, too."""
    done = subprocess.run(
        [sys.executable, "-c", LATE, str(int(number))], check=False, capture_output=True
    )

    assert (done.returncode, done.stderr) == (5, b"")


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_signal_before_there_is_a_run_ends_the_work(number: int) -> None:
    async def work(_: Signals) -> None:
        os.kill(os.getpid(), number)
        await anyio.sleep_forever()

    with pytest.raises(Interrupted), anyio.fail_after(5):
        await supervise(FrontEnd("json", io.StringIO()), work)


async def test_what_the_work_raises_comes_out_unwrapped() -> None:
    async def work(_: Signals) -> None:
        raise PlanError("no such thing")

    with pytest.raises(PlanError, match="no such thing"):
        await supervise(FrontEnd("json", io.StringIO()), work)


async def test_what_the_work_returns_comes_out() -> None:
    async def work(_: Signals) -> int:
        return 7

    assert await supervise(FrontEnd("json", io.StringIO()), work) == 7


def test_the_loop_is_the_fast_one_where_there_is_one() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def which() -> bool:
        return isinstance(asyncio.get_running_loop(), uvloop.Loop)

    assert run_async(which)


def test_a_first_signal_is_told_what_it_leads_to() -> None:
    deploys, reverts = folded(good_run(3).records), Story(("h1", "h2"))
    reverts.revert("R1")

    assert what_follows(deploys, True) == "every link is put back; wait for it"
    assert what_follows(deploys, False) == "too late to put links back"
    taken_back = folded(reverts.records)
    assert what_follows(taken_back, True) == "it stops before any link is put back"
    assert "on their way back already" in what_follows(taken_back, False)
    executes = Story(("h1",))
    executes.tell(e.Started("exec", "shop", ("site",), ("h1",)))
    board = folded(executes.records)
    assert what_follows(board, True) == "scripts are ended on all hosts; wait for it"
    assert what_follows(board, False) == "it is over"
    swaps = Story(("h1",))
    swaps.tell(e.Started("swap", "shop", ("site",), ("h1",), color="green"))
    board = folded(swaps.records)
    assert what_follows(board, True).startswith("what got visitors loses them again")
    assert what_follows(board, False) == "too late: green is active"
