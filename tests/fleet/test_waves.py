"""Waves on real hosts: drained, kept serving, gated, spread, and told apart."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import Gate, Hook, Plan, Rollout, Script
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

TELL = 'echo "{word} $GHOST_HOST $GHOST_ACTION $GHOST_WAVE/$GHOST_WAVES" >>balancer'


@attrs.define
class Scene:
    """Four hosts behind a balancer that is a file of who came and went."""

    sample: SampleApp
    console: Console
    plan: Plan

    def configure(self, **changes: object) -> None:
        self.plan = attrs.evolve(self.plan, **changes)  # type: ignore[arg-type]  # keys
        self.console.configure(self.plan)

    def module(self, **changes: object) -> None:
        module = attrs.evolve(self.plan.modules[0], **changes)  # type: ignore[arg-type]  # keys
        self.configure(modules=(module,))

    def balancer(self) -> list[list[str]]:
        path = self.sample.folder / "balancer"
        return [line.split() for line in path.read_text().splitlines()]

    def fewest(self) -> int:
        """Return how many hosts served at the worst moment."""
        out: set[str] = set()
        fewest = len(self.sample.fleet.hosts)
        for word, host, *_ in self.balancer():
            (out.add if word == "drain" else out.discard)(host)
            fewest = min(fewest, len(self.sample.fleet.hosts) - len(out))
        assert not out, "all are back"
        return fewest


@pytest.fixture
def scene(sshd_fleet: StartFleet, tmp_path: Path) -> Scene:
    sample = SampleApp.create(tmp_path, sshd_fleet(4), "site")
    rollout = Rollout(
        min_serving="50%",
        drain=Hook(TELL.format(word="drain")),
        undrain=Hook(TELL.format(word="undrain")),
    )
    scene = Scene(sample, Console(sample), sample.plan(rollout=rollout))
    scene.configure()
    return scene


def test_hosts_are_drained_around_their_switch_and_enough_serve(scene: Scene) -> None:
    outcome = scene.console.deploy()

    assert outcome.exit == 0, outcome.stderr
    assert scene.fewest() == 2
    assert sorted(scene.balancer()) == sorted(
        [word, f"h{n}", "deploy", "1/1"]
        for n in range(1, 5)
        for word in ("drain", "undrain")
    )
    for host in ("h1", "h2", "h3", "h4"):
        assert outcome.event("Drained", host)["seconds"] > 0


def test_the_way_back_is_drained_too(scene: Scene) -> None:
    old = scene.console.deploy().last["releases"]["site"]
    (scene.sample.folder / "balancer").unlink()
    scene.configure(rollout=attrs.evolve(scene.plan.rollout, waves=(2,)))
    scene.sample.repositories["site"].script("post_deploy", '[ "$GHOST_HOST" != h4 ]')
    scene.sample.repositories["site"].commit("2")

    outcome = scene.console.deploy()

    assert outcome.exit == 1
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    assert scene.sample.serves("site") == dict.fromkeys(outcome.states, old)
    assert scene.fewest() >= 2
    last = {host: action for word, host, action, _ in scene.balancer()}
    assert set(last.values()) == {"rollback"}


def test_a_hook_can_run_on_the_host(scene: Scene) -> None:
    hook = Hook('id -un >/srv/out; echo "$GHOST_HOST_ADDRESS $GREETING" >>/srv/out')
    on_host = attrs.evolve(hook, on="host")
    scene.configure(rollout=Rollout(drain=on_host))

    outcome = scene.console.deploy()

    assert outcome.exit == 0, outcome.stderr
    text = scene.sample.fleet.path("h3", "/srv/out").read_text()
    greeting = scene.plan.app.env_vars["GREETING"]
    assert text == f"root\n127.0.0.1 {greeting}\n"


def test_a_migration_that_fails_moves_no_link(scene: Scene) -> None:
    old = scene.console.deploy().last["releases"]["site"]
    count = 'echo ran >>/srv/migrations\ntest -f version\ntest "$(cat version)" = '
    scene.sample.repositories["site"].script("before_switch", f"set -e\n{count}3")
    scene.module(before_switch=Script(path="deploy/before_switch"))
    scene.sample.repositories["site"].commit("2")

    failed = scene.console.deploy()
    scene.sample.repositories["site"].commit("3")
    good = scene.console.deploy()

    assert failed.exit == 1
    assert set(failed.states.values()) == {"HALTED"}
    assert failed.event("BeforeSwitchFailed")["exit_status"] == 1
    assert "before_switch of site exited 1" in failed.stderr
    assert f"{old} on 4 hosts" in failed.stderr
    assert good.exit == 0, good.stderr
    ran = [scene.sample.fleet.path(f"h{n}", "/srv/migrations") for n in range(1, 5)]
    assert [path.exists() for path in ran] == [True, False, False, False]
    assert ran[0].read_text() == "ran\nran\n"


def test_a_gate_that_closes_takes_the_fleet_back(scene: Scene) -> None:
    gate = Gate('echo "errors after $GHOST_WAVE_HOSTS"; [ "$GHOST_WAVE" = 1 ]')
    scene.configure(rollout=Rollout(waves=(1,), after_wave=gate))

    outcome = scene.console.deploy()

    assert outcome.exit == 1
    assert outcome.states == {
        "h1": "ROLLED_BACK",
        "h2": "ROLLED_BACK",
        "h3": "HALTED",
        "h4": "HALTED",
    }
    assert outcome.event("AfterWaveFailed")["tail"] == "errors after h2\n"
    assert "wave 2: after_wave exited 1" in outcome.stderr
    assert set(scene.sample.serves("site").values()) == {""}


def test_a_host_gets_the_modules_that_name_it(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    sample = SampleApp.create(tmp_path, sshd_fleet(4))
    console = Console(sample)
    roles = ("web", "web", "worker", "spare")
    hosts = tuple(
        attrs.evolve(host, labels={"role": role})
        for host, role in zip(sample.fleet.hosts, roles, strict=True)
    )
    site = sample.module("site", hosts="role=web")
    worker = sample.module("worker", hosts=("role=worker", "h2"))
    console.configure(sample.plan(site, worker, hosts=hosts))

    outcome = console.deploy()
    status = console("status")
    again = console.deploy()
    converged = console("converge")

    assert outcome.exit == 0, outcome.stderr
    assert set(outcome.states) == {"h1", "h2", "h3"}
    assert "Accepted" not in sample.fleet.log("h4")
    served = {
        name: [host for host, release in sample.serves(name).items() if release]
        for name in ("site", "worker")
    }
    assert served == {"site": ["h1", "h2"], "worker": ["h2", "h3"]}
    assert [line[0] for line in sample.manifest()] == ["site", "worker"]
    assert status.exit == 0, status.stdout
    assert set(again.states.values()) == {"UNCHANGED"}
    assert converged.exit == 0, converged.stderr


def test_waves_take_their_share_of_every_zone(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    sample = SampleApp.create(tmp_path, sshd_fleet(4), "site")
    console = Console(sample)
    hosts = tuple(
        attrs.evolve(host, labels={"az": zone})
        for host, zone in zip(sample.fleet.hosts, "aabb", strict=True)
    )
    rollout = Rollout(waves=(2,), spread_by="az")
    console.configure(sample.plan(hosts=hosts, rollout=rollout))

    outcome = console.deploy()

    assert outcome.exit == 0, outcome.stderr
    waves = [e["hosts"] for e in outcome.events if e["event"] == "WaveStarted"]
    assert waves == [["h1", "h3"], ["h2", "h4"]]
