"""
The answers of scripts on hosts, as values: each reader is total.

Rule 1: a reader returns values that are within what they can be, or raises
:class:`Nonsense`. Whatever a host prints, it raises nothing else.
Rule 2: nothing outside of this file takes the text of a host apart.

How it works. ``call.query`` and ``call.hold`` hand a script's answer to the reader that
they were given, and make ``Nonsense`` an error of that host: a
:class:`~ghostasync.errors.BadAnswer`, which quotes the answer. Numbers have so many
digits at most; paths are absolute and of one line; a release's name is a package id;
what is only for people is cut. A line that no reader knows is a tool's own word, and is
passed over; a line that is missing is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, cast

import attrs

from .._local.paths import is_package_id
from ..model import Verify
from .activation import LONGEST_NUMBER, Activation, read, unescape
from .facts import Facts, Identity, ModuleState, Trial

__all__ = [
    "Locked",
    "Nonsense",
    "Outlived",
    "Restored",
    "facts",
    "health",
    "holder",
    "identity",
    "locked",
    "outlived",
    "reason",
    "restored",
    "run_of",
    "status",
    "trial",
    "warnings",
]

_LONGEST: Final = 500
"""Characters of a text for people, such as the line that a lock is held under."""

_LONGEST_PATH: Final = 4096
"""Characters of a path; PATH_MAX of Linux, in bytes."""

_MANY: Final = 20
"""Findings, or warnings of a script, that one answer can have; the log has the rest."""

_DAY: Final = 86_400.0
"""Seconds; the longest pause, or time for an attempt, of a health check."""

_ID: Final = 10
"""Digits of a uid, a gid or the number of a process."""

_COUNT: Final = 18
"""Digits of the bytes or inodes of a disk."""

_KINDS: Final = frozenset({"absent", "link", "directory", "file"})
_RENAMES: Final = frozenset({"", "mv", "python3", "perl"})
_SCRIPTS: Final = frozenset({"pre_deploy", "before_switch", "post_deploy"})
_WAYS: Final = frozenset({"owner", "group", "others", "anybody", "acl", "link"})
_RESTORED: Final = frozenset({"restored", "left", "post_deploy"})

_TOOL: Final = re.compile(r"[a-z0-9-]{1,40}")
_HEX: Final = re.compile(r"[0-9a-f]{0,128}")
_USER: Final = re.compile(r"(?:\w[\w.@+$\\-]{0,255})?")
"""The name of a user, as that of a domain as well; empty where a host has none."""

_RUN: Final = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
"""What the id of a run can be: it becomes part of a path here."""

_PATH: Final = re.compile(r"/[^\x00-\x1f\x7f]*")

_HOLDER: Final = re.compile(r"run (\w[\w.-]{0,99}) ", re.ASCII)
"""The beginning of the line that a lock is held under; ids sort by time."""

_LOCKED: Final = re.compile(
    r"locked(?: ([0-9]{1,10} [0-9]{1,20}))?(?:, taken over from (.*))?"
)


class Nonsense(ValueError):
    """An answer is not what it can be; the text says why."""


# --- Words -----------------------------------------------------------------------


def _number(text: str, digits: int, what: str) -> int:
    if not _is_number(text, digits):
        raise Nonsense(f"{what} is no number")
    return int(text)


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits


def _path(text: str, what: str) -> str:
    if len(text) > _LONGEST_PATH or not _PATH.fullmatch(text):
        raise Nonsense(f"{what} is no path")
    return text


def _one_of(text: str, known: Collection[str], what: str) -> str:
    if text not in known:
        raise Nonsense(f"{what} is none of {', '.join(sorted(filter(None, known)))}")
    return text


def _user(text: str, what: str) -> str:
    if not _USER.fullmatch(text):
        raise Nonsense(f"{what} is no name of a user")
    return text


def reason(complaint: str) -> str:
    """Return the words of the system in a tool's complaint, which name no file."""
    words = complaint.strip().rpartition("\n")[2].rpartition(": ")[2]
    return words[:_LONGEST]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the KEY=VALUE lines of *text*; any other line is a tool's own word."""
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            yield key, value


def status(text: bytes) -> int | None:
    """Return the exit status in the closing line of a frame; None where it is none."""
    number = text.decode("ascii", "replace")
    return int(number) if _is_number(number, 3) else None


