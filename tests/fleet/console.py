"""The ghostasync command as a person runs it: a process, a file, an exit status."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from ghostasync import Module, Plan, Script
from tests.fleet.clock import another_clock
from tests.fleet.command import WARNINGS, Command
from tests.fleet.forkserver import Order
from tests.fleet.processes import descendants, send
from tests.fleet.sample_app import SECRET, SampleApp

__all__ = ["Console", "Outcome"]

SECONDS = 60


@attrs.frozen
class Outcome:
    """What a command left: exit status, stdout, stderr."""

    exit: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:  # JSON
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def last(self) -> dict[str, Any]:  # JSON
        return self.events[-1]

    @property
    def states(self) -> dict[str, str]:
        states: dict[str, str] = self.last["hosts"]
        return states

    def event(self, name: str, host: str = "") -> dict[str, Any]:  # JSON
        """Return the only event of that name (and host)."""
        found = [
            e
            for e in self.events
            if e["event"] == name and (not host or e.get("host") == host)
        ]
        assert len(found) == 1, (name, found)
        return found[0]


@attrs.frozen
class Console:
    """
    Runs commands against the sample app's ``ghostasync.toml``.

    *env* is on top of the usual environment; the clock is *hours* ahead.
    """

    sample: SampleApp
    env: Mapping[str, str] = attrs.field(factory=lambda: {"TOKEN": SECRET})
    hours: int = 0

    def configure(self, plan: Plan) -> None:
        (self.sample.folder / "ghostasync.toml").write_text(_toml(plan))

    @contextmanager
    def running(
        self,
        *args: str,
        prefix: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        quick: Mapping[str, float] | None = None,
    ) -> Iterator[Command]:
        """Start a command, by *prefix*; its stdout is a pipe to read events from."""
        folder = str(self.sample.folder)
        order = Order(args, folder, self.environ(env or {}), prefix, quick or {})
        with Command(order, self.hours) as process:
            try:
                yield process
            finally:
                # What a prefix starts may be a process of its own.
                if prefix and process.poll() is None:
                    for pid in reversed(descendants(process.pid)):
                        send(pid, signal.SIGKILL)
                process.kill()

    def __call__(self, *args: str, **env: str) -> Outcome:
        """Run a command to its end."""
        with self.running(*args, env=env) as process:
            out, err = process.communicate(timeout=SECONDS)
        return Outcome(process.returncode, out, err)

    def deploy(self, *args: str, **env: str) -> Outcome:
        return self("deploy", "--output", "json", *args, **env)

    def environ(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a command, with *more* on top."""
        folder = self.sample.folder
        return {
            **os.environ,
            **(another_clock(self.hours) if self.hours else {}),
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            **self.env,
            **more,
            **WARNINGS,
        }


def _toml(plan: Plan) -> str:
    """Write a plan the way people do: tables, and only what differs from defaults."""
    lines: list[str] = []
    for table in ("app", "store", "ssh", "layout", "rollout"):
        lines.append(f"[{table}]")
        lines += _keys(getattr(plan, table))
    lines += ["[inventory]", *_keys(plan.inventory)]
    if plan.hosts:
        hosts = ", ".join(_value(attrs.asdict(host)) for host in plan.hosts)
        lines.append(f"hosts = [{hosts}]")
    for module in plan.modules:
        lines += ["[[modules]]", *_keys(module)]
    return "\n".join(lines) + "\n"


def _keys(value: Any) -> list[str]:  # any attrs class
    defaults = {field.name: field.default for field in attrs.fields(type(value))}
    keys = _fields(value)
    if isinstance(value, Module):
        defaults["adopt"] = False
    return [
        f"{name} = {_value(item)}"
        for name, item in keys.items()
        if item != defaults.get(name) and (item or item == 0) and item != {}
    ]


def _value(value: Any) -> str:  # what TOML can hold
    if isinstance(value, Script) and value == Script(value.path):
        return json.dumps(value.path)
    if attrs.has(type(value)):
        return _value({k: v for k, v in _fields(value).items() if v != ""})
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _fields(value: Any) -> dict[str, Any]:  # any attrs class
    """Return the keys of a table; those of a plug-in stand beside its name."""
    keys = attrs.asdict(value, recurse=False)
    keys |= keys.pop("options", {})
    return keys
