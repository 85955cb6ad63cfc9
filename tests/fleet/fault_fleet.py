"""
Where faults are tried: a fleet behind proxies that break, its tools behind gates.

:class:`FaultFleet` sets it up, starts runs on it and breaks it; ``evidence`` says what
is true of it afterwards.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import attrs
from anyio.from_thread import start_blocking_portal

from ghostasync import Plan, Rollout, Script, Verify
from ghostasync.model import Deadlines
from tests.fleet import lies
from tests.fleet.console import Console, Outcome
from tests.fleet.gates import GATED_PATH, HOLD, Gate, install
from tests.fleet.running import Running
from tests.fleet.sample_app import Repository, SampleApp
from tests.fleet.sshd import SshdFleet
from tests.fleet.tcp_proxy import TcpProxy
from tests.fleet.trees import Tree, look

__all__ = ["APP", "FaultFleet"]

APP: Final = "/ghost/shop/prod/web/blue"
"""The app's folder on hosts, as :class:`SampleApp` has it."""

DISK: Final = "64m"
"""More than a release and what the engine wants to be spare."""

SCRIPTS: Final = {
    "pre_deploy": f"{HOLD} pre_deploy || exit\n",
    "post_deploy": f'{HOLD} "post_deploy-$GHOST_ACTION" || exit\n',
}
VERIFY: Final = Verify(
    command=f"{HOLD} verify || exit; test -f version", interval=0.2, attempt_timeout=3
)


