from __future__ import annotations

import json

import attrs

from ghostasync import BackPreview, Log, PastRelease, Preview
from ghostasync.cli import _tables as tables
from ghostasync.model import Revision
from ghostasync.protocols import ActiveColor
from ghostasync.survey.check import Finding, Overview
from ghostasync.survey.coming import Coming
from ghostasync.survey.status import (
    Ahead,
    FleetStatus,
    HostStatus,
    OpenRun,
    OtherStore,
)
from tests.story import NEW, OLD, names

PREVIEW = Preview(
    modules={
        "site": Revision("https://git.example/site", "main", "4f2a9c1" * 5, "Fix it"),
        "api": OLD,
    },
    waves=(("web001",), names(300)[1:]),
    allowed=15,
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
        "web4": HostStatus({"site": ""}, "drift", way="forward"),
    },
)


def test_a_preview_says_where_the_run_would_stop() -> None:
    assert list(tables.preview(PREVIEW)) == [
        "site: main is 4f2a9c1 Fix it",
        "  to be built",
        f"api: {OLD}",
        "wave 1 of 2: 1 host, web001",
        "wave 2 of 2: 299 hosts, web[002-300]",
        "300 hosts; stops at failure number 16; nothing was changed",
    ]


def test_equal_outputs_stand_once_behind_the_names_of_their_hosts() -> None:
    def log(text: str, host: str) -> Log:
        head, end = "--- exec of site in /srv/site\n", "\n--- exec of site exited 0\n"
        return Log(f"{head}{text}{end}".encode(), host)

    answer = (
        *(log("1.2\n", f"web{n:03}") for n in (1, 2, 3)),
        log("1.3\n--- exec of site exited 0\nit says", "web004"),
        log("", "web005"),
        Log(b"--- CHECKING failed: no sudo\n", "web006"),
        attrs.evolve(
            log("1.2\n", "db1"),
            text=b"--- exec of site in /srv/site\n\n--- exec of site cut short\n"
            + log("1.2\n", "db1").text,
        ),
    )

    assert list(tables.outputs(answer)) == [
        "web[001-003],db1: 1.2",
        "web004:",
        "  1.3",
        "  --- exec of site exited 0",
        "  it says",
    ]


def test_a_preview_is_one_object() -> None:
    said = json.loads(tables.preview_json(PREVIEW))

    assert said["allowed"] == 15
    assert [len(wave) for wave in said["waves"]] == [1, 299]


NOW = 1767225600.0


def back_to_old(*more: PastRelease) -> BackPreview:
    """A rollback of a canary among 300 hosts, one of which is silent."""
    canary, *others = names(300)
    new = PastRelease(
        NEW, NEW[-7:] * 2, "Show prices\x1b[2J with tax " * 3, "ann", NOW - 300
    )
    old = PastRelease(OLD, OLD[-7:] * 2, "", "a-robot-of-the-pipeline", NOW - 7200)
    return BackPreview(
        run="20260101T000000Z-abcdef",
        to={canary: {"site": OLD}, others[-1]: {"site": OLD}},
        serves={canary: {"site": NEW}},
        manifest=(),
        warnings=(),
        releases={
            "site": (
                attrs.evolve(new, hosts=(canary,)),
                attrs.evolve(old, hosts=tuple(others[:-1])),
                *more,
            )
        },
    )


def test_releases_are_shown_with_what_hosts_leave_and_where_they_go() -> None:
    shown = [*tables.releases(back_to_old(), NOW)]

    new, old, cut = NEW[-7:], OLD[-7:], "Show prices with tax Sh…"
    assert shown == [
        "site",
        f"  from  5 min ago  {new}  ann           web001        {cut}",
        f"  to    2 h ago    {old}  a-robot-of-t  web[002-299]",
    ]
    assert max(map(len, shown)) <= 80
    assert [*tables.ways(back_to_old())] == [
        "undoes run 20260101T000000Z-abcdef",
        f"site: {NEW} -> {OLD}, on web001",
        f"site: {OLD}, on web300, no answer yet",
    ]


def test_modules_whose_line_in_manifest_goes_back_first_are_one_line() -> None:
    both = attrs.evolve(back_to_old(), manifest=("api", "site"))

    assert [*tables.ways(both)][-1] == "MANIFEST goes back first: api, site"


def test_an_age_that_no_clock_can_tell_is_not_told() -> None:
    ahead, unknown = NOW + 60, 0.0
    more = (PastRelease("a", at=ahead), PastRelease("b", at=unknown))

    *_, first, second = tables.releases(back_to_old(*more), NOW)

    assert (first.split(), second.split()) == (["?", "a"], ["?", "b"])


def test_a_release_without_a_commit_of_its_own_is_shown_by_its_id() -> None:
    """Two packages of a commit differ by their environment."""
    more = PastRelease("1_site_" + OLD[-7:], OLD[-7:] * 2)

    shown = "\n".join(tables.releases(back_to_old(more), NOW))

    assert f" {OLD} " in shown
    assert f" {more.release}" in shown


