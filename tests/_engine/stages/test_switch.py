from __future__ import annotations

import attrs

from ghostasync import Outcome, Plan, State
from ghostasync.testing import Answer, Call, FakeHosts
from tests.deploying import run, states


async def test_all_links_of_a_host_move_in_one_call(plan: Plan) -> None:
    other = attrs.evolve(plan.modules[0], name="data", path="/srv/data")
    plan = attrs.evolve(plan, modules=(*plan.modules, other))
    hosts = FakeHosts()

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    (call,) = [c for c in hosts.calls if (c.host, c.name) == ("h1", "switch")]
    assert call.args[0] == "mv"
    assert call.args[3::6] == ("/srv/site", "/srv/data")
    live = {m.folder: m.live for m in hosts["h1"].modules.values()}
    app = "/ghost/shop/prod/web"
    assert live == {f"{app}/{name}": id_ for name, id_ in report.releases.items()}


async def test_a_host_renames_by_what_it_has(plan: Plan) -> None:
    hosts = FakeHosts()
    hosts["h2"].rename = "perl"

    await run(plan, hosts)

    how = {call.host: call.args[0] for call in hosts.calls if call.name == "switch"}
    assert how == {**dict.fromkeys(hosts.hosts, "mv"), "h2": "perl"}


async def test_a_link_that_somebody_else_moved_is_left_alone(plan: Plan) -> None:
    hosts = FakeHosts()
    site = hosts["h2"].module("/ghost/shop/prod/web/site")

    def moved(call: Call) -> Answer | None:
        if (call.host, call.name) == ("h2", "record_moves"):
            site.link = "/srv/elsewhere/1"
        return None

    hosts.breaks = moved

    report, _ = await run(plan, hosts)

    assert site.link == "/srv/elsewhere/1"
    assert states(report)["h2"] is State.STRANDED
    assert report.exit_status == 3
    assert {hosts[f"h{n}"].link for n in (1, 3, 4, 5, 6)} == {""}
