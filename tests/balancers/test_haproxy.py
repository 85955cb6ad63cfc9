"""A real HAProxy sends nobody to a host whose release changes."""

from __future__ import annotations

import csv
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
import pytest

from ghostasync import App, Host, Plan
from ghostasync.adapters import balancer as by_name
from ghostasync.balancers.haproxy import HAProxy
from ghostasync.errors import ConfigError, HostError, PlanError
from tests.balancers.access import Access
from tests.fleet.conftest import need
from tests.fleet.ports import reserve
from tests.haproxy import HAPROXY, haproxy, socket_of

pytestmark = pytest.mark.fleet

W1, W2, W3 = (Host(name) for name in ("w1", "w2", "w3"))


@attrs.define
class Site:
    """An application that can be ill, and slow for those who ask for /slow."""

    well: bool = True
    came: threading.Event = attrs.field(factory=threading.Event)
    go_on: threading.Event = attrs.field(factory=threading.Event)

    def serve(self, stack: ExitStack) -> int:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/slow":
                    site.came.set()
                    site.go_on.wait(30)
                self.send_response(200 if site.well else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        stack.callback(self.go_on.set)
        return server.server_port


@attrs.define
class Setting:
    """An HAProxy of three servers, in *folder*."""

    folder: Path
    port: int
    admin: int
    sites: dict[str, Site]
    servers: dict[str, str]

    def say(self, command: str, folder: Path | None = None) -> str:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(socket_of(folder or self.folder))
            admin.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def states(self, backend: str = "shop", folder: Path | None = None) -> list[str]:
        text = self.say("show stat -1 4 -1", folder).removeprefix("# ").strip()
        rows = csv.DictReader(text.splitlines())
        return [row["status"] for row in rows if row["pxname"] == backend]

    async def until(self, true: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while True:
                if true():
                    return
                await anyio.sleep(0.02)

    def balancer(self, **options: object) -> HAProxy:
        given = {"socket": socket_of(self.folder), "backend": "shop", **options}
        made = by_name("haproxy", given, plan())
        assert isinstance(made, HAProxy)
        return made

    def visit(self, path: str = "/") -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30)


def plan(*hosts: Host) -> Plan:
    return Plan(App("shop", "prod", "web"), (), hosts)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    need(HAPROXY.exists(), "needs haproxy")
    with ExitStack() as stack:
        sites = {name: Site() for name in ("w1", "w2", "w3")}
        servers = {
            name: f"127.0.0.1:{site.serve(stack)}" for name, site in sites.items()
        }
        held = [stack.enter_context(reserve()) for _ in range(2)]
        port, admin = (each.getsockname()[1] for each in held)
        folder = tmp_path / "one"
        stack.enter_context(haproxy(folder, port, servers, admin))
        made = Setting(folder, port, admin, sites, servers)
        await made.until(lambda: made.states() == ["UP", "UP", "UP"])
        yield made


async def test_a_host_is_out_of_every_backend_until_it_is_put_back(
    setting: Setting,
) -> None:
    balancer = setting.balancer(backend=["shop", "unchecked"])

    await balancer.drain(Access(W2))

    assert setting.states() == ["UP", "DRAIN", "UP"]
    assert setting.states("unchecked") == ["no check", "DRAIN", "no check"]

    await balancer.undrain(Access(W2))

    assert setting.states() == ["UP", "UP", "UP"]
    assert setting.states("unchecked") == ["no check"] * 3


async def test_it_goes_when_its_last_visitor_has_gone(setting: Setting) -> None:
    balancer, site, over = setting.balancer(), setting.sites["w1"], anyio.Event()
    for name in ("w2", "w3"):
        setting.say(f"set server shop/{name} state maint")

    async def drain() -> None:
        await balancer.drain(Access(W1))
        over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, setting.visit, "/slow")
        await anyio.to_thread.run_sync(site.came.wait, 20)
        setting.say("set server shop/w2 state ready")
        await setting.until(lambda: setting.states()[1] == "UP")
        tasks.start_soon(drain)
        await setting.until(lambda: setting.states()[0] == "DRAIN")
        # A reload forgets what HAProxy was told.
        setting.say("set server shop/w1 state ready")
        await setting.until(lambda: setting.states()[0] == "DRAIN")
        assert not over.is_set()
        site.go_on.set()

    assert over.is_set()


