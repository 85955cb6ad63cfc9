"""Runs that are killed at a record of the journal, on hosts in memory."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Self

import attrs

from ghostasync import (
    App,
    Deploy,
    DirectorySource,
    Goal,
    Host,
    Module,
    Plan,
    Report,
    Rollout,
    Script,
    StoreSettings,
    Verify,
    deploy,
    start,
)
from ghostasync import events as e
from ghostasync.protocols import Inventory
from ghostasync.testing import FakeHost, FakeHosts

__all__ = ["HOSTS", "STORE", "Killed", "Scene", "four_hosts"]

HOSTS = ("h1", "h2", "h3", "h4")
STORE = "store/shop/prod/web"


def four_hosts(folder: Path) -> Plan:
    """Return the plan of an app with one module, on h1 … h4 in waves of 1 and 2."""
    (folder / "tree").mkdir()
    module = Module(
        name="site",
        path="/srv/site",
        source=DirectorySource(str(folder / "tree")),
        pre_deploy=Script(inline="true"),
        post_deploy=Script(inline="true"),
        after_all_deploy=Script(inline=f"echo >>{folder}/after_all"),
        verify=Verify(command="verify", interval=0.01),
    )
    return Plan(
        app=App("shop", "prod", "web"),
        modules=(module,),
        hosts=tuple(map(Host, HOSTS)),
        store=StoreSettings(url=str(folder / "store")),
        rollout=Rollout(waves=(1, 2)),
        base=folder,
    )


@attrs.define
class Killed:
    """A run as it was at one record: what its hosts had, what the store had."""

    seq: int
    event: e.Event
    hosts: dict[str, FakeHost]
    manifest: bytes
    environments: frozenset[str]


@attrs.define
class Scene:
    """A fleet that serves version 1, and what became of it under version 2."""

    folder: Path
    plan: Plan
    fleet: FakeHosts
    old: str = ""
    cuts: list[Killed] = attrs.field(factory=list)
    run: str = ""
    inventory: Inventory | None = None

    @classmethod
    async def begin(cls, folder: Path, plan: Plan, fleet: FakeHosts) -> Self:
        """Deploy version 1."""
        scene = cls(folder, plan, fleet)
        scene.version("1")
        scene.old = (await scene.deploy()).releases["site"]
        return scene

    @property
    def manifest(self) -> str:
        """What MANIFEST names; empty where it has no line."""
        path = self.folder / STORE / "MANIFEST"
        text = path.read_text() if path.exists() else ""
        return text.split(":")[1] if text else ""

    @property
    def after_all(self) -> int:
        """How often after_all_deploy ran."""
        log = self.folder / "after_all"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def version(self, text: str) -> None:
        (self.folder / "tree" / "index").write_text(text)

    async def deploy(self) -> Report:
        return await deploy(self.plan, transport=self.fleet.transport)

    async def deploy_and_watch(self) -> Report:
        """Deploy version 2; keep what was true after each of its records."""
        self.version("2")
        return await self.watch()

    async def watch(self, goal: Goal = Deploy(), *, wait: float = 0) -> Report:
        """Run something; keep what was true after each of its records."""
        async with start(
            self.plan,
            goal,
            wait=wait,
            observe=self.keep,
            inventory=self.inventory,
            transport=self.fleet.transport,
        ) as run:
            self.run = run.id
            report = await run.report()
        shutil.copytree(self.folder / "store", self.folder / "store.whole")
        return report

    def keep(self, record: e.Record) -> None:
        """Keep what is true after a record."""
        path = self.folder / STORE / "MANIFEST"
        manifest = path.read_bytes() if path.exists() else b""
        hosts = copy.deepcopy(self.fleet.hosts)
        kept = frozenset(f.stem for f in path.parent.glob("environments/*"))
        self.cuts.append(Killed(record.seq, record.event, hosts, manifest, kept))

    def kill(self, seq: int, *, lag: int = 0) -> Killed:
        """
        Have it be as if the controller had died right after record *seq*.

        *lag*: by how many records hosts were ahead of the journal.
        """
        known = [cut for cut in self.cuts if cut.seq <= seq + lag]
        shutil.rmtree(self.folder / "store")
        shutil.copytree(self.folder / "store.whole", self.folder / "store")
        store = self.folder / STORE
        journal = store / "runs" / self.run / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:seq]) + lines[seq][:20])
        (journal.parent / "report.json").unlink()
        (store / "MANIFEST").write_bytes(known[-1].manifest)
        # MANIFEST and the environments of what it names move together.
        for kept in (store / "environments").iterdir():
            if kept.stem not in known[-1].environments:
                kept.unlink()
        self.fleet.hosts = copy.deepcopy(known[-1].hosts)
        for host in self.fleet.hosts.values():
            host.ran.clear()
        return known[-1]

    def at(self, kind: type[e.Event], host: str = "") -> int:
        """Return the number of the last record of a kind."""
        return max(
            cut.seq
            for cut in self.cuts
            if isinstance(cut.event, kind)
            and (not host or getattr(cut.event, "host", "") == host)
        )

    def events(self) -> range:
        """Return every number after which a controller can die."""
        return range(1, self.cuts[-1].seq)
