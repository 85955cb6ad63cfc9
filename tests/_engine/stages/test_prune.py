from __future__ import annotations

import attrs

from ghostasync import Outcome, Plan
from ghostasync import events as e
from ghostasync.testing import Answer, FakeHosts
from tests.deploying import fails, of, run

SITE = "/ghost/shop/prod/web/site"


async def deploy_versions(plan: Plan, hosts: FakeHosts, *versions: str) -> list[str]:
    """Deploy one version after the other; return their releases."""
    made = []
    for version in versions:
        (plan.base / "tree/index").write_text(version)
        report, _ = await run(plan, hosts)
        made.append(report.releases["site"])
    return made


async def test_a_host_keeps_so_many_that_were_live(plan: Plan) -> None:
    plan = attrs.evolve(plan, layout=attrs.evolve(plan.layout, keep=2))
    hosts = FakeHosts()

    made = await deploy_versions(plan, hosts, "1", "2", "3", "4")

    assert hosts["h1"].releases == {*made[-2:]}


async def test_one_that_failed_is_kept_to_be_looked_at(plan: Plan) -> None:
    plan = attrs.evolve(plan, layout=attrs.evolve(plan.layout, keep=1))
    hosts = FakeHosts()
    await deploy_versions(plan, hosts, "1")
    hosts.breaks = fails("post_deploy", "h1")
    failed = await deploy_versions(plan, hosts, "2")
    hosts.breaks = lambda _: None

    made = await deploy_versions(plan, hosts, "3")

    assert hosts["h1"].releases == {*failed, *made}


async def test_a_host_that_is_live_is_noted_as_proven(plan: Plan) -> None:
    hosts = FakeHosts()

    (made,) = await deploy_versions(plan, hosts, "1")

    site = hosts["h1"].module(SITE)
    assert site.fingerprints == {made: site.records[1]["fingerprint"]}
    assert site.records[1]["outcome"] == "live"


async def test_what_could_not_be_removed_is_a_warning(plan: Plan) -> None:
    hosts = FakeHosts()
    hosts.breaks = lambda call: (
        Answer(1, b"", b"read-only\n") if (call.host, call.name) == ("h2", "prune")
        else None
    )  # fmt: skip

    report, seen = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    assert of(e.HostWarned, seen) == [
        e.HostWarned(
            "h2", "old releases of site were not removed: prune exited 1: read-only"
        )
    ]
