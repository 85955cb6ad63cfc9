from __future__ import annotations

import json

import anyio
import pytest

from ghostasync.errors import StoreError
from ghostasync.history import reports
from ghostasync.history.reports import AT_ONCE, last_states
from ghostasync.testing._memory_store import MemoryRunLog


def report(state: str) -> bytes:
    return json.dumps({"hosts": {"web1": {"state": state}}}).encode()


class Together(MemoryRunLog):
    """Answers once as many have asked as may."""

    asked = 0
    all_asked: anyio.Event

    async def load(self, run: str, name: str) -> bytes:
        self.asked += 1
        if self.asked == AT_ONCE:
            self.all_asked.set()
        await self.all_asked.wait()
        return await super().load(run, name)


async def test_reports_are_read_at_once_and_count_in_their_order() -> None:
    runs = Together("memory:")
    runs.all_asked = anyio.Event()
    for number in range(AT_ONCE + 1):
        await runs.save(f"{number:02}", "report.json", report("FAILED"))
    await runs.save(f"{AT_ONCE:02}", "report.json", report("LIVE"))

    with anyio.fail_after(5):
        assert await last_states(runs) == {"web1": "LIVE"}


async def test_runs_without_a_report_are_passed_over() -> None:
    runs = MemoryRunLog("memory:")
    await runs.save("1", "report.json", report("LIVE"))
    await runs.save("2", "journal.jsonl", b"")

    assert await last_states(runs) == {"web1": "LIVE"}


async def test_a_report_that_cannot_be_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fails(*_: object) -> bytes:
        raise StoreError("the store is away")

    runs = MemoryRunLog("memory:")
    await runs.save("1", "report.json", b"{}")
    monkeypatch.setattr(MemoryRunLog, "load", fails)

    with pytest.raises(StoreError, match="is away"):
        await reports.failed_hosts(runs)
