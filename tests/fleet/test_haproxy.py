"""Behind a real HAProxy, nobody notices a deployment."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from ghostasync import Hook, Rollout, Verify
from ghostasync.model import BalancerSettings
from tests.fleet.conftest import StartFleet, need
from tests.fleet.console import Console
from tests.fleet.ports import reserve
from tests.fleet.sample_app import SampleApp
from tests.fleet.visitors import APP, HEALTHY, POST_DEPLOY, Visitors, until
from tests.haproxy import HAPROXY, haproxy, socket_of

pytestmark = pytest.mark.fleet

EXAMPLE = Path(__file__).parents[2] / "examples" / "haproxy.py"
HOSTS = ("h1", "h2", "h3")


@pytest.fixture
def reserved() -> Iterator[list[socket.socket]]:
    """Ports for the balancer and for each host."""
    with ExitStack() as ports:
        yield [ports.enter_context(reserve()) for _ in ("front", *HOSTS)]


@pytest.mark.parametrize("how", ["hooks", "kind"])
def test_visitors_of_a_balanced_fleet_see_no_error(
    sshd_fleet: StartFleet, tmp_path: Path, reserved: list[socket.socket], how: str
) -> None:
    need(HAPROXY.exists(), "needs haproxy")
    front, *ports = [port.getsockname()[1] for port in reserved]
    servers = dict(zip(HOSTS, ports, strict=True))
    sample = SampleApp.create(tmp_path, sshd_fleet(len(HOSTS)), "site")
    site = sample.repositories["site"]
    site.script("post_deploy", POST_DEPLOY)
    (site.path / "app.py").write_text(APP)
    site.commit("1")
    hook = f"{shlex.quote(sys.executable)} {shlex.quote(str(EXAMPLE))}"
    kind = {"socket": socket_of(tmp_path), "backend": "shop"}
    rollouts = {
        "hooks": Rollout(drain=Hook(f"{hook} drain"), undrain=Hook(f"{hook} undrain")),
        "kind": Rollout(balancer=BalancerSettings("haproxy", kind)),
    }
    plan = sample.plan(
        sample.module("site", verify=Verify(command=HEALTHY, interval=0.2)),
        rollout=attrs.evolve(rollouts[how], waves=(2,), min_serving=2),
    )
    variables = {
        "HAPROXY_SOCKET": socket_of(tmp_path),
        "HAPROXY_BACKEND": "shop",
        **{f"PORT_{name}": str(port) for name, port in servers.items()},
    }
    console = Console(sample)
    console.configure(
        attrs.evolve(plan, app=attrs.evolve(plan.app, env_vars=variables))
    )
    visitors = Visitors(f"http://127.0.0.1:{front}/")

    places = {name: f"127.0.0.1:{port}" for name, port in servers.items()}

    with haproxy(tmp_path, front, places):
        first = console.deploy()
        assert first.exit == 0, first.stderr
        until(lambda: visitors.ask() == "1")
        site.commit("2")
        with visitors.asking():
            second = console.deploy()
        site.script("post_deploy", f"{POST_DEPLOY}[ $GHOST_HOST != h3 ]\n")
        site.commit("3")
        behind = Visitors(visitors.url)
        with behind.asking():
            third = console.deploy()

    assert second.exit == 0, second.stderr
    assert set(visitors.got) == {"1", "2"}, visitors.got
    assert third.exit == 1, "the third fails on its last host"
    assert set(third.states.values()) == {"ROLLED_BACK"}
    assert set(behind.got) == {"2", "3"}, "and nobody notices the way back either"
