"""A plan for hosts in memory, and what is deployed by it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from ghostasync import (
    App,
    DirectorySource,
    Host,
    Module,
    Plan,
    Report,
    Rollout,
    Script,
    State,
    StoreSettings,
    Verify,
    start,
)
from ghostasync import events as e
from ghostasync.testing import Answer, Break, Call, FakeHosts, FakeTransport, step

__all__ = ["fails", "of", "run", "six_hosts", "states", "with_rollout"]


def fails(what: str, *hosts: str, status: int = 1) -> Break:
    """Have a script (or a step) fail on some hosts, but not while rolling back."""

    def breaks(call: Call) -> Answer | None:
        back = "GHOST_ACTION=rollback" in call.args
        if call.host in hosts and step(call) == what and not back:
            return Answer(status, b"it broke\n")
        return None

    return breaks


def six_hosts(folder: Path) -> Plan:
    """Return the plan of an app with one module, from *folder*, on h1 … h6."""
    tree = folder / "tree"
    tree.mkdir()
    (tree / "index").write_text("1")
    module = Module(
        name="site",
        path="/srv/site",
        source=DirectorySource(str(tree)),
        pre_deploy=Script(inline="true"),
        post_deploy=Script(inline="true"),
        verify=Verify(command="verify", interval=0.01),
    )
    return Plan(
        app=App("shop", "prod", "web"),
        modules=(module,),
        hosts=tuple(Host(f"h{number}") for number in range(1, 7)),
        store=StoreSettings(url=str(folder / "store")),
        base=folder,
    )


def with_rollout(plan: Plan, **changes: object) -> Plan:
    return attrs.evolve(plan, rollout=Rollout(**changes))  # type: ignore[arg-type]  # keys


async def run(
    plan: Plan, hosts: FakeHosts, transport: FakeTransport | None = None
) -> tuple[Report, list[e.Event]]:
    """Deploy to fakes; return the report and all events but samples."""
    seen: list[e.Event] = []

    def observe(record: e.Record) -> None:
        if not isinstance(record.event, e.Progressed):
            seen.append(record.event)

    transport = transport or FakeTransport(hosts)
    async with start(plan, observe=observe, transport=transport) as running:
        report = await running.report()
    return report, seen


def states(report: Report) -> dict[str, State]:
    return {name: host.state for name, host in report.hosts.items()}


def of(kind: type[e.Event], seen: Iterable[e.Event]) -> list[e.Event]:
    return [event for event in seen if type(event) is kind]
