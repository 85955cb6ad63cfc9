"""
The tables of ``ghostasync.toml``, and the values they become.

The keys of most tables are the fields of the class; the exceptions are here: scripts
and sources have short forms, hosts have ranges, and plug-ins have keys of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import attrs

from ..model import (
    App,
    BalancerSettings,
    Deadlines,
    DirectorySource,
    Gate,
    GitSource,
    Hook,
    Host,
    InventorySettings,
    Layout,
    Module,
    Plan,
    Rollout,
    S3Source,
    Script,
    Signing,
    Source,
    Ssh,
    StoreSettings,
    Verify,
)
from ._hosts import read_rows
from ._rules import allowed
from ._structure import Findings, Reader, at

_Command = TypeVar("_Command", Hook, Gate)

__all__ = ["SCRIPT_ALLOWED", "SIGNING_ALLOWED", "SOURCE_ALLOWED", "read_plan"]

_TABLES: Final[Mapping[str, type[attrs.AttrsInstance]]] = {
    "[app]": App,
    "[store]": StoreSettings,
    "[ssh]": Ssh,
    "[layout]": Layout,
    "[rollout]": Rollout,
    "rollout.deadlines": Deadlines,
    "rollout.drain": Hook,
    "rollout.undrain": Hook,
    "rollout.after_wave": Gate,
    "[[modules]]": Module,
    "modules.verify": Verify,
}
_TOP: Final = ("app", "store", "ssh", "layout", "rollout", "inventory", "modules")

_SOURCES: Final[Mapping[str, type[GitSource | DirectorySource | S3Source]]] = {
    "git": GitSource,
    "dir": DirectorySource,
    "s3": S3Source,
}
_SOURCE_KEYS: Final = ("git", "rev", "dir", "s3", "version")
SOURCE_ALLOWED: Final = (
    '{ git = "…", rev = "…" }, { dir = "…" } or { s3 = "s3://…", version = "…" }'
)
_TEXTS: Final = ("path", "inline", "file")
_SCRIPT_KEYS: Final = (*_TEXTS, "run_as", "no_return")
SCRIPT_ALLOWED: Final = 'a path in the source tree, { inline = "…" } or { file = "…" }'
SIGNING_ALLOWED: Final = 'a key file or { command = "…" }'
_INVENTORY_KEYS: Final = ("command", "plugin", "hosts")


def read_plan(
    raw: Mapping[str, object], base: Path, findings: Findings
) -> tuple[Plan, list[str]]:
    """Return the plan that *raw* describes, and the place of each of its hosts."""
    reader = Reader(
        findings,
        _homes(),
        {
            Script: _script,
            Source: _source,
            Signing: _signing,
            BalancerSettings: _balancer,
            Hook: partial(_unless_empty, Hook),
            Gate: partial(_unless_empty, Gate),
        },
        {str: "", Source: DirectorySource("")},
        _hint,
    )
    reader.keys(raw, _TOP, "")
    if "app" not in raw:
        findings.add("app", "is missing; allowed: a table with name, env and role")
    inventory = raw.get("inventory", {})
    settings = _inventory(reader, inventory)
    hosts = list(_hosts(reader, inventory))
    plan = Plan(
        app=reader.table(App, raw.get("app", {}), "app"),
        modules=tuple(_modules(reader, raw)),
        hosts=tuple(host for _, host in hosts),
        inventory=settings,
        store=reader.table(StoreSettings, raw.get("store", {}), "store"),
        ssh=reader.table(Ssh, raw.get("ssh", {}), "ssh"),
        layout=reader.table(Layout, raw.get("layout", {}), "layout"),
        rollout=reader.table(Rollout, raw.get("rollout", {}), "rollout"),
        base=base,
    )
    return plan, [where for where, _ in hosts]


def _hint(cls: type, name: str) -> str:
    return SOURCE_ALLOWED if name == "source" else allowed(cls, name)


def _homes() -> Mapping[str, tuple[str, ...]]:
    """Return the tables that each key belongs in: a misplaced key is told its home."""
    homes: dict[str, tuple[str, ...]] = {}
    for name, cls in _TABLES.items():
        for key in attrs.fields_dict(cls):
            homes[key] = (*homes.get(key, ()), name)
    homes |= dict.fromkeys(_SOURCE_KEYS, ("modules.source",))
    of_hosts = ("address", "labels", "host_key_alias")
    homes |= dict.fromkeys(of_hosts, ("inventory.hosts",))
    homes["host_keys"] = ("[ssh]", "inventory.hosts")
    homes["hosts"] = ("[inventory]", "[[modules]]")
    homes["command"] = ("[inventory]", "modules.verify")
    homes["plugin"] = ("[inventory]",)
    homes["kind"] = ("rollout.balancer",)
    # Too many tables have a name for a hint to be of help.
    del homes["name"]
    return homes


def _modules(reader: Reader, raw: Mapping[str, object]) -> Iterator[Module]:
    entries = raw.get("modules", [])
    if not isinstance(entries, list):
        reader.findings.wrong("modules", entries, "an array of tables, [[modules]]")
        return
    if not entries:
        reader.findings.add("modules", "is missing; allowed: one [[modules]] or more")
    for index, entry in enumerate(entries):
        yield reader.table(Module, entry, f"modules[{index}]")


def _script(reader: Reader, raw: object, where: str) -> Script | None:
    if isinstance(raw, str):
        return Script(path=raw)
    given = reader.keys(raw, _SCRIPT_KEYS, where, SCRIPT_ALLOWED)
    if reader.findings.spoiled(where) or not given.keys() <= set(_SCRIPT_KEYS):
        return None
    texts = {key: text for key, text in given.items() if key in _TEXTS}
    if len(texts) != 1 or "" in texts.values():
        which = " and ".join(texts) or "nothing"
        reader.findings.add(where, f"gives {which}; allowed: {SCRIPT_ALLOWED}")
        return None
    return reader.table(Script, given, where)


def _signing(reader: Reader, raw: object, where: str) -> Signing | None:
    if isinstance(raw, str):
        return Signing(key=raw)
    given = reader.keys(raw, ("key", "command"), where, SIGNING_ALLOWED)
    texts = [key for key, text in given.items() if text]
    if not reader.findings.spoiled(where) and len(texts) > 1:
        text = f"gives {' and '.join(texts)}; allowed: {SIGNING_ALLOWED}"
        reader.findings.add(where, text)
        return None
    return reader.table(Signing, given, where)


def _unless_empty(
    cls: type[_Command], reader: Reader, raw: object, where: str
) -> _Command:
    """Read the table of a command; an empty string is none."""
    return cls() if raw == "" else reader.table(cls, raw, where)


def _source(reader: Reader, raw: object, where: str) -> Source | None:
    given = reader.keys(raw, _SOURCE_KEYS, where, SOURCE_ALLOWED)
    kinds = [key for key in _SOURCES if key in given]
    if len(kinds) != 1:
        which = " and ".join(kinds) or "neither git, dir nor s3"
        reader.findings.add(where, f"gives {which}; allowed: {SOURCE_ALLOWED}")
        return None
    (kind,) = kinds
    own = attrs.fields_dict(_SOURCES[kind])
    for key, home in (("rev", "git"), ("version", "s3")):
        if key in given and key not in own:
            text = f"goes with {home} only; allowed: {', '.join(own)}"
            reader.findings.add(at(where, key), text)
    mine = {key: value for key, value in given.items() if key in own}
    return reader.table(_SOURCES[kind], mine, where)


def _balancer(reader: Reader, raw: object, where: str) -> BalancerSettings | None:
    """Read a table of a plug-in: it gives *kind*, the plug-in knows the other keys."""
    if not isinstance(raw, dict):
        reader.findings.wrong(where, raw, 'a table with kind = "…"')
        return None
    if raw and "kind" not in raw:
        reader.findings.add(at(where, "kind"), "is missing; allowed: a plug-in's name")
    mine = {key: value for key, value in raw.items() if key == "kind"}
    options = {key: value for key, value in raw.items() if key != "kind"}
    settings = reader.table(BalancerSettings, mine, where)
    return attrs.evolve(settings, options=options)


def _inventory(reader: Reader, raw: object) -> InventorySettings:
    """Read the source of hosts; beside *plugin* stand the keys of the plug-in."""
    options: dict[str, object] = {}
    if isinstance(raw, dict) and "plugin" in raw:
        options = {k: v for k, v in raw.items() if k not in _INVENTORY_KEYS}
        raw = {k: v for k, v in raw.items() if k in _INVENTORY_KEYS}
    given = reader.keys(raw, _INVENTORY_KEYS, "inventory")
    mine = {key: value for key, value in given.items() if key != "hosts"}
    settings = reader.table(InventorySettings, mine, "inventory")
    return attrs.evolve(settings, options=options)


def _hosts(reader: Reader, raw: object) -> Iterator[tuple[str, Host]]:
    rows = raw.get("hosts", []) if isinstance(raw, dict) else []
    if isinstance(rows, list):
        yield from read_rows(reader, rows, "inventory.hosts")
    else:
        reader.findings.wrong("inventory.hosts", rows, "an array of hosts")