# --- probe -----------------------------------------------------------------------


def identity(text: str) -> Identity:
    """Return the identity that ``probe.sh`` printed."""
    said = dict(_pairs(text))
    if missing := {"home", "uid", "user"} - said.keys():
        raise Nonsense(f"no {min(missing)}")
    return Identity(
        home=_path(said["home"], "the home folder"),
        uid=_number(said["uid"], _ID, "uid"),
        user=_user(said["user"], "user"),
        sudo=said.get("sudo", "")[:_LONGEST],
    )


# --- check -----------------------------------------------------------------------


@attrs.define
class _Section:
    """The lines about one module, or about the host, in the order of their kinds."""

    facts: dict[str, str] = attrs.field(factory=dict)
    tools: set[str] = attrs.field(factory=set)
    releases: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    elsewhere: list[str] = attrs.field(factory=list)
    records: dict[str, dict[str, str]] = attrs.field(factory=dict)

    def take(self, key: str, value: str) -> None:
        match key:
            case "tool":
                self.tools.update(_TOOL.findall(value)[:1])
            case "release":
                release, *scripts = value.split(" ")
                if is_package_id(release):
                    known = (*_SCRIPTS, "environment")
                    self.releases[release] = tuple(s for s in scripts if s in known)
            case "elsewhere":
                self.elsewhere.append(unescape(value)[:_LONGEST_PATH])  # for people
            case _ if ":" in key:
                number, _, word = key.partition(":")
                self._take_record(number, word, value)
            case _:
                self.facts[key] = value

    def _take_record(self, number: str, key: str, value: str) -> None:
        # Other words before a colon are a tool's.
        if number.isascii() and number.isdigit():
            _number(number, LONGEST_NUMBER, "the number of a record")
            self.records.setdefault(number, {})[key] = value


def facts(text: str, modules: Mapping[str, str]) -> Facts:
    """
    Return the facts that ``check.sh`` printed.

    Args:
        text: Its output.

        modules: The folder of each module on the host, to the module's name.
    """
    # Lines of a module follow its "module=" line; those before the first are general.
    general = section = _Section()
    of_modules: dict[str, _Section] = {}
    closed: list[tuple[str, str]] = []
    foreign: list[tuple[str, str, str]] = []
    for key, value in _pairs(text):
        if key == "module":
            section = of_modules.setdefault(value, _Section())
        elif key == "closed":
            owner, _, path = value.partition(" ")
            closed.append((_user(owner, "an owner"), _path(path, "a closed folder")))
        elif key == "foreign":
            foreign.append(_foreign(value))
        else:
            section.take(key, value)
    if strange := of_modules.keys() - modules.keys():
        raise Nonsense(f"nobody asked about {min(strange)[:_LONGEST]}")
    if silent := modules.keys() - of_modules.keys():
        raise Nonsense(f"no word of {min(silent)}")
    said = general.facts
    if missing := {"uid", "gid"} - said.keys():
        raise Nonsense(f"no {min(missing)}")
    instance = said.get("instance", "")[:_LONGEST]
    return Facts(
        uid=_number(said["uid"], _ID, "uid"),
        gid=_number(said["gid"], _ID, "gid"),
        tools=frozenset(general.tools),
        rename=_one_of(said.get("rename", ""), _RENAMES, "rename"),
        unwritable=_unwritable(said),
        free_bytes=_available(said.get("blocks", ""), 1024),
        free_inodes=_available(said.get("inodes", ""), 1),
        targets={
            name: _module_state(of_modules[folder], folder, instance)
            for folder, name in modules.items()
        },
        holder=said.get("holder", "")[:_LONGEST],
        place=_place(said.get("place", "")),
        ends_logins="ends-logins" in said,
        instance=instance,
        closed=tuple(closed[:_MANY]),
        foreign=tuple(foreign[:_MANY]),
        frozen=said.get("frozen", "")[:_LONGEST],
        untried=reason(said.get("untried", "")),
        fence=_fence(said.get("fence", "0 ")),
    )


def _foreign(text: str) -> tuple[str, str, str]:
    how, _, rest = text.partition(" ")
    who, _, path = rest.partition(" ")
    # Who it is has no name, or is no single one, where it says ".".
    return (
        _one_of(how, _WAYS, "a way to change a folder"),
        who if who == "." else _user(who, "who may change a folder"),
        _path(path, "a folder of others"),
    )