def test_old_releases_are_counted() -> None:
    more = [PastRelease(f"r{number}") for number in range(20)]

    shown = [*tables.releases(back_to_old(*more), NOW)]

    assert shown[-1] == "  17 older"
    assert len(shown) == 7


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


def fleet_of(count: int, *findings: Finding) -> Overview:
    """Return a fleet of which web001 serves the release before, and one nothing."""
    hosts = names(count)
    live = dict.fromkeys(hosts, NEW) | {hosts[0]: OLD, hosts[1]: ""}
    message = "Keep the cart of visitors who log in while they pay\n\nAs asked for."
    revision = Revision("https://git.example/site", "main", "4f2a9c1" * 5, message)
    return Overview(
        hosts,
        dict.fromkeys(hosts, "root by sudo"),
        {"site": live, "api": dict.fromkeys(hosts[2:], OLD)},
        {"site": Coming(revision, stored=NEW), "api": Coming(Revision("/srv/api"))},
        "/var/lib/ghostasync",
        findings,
    )


def test_a_fleet_in_order_is_a_table_that_fits() -> None:
    minor = Finding("web002", "/tmp is full", warning=True)

    said = [*tables.overview(fleet_of(300, minor))]

    assert said == [
        "hosts   300: web[001-300]",
        "user    root by sudo on all hosts",
        f"live    site  {OLD} on web001",
        "              nothing on web002",
        f"              {NEW} on web[003-300]",
        f"        api   {OLD} on 298 hosts",
        'deploy  site  main is 4f2a9c1 "Keep the cart of visitors who log in wh…"',
        f"              to be built; stored of this commit: {NEW}",
        "        api   /srv/api",
        "              to be built",
        "store   /var/lib/ghostasync",
        "",
        "web002: warning: /tmp is full",
        "nothing stands in the way",
    ]
    assert max(map(len, said)) <= 80


def test_how_long_a_balancer_may_take_is_in_the_table() -> None:
    seconds = {"drain": 330.0, "undrain": 210.0}
    fleet = attrs.evolve(fleet_of(2), balancer_seconds=seconds)

    (line,) = [line for line in tables.overview(fleet) if line.startswith("drain")]
    *_, told = tables.overview_json(fleet)

    text = "by the balancer's settings 5 min 30 s at most, undrain 3 min 30 s"
    assert line == f"drain   {text}"
    assert json.loads(told)["balancer_seconds"] == seconds


def test_a_fleet_that_is_not_in_order_says_that_alone() -> None:
    assert [*tables.overview(fleet_of(3, *FINDINGS))] == [*tables.findings(FINDINGS)]


def test_machines_read_findings_and_then_the_fleet() -> None:
    *found, last = map(json.loads, tables.overview_json(fleet_of(3, *FINDINGS)))

    assert [line["text"] for line in found] == [each.text for each in FINDINGS]
    assert last["live"]["site"][last["hosts"][2]] == NEW
    assert last["modules"]["site"]["package"] == NEW
    assert (last["store"], len(last["hosts"])) == ("/var/lib/ghostasync", 3)


def test_hosts_that_serve_alike_are_one_line_and_the_worst_comes_last() -> None:
    assert list(tables.status(FLEET)) == [
        f"expected    site: {NEW}",
        f"in-line     web[1-2]  {NEW}",
        "drift       web4      site: none",
        "unreachable web3      no answer within 30 s",
        "",
        "bring in line:   ghostasync converge web4",
    ]
    assert list(tables.status(FleetStatus({}, {}))) == []


def test_the_color_comes_first_beside_the_active_one() -> None:
    fleet = FleetStatus({"site": NEW}, {}, color="green", active_color="blue")
    active = ActiveColor("blue", 1, "R1", "ada", "a fair", 0.0)

    assert list(tables.status(fleet))[:2] == [
        "color       green",
        "active      blue, by app.active_color",
    ]
    assert list(tables.status(attrs.evolve(fleet, active=active)))[1] == (
        "active      blue since 1970-01-01 00:00 UTC, by ada: a fair"
    )
    assert list(tables.status(attrs.evolve(fleet, active_color=""))) == [
        "color       green",
        f"expected    site: {NEW}",
    ]


def test_stranded_hosts_are_brought_in_line_as_well() -> None:
    hosts = {
        "web1": HostStatus({}, "stranded", "no answer"),
        "web2": HostStatus(
            {"site": OLD}, "drift", f"site: serves {OLD}", way="forward"
        ),
        "web3": HostStatus({"site": NEW}, "stranded", way="forward"),
    }
    cure = "bring in line:   ghostasync converge web2 web3"

    assert list(tables.status(FleetStatus({"site": NEW}, hosts)))[-2:] == ["", cure]
    # There is nothing to bring them to.
    assert cure not in list(tables.status(FleetStatus({}, hosts)))


def test_a_command_that_takes_hosts_back_says_so() -> None:
    hosts = {
        "web1": HostStatus({"site": OLD}, "drift", way="back"),
        "web2": HostStatus({"site": ""}, "drift", way="forward"),
    }

    assert list(tables.status(FleetStatus({"site": NEW}, hosts)))[-3:] == [
        "",
        "bring in line:   ghostasync converge web2",
        "take back:       ghostasync converge web1",
    ]


