"""What ``probe.sh`` and ``check.sh`` print, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

__all__ = [
    "Facts",
    "Identity",
    "ModuleState",
    "SwitchRecord",
    "parse_facts",
    "parse_identity",
]


@attrs.frozen
class Identity:
    """Who a login is; *sudo* is what ``sudo -n`` complained about, if it did."""

    home: str
    uid: int
    user: str
    sudo: str = ""


@attrs.frozen
class SwitchRecord:
    """
    The host's own record of the last move of one link; see ``record_moves.sh``.

    *run* moved it from *previous*, empty where there was no link, to *new*; *aside* is
    where an adopted folder went. *fingerprint* is that of what it brought.
    """

    run: str
    previous: str
    new: str
    aside: str = ""
    fingerprint: str = ""


@attrs.frozen
class ModuleState:
    """
    What one module looks like on a host.

    *kind* is absent, link, directory or file; *link* the text of the link; *live* the
    id of the release it leads to, empty where it leads elsewhere; *dangling* whether
    that release is gone. *record* is how the link came to be what it is, None where
    somebody else moved it; *before* the id of the release that was live before it.
    """

    kind: str = "absent"
    link: str = ""
    live: str = ""
    dangling: bool = False
    fingerprint: str = ""
    unwritable: str = ""
    releases: frozenset[str] = frozenset()
    record: SwitchRecord | None = None
    before: str = ""


@attrs.frozen
class Facts:
    """
    What a host is and has; free space in bytes and inodes, None where unknown.

    *holder* is what the run that holds the lock says of itself; empty without one.
    *ends_logins* is whether the host ends what a login leaves running.
    """

    uid: int
    gid: int
    tools: frozenset[str]
    rename: str
    unwritable: str
    free_bytes: int | None
    free_inodes: int | None
    targets: Mapping[str, ModuleState]
    holder: str = ""
    ends_logins: bool = False


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            yield key, value


def _available(df: str, unit: int) -> int | None:
    """Return the fourth column of a ``df -P`` line; btrfs reports 0 inodes of 0."""
    words = df.split()
    for at in range(len(words) - 4):
        total, used, available = words[at + 1 : at + 4]
        if total.isdigit() and used.isdigit() and available.isdigit():
            return int(available) * unit if int(total) else None
    return None


def parse_identity(text: str) -> Identity:
    """Read the output of ``probe.sh``."""
    said = dict(_pairs(text))
    return Identity(said["home"], int(said["uid"]), said["user"], said.get("sudo", ""))


def parse_facts(text: str, modules: Mapping[str, str]) -> Facts:
    """
    Read the output of ``check.sh``.

    Args:
        text: What it printed.

        modules: The folder of each module on the host, to the module's name.
    """
    general: dict[str, str] = {}
    tools: set[str] = set()
    said: dict[str, dict[str, str]] = {}
    releases: dict[str, set[str]] = {}
    here = general
    name = ""
    for key, value in _pairs(text):
        if key == "module":
            name = modules[value]
            here = said.setdefault(name, {})
        elif key == "tool":
            tools.add(value)
        elif key == "release":
            releases.setdefault(name, set()).add(value)
        else:
            here[key] = value
    folders = {name: folder for folder, name in modules.items()}
    return Facts(
        uid=int(general["uid"]),
        gid=int(general["gid"]),
        tools=frozenset(tools),
        rename=general.get("rename", ""),
        unwritable=general.get("unwritable", ""),
        free_bytes=_available(general.get("blocks", ""), 1024),
        free_inodes=_available(general.get("inodes", ""), 1),
        targets={
            name: _target(facts, folders[name], frozenset(releases.get(name, ())))
            for name, facts in said.items()
        },
        holder=general.get("holder", ""),
        ends_logins="ends-logins" in general,
    )


def _target(
    said: Mapping[str, str], folder: str, releases: frozenset[str]
) -> ModuleState:
    link = said.get("link", "")
    head, _, tail = link.rpartition("/")
    return ModuleState(
        kind=said.get("target", "absent"),
        link=link,
        live=tail if head == folder else "",
        dangling="dangling" in said,
        fingerprint=said.get("fingerprint", ""),
        unwritable=said.get("unwritable", ""),
        releases=releases,
        record=_switch(said),
        before=said.get("before", ""),
    )


def _switch(said: Mapping[str, str]) -> SwitchRecord | None:
    if "record-run" not in said or "record-new" not in said:
        return None
    return SwitchRecord(
        run=said["record-run"],
        previous=said.get("record-previous", ""),
        new=said["record-new"],
        aside=said.get("record-aside", ""),
        fingerprint=said.get("record-fingerprint", ""),
    )