def _unwritable(said: Mapping[str, str]) -> str:
    path = said.get("unwritable", "")
    return _path(path, "an unwritable folder") if path else ""


def _available(df: str, unit: int) -> int | None:
    """Return the column "available" of a ``df -P`` line, times *unit*."""
    # The three numbers are looked for: the device's name may hold blanks. A total of 0
    # means unknown: btrfs has no fixed number of inodes.
    words = df.split()
    for at in range(len(words) - 4):
        total, used, available = words[at + 1 : at + 4]
        if all(_is_number(word, _COUNT) for word in (total, used, available)):
            return int(available) * unit if int(total) else None
    return None


def _place(text: str) -> str:
    """Return *text* where both of its words could be found out, else ""."""
    boot, _, folder = text.partition(" ")
    return text[:_LONGEST] if boot and folder else ""


def _fence(text: str) -> int | None:
    """Return the number in the text of a fence; None where it holds no number."""
    number = text.partition(" ")[0]
    return int(number) if _is_number(number, LONGEST_NUMBER) else None


def _module_state(section: _Section, folder: str, instance: str) -> ModuleState:
    said = section.facts
    kind = _one_of(said.get("target", ""), _KINDS, f"the target of {folder}")
    link = said.get("link", "") if kind == "link" else ""
    if len(link) > _LONGEST_PATH or "\x00" in link:
        raise Nonsense("a link leads to no path")
    # Only a link straight into the module's own folder leads to a release of it.
    head, _, tail = link.rpartition("/")
    mark = said.get("fingerprint", "")
    return ModuleState(
        kind=kind,
        link=link,
        live=tail if head == folder and is_package_id(tail) else "",
        dangling="dangling" in said,
        fingerprint=mark if _HEX.fullmatch(mark) else "",
        unwritable=_unwritable(said),
        releases=frozenset(section.releases),
        scripts=section.releases,
        activations=_activations(section.records, instance),
        aside="aside" in said,
        elsewhere=tuple(section.elsewhere[:_MANY]),
    )


def _activations(
    records: Mapping[str, Mapping[str, str]], instance: str
) -> tuple[Activation, ...]:
    """Return the records of this machine, the newest first, without damaged ones."""
    # A golden image, or a copy of a machine, brings the records of another machine.
    known = (read(number, lines) for number, lines in records.items())
    mine = [
        each
        for each in known
        if each and _can_be(each) and each.instance in {"", instance}
    ]
    return tuple(sorted(mine, key=lambda each: -each.generation))


def _can_be(record: Activation) -> bool:
    """Tell whether the ids and paths of a record are what a run writes."""
    runs = (record.run, record.resumes, record.undoes, record.reverted_by)
    paths = (record.previous, record.target, record.aside)
    return (
        is_package_id(record.release)
        and all(_RUN.fullmatch(run) for run in runs if run)
        and not any("\x00" in path for path in paths)
    )


# --- try, environment ------------------------------------------------------------


def trial(text: str) -> Trial:
    """Return what ``try.sh`` or ``environment.sh`` printed."""
    said: dict[str, dict[str, str]] = {"unfit": {}, "noexec": {}, "tmp": {}}
    for key, value in _pairs(text):
        name, _, rest = value.partition(" ")
        said.get(key, {})[name[:_LONGEST]] = rest[:_LONGEST]
    tmp = next((f"{name}: {reason(why)}" for name, why in said["tmp"].items()), "")
    return Trial(tmp, said["unfit"], said["noexec"])


# --- recall, restore -------------------------------------------------------------


def health(text: str) -> tuple[Verify, str]:
    """Return how a release proves its health, and who runs its post-deploy."""
    # Written by the run that brought it there, of this version or of another.
    try:
        known = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise Nonsense("the health check on record is no JSON") from None
    if not isinstance(known, dict):
        raise Nonsense("the health check on record is no table")
    usual = Verify()
    checked = Verify(
        command=_text(known, "command"),
        url=_text(known, "url"),
        run_as=_user(_text(known, "run_as"), "run_as"),
        interval=_seconds(known, "interval", usual.interval),
        attempt_timeout=_seconds(known, "attempt_timeout", usual.attempt_timeout),
    )
    return checked, _user(_text(known, "post_deploy_as"), "post_deploy_as")


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key, "")
    # JSON has text that no argument can hold.
    if isinstance(value, str) and "\x00" not in value:
        try:
            value.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            pass
        else:
            return value
    raise Nonsense(f"{key} of the health check on record is no text")


