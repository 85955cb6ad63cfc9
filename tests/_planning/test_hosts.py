"""Which hosts a run is about, by what became of them in earlier runs."""

from __future__ import annotations

from pathlib import Path

from ghostasync import App, DirectorySource, Host, HostReport, Module, Plan, Report
from ghostasync._planning.hosts import choose_hosts
from ghostasync.model import Outcome, State
from ghostasync.testing import MemoryStore


async def chosen(limit: str, **states: State) -> set[str]:
    """Choose from a fleet whose last run left its hosts in *states*."""
    store = MemoryStore()
    rows = {name: HostReport(state) for name, state in states.items()}
    report = Report("1", Outcome.FAILED, 1, {}, rows)
    await store.runs.append("1", "journal.jsonl", 0, b"")
    await store.runs.save("1", "report.json", report.to_json().encode())
    plan = Plan(
        App("shop", "prod", "web"),
        (Module("site", "/srv/site", DirectorySource(".")),),
        tuple(Host(name) for name in states),
        base=Path("/nowhere"),
    )
    return {host.name for host in await choose_hosts(plan, store, [limit])}


async def test_a_host_that_was_halted_did_not_fail() -> None:
    states = {
        "web1": State.FAILED,
        "web2": State.HALTED,
        "web3": State.ROLLED_BACK,
        "web4": State.STRANDED,
        "web5": State.LIVE,
        "web6": State.UNCHANGED,
    }

    assert await chosen("@failed", **states) == {"web1", "web3", "web4"}
    assert await chosen("!@failed", **states) == {"web2", "web5", "web6"}
