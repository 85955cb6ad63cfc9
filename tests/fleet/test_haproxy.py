"""Behind a real HAProxy, nobody notices a deployment."""

from __future__ import annotations

import shlex
import shutil
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from ghostasync import Hook, Rollout, Verify
from ghostasync.model import BalancerSettings
from tests.fleet.conftest import StartFleet, need
from tests.fleet.console import Console
from tests.fleet.ports import reserve
from tests.fleet.sample_app import SampleApp
from tests.haproxy import HAPROXY, haproxy, socket_of

pytestmark = pytest.mark.fleet

EXAMPLE = Path(__file__).parents[2] / "examples" / "haproxy.py"
HOSTS = ("h1", "h2", "h3")
CLIENTS = 6
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable

APP = """\
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
version = open("/srv/site/version", "rb").read()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.0 if self.path == "/health" else 0.05)
        self.send_response(200)
        self.send_header("Content-Length", str(len(version)))
        self.end_headers()
        self.wfile.write(version)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# An application that has to be restarted, and is away for a while.
POST_DEPLOY = f"""\
set -eu
eval "port=\\$PORT_$GHOST_HOST"
if [ -f /srv/pid ]; then
    kill "$(cat /srv/pid)"
    while kill -0 "$(cat /srv/pid)" 2>/dev/null; do sleep 0.1; done
fi
sleep 0.5
setsid {PYTHON} app.py "$port" </dev/null >/dev/null 2>&1 &
echo "$!" >/srv/pid
"""

HEALTHY = (
    f"{PYTHON} -c 'import sys, urllib.request as u;"
    ' u.urlopen("http://127.0.0.1:%s/health" % sys.argv[1], timeout=3)\''
    ' "$(eval "echo \\$PORT_$GHOST_HOST")"'
)


@attrs.define
class Visitors:
    """Clients that ask all the time, and what they got."""

    url: str
    got: Counter[str] = attrs.field(factory=Counter)
    over: threading.Event = attrs.field(factory=threading.Event)

    def ask(self) -> str:
        try:
            with urllib.request.urlopen(self.url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError as exc:
            return f"error: {exc}"

    def _stay(self) -> None:
        while not self.over.is_set():
            self.got[self.ask()] += 1

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._stay) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


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