async def test_visitors_who_stay_fail_the_drain_or_are_sent_away(
    setting: Setting,
) -> None:
    site = setting.sites["w1"]
    for name in ("w2", "w3"):
        setting.say(f"set server shop/{name} state maint")
    left: list[bool] = []

    def stay() -> None:
        try:
            setting.visit("/slow")
        except OSError:
            left.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, stay)
        await anyio.to_thread.run_sync(site.came.wait, 20)
        setting.say("set server shop/w2 state ready")
        await setting.until(lambda: setting.states()[1] == "UP")
        with pytest.raises(HostError) as caught:
            await setting.balancer().drain(Access(W1, seconds=0.1))
        assert not left
        await setting.balancer(force=True).drain(Access(W1, seconds=0.1))

    assert str(caught.value) == (
        "visitors are still there after 0.1 s (rollout.deadlines.drain); "
        "rollout.balancer.force = true ends their sessions"
    )
    assert left


async def test_it_comes_back_when_its_checks_pass(setting: Setting) -> None:
    balancer, site = setting.balancer(), setting.sites["w1"]
    await balancer.drain(Access(W1))
    site.well = False
    await setting.until(lambda: setting.states()[0] == "DOWN")

    with pytest.raises(HostError, match=r"checks of it do not pass within 0\.1 s"):
        await balancer.undrain(Access(W1, seconds=0.1))
    assert setting.states()[0] == "DOWN"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(balancer.undrain, Access(W1))
        site.well = True

    assert setting.states()[0] == "UP"


async def test_one_whose_last_check_failed_is_not_put_back_though_not_down_yet(
    setting: Setting, tmp_path: Path
) -> None:
    folder, site = tmp_path / "two", setting.sites["w1"]
    servers = {
        "w1": f"{setting.servers['w1']} fall 1000",
        "w2": setting.servers["w2"],
    }
    with reserve() as port, haproxy(folder, port.getsockname()[1], servers):
        await setting.until(lambda: setting.states(folder=folder) == ["UP", "UP"])
        balancer = setting.balancer(socket=socket_of(folder))
        await balancer.drain(Access(W1))
        site.well = False
        await setting.until(lambda: "DRAIN " in setting.states(folder=folder)[0])

        with pytest.raises(HostError, match="do not pass"):
            await balancer.undrain(Access(W1, seconds=0.3))

        assert "DRAIN " in setting.states(folder=folder)[0]


async def test_one_that_is_down_may_be_drained_though_nobody_else_is_up(
    setting: Setting,
) -> None:
    for name in ("w2", "w3"):
        setting.say(f"set server shop/{name} state maint")
    setting.sites["w1"].well = False
    await setting.until(lambda: setting.states()[0] == "DOWN")

    await setting.balancer().drain(Access(W1))

    setting.sites["w1"].well = True
    await setting.until(lambda: setting.states()[0] == "DRAIN")


