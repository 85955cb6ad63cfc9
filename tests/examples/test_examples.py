"""The examples are run as their readers would run them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from anyio import connect_tcp, create_task_group, create_tcp_listener, to_thread
from anyio.abc import SocketAttribute, SocketStream

from ghostasync.testing import InProcessFleet

EXAMPLES = Path(__file__).parents[2] / "examples"
README = EXAMPLES.parent / "README.md"

CONFIG = """\
[app]
name = "shop"
env = "prod"
role = "web"
[store]
url = "{root}/store"
[ssh]
user = "{user}"
identity = "{identity}"
known_hosts = "{known_hosts}"
config = false
[layout]
root = "~/ghost"
[inventory]
hosts = [{hosts}]
[[modules]]
name = "site"
path = "~/site"
source = {{ dir = "tree" }}
"""


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """A configuration for two hosts that answer while the test runs."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "index.html").write_text("hello")
    async with InProcessFleet(2, tmp_path / "fleet") as fleet:
        hosts = ", ".join(
            f'{{ name = "{h.name}", address = "{h.address}", port = {h.port} }}'
            for h in fleet.hosts
        )
        text = CONFIG.format(
            root=tmp_path,
            user=fleet.ssh.user,
            identity=fleet.ssh.identity,
            known_hosts=fleet.ssh.known_hosts,
            hosts=hosts,
        )
        (tmp_path / "ghostasync.toml").write_text(text)
        yield tmp_path


def _start(folder: Path, name: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *args],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def _output(process: subprocess.Popen[str]) -> str:
    out, _ = await to_thread.run_sync(lambda: process.communicate(timeout=60))
    return out


async def test_deploy_prints_what_became_live(folder: Path) -> None:
    process = _start(folder, "deploy.py")

    out = await _output(process)

    assert process.returncode == 0, out
    assert out.count("is live") == 2
    assert "2 hosts in" in out


async def test_what_the_readme_prints_is_true_of_any_number_of_waves(
    folder: Path,
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (folder / "readme.py").write_text(code)
    process = _start(folder, str(folder / "readme.py"))

    out = await _output(process)

    assert process.returncode == 0, out
    last = out.splitlines()[-1]
    assert re.fullmatch(r"links of the widest wave moved within \d+ ms", last)


async def test_the_portal_tells_everything_to_who_comes_late(folder: Path) -> None:
    process = _start(folder, "portal.py", "ghostasync.toml", "0")
    assert process.stdout
    first = await to_thread.run_sync(process.stdout.readline)
    port = int(first.rpartition(":")[2])

    received = b""
    async with await connect_tcp("127.0.0.1", port) as client:
        async for data in client:
            received += data
    out = await _output(process)

    events = [json.loads(line)["event"] for line in received.splitlines()]
    assert (events[0], events[-1]) == ("Started", "Finished")
    assert (process.returncode, out.strip()) == (0, "live")


async def test_what_runs_leave_can_be_kept_anywhere(folder: Path) -> None:
    first = await _output(_start(folder, "custom_store.py"))
    (folder / "tree" / "index.html").write_text("hello again")
    second = await _output(_start(folder, "custom_store.py"))

    assert first == second == ""
    with closing(sqlite3.connect(folder / "runs.db")) as db:
        rows = db.execute("select run, data from parts where name = 'report.json'")
        reports = {run: json.loads(data) for run, data in rows}
    assert [report["outcome"] for report in reports.values()] == ["live", "live"]
    assert not (folder / "store" / "runs").exists()


@pytest.mark.parametrize("works", [True, False])
async def test_a_chat_is_told_what_came_of_it(folder: Path, *, works: bool) -> None:
    if not works:
        config = folder / "ghostasync.toml"
        hook = '\npre_deploy = { inline = "echo no disk; exit 3" }\n'
        config.write_text(config.read_text() + hook)
    said = bytearray()

    async def take(stream: SocketStream) -> None:
        async with stream:
            while b"}" not in said:
                said.extend(await stream.receive())
            await stream.send(b"HTTP/1.0 200 OK\r\n\r\n")

    server = await create_tcp_listener(local_host="127.0.0.1")
    port = server.extra(SocketAttribute.local_port)
    async with server, create_task_group() as tasks:
        tasks.start_soon(server.serve, take)
        process = _start(folder, "notifier.py", f"http://127.0.0.1:{port}/")
        out = await _output(process)
        tasks.cancel_scope.cancel()

    first, *more = json.loads(said.partition(b"\r\n\r\n")[2])["text"].split("\n")
    assert process.returncode == (0 if works else 1), out
    if works:
        assert re.fullmatch(r"live: \d+_site_\w+", first)
        assert more == []
    else:
        assert first.startswith("failed: ")
        # The budget is spent with the first host that fails, whichever that is.
        failed = {re.sub("host-[0-9]", "HOST", line) for line in more}
        assert failed == {"HOST: pre_deploy of site exited 3: no disk"}


@pytest.mark.parametrize(
    ("name", "lines"),
    [("custom_inventory.py", 60), ("custom_store.py", 75), ("notifier.py", 60)],
)
def test_examples_of_what_can_be_handed_in_are_short(name: str, lines: int) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < lines


def test_hosts_can_come_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    config = CONFIG.format(
        root=tmp_path, user="u", identity="", known_hosts="kh", hosts='"x"'
    )
    (tmp_path / "ghostasync.toml").write_text(config)
    (tmp_path / "hosts.csv").write_text(
        "name,address,zone\na,192.0.2.1,z1\nb,192.0.2.2,z2\n"
    )

    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "custom_inventory.py"), "hosts.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.returncode) == ("wave 1: a, b\n", 0), done.stderr
