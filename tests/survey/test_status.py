"""What looking at a fleet says: of hosts fit and unfit, in line and stranded."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import DirectorySource, Plan, PlanError, State, check, resume, status
from ghostasync.testing import Answer, Break, Call, FakeHost, FakeHosts, FakeTransport
from tests.deploying import fails, run, states, with_rollout


@pytest.mark.parametrize(
    ("uid", "confirm", "warned"), [(1000, 30, True), (1000, 0, False), (0, 30, False)]
)
async def test_a_host_that_would_end_our_timer_is_told_of(
    plan: Plan, uid: int, confirm: int, warned: bool
) -> None:
    hosts = FakeHosts({"h1": FakeHost(uid=uid, ends_logins=True)})
    plan = with_rollout(attrs.evolve(plan, hosts=plan.hosts[:1]), confirm=confirm)

    found = await check(plan, transport=FakeTransport(hosts))

    assert [item.warning for item in found] == [True] * warned
    assert all("KillUserProcesses" in item.text for item in found)


def strands(host: str) -> Break:
    """Have a host fail after its switch, and on its way back."""
    first = fails("post_deploy", host)

    def breaks(call: Call) -> Answer | None:
        if call.name == "restore" and call.host == host:
            return Answer(1, b"no\n")
        return first(call)

    return breaks


async def test_a_stranded_host_stays_so_while_it_cannot_be_reached(plan: Plan) -> None:
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    away = FakeTransport(hosts, unreachable=frozenset({"h2", "h3"}))

    found = await status(plan, transport=away)

    assert found.hosts["h2"].state == "stranded"
    assert found.hosts["h2"].text == "connection refused"
    assert found.hosts["h3"].state == "unreachable"


async def test_a_stranded_host_with_the_right_link_is_not_in_line(plan: Plan) -> None:
    """Its post-deploy may have failed on the way back; nobody has looked since."""
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    hosts.links.clear()

    found = await status(plan, transport=FakeTransport(hosts))

    assert found.hosts["h2"].state == "stranded"


@pytest.mark.parametrize(
    ("broken", "state"),
    [({"h1"}, State.HALTED), ({f"h{n}" for n in range(1, 7)}, State.FAILED)],
)
async def test_a_run_that_never_touched_a_stranded_host_leaves_it_so(
    plan: Plan, broken: set[str], state: State
) -> None:
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    locked = Answer(1, errors=b"no room for the lock")
    hosts.breaks = lambda call: (
        locked if call.name == "lock" and call.host in broken else None
    )
    refused, _ = await run(plan, hosts)

    found = await status(plan, transport=FakeTransport(hosts))

    assert states(refused)["h2"] is state
    assert found.hosts["h2"].state == "stranded"


async def test_a_stranded_host_that_went_live_is_stranded_no_more(plan: Plan) -> None:
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    hosts.breaks = lambda _: None
    mended, _ = await run(plan, hosts)

    found = await status(plan, transport=FakeTransport(hosts))

    assert states(mended)["h2"] is State.LIVE
    assert "stranded" not in {host.state for host in found.hosts.values()}


async def test_who_resumes_what_ended_stranded_is_told_the_cure(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)
    hosts.breaks = strands("h2")
    Path(plan.base, "tree/index").write_text("2")
    report, _ = await run(plan, hosts)

    with pytest.raises(PlanError) as refused:
        await resume(plan, run=report.run, transport=FakeTransport(hosts))

    assert str(refused.value) == (
        f"run {report.run} has ended stranded: nothing is left to resume; to bring its "
        "stranded hosts in line: ghostasync converge h2"
    )


async def test_a_folder_that_is_missing_is_named_with_its_key(plan: Plan) -> None:
    missing = plan.base / "missing"
    module = attrs.evolve(plan.modules[0], source=DirectorySource(str(missing)))
    plan = attrs.evolve(plan, modules=(module,))
    text = f"{missing} is not a folder (modules[0].source.dir)"

    found = await check(plan, transport=FakeTransport(FakeHosts()))
    report, _ = await run(plan, FakeHosts())

    assert [(item.module, item.text) for item in found] == [("site", text)]
    assert report.reason == f"site: {text}"
