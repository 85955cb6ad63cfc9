"""Facts of a host: the output of ``probe.sh`` and ``check.sh``, as values."""

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
    """The user of a login; *sudo* is what ``sudo -n`` printed where it failed."""

    home: str
    uid: int
    user: str
    sudo: str = ""


@attrs.frozen
class SwitchRecord:
    """
    The host's own record of the last move of one link; see ``record_moves.sh``.

    *run* moved it from *previous*, empty where there was no link, to *new*; *aside* is
    the path that an adopted folder was moved to. *fingerprint* is that of the release.
    """

    run: str
    previous: str
    new: str
    aside: str = ""
    fingerprint: str = ""


@attrs.frozen
class ModuleState:
    """
    The state of one module on a host.

    *kind* is absent, link, directory or file; *link* the text of the link; *live* the
    id of the release it leads to, empty where it leads elsewhere; *dangling* whether
    that release is gone. *fingerprint* is that of the live release, once it was proven;
    *unwritable* the folder that keeps the target from being replaced. *record* is that
    of the move to *link*, None where somebody else moved it; *before* the id of the
    release that was live before.
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
    The facts of a host; free space in bytes and inodes, None where unknown.

    *tools* are the programs found, of those that are asked for; *rename* the one that
    can rename(2) a link. *holder* is the line that the lock is held under, empty where
    nobody holds it. *place* is the same only where two names lead to one app folder of
    one machine; empty where unknown. *ends_logins* is whether logind ends the processes
    that a login leaves running, timers among them.
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
    place: str = ""
    ends_logins: bool = False


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the KEY=VALUE lines of *text*; any other line is a tool's own word."""
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            yield key, value


def _available(df: str, unit: int) -> int | None:
    """Return the column "available" of a ``df -P`` line, times *unit*."""
    # The three numbers are looked for: the device's name may hold blanks. A total of 0
    # means unknown: btrfs has no fixed number of inodes.
    words = df.split()
    for at in range(len(words) - 4):
        total, used, available = words[at + 1 : at + 4]
        if total.isdigit() and used.isdigit() and available.isdigit():
            return int(available) * unit if int(total) else None
    return None


def _place(text: str) -> str:
    """Return *text* where both of its words could be found out, else ""."""
    boot, _, folder = text.partition(" ")
    return text if boot and folder else ""


def parse_identity(text: str) -> Identity:
    """
    Return the identity that ``probe.sh`` printed.

    Raises:
        LookupError: A line is missing: something else than the probe has answered.
    """
    facts = dict(_pairs(text))
    sudo = facts.get("sudo", "")
    return Identity(facts["home"], int(facts["uid"]), facts["user"], sudo)


def parse_facts(text: str, modules: Mapping[str, str]) -> Facts:
    """
    Return the facts that ``check.sh`` printed.

    Args:
        text: Its output.

        modules: The folder of each module on the host, to the module's name.
    """
    # Lines of a module follow its "module=" line; those before the first are general.
    general: dict[str, str] = {}
    tools: set[str] = set()
    of_modules: dict[str, dict[str, str]] = {}
    releases: dict[str, set[str]] = {}
    section = general
    name = ""
    for key, value in _pairs(text):
        if key == "module":
            name = modules[value]
            section = of_modules.setdefault(name, {})
        elif key == "tool":
            tools.add(value)
        elif key == "release":
            releases.setdefault(name, set()).add(value)
        else:
            section[key] = value
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
            name: _module_state(facts, folders[name], frozenset(releases.get(name, ())))
            for name, facts in of_modules.items()
        },
        holder=general.get("holder", ""),
        place=_place(general.get("place", "")),
        ends_logins="ends-logins" in general,
    )


def _module_state(
    facts: Mapping[str, str], folder: str, releases: frozenset[str]
) -> ModuleState:
    # Only a link straight into the module's own folder leads to a release of it.
    link = facts.get("link", "")
    head, _, tail = link.rpartition("/")
    return ModuleState(
        kind=facts.get("target", "absent"),
        link=link,
        live=tail if head == folder else "",
        dangling="dangling" in facts,
        fingerprint=facts.get("fingerprint", ""),
        unwritable=facts.get("unwritable", ""),
        releases=releases,
        record=_switch_record(facts),
        before=facts.get("before", ""),
    )


def _switch_record(facts: Mapping[str, str]) -> SwitchRecord | None:
    # check.sh prints these lines for a record that fits the link, and none otherwise.
    if "record-run" not in facts or "record-new" not in facts:
        return None
    return SwitchRecord(
        run=facts["record-run"],
        previous=facts.get("record-previous", ""),
        new=facts["record-new"],
        aside=facts.get("record-aside", ""),
        fingerprint=facts.get("record-fingerprint", ""),
    )
