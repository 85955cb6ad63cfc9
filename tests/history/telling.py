"""Stories of runs on three hosts, and the journals that they leave."""

from __future__ import annotations

import attrs

from ghostasync import events as e
from ghostasync.journal import line
from ghostasync.model import Revision
from tests.story import NEW, OLD, Story

HOSTS = ("h1", "h2", "h3")
PREVIOUS = {"site": f"/ghost/site/{OLD}"}


def started(**changes: object) -> e.Started:
    event = e.Started("deploy", "shop/prod/web", ("site",), HOSTS, actor="ann")
    return attrs.evolve(event, **changes)  # type: ignore[arg-type]  # its own keys


def story(begin: e.Started, *, waves: tuple[tuple[str, ...], ...] = (HOSTS,)) -> Story:
    """Tell a run in which all goes well."""
    told = Story(HOSTS)
    told.tell(begin)
    told.tell(e.Resolved("site", Revision("repo", "main", "a" * 40)))
    told.tell(e.Packaged("site", NEW, 10, 20, 3))
    for host in HOSTS:
        for event in (
            e.Connected(host),
            e.Checked(host, {"site": OLD}),
            e.Uploaded(host),
            e.Output(host, "site", "pre_deploy", "fine"),
            e.Prepared(host, PREVIOUS),
        ):
            told.tell(event)
    told.tell(e.Judged(3, 0, 0))
    for number, names in enumerate(waves, start=1):
        told.tell(e.WaveStarted(number, len(waves), names))
        for kind in (e.Drained, e.Switched, e.Activated, e.Verified, e.Undrained):
            for host in names:
                if kind is e.Drained:
                    told.tell(e.Admitted(host, number))
                told.tell(kind(host))
        told.tell(e.WaveFinished(number, len(names), 0))
    told.tell(e.ManifestMoved({"site": NEW}))
    told.tell(finished(dict.fromkeys(HOSTS, "LIVE")))
    return told


def finished(hosts: dict[str, str], outcome: str = "live") -> e.Finished:
    return e.Finished(outcome, 0, {"site": NEW}, hosts, 1.0, 10, 1.0, "/log")


def journal(told: Story, run: str = "") -> list[bytes]:
    return [
        line(attrs.evolve(record, run=run or record.run)).encode() + b"\n"
        for record in told.records
    ]