@attrs.define(eq=False)
class FaultFleet:
    """
    A fleet that serves a release of ``site``, and what can happen to it.

    *trees* maps the first seven digits of every commit to what it holds; *good* is for
    those who share one.
    """

    sample: SampleApp
    console: Console
    proxies: Mapping[str, TcpProxy]
    disks: frozenset[str]
    trees: dict[str, Tree] = attrs.field(factory=dict)
    version: int = 0
    good: bool = True
    _names: dict[str, str] = attrs.field(factory=dict)
    _resources: ExitStack = attrs.field(factory=ExitStack)
    _down: set[str] = attrs.field(factory=set)

    @classmethod
    def create(
        cls,
        folder: Path,
        count: int,
        *,
        disks: tuple[str, ...] = (),
        addresses: Mapping[str, str] | None = None,
    ) -> Self:
        """
        Start a fleet that has nothing yet.

        Args:
            folder: Where all of it lives.

            count: How many hosts; they are called ``h1`` ….

            disks: Which of them have a small disk of their own for ``/ghost``.

            addresses: Where the proxies to some of them begin; here, otherwise.
        """
        with ExitStack() as resources:
            portal = resources.enter_context(start_blocking_portal())
            options = {"SetEnv": f"PATH={GATED_PATH}"}
            fleet = SshdFleet(count, folder / "fleet", options=options)
            for host in fleet.hosts:
                lies.install(fleet, host.name)
            for name in disks:
                resources.callback(_mount(fleet.path(name, "/ghost")))
            resources.enter_context(fleet)
            near = {h.name: h.address for h in fleet.hosts} | dict(addresses or {})
            proxies = {h.name: TcpProxy(portal, h, near[h.name]) for h in fleet.hosts}
            for proxy in proxies.values():
                resources.callback(proxy.close)
            for host in fleet.hosts:
                install(_tools(fleet, host.name))
            _know(folder / "fleet/known_hosts", fleet, proxies)
            sample = SampleApp.create(folder, fleet, "site")
            for key, text in SCRIPTS.items():
                sample.repositories["site"].script(key, text)
            _fill_in(sample.repositories["site"])
            return cls(
                sample,
                Console(sample),
                proxies,
                frozenset(disks),
                resources=resources.pop_all(),
            )
        raise AssertionError("an exit stack swallows nothing")

    @property
    def fleet(self) -> SshdFleet:
        return self.sample.fleet

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.fleet.hosts)

    # --- Runs --------------------------------------------------------------------

    def commit(self) -> None:
        """Make the next version."""
        self.version += 1
        repository = self.sample.repositories["site"]
        commit = repository.commit(str(self.version), f"version {self.version}")
        self.trees[commit[:7]] = look(repository.path)

    def configure(
        self,
        hooks: Mapping[str, Any] | None = None,  # attrs.evolve's own
        /,
        **changes: Any,
    ) -> None:
        """
        Write the configuration.

        *changes* are deadlines and keys of the rollout, but for its *hooks*, which have
        the names of their deadlines.
        """
        seconds = {f.name for f in attrs.fields(Deadlines)} & set(changes)
        deadlines = Deadlines(**{name: changes.pop(name) for name in seconds})
        self.console.configure(
            self._plan(Rollout(deadlines=deadlines, **(hooks or {}), **changes))
        )

    def _plan(self, rollout: Rollout) -> Plan:
        module = self.sample.module(
            "site",
            buildpack=Script(),
            shared_dirs=(),
            shared_files=(),
            verify=VERIFY,
        )
        hosts = tuple(
            attrs.evolve(proxy.host, address=self._names.get(name, proxy.host.address))
            for name, proxy in self.proxies.items()
        )
        plan = self.sample.plan(module, rollout=rollout, hosts=hosts)
        return attrs.evolve(plan, app=attrs.evolve(plan.app, env_vars={}, secrets=()))

    @contextmanager
    def deploying(
        self,
        *args: str,
        command: str = "deploy",
        prefix: tuple[str, ...] = (),
        quick: Mapping[str, float] | None = None,
    ) -> Iterator[Running]:
        """Start a deploy; it is killed where the body leaves it behind."""
        words = (command, "--output", "json", *args)
        with self.console.running(*words, prefix=prefix, quick=quick) as process:
            yield Running(process)

    def deploy(self, *args: str, command: str = "deploy") -> Outcome:
        """Deploy, or another *command*, to the end."""
        with self.deploying(*args, command=command) as running:
            return running.finish()

    @contextmanager
    def gate(self, host: str, name: str) -> Iterator[Gate]:
        """Arm a gate of a host."""
        gate = Gate.arm(_tools(self.fleet, host), name)
        try:
            yield gate
        finally:
            gate.close()

    # --- What can happen to a host -----------------------------------------------

    def reset(self, host: str) -> None:
        """Reset its connections; new ones work."""
        self.proxies[host].reset()

    def half_open(self, host: str) -> None:
        """Carry nothing more of its connections, and tell nobody; new ones work."""
        self.proxies[host].silence()

    def kill(self, host: str) -> None:
        """Crash it: its processes are gone, and nobody listens any more."""
        self._down.add(host)
        self.fleet.kill(host)
        self.proxies[host].shut()
        self.proxies[host].flow()

    def stop(self, host: str) -> None:
        """Stop all its processes; TCP answers, nothing else does."""
        self._down.add(host)
        self.fleet.freeze(host)
        self.proxies[host].flow()

    def revive(self, host: str) -> None:
        """Start a host that was killed, let one go on that was stopped."""
        if self.fleet.runs(host):
            self.fleet.thaw(host)
        else:
            self.fleet.start(host)
        self.proxies[host].open()
        self._down.discard(host)

    def fill(self, host: str) -> None:
        """Fill the disk under its ``/ghost``."""
        filler = self.fleet.path(host, "/ghost") / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:  # others write meanwhile, so its size is not to be known
                file.write(bytes(1 << 16))

    def lie(self, host: str, script: str, what: str) -> None:
        """Have it answer a script by a lie, until it is healed."""
        lies.lie(self.fleet, host, script, what)

    def rename(self, host: str, name: str) -> None:
        """Have it reached by *name*, from the next configuration on."""
        self._names[host] = name

    def heal(self) -> None:
        """Put everything right that can happen to hosts."""
        self._names.clear()
        for name in self.names:
            self.proxies[name].reset()
            lies.be_honest(self.fleet, name)
            self.revive(name)
            (self.fleet.path(name, "/ghost") / "filler").unlink(missing_ok=True)

    @property
    def reachable(self) -> tuple[str, ...]:
        """The hosts that nothing happened to which lasts."""
        return tuple(name for name in self.names if name not in self._down)

    def close(self) -> None:
        """End the fleet."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _tools(fleet: SshdFleet, host: str) -> Path:
    return fleet.path(host, "/ghost").with_name("bin")


def _mount(folder: Path) -> Any:  # a callback that takes it away
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", str(folder)],
        check=True,
    )
    return lambda: subprocess.run(["umount", "-l", str(folder)], check=True)


def _know(file: Path, fleet: SshdFleet, proxies: Mapping[str, TcpProxy]) -> None:
    """Have the hosts' keys believed at the near end of the proxies, too."""
    lines = file.read_text().splitlines()
    for line, host in zip(tuple(lines), fleet.hosts, strict=True):
        _, _, key = line.partition(" ")
        near = proxies[host.name].host
        lines.append(f"[{near.address}]:{near.port} {key}")
    file.write_text("\n".join(lines) + "\n")


def _fill_in(repository: Repository) -> None:
    """Give a release some files, so that it can be half there."""
    for number in range(40):
        file = repository.path / f"lib/part{number % 8}/file{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(2048))
    with suppress(FileNotFoundError):
        (repository.path / "config.ini").unlink()
