"""Behind a real HAProxy, nobody notices a swap of two fleets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from ghostasync import Plan, Rollout, Verify
from ghostasync.model import BalancerSettings
from tests.fleet.conftest import StartFleet, need
from tests.fleet.console import Console
from tests.fleet.ports import reserve
from tests.fleet.sample_app import SampleApp
from tests.fleet.visitors import APP, HEALTHY, POST_DEPLOY, Visitors, until
from tests.haproxy import HAPROXY, haproxy, socket_of

pytestmark = pytest.mark.fleet

HOSTS = ("h1", "h2", "h3", "h4")


@pytest.fixture
def reserved() -> Iterator[list[socket.socket]]:
    """Ports for the balancer and for each host."""
    with ExitStack() as ports:
        yield [ports.enter_context(reserve()) for _ in ("front", *HOSTS)]


def of_color(plan: Plan, color: str, hosts: slice, variables: dict[str, str]) -> Plan:
    app = attrs.evolve(plan.app, color=color, active_color="", env_vars=variables)
    return attrs.evolve(plan, app=app, hosts=plan.hosts[hosts])


def test_visitors_go_from_one_color_to_the_other_and_back(
    sshd_fleet: StartFleet, tmp_path: Path, reserved: list[socket.socket]
) -> None:
    need(HAPROXY.exists(), "needs haproxy")
    front, *ports = [port.getsockname()[1] for port in reserved]
    servers = dict(zip(HOSTS, ports, strict=True))
    sample = SampleApp.create(tmp_path, sshd_fleet(len(HOSTS)), "site")
    site = sample.repositories["site"]
    site.script("post_deploy", POST_DEPLOY)
    (site.path / "app.py").write_text(APP)
    site.commit("1")
    kind = {"socket": socket_of(tmp_path), "backend": "shop"}
    plan = sample.plan(
        sample.module("site", verify=Verify(command=HEALTHY, interval=0.2)),
        rollout=Rollout(balancer=BalancerSettings("haproxy", kind)),
    )
    variables = {f"PORT_{name}": str(port) for name, port in servers.items()}
    console = Console(sample)
    configurations = {}
    for color, hosts in (("blue", slice(2)), ("green", slice(2, 4))):
        console.configure(of_color(plan, color, hosts, variables))
        configurations[color] = sample.folder / f"{color}.toml"
        (sample.folder / "ghostasync.toml").rename(configurations[color])
    blue = ("--config", str(configurations["blue"]))
    green = ("--config", str(configurations["green"]))
    swap = ("swap", *blue, "--with", str(configurations["green"]))
    visitors = Visitors(f"http://127.0.0.1:{front}/")
    places = {name: f"127.0.0.1:{port}" for name, port in servers.items()}

    with haproxy(tmp_path, front, places):
        assert console.deploy(*blue).exit == 0
        unsaid = console(*swap)
        assert unsaid.exit == 2
        assert "nobody has said which color is active: say --to" in unsaid.stderr
        assert console(*swap, "--to", "blue").exit == 0
        site.commit("2")
        assert console.deploy(*green).exit == 0
        until(lambda: visitors.ask() == "1")
        with visitors.asking():
            there = console(*swap, "--reason", "a fair", "--output", "json")
        first, after = dict(visitors.got), visitors.ask()
        behind = Visitors(visitors.url)
        with behind.asking():
            back = console("swap", *green, "--with", str(configurations["blue"]))
        afterwards = visitors.ask()
    told = console("status", *green)
    history = console("history", *blue, "--output", "json")

    assert (there.exit, back.exit) == (0, 0), there.stderr + back.stderr
    assert (set(first), set(behind.got)) == ({"1", "2"}, {"1", "2"}), (first, behind)
    assert (after, afterwards) == ("2", "1")
    assert there.states == dict.fromkeys(HOSTS, "UNCHANGED")
    assert (there.event("ColorMoved")["color"], there.last["outcome"]) == (
        *("green", "live"),
    )
    assert "blue is active in " in back.stdout
    assert told.stdout.startswith("color       green\nactive      blue since ")
    newest = json.loads(history.stdout.splitlines()[0])
    assert (newest["action"], newest["reason"]) == ("swap", "a fair")
    record = json.loads((sample.folder / "store/shop/prod/web/ACTIVE").read_text())
    assert (record["color"], record["number"]) == ("blue", 3)
