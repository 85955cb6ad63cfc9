"""
A disk of the store that is full: a run ends only where it has to, and says so once.

The store is a small file system of its own here; the hosts are in memory.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

from ghostasync import Outcome, Plan, Script, State
from ghostasync import events as e
from ghostasync.testing import Answer, Call, FakeHosts, step
from tests.deploying import of, run, six_hosts, states, with_rollout
from tests.fleet.conftest import need
from tests.fleet.sshd import namespaces_work

pytestmark = pytest.mark.fleet

MIB = 1 << 20


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    """A plan whose store has 24 MiB."""
    need(namespaces_work(), "needs root, and mount(8)")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plan, store = six_hosts(tmp_path), tmp_path / "store"
    store.mkdir()
    options = ["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs"]
    subprocess.run(["mount", *options, str(store)], check=True)
    yield plan
    subprocess.run(["umount", "-l", str(store)], check=True)


def fill(plan: Plan) -> None:
    """Leave no byte of the store's disk free."""
    with (plan.base / "store/filler").open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


@pytest.mark.parametrize(
    ("moment", "ends"),
    [
        ("probe", State.HALTED),
        ("check", State.HALTED),
        ("record_moves", State.ROLLED_BACK),
        ("switch", State.ROLLED_BACK),
        ("post_deploy", State.ROLLED_BACK),
        ("verify", State.ROLLED_BACK),
        ("prune", State.LIVE),
    ],
)
async def test_a_run_that_cannot_be_recorded_ends_and_tells_why_in_one_line(
    plan: Plan, moment: str, ends: State
) -> None:
    hosts = FakeHosts()
    first, _ = await run(plan, hosts)
    assert first.outcome is Outcome.LIVE
    (plan.base / "tree/index").write_text("2")
    full: list[Call] = []

    def breaks(call: Call) -> None:
        if step(call) == moment and not full:
            full.append(call)
            fill(plan)

    hosts.breaks = breaks

    report, seen = await run(plan, hosts)

    assert set(states(report).values()) == {ends}
    live = ends is State.LIVE
    release = (report if live else first).releases["site"]
    assert set(hosts.serves.values()) == {release}
    assert report.exit_status == (0 if live else 1)
    if not live:
        assert "No space left on device" in report.reason
    texts = [report.reason, *(w.text for w in of(e.Warned, seen) if hasattr(w, "text"))]
    assert all("\n" not in text for text in texts)
    # Once there is room again, the next run is like any other.
    (plan.base / "store/filler").unlink()
    hosts.breaks = lambda _: None
    again, _ = await run(plan, hosts)
    assert again.outcome in {Outcome.LIVE, Outcome.UNCHANGED}


async def test_a_host_that_never_ends_its_output_does_not_fill_the_disk(
    plan: Plan,
) -> None:
    flood = b"y" * (60 * MIB)

    def breaks(call: Call) -> Answer | None:
        if step(call) == "post_deploy" and call.host == "h2":
            return Answer(0, flood)
        return None

    hosts = FakeHosts(breaks=breaks)

    report, seen = await run(with_rollout(plan, max_failures=1), hosts)

    assert set(states(report).values()) == {State.LIVE}
    assert of(e.Warned, seen) == []
    assert Path(report.hosts["h2"].log).stat().st_size < 13 * MIB


async def test_another_run_in_the_store_does_not_notice_a_flood(plan: Plan) -> None:
    other = attrs.evolve(
        plan,
        app=attrs.evolve(plan.app, name="other"),
        modules=(attrs.evolve(plan.modules[0], post_deploy=Script(inline="x")),),
    )
    theirs: list[Outcome] = []
    flood = Answer(0, b"y" * (60 * MIB))

    class Hosts(FakeHosts):
        async def __call__(self, call: Call) -> Answer:
            if step(call) == "verify" and call.host == "h1":
                report, _ = await run(other, FakeHosts())
                theirs.append(report.outcome)
            if step(call) == "pre_deploy":
                return flood if call.host == "h2" else Answer()
            return await super().__call__(call)

    report, _ = await run(plan, Hosts())

    assert [*theirs, report.outcome] == [Outcome.LIVE, Outcome.LIVE]