def _seconds(table: Mapping[str, object], key: str, usual: float) -> float:
    value = table.get(key, usual)
    if type(value) in {int, float} and 0 < (seconds := cast("float", value)) <= _DAY:
        return float(seconds)
    raise Nonsense(f"{key} of the health check on record is no number of seconds")


@attrs.frozen
class Restored:
    """
    One link that is where it was before, and the release that serves again.

    *moved* is whether this try moved it. *post_deploy* is whether that release has one,
    *run_as* its user, *health* how the release proves its health.
    """

    moved: bool
    post_deploy: bool
    health: Verify = attrs.field(factory=Verify)
    run_as: str = ""


def restored(text: str, targets: Iterable[str]) -> dict[str, Restored]:
    """
    Return what ``restore.sh`` printed of its links, in its order.

    Args:
        text: Two lines for a link: ``restored,post_deploy TARGET``, then ``verify
            JSON`` for it; the second one may be missing.

        targets: The links that it was asked to put back.
    """
    asked, last = set(targets), ""
    links: dict[str, Restored] = {}
    for line in text.split("\n"):
        word, _, rest = line.partition(" ")
        if word == "verify":
            if not last:
                raise Nonsense("a health check of no link")
            checked, run_as = health(rest)
            links[last] = attrs.evolve(links[last], health=checked, run_as=run_as)
        elif word:
            has = word.split(",")
            if rest not in asked or not _RESTORED.issuperset(has):
                raise Nonsense("no word of a link")
            last = rest
            links[last] = Restored("restored" in has, "post_deploy" in has)
    if left := asked - links.keys():
        raise Nonsense(f"no word of {min(left)}")
    return links


# --- lock ------------------------------------------------------------------------


@attrs.frozen
class Locked:
    """
    The lock in hand, *taken_from* another run.

    *process* holds it: its number, and the time at which it began.
    """

    process: str = ""
    taken_from: str = ""


def locked(line: str) -> Locked:
    """Return what ``lock.sh`` printed when it had the lock."""
    found = _LOCKED.fullmatch(line)
    if found and len(line) <= _LONGEST_PATH:
        return Locked(found[1] or "", (found[2] or "")[:_LONGEST])
    raise Nonsense("no lock")


def holder(errors: str) -> str:
    """Return who holds the lock, by the last line of *errors* of ``lock.sh``."""
    # An rc file may have printed others before it.
    who = errors.strip().rpartition("\n")[2].strip()
    return who[:_LONGEST] or "a run that left no name"


def run_of(holder: str) -> str:
    """Return the id of the run that holds a lock under *holder*; empty for another."""
    found = _HOLDER.match(holder)
    return found[1] if found else ""


@attrs.frozen
class Outlived:
    """A before_switch of *module* that has outlived its *run*, the process *pid*."""

    module: str
    run: str
    pid: str


def outlived(errors: str) -> Outlived | None:
    """Return the before_switch that still runs, by the *errors* of ``lock.sh``."""
    # Its line: PLACE/MODULE/.ghost/ID/before_switch.sh before_switch@APP@RUN (pid PID)
    for line in errors[-_LONGEST_PATH:].split("\n"):
        place, _, words = line.partition("/before_switch.sh ")
        folders, said = place.split("/"), words.split()
        if folders[-2:-1] != [".ghost"] or said[1:2] != ["(pid"] or not said[2:]:
            continue
        run, pid = said[0].rpartition("@")[2], said[2].removesuffix(")")
        if folders[:-2] and _RUN.fullmatch(run) and _is_number(pid, _ID):
            return Outlived(folders[-3][:_LONGEST], run, pid)
    return None


# --- receive, pull, share --------------------------------------------------------


def warnings(text: str) -> tuple[str, ...]:
    """Return what a script warned of: the first warnings, and how many came besides."""
    start = "warning: "
    told = [
        line.removeprefix(start)[:_LONGEST]
        for line in text.split("\n")
        if line.startswith(start)
    ]
    more = len(told) - _MANY
    return (*told[:_MANY], *([f"and {more} more warnings"] if more > 0 else []))