async def test_the_last_server_is_never_drained(setting: Setting) -> None:
    balancer, failures = setting.balancer(), list[str]()
    setting.say("set server shop/w3 state maint")

    async def drain(host: Host) -> None:
        try:
            await balancer.drain(Access(host))
        except HostError as exc:
            failures.append(f"{exc.host}: {exc}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drain, W1)
        tasks.start_soon(drain, W2)

    assert sorted(setting.states()) == ["DRAIN", "MAINT", "UP"]
    last = "w1" if setting.states()[0] == "UP" else "w2"
    where = f"shop/{last} on {socket_of(setting.folder)}"
    assert failures == [f"{last}: {where}: is the last server that takes visitors"]


async def test_a_backup_server_is_not_one_that_is_left(
    setting: Setting, tmp_path: Path
) -> None:
    folder, w1 = tmp_path / "two", setting.servers["w1"]
    servers = {"w1": w1, "sorry": f"{setting.servers['w2']} backup"}
    with reserve() as port, haproxy(folder, port.getsockname()[1], servers):
        await setting.until(lambda: setting.states(folder=folder) == ["UP", "UP"])

        with pytest.raises(HostError, match="is the last server"):
            await setting.balancer(socket=socket_of(folder)).drain(Access(W1))


async def test_maintenance_is_left_to_the_person_who_began_it(setting: Setting) -> None:
    balancer = setting.balancer()
    setting.say("set server shop/w1 state maint")

    await balancer.drain(Access(W1))
    await balancer.undrain(Access(W1))

    assert setting.states() == ["MAINT", "UP", "UP"]


async def test_all_are_looked_at_before_one_is_told(
    setting: Setting, tmp_path: Path
) -> None:
    folder, servers = tmp_path / "two", {"w2": setting.servers["w2"]}
    with reserve() as port, haproxy(folder, port.getsockname()[1], servers):
        both = [socket_of(setting.folder), socket_of(folder)]
        balancer = setting.balancer(socket=both)

        with pytest.raises(HostError) as caught:
            await balancer.drain(Access(W1))

        assert setting.states() == ["UP", "UP", "UP"]
    said = f"shop/w1 on {both[1]}: the backend has no such server (rollout.balancer)"
    assert str(caught.value) == said


async def test_where_one_refuses_the_others_are_put_back(setting: Setting) -> None:
    refuses = str(setting.folder / "operator.sock")
    balancer = setting.balancer(socket=[socket_of(setting.folder), refuses])

    with pytest.raises(HostError) as caught:
        await balancer.drain(Access(W1))

    assert str(caught.value) == f"shop/w1 on {refuses}: Permission denied"
    assert setting.states() == ["UP", "UP", "UP"]


async def test_one_that_is_away_strands_no_host_that_it_was_not_told_about(
    setting: Setting, tmp_path: Path
) -> None:
    away = str(tmp_path / "away.sock")
    balancer = setting.balancer(socket=[socket_of(setting.folder), away])

    with pytest.raises(HostError) as caught:
        await balancer.drain(Access(W1))
    await balancer.undrain(Access(W1))
    with pytest.raises(HostError):
        await balancer.undrain(Access(W2))

    why = "cannot be asked: No such file or directory (rollout.balancer.socket)"
    assert str(caught.value) == f"shop/w1 on {away}: {why}"
    assert setting.states() == ["UP", "UP", "UP"]


async def test_an_admin_socket_may_be_a_port(setting: Setting) -> None:
    balancer = setting.balancer(socket=f"tcp://127.0.0.1:{setting.admin}")

    await balancer.drain(Access(W1))

    assert setting.states()[0] == "DRAIN"


async def test_a_backend_that_is_not_there_is_said(setting: Setting) -> None:
    with pytest.raises(HostError, match=r"nope/w1 on .*: no such backend"):
        await setting.balancer(backend="nope").drain(Access(W1))


async def test_a_server_is_named_by_what_its_host_has(setting: Setting) -> None:
    balancer = setting.balancer(server="w{number}")

    await balancer.drain(Access(Host("web1.example", labels={"number": "3"})))

    assert setting.states() == ["UP", "UP", "DRAIN"]


@pytest.mark.parametrize(
    ("host", "server", "reason"),
    [
        (Host("w1"), "{zone}", "w1: the host has no label zone"),
        (
            Host("w1", labels={"zone": "a; disable"}),
            "{zone}",
            "w1: no server of HAProxy can be called 'a; disable'",
        ),
    ],
)
def test_a_name_that_no_server_can_have_is_refused_with_the_plan(
    host: Host, server: str, reason: str
) -> None:
    options = {"socket": "/x", "backend": "shop", "server": server}

    with pytest.raises(PlanError) as caught:
        HAProxy(options, plan(host))

    assert str(caught.value) == f"{reason} (rollout.balancer.server)"


def test_two_hosts_are_not_one_server() -> None:
    hosts = [Host(name, labels={"zone": "a"}) for name in ("w1", "w2")]
    options = {"socket": "/x", "backend": "shop", "server": "{zone}"}

    with pytest.raises(PlanError) as caught:
        HAProxy(options, plan(*hosts))

    said = "w2: is the server a, and so is w1 (rollout.balancer.server)"
    assert str(caught.value) == said


@pytest.mark.parametrize("socket", ["", "tcp://lb1", "tcp://lb1:99999", "a\0b"])
def test_what_is_no_admin_socket_is_refused(socket: str) -> None:
    with pytest.raises(ConfigError, match=r"^rollout\.balancer\.socket: is "):
        HAProxy({"socket": socket, "backend": "shop"}, plan())


def test_wrong_options_are_all_told_at_once() -> None:
    options = {"sockets": "/x", "backend": ["a", "b;c"], "force": "yes", "server": ""}

    with pytest.raises(ConfigError) as caught:
        HAProxy(options, plan())

    where = "rollout.balancer."
    keys = "socket, backend, server, force"
    sockets = 'a path or "tcp://host:port", or an array of them'
    backends = "the name of a backend, or an array of them"
    name = 'a name such as "{name}", with {name}, {address} or labels of hosts in it'
    assert [text.removeprefix(where) for text in caught.value.problems] == [
        f'backend[1]: is "b;c"; allowed: {backends}',
        'force: is "yes"; allowed: true or false',
        f'server: is ""; allowed: {name}',
        f"socket: is missing; allowed: {sockets}",
        f"sockets: is unknown (did you mean socket?); allowed: {keys}",
    ]