def test_hosts_ahead_of_manifest_are_told_both_ways() -> None:
    hosts = {
        "web1": HostStatus({"site": NEW}, "drift", way="ahead"),
        "web2": HostStatus({"site": OLD}, "in-line"),
    }
    fleet = FleetStatus({"site": OLD}, hosts, ahead={"site": Ahead(NEW, later=True)})

    assert list(tables.status(fleet))[-4:] == [
        "",
        "web1: moved by a later run than MANIFEST's",
        f"  take the others along:        ghostasync deploy --package {NEW}",
        "  or take these back:           ghostasync converge web1",
    ]
    older = attrs.evolve(fleet, ahead={"site": Ahead(NEW, later=False)})
    assert list(tables.status(older))[-2] == (
        f"  take the others back as well: ghostasync deploy --package {NEW}"
    )
    # Without the package nobody can take the others along.
    assert list(tables.status(attrs.evolve(fleet, ahead={})))[-1] == (
        "take back:       ghostasync converge web1"
    )


def test_what_another_store_has_brought_is_told() -> None:
    hosts = {"web1": HostStatus({"site": NEW}, "drift", way="ahead")}
    other = OtherStore(
        "R2", "bob", "2026-01-01T00:00:00Z", "/home/ann/store", ("web1",)
    )

    lines = list(tables.status(FleetStatus({"site": OLD}, hosts, other=other)))

    assert lines[2:5] == [
        "",
        (
            "run R2 by bob 2026-01-01T00:00:00Z brought what all hosts serve, from "
            "another store;"
        ),
        "  this one does not know it: /home/ann/store",
    ]


def test_status_is_one_object_host_by_host() -> None:
    said = json.loads(tables.status_json(FLEET))

    assert said["expected"] == {"site": NEW}
    assert said["hosts"]["web1"] == {
        "state": "in-line",
        "live": {"site": NEW},
        "text": "",
        "runs": {},
        "way": "",
    }
    assert said["run"] is None
    assert (said["color"], said["active_color"], said["active"]) == ("", "", None)


def test_the_active_color_is_an_object_of_status() -> None:
    active = ActiveColor("blue", 1, "R1", "ada", "a fair", 0.5)
    fleet = FleetStatus({}, {}, color="green", active_color="blue", active=active)

    said = json.loads(tables.status_json(fleet))

    assert (said["color"], said["active_color"]) == ("green", "blue")
    assert said["active"] == attrs.asdict(active)


# --- A run that has not ended -----------------------------------------------------


def of(run: OpenRun) -> list[str]:
    """The lines about a run, on a fleet of which one host is new."""
    fleet = FleetStatus(
        {"site": OLD},
        {
            "web1": HostStatus({"site": NEW}, "drift", f"site: serves {NEW}"),
            "web2": HostStatus({"site": OLD}, "in-line"),
            "web3": HostStatus({"site": OLD}, "in-line"),
            "web4": HostStatus({}, "unreachable", "no answer"),
        },
        run,
    )
    lines = list(tables.status(fleet))
    assert lines[1:5] == [
        f"in-line     web[2-3]  {OLD}",
        f"drift       web1      {NEW}",
        "unreachable web4      no answer",
        "",
    ]
    return lines[5:]


KILLED = OpenRun("R1", "deploy", "ada", releases={"site": NEW}, moved=True)


def test_a_killed_run_is_told_with_what_serves_and_what_to_type() -> None:
    assert of(KILLED) == [
        "run R1, deploy by ada, was killed while it switched",
        "  serves now:      new on web1, old on web[2-3]",
        "  finish it:       ghostasync resume",
        "  or put it back:  ghostasync resume --revert",
    ]


def test_how_far_a_killed_run_got_is_told() -> None:
    head = "run R1, deploy by ada, was killed"

    assert of(attrs.evolve(KILLED, moved=False))[0] == f"{head} before a link had moved"
    assert of(attrs.evolve(KILLED, committed=True))[0] == (
        f"{head} once MANIFEST had moved; what comes after that is left"
    )


def test_a_run_killed_on_its_way_back_only_goes_back() -> None:
    assert of(attrs.evolve(KILLED, going_back=True)) == [
        "run R1, deploy by ada, was killed on its way back",
        "  serves now:      new on web1, old on web[2-3]",
        "  take it back:    ghostasync resume",
    ]


def test_a_run_that_goes_on_is_not_called_killed() -> None:
    assert of(attrs.evolve(KILLED, holder="run R1 by ada on hq (pid 7)")) == [
        "run R1 by ada on hq (pid 7) is going on"
    ]


def test_a_killed_run_is_an_object_of_status() -> None:
    said = json.loads(tables.status_json(FleetStatus({}, {}, KILLED)))

    assert said["run"] == {
        "id": "R1",
        "action": "deploy",
        "actor": "ada",
        "holder": "",
        "releases": {"site": NEW},
        "moved": True,
        "going_back": False,
        "committed": False,
        "migrating": {},
    }
