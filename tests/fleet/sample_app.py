"""A small app with two modules in real repositories, and a plan to deploy it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ghostasync import (
    App,
    GitSource,
    Host,
    Layout,
    Module,
    Plan,
    Rollout,
    Script,
    Ssh,
    StoreSettings,
    Verify,
)
from tests.fleet.sshd import SshdFleet

__all__ = ["HOSTILE", "SECRET", "Repository", "SampleApp"]

SECRET = "s3cr3t-`id`-$(id)"
HOSTILE = 'it\'s `id` "$(id)" \\ \n second line'

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}

_DUMP = 'env -0 >"log/$GHOST_MODULE_NAME.{key}.env"\n'
_TRACE = 'echo "{key} $GHOST_ACTION $GHOST_RELEASE_ID $(pwd -P)" >>log/trace\n'

SCRIPTS = {
    "buildpack": "#!/bin/sh\nset -eu\nenv -0 >built.env\ncp version built\n",
    "pre_deploy": _DUMP.format(key="pre_deploy") + _TRACE.format(key="pre_deploy"),
    "post_deploy": _DUMP.format(key="post_deploy") + _TRACE.format(key="post_deploy"),
    "after_all_deploy": 'env -0 >"$AFTER_ALL"\n',
}


class Repository:
    """A git repository with the scripts of a module in ``deploy/``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        (path / "deploy").mkdir()
        for key, text in SCRIPTS.items():
            (path / "deploy" / key).write_text(text)
        (path / "log").mkdir()
        (path / "log" / "seed").write_text("first")
        (path / "config.ini").write_text("seeded = yes\n")
        (path / "bin").mkdir()
        (path / "bin" / "run").write_text("#!/bin/sh\n")
        (path / "bin" / "run").chmod(0o755)
        (path / "link").symlink_to("bin/run")
        (path / "näme with 'quotes' $(x)\nand newline").write_text("hostile\n")
        self.commit("1")

    def git(self, *args: str, text: str = "") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *args],
            check=True,
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, **_IDENTITY},
        )
        return done.stdout.strip()

    def commit(self, version: str, message: str = HOSTILE) -> str:
        (self.path / "version").write_text(version)
        (self.path / "twin").write_text(version)
        self.git("add", "-A")
        how = ("-q", "--cleanup=verbatim", "--allow-empty", "-F", "-")
        self.git("commit", *how, text=message)
        return self.git("rev-parse", "HEAD")

    def script(self, key: str, text: str) -> None:
        (self.path / "deploy" / key).write_text(text)


@attrs.define
class SampleApp:
    """Repositories, a store, a fleet; what tests deploy and look at."""

    folder: Path
    fleet: SshdFleet
    repositories: Mapping[str, Repository]

    @classmethod
    def create(cls, folder: Path, fleet: SshdFleet, *names: str) -> SampleApp:
        repositories = {
            name: Repository(folder / "repositories" / name)
            for name in names or ("site", "worker")
        }
        return cls(folder, fleet, repositories)

    def module(self, name: str, **changes: Any) -> Module:  # attrs.evolve's own
        module = Module(
            name=name,
            path=f"/srv/{name}",
            source=GitSource(str(self.repositories[name].path), "main"),
            buildpack=Script(path="deploy/buildpack"),
            pre_deploy=Script(path="deploy/pre_deploy"),
            post_deploy=Script(path="deploy/post_deploy"),
            shared_dirs=("log",),
            shared_files=("config.ini",),
            verify=Verify(command="test -f version", interval=0.2),
        )
        return attrs.evolve(module, **changes)

    def plan(
        self,
        *modules: Module,
        ssh: Ssh | None = None,
        rollout: Rollout = Rollout(),
        hosts: tuple[Host, ...] | None = None,
        root: str = "/ghost",
        keep: int = 5,
    ) -> Plan:
        return Plan(
            app=App(
                name="shop",
                env="prod",
                role="web",
                color="blue",
                active_color="green",
                env_vars={"GREETING": HOSTILE},
                secrets=("TOKEN",),
            ),
            modules=modules or tuple(map(self.module, self.repositories)),
            hosts=self.fleet.hosts if hosts is None else hosts,
            store=StoreSettings(url=str(self.folder / "store")),
            ssh=ssh or self.fleet.ssh,
            layout=Layout(root=root, keep=keep),
            rollout=rollout,
            base=self.folder,
        )

    # --- What is true on hosts ---------------------------------------------------

    def module_folder(self, host: str, name: str) -> Path:
        return self.fleet.path(host, f"/ghost/shop/prod/web/blue/{name}")

    def link(self, host: str, name: str) -> str:
        """Return what a target says, empty where there is none."""
        path = self.fleet.path(host, f"/srv/{name}")
        return str(path.readlink()) if path.is_symlink() else ""

    def serves(self, name: str) -> dict[str, str]:
        """Return the release id each host serves."""
        return {
            host.name: self.link(host.name, name).rpartition("/")[2]
            for host in self.fleet.hosts
        }

    def read(self, host: str, name: str, path: str) -> bytes:
        """Return a file of a host, as a visitor would get it."""
        release = self.link(host, name).rpartition("/")[2]
        return (self.module_folder(host, name) / release / path).read_bytes()

    def shared(self, host: str, name: str, path: str) -> Path:
        return self.module_folder(host, name) / "shared" / path

    def environment(self, host: str, name: str, script: str) -> dict[str, str]:
        """Return the environment that a script saw on a host."""
        data = self.shared(host, name, f"log/{name}.{script}.env").read_bytes()
        return variables(data)

    def trace(self, host: str, name: str) -> list[list[str]]:
        """Return what ran on a host: script, action, release id, folder."""
        lines = self.shared(host, name, "log/trace").read_text().splitlines()
        return [line.split(" ", 3) for line in lines]

    def leftovers(self, host: str, name: str) -> set[str]:
        """Return what lies in a module's folders besides what belongs there."""
        folder = self.module_folder(host, name)
        releases = {p.name for p in folder.iterdir()} - {"shared", ".ghost"}
        records = {"activations"}
        meta = {p.name for p in (folder / ".ghost").iterdir()} - records
        beside = {p.name for p in self.fleet.path(host, "/srv").iterdir()}
        strange = {r for r in releases if not (folder / r / "version").exists()}
        return strange | (meta ^ releases) | (beside - set(self.repositories))

    # --- What is true here -------------------------------------------------------

    @property
    def store(self) -> Path:
        return self.folder / "store/shop/prod/web/blue"

    def manifest(self) -> list[list[str]]:
        """Return MANIFEST, a list of fields a line."""
        path = self.store / "MANIFEST"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split(":") for line in lines]


def variables(data: bytes) -> dict[str, str]:
    """Read the output of ``env -0``."""
    text = data.decode(errors="surrogateescape")
    return dict(item.partition("=")[::2] for item in text.split("\0") if item)
