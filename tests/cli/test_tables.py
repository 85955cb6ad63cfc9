from __future__ import annotations

import json

from ghostasync._api import Preview
from ghostasync._survey import Finding, FleetStatus, HostStatus
from ghostasync.cli import tables
from ghostasync.model import Revision

from .story import NEW, OLD, names

PREVIEW = Preview(
    {"site": Revision("https://git.example/site", "main", "4f2a9c1" * 5), "api": OLD},
    (("web001",), names(300)[1:]),
    15,
)
FINDINGS = (
    Finding("web1", "/srv/site is a folder; move it away, or say adopt"),
    Finding("web2", "/srv/site is a folder; move it away, or say adopt"),
    Finding("web1", "2 GB are free", warning=True),
    Finding("", "no branch, tag or commit 'mian'", "site"),
)
FLEET = FleetStatus(
    {"site": NEW},
    {
        "web3": HostStatus({}, "unreachable", "no answer within 30 s"),
        "web1": HostStatus({"site": NEW}, "in-line"),
        "web2": HostStatus({"site": NEW}, "in-line"),
        "web4": HostStatus({"site": ""}, "drift"),
    },
)


def test_a_preview_says_where_the_run_would_stop() -> None:
    assert list(tables.preview(PREVIEW)) == [
        "site: main " + "4f2a9c1" * 5,
        f"api: {OLD}",
        "wave 1 of 2: 1 host, web001",
        "wave 2 of 2: 299 hosts, web[002-300]",
        "300 hosts; stops at failure number 16; nothing was changed",
    ]


def test_a_preview_is_one_object() -> None:
    said = json.loads(tables.preview_json(PREVIEW))

    assert said["allowed"] == 15
    assert [len(wave) for wave in said["waves"]] == [1, 299]


def test_findings_that_hosts_share_are_one_line() -> None:
    assert list(tables.findings(FINDINGS)) == [
        "web[1-2]: /srv/site is a folder; move it away, or say adopt",
        "web1: warning: 2 GB are free",
        "site: no branch, tag or commit 'mian'",
    ]
    assert list(tables.findings(())) == ["nothing stands in the way"]


def test_findings_are_an_object_each() -> None:
    said = [json.loads(line) for line in tables.findings_json(FINDINGS)]

    assert [(o["host"], o["module"], o["warning"]) for o in said] == [
        ("web1", "", False),
        ("web2", "", False),
        ("web1", "", True),
        ("", "site", False),
    ]


def test_hosts_that_serve_alike_are_one_line_and_the_worst_comes_last() -> None:
    assert list(tables.status(FLEET)) == [
        f"expected    site: {NEW}",
        f"in-line     web[1-2]  {NEW}",
        "drift       web4      site: none",
        "unreachable web3      no answer within 30 s",
    ]
    assert list(tables.status(FleetStatus({}, {}))) == []


def test_status_is_one_object_host_by_host() -> None:
    said = json.loads(tables.status_json(FLEET))

    assert said["expected"] == {"site": NEW}
    assert said["hosts"]["web1"] == {
        "state": "in-line",
        "live": {"site": NEW},
        "text": "",
        "runs": {},
    }
    assert said["run"] is None
