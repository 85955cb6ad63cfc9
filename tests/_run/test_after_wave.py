"""A gate on the controller after each wave."""

from __future__ import annotations

import errno
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import Deadlines, Gate, Host, Outcome, Plan, State
from ghostasync import events as e
from tests._engine.balanced import Fleet, rolled
from tests.deploying import of, run, states


async def test_after_wave_decides_on_every_wave(plan: Plan, tmp_path: Path) -> None:
    gate = Gate('echo "$GHOST_WAVE/$GHOST_WAVES $GHOST_WAVE_HOSTS" | tee -a gate')
    plan = rolled(plan, waves=(1, 3), after_wave=gate)

    report, seen = await run(plan, Fleet())

    assert report.outcome is Outcome.LIVE
    assert (tmp_path / "gate").read_text().splitlines() == [
        *("1/3 h1", "2/3 h2 h3 h4", "3/3 h5 h6"),
    ]
    assert [type(event).__name__ for event in seen].count("AfterWavePassed") == 3
    assert "1/3 h1" in (Path(report.log) / "build" / "after_wave.log").read_text()


async def test_a_wave_of_any_size_can_be_told(plan: Plan, tmp_path: Path) -> None:
    """Linux starts no program with the names of 5,000 hosts in one variable."""
    gate = Gate('cp "$GHOST_WAVE_HOSTS_FILE" hosts; echo "${#GHOST_WAVE_HOSTS}" >size')
    names = [f"{'x' * 120}{number}" for number in range(1100)]
    plan = attrs.evolve(rolled(plan, after_wave=gate), hosts=tuple(map(Host, names)))

    report, _ = await run(plan, Fleet())

    assert report.outcome is Outcome.LIVE
    assert (tmp_path / "hosts").read_text().split() == names
    assert (tmp_path / "size").read_text() == "0\n"


async def test_a_full_disk_here_fails_the_gate_and_is_no_bug(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> int:
        assert path.name == "wave_hosts"
        assert text
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    fleet = Fleet()

    report, _ = await run(rolled(plan, waves=(1,), after_wave=Gate("true")), fleet)

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert "wave 1: [Errno 28] No space left on device" in report.reason
    assert states(report)["h1"] is State.ROLLED_BACK


@pytest.mark.parametrize(
    ("policy", "exit_status", "h1"),
    [
        ("rollback-fleet", 1, State.ROLLED_BACK),
        ("rollback-host", 5, State.LIVE),
    ],
)
async def test_an_after_wave_that_fails_stops_the_run(
    plan: Plan, tmp_path: Path, policy: str, exit_status: int, h1: State
) -> None:
    gate = Gate("echo ran >>gate; echo too many errors; exit 9")
    plan = rolled(plan, waves=(1,), after_wave=gate, on_failure=policy)
    fleet = Fleet()

    report, seen = await run(plan, fleet)

    assert report.exit_status == exit_status
    assert report.reason == "wave 1: after_wave exited 9"
    assert (states(report)["h1"], states(report)["h2"]) == (h1, State.HALTED)
    assert of(e.AfterWaveFailed, seen) == [
        e.AfterWaveFailed(1, "after_wave exited 9", 9, "too many errors\n")
    ]
    assert (tmp_path / "gate").read_text() == "ran\n", "not after the way back"


async def test_an_after_wave_ends_at_its_deadline(plan: Plan) -> None:
    plan = rolled(
        plan,
        waves=(1,),
        after_wave=Gate("sleep 60"),
        deadlines=Deadlines(after_wave=0.2),
    )

    with anyio.fail_after(30):
        report, _ = await run(plan, Fleet())

    assert report.reason == "wave 1: after_wave not done within 0.2 s"
    assert states(report)["h1"] is State.ROLLED_BACK
