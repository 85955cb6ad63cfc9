from __future__ import annotations

import attrs
import pytest

from ghostasync import Module, Plan, State
from ghostasync.testing import FakeHost, FakeHosts
from tests.deploying import run, states


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (FakeHost(tools=("zstd",)), "tar is missing: install it"),
        (FakeHost(tools=("tar",)), "zstd and gzip are missing: install one of them"),
        (FakeHost(rename=""), "nothing here renames a link in one step"),
    ],
)
async def test_what_a_host_lacks_is_named_with_its_cure(
    plan: Plan, host: FakeHost, words: str
) -> None:
    hosts = FakeHosts({"h2": attrs.evolve(host)})

    report, _ = await run(plan, hosts)

    assert states(report)["h2"] is State.FAILED
    assert report.hosts["h2"].stage is State.CHECKING
    assert words in report.hosts["h2"].reason
    assert hosts.asked("switch") == []


async def test_a_target_that_is_not_ours_is_refused(plan: Plan) -> None:
    hosts = FakeHosts()
    hosts["h2"].module("/ghost/shop/prod/web/site").link = "/home/ann/site"

    report, _ = await run(plan, hosts)

    assert "is a link to /home/ann/site, not a release of site" in (
        report.hosts["h2"].reason
    )
    assert hosts["h2"].link == "/home/ann/site"


async def test_files_of_others_need_root(plan: Plan) -> None:
    owned: Module = attrs.evolve(plan.modules[0], uid=33, gid=33)
    plan = attrs.evolve(plan, modules=(owned,))
    hosts = FakeHosts({"h2": FakeHost(uid=1000, user="ann", home="/home/ann")})

    report, _ = await run(plan, hosts)

    assert "site is owned by 33:33, which needs root" in report.hosts["h2"].reason
