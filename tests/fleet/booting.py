"""Hosts that boot by themselves, beside a fleet whose store they read."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import attrs

from ghostasync import StoreSettings, boot_script
from ghostasync._s3.client import Bucket
from tests.fleet.conftest import StartFleet
from tests.fleet.people import Person, Town
from tests.fleet.sample_app import SECRET, SampleApp
from tests.s3_servers import BUCKET, S3Server, apart

__all__ = ["Place", "assert_same", "place", "served_folder"]

PASSING: Final = {
    *("GHOST_ACTION", "GHOST_HOST", "GHOST_WAVE", "PWD", "OLDPWD", "SHLVL", "_"),
    *("SSH_CONNECTION", "SSH_CLIENT", "HOME", "LOGNAME", "USER", "SHELL", "PATH"),
    *("MAIL", "LC_ALL", "LANG", "TZ", "MOTD_SHOWN"),
}


@attrs.define
class Place:
    """A town whose store is in a bucket; its last host is in no inventory."""

    town: Town
    server: S3Server | None
    person: Person

    @property
    def bare(self) -> str:
        return self.town.sample.fleet.hosts[-1].name

    def script(self, text: str) -> Path:
        path = self.town.sample.folder / f"boot-{secrets.token_hex(2)}"
        path.write_text(text)
        return path

    def boots(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        path: str = "$PATH",
        text: str = "",
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        text = text or boot_script(self.person.plan, **{"wait": 60, **options})
        metadata = self.server.endpoint if self.server else "http://127.0.0.1:9"
        environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata}
        pairs = {**environ, **(env or {})}
        line = " ".join(
            [
                *("env", "-i", f"PATH={path}", "HOME=/root"),
                *(f"'{name}={value}'" for name, value in pairs.items()),
                *("/bin/sh", str(self.script(text)), *words),
            ]
        )
        try:
            done = self.town.sample.fleet.shell(self.bare, f"{line} 2>&1")
        except subprocess.CalledProcessError as exc:
            return subprocess.CompletedProcess(
                [], exc.returncode, exc.stdout, exc.stderr
            )
        return subprocess.CompletedProcess([], 0, done, "")

    def write(self, key: str, change: Callable[[bytes], bytes | None]) -> None:
        """Change an object of the store, as somebody does who has no key."""
        server = self.server
        if server is None:
            url = Path(self.person.plan.store.url) / "shop/prod/web/blue" / key
            data = change(url.read_bytes() if url.exists() else b"")
            url.unlink() if data is None else url.write_bytes(data)
            return

        async def act() -> None:
            url = f"{self.person.plan.store.url}/shop/prod/web/blue"
            bucket = Bucket(url, server.settings)
            found = await bucket.get(key)
            data = change(found.data if found else b"")
            if data is None:
                await bucket.delete([key])
            else:
                await bucket.put(key, data)
            await bucket.aclose()

        apart(act(), server)

    def log(self) -> str:
        folder = self.town.sample.fleet.path(self.bare, "/ghost/shop/prod/web/blue")
        return (folder / ".ghost/boot.log").read_text(errors="replace")


def place(
    start: StartFleet,
    folder: Path,
    server: S3Server,
    tools: Sequence[Mapping[str, str]] = (),
    modules: Sequence[str] = ("site",),
    **store: Any,
) -> Place:
    fleet = start(2, tools=tools)
    town = Town(SampleApp.create(folder, fleet, *modules))
    secret = {"TOKEN": SECRET, **server.environ}
    person = town.moves_in("ann", secrets=secret, modules=modules)
    url = f"s3://{BUCKET}/{secrets.token_hex(4)}"
    settings: StoreSettings = attrs.evolve(server.settings, url=url, **store)
    person.change(store=settings, hosts=fleet.hosts[:-1])
    return Place(town, server, person)


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        kind: object = ""
        if path.is_symlink():
            kind = path.readlink()
        elif path.is_file():
            kind = path.read_bytes()
        # A link to what is shared is made on each host.
        times = int(facts.st_mtime) if path.is_file() and not path.is_symlink() else 0
        found[str(path.relative_to(folder))] = (
            *(facts.st_mode, facts.st_uid, facts.st_gid),
            *(kind, times),
        )
    return found


def assert_same(sample: SampleApp, host: str, other: str) -> None:
    """The same tree, scripts and environment."""
    folders = [sample.module_folder(name, "site") for name in (host, other)]
    release = sample.link(host, "site").rpartition("/")[2]
    assert sample.link(other, "site") == sample.link(host, "site")
    assert tree(folders[0] / release) == tree(folders[1] / release)
    for key in ("pre_deploy", "post_deploy"):
        texts = [folder / ".ghost" / release / key for folder in folders]
        assert texts[0].read_bytes() == texts[1].read_bytes()
        one, two = (sample.environment(name, "site", key) for name in (host, other))
        assert {k: v for k, v in one.items() if k not in PASSING} == {
            k: v for k, v in two.items() if k not in PASSING
        }


@contextlib.contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    """Serve a folder by HTTP; yields its address."""
    folder.mkdir(exist_ok=True)
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()
