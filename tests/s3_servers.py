"""
Servers that speak S3, each from PyPI in a virtual environment of its own.

``ministack`` holds every condition; Swift, a store that many run, holds none that two
writers could rely on. Both listen on the loopback interface alone, and end with the
process that started them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import pytest

from ghostasync.model import StoreSettings
from tests.fleet.ports import reserve

HOME: Final = Path(
    os.environ.get("GHOSTASYNC_TEST_SERVERS")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "ghostasync-tests"
)
"""The folder of the virtual environments; they stay, for the next run of the tests."""

START_SECONDS: Final = 60
T = TypeVar("T")

BUCKET: Final = "fleet"
VERSIONED: Final = "versioned"


@attrs.frozen
class S3Server:
    """A server, and the environment in which its credentials are found."""

    endpoint: str
    key: str
    secret: str
    pid: int

    @property
    def settings(self) -> StoreSettings:
        """The settings of a store there."""
        return StoreSettings(
            endpoint_url=self.endpoint, region="us-east-1", path_style=True
        )

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which everything signs in."""
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}


async def make_bucket(server: S3Server, name: str = BUCKET) -> None:
    """Make a bucket, unless it is there."""
    async with client(server) as s3:
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            await s3.create_bucket(Bucket=name)


@contextlib.asynccontextmanager
async def versioned(server: S3Server) -> AsyncIterator[tuple[Any, str]]:
    """Hand out a client, and the name of a bucket that keeps versions."""
    await make_bucket(server, VERSIONED)
    async with client(server) as s3:
        how = {"Status": "Enabled"}
        await s3.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration=how)
        yield s3, VERSIONED


def client(server: S3Server) -> Any:
    """Return a client of botocore, to be entered, for what the library never does."""
    from aiobotocore.session import get_session

    session = get_session()
    session.register_component("data_loader", _loader())
    return session.create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
    )


@functools.cache
def _loader() -> Any:
    """Return what reads the description of S3, which is large, and keeps it."""
    from botocore.loaders import create_loader

    return create_loader()


def apart(work: Coroutine[Any, Any, T], server: S3Server | None = None) -> T:
    """Return what comes of *work*, in a loop of its own, signed in to *server*."""
    environ = server.environ if server else {}
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as thread:
        for name, value in environ.items():
            patch.setenv(name, value)
        return thread.submit(asyncio.run, work).result()


def installed(*packages: str) -> Path:
    """Return the ``bin`` of a virtual environment that has *packages*."""
    venv = HOME / f"{packages[0]}-{sys.version_info[0]}.{sys.version_info[1]}"
    HOME.mkdir(parents=True, exist_ok=True)
    # Several workers of one test run come here at the same time.
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = venv / "installed"
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            pip = [f"{venv}/bin/python", "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *packages], check=True)
            done.touch()
    return venv / "bin"


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[S3Server]:
    """Run ministack, with an empty bucket."""
    held = reserve()
    port = held.getsockname()[1]
    env = {
        "PATH": os.environ["PATH"],
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "S3_DATA_DIR": str(folder / "s3"),
        "MINISTACK_IMDS_V2_REQUIRED": "1",
        "HOME": str(folder),
    }
    command = [str(installed("ministack") / "ministack")]
    with held, running(command, folder, env, port) as pid:
        yield S3Server(f"http://127.0.0.1:{port}", "test", "test", pid)


_MAKE_RINGS: Final = """
from swift.common.ring import RingBuilder
for kind, port in RINGS:
    ring = RingBuilder(4, 1, 0)
    place = {"ip": "127.0.0.1", "port": port, "region": 1, "zone": 1}
    ring.add_dev({"id": 0, "weight": 1.0, "device": "d1", "meta": "", **place,
                  "replication_ip": "127.0.0.1", "replication_port": port})
    ring.rebalance()
    ring.get_ring().save(f"{kind}.ring.gz")
"""
"""What three commands of Swift do for each of its rings, in one process."""


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """Run Swift with one disk, and its S3 layer in front."""
    bin_ = installed("swift", "setuptools<80")
    kinds = ("proxy", "account", "container", "object")
    held = {kind: reserve() for kind in kinds}
    ports = {kind: each.getsockname()[1] for kind, each in held.items()}
    conf, disks = folder / "conf", folder / "disks"
    conf.mkdir()
    (disks / "d1").mkdir(parents=True)
    (conf / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\n"
        "name = one\ndefault = yes\n"
    )
    rings = [(kind, ports[kind]) for kind in ("account", "container", "object")]
    make = [str(bin_ / "python"), "-c", f"RINGS = {rings}\n{_MAKE_RINGS}"]
    subprocess.run(make, cwd=conf, check=True, capture_output=True)
    for kind, _ in rings:
        (conf / f"{kind}.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports[kind]}\nworkers = 0\n"
            f"user = root\nswift_dir = {conf}\ndevices = {disks}\n"
            "mount_check = false\nfallocate_reserve = 0\n"
            f"[pipeline:main]\npipeline = {kind}-server\n"
            f"[app:{kind}-server]\nuse = egg:swift#{kind}\n"
            # Listings are up to date while this machine is slow, too.
            "container_update_timeout = 30\nconn_timeout = 10\nnode_timeout = 30\n"
        )
    (conf / "proxy.conf").write_text(
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports['proxy']}\nworkers = 0\n"
        f"user = root\nswift_dir = {conf}\n[pipeline:main]\npipeline = catch_errors "
        "proxy-logging cache listing_formats s3api tempauth copy slo dlo "
        "versioned_writes symlink proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        "conn_timeout = 10\nnode_timeout = 30\n"
        "[filter:tempauth]\nuse = egg:swift#tempauth\n"
        "user_test_tester = testing .admin\n"
        "[filter:s3api]\nuse = egg:swift#s3api\ns3_acl = false\n"
        "[filter:versioned_writes]\nuse = egg:swift#versioned_writes\n"
        "allow_object_versioning = true\n"
        + "".join(
            f"[filter:{name}]\nuse = egg:swift#{egg}\n"
            for name, egg in {
                "catch_errors": "catch_errors",
                "proxy-logging": "proxy_logging",
                "cache": "memcache",
                "listing_formats": "listing_formats",
                "copy": "copy",
                "slo": "slo",
                "dlo": "dlo",
                "symlink": "symlink",
            }.items()
        )
    )
    servers = " ".join(
        f"{bin_}/swift-{kind}-server {conf}/{kind}.conf &"
        for kind in ("account", "container", "object")
    )
    script = (
        f"mkdir -p /etc/swift; mount --bind {conf} /etc/swift; {servers} "
        f"exec {bin_}/swift-proxy-server {conf}/proxy.conf"
    )
    # In a namespace of processes that ends as one, and with an /etc/swift of its own.
    command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
    command += ["--kill-child", "--mount-proc", "sh", "-c", script]
    env = {"PATH": os.environ["PATH"]}
    with contextlib.ExitStack() as stack:
        for each in held.values():
            stack.enter_context(each)
        pid = stack.enter_context(running(command, folder, env, ports["proxy"]))
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        yield S3Server(endpoint, "test:tester", "testing", pid)


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, env: dict[str, str], port: int
) -> Iterator[int]:
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _answers(port, process, log)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers anything but that it has trouble."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                return
        except urllib.error.HTTPError as exc:
            if exc.code < 500:
                return
        except (TimeoutError, OSError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"no server: {log.read_text()[-2000:]}")
