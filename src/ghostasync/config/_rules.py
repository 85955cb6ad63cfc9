"""
Rules for the values of keys, beyond their types, as one table.

A rule has its words beside it, so a finding says what is allowed. The rules hold for
plans that are built in Python as well. Most of them keep a value from being something
else to a tool: a name from leading out of its folder, an argument from being an option,
a text from ending a line of a protocol.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, get_args

import attrs

from .._engine.waves import (
    BUDGETS_ALLOWED,
    GHOST_WORDS,
    WAVES_ALLOWED,
    is_budget,
    is_size,
)
from ..model import (
    NAME_PATTERN,
    App,
    AttributesKept,
    BalancerSettings,
    Checksums,
    Deadlines,
    DirectorySource,
    Gate,
    GitSource,
    Hook,
    HookPlace,
    Host,
    HostKeys,
    InventorySettings,
    Layout,
    Module,
    OnFailure,
    Plan,
    Proof,
    Rollout,
    S3Source,
    Script,
    Signing,
    Ssh,
    StoreSettings,
    Transfer,
    Verify,
)
from ._structure import Findings, at

__all__ = ["RULES", "Rule", "allowed", "check_hosts", "check_values", "is_label"]


@attrs.frozen
class Rule:
    """
    Rule of one key.

    Args:
        allowed: The rule in words.

        accepts: The rule itself, for a value of the key's type; hence its ``Any``.

        each: Whether the rule is about each item of an array, or each name in a table.
    """

    allowed: str
    accepts: Callable[[Any], bool]
    each: bool = False


def _whole(lowest: int, highest: int | None = None) -> Rule:
    if highest is None:
        return Rule(f"a whole number, at least {lowest}", lambda value: value >= lowest)
    return Rule(
        f"a whole number, {lowest} to {highest}",
        lambda value: lowest <= value <= highest,
    )


def _text(allowed: str, pattern: str, *, each: bool = False) -> Rule:
    compiled = re.compile(pattern)
    return Rule(allowed, lambda value: compiled.fullmatch(value) is not None, each)


def _words(*words: str) -> Rule:
    listed = [f'"{word}"' for word in words]
    return Rule(f"{', '.join(listed[:-1])} or {listed[-1]}", lambda v: v in words)


# bash as sh dies on an assignment to one of these: "readonly variable".
_READONLY: Final = "BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID"

_LINE: Final = r"[^\x00-\x1f\x7f]*"
# Rows of an inventory are JSON, which may hold half of a surrogate pair, and what ends
# a line or turns its direction for those who read it: no row may.
_CONTROL: Final = (
    r"\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
    r"\ud800-\udfff"
)
_WORD: Final = rf"[^{_CONTROL}]*"
# What hosts and logins are called ends up in words of commands (ssh.proxy_command, a
# shell there perhaps), in known_hosts and in advice that people copy. So these are
# no options there, no second words and no patterns.
_PLACE_NAME: Final = r"[\w:][\w:.-]*(?:%[\w.-]+)?"
_LOGIN: Final = r"[\w.](?:[\w.@+\\-]*[\w.@+-])?"
_HOP: Final = rf"\s*(?:{_LOGIN}@)?(?:\[[\w:.%]+\]|{_PLACE_NAME})(?::[0-9]+)?\s*"
_FULL: Final = r"(?=.*\S)"
# A step of a path is a name, never "." or "..", which would lead out of its folder.
_STEP: Final = r"(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]+"
_PLACE: Final = r"(?!\.{1,2}(?:/|$))[^/:\x00-\x1f\x7f]+"
_BUCKET: Final = r"s3://[A-Za-z0-9][^/\s]*(?:/\S*)?"

_AGES: Final = 10**9
"""Seconds that timers count without a loss; the limit leaves out inf and nan."""

_SHORTEST: Final = 10
_ABOVE_0: Final = Rule("seconds, above 0, at most 10^9", lambda v: 0 < v <= _AGES)
_SECONDS: Final = Rule("seconds, 0 to 10^9", lambda v: 0 <= v <= _AGES)
_SILENCE: Final = Rule(
    "0, or seconds from 10 to 10^9",
    lambda v: v == 0 or _SHORTEST <= v <= _AGES,
)
"""Signs of life come every few seconds, and a host acts when it has missed three."""
# -1 is the login user; 2**32 - 1 means "no change" to chown(2).
_ID: Final = _whole(-1, 2**32 - 2)
_PORT: Final = _whole(0, 65535)
_BUDGET: Final = Rule(BUDGETS_ALLOWED, is_budget)
_UNREACHABLE: Final = Rule(
    f'{BUDGETS_ALLOWED}, or ""', lambda value: value == "" or is_budget(value)
)
_WAVES: Final = Rule(
    WAVES_ALLOWED,
    lambda value: (
        value in GHOST_WORDS
        if isinstance(value, str)
        else bool(value) and all(map(is_size, value))
    ),
)

_NAME: Final = _text(
    "a string of letters, digits, dots, _ and -, with a letter or digit first",
    NAME_PATTERN,
)
_COLOR: Final = _words("", "blue", "green")
_VARIABLES: Final = _text(
    "letters, digits and _, no digit first, not GHOST… and not a name"
    " that shells keep readonly",
    rf"(?!GHOST)(?!(?:{_READONLY})$)[A-Za-z_][A-Za-z0-9_]*",
    each=True,
)
_PLAIN: Final = _text("a string of one line", _LINE)
_SSH_USER: Final = _text(
    "the name of a user: letters, digits and . _ @ + \\ -, no - first",
    rf"(?:{_LOGIN})?",
)
_ADDRESS: Final = _text(
    "a host name, an IPv4 or an IPv6 address, with its scope perhaps",
    rf"(?:{_PLACE_NAME})?",
)
_NO_NUL: Final = _text("a string without NUL", r"[^\x00]*")
_TARGET: Final = _text(
    'an absolute path, or one in "~/", without "..", ":", "//" or "/" at its end',
    rf"~?(?:/{_PLACE})+",
)
_INSIDE: Final = _text(
    'a path in the source tree without "..", "//" or "/" at its end',
    rf"{_STEP}(?:/{_STEP})*",
    each=True,
)
_SUBMODULES: Final = Rule(
    '"all", "none", or an array of paths in the source tree',
    lambda value: (
        value in {"all", "none"}
        if isinstance(value, str)
        else bool(value) and all(map(_INSIDE.accepts, value))
    ),
)
_HTTP: Final = _text(
    '"http://…" or "https://…"', rf"(?:https?://[^\s/{_CONTROL}][^\s{_CONTROL}]*)?"
)
_USER: Final = _text("a user of the host", r"(?:[A-Za-z_][A-Za-z0-9_.-]*\$?)?")
_TRUSTED: Final = _text(
    'users of the host, and groups with "@" in front',
    r"@?[A-Za-z_][A-Za-z0-9_.-]*\$?",
    each=True,
)
_SUDO: Final = Rule(
    f"true, false or {_USER.allowed}",
    lambda value: (
        isinstance(value, bool)
        # No user has such a name: it is a slip of the pen.
        or (value.lower() not in {"", "true", "false"} and _USER.accepts(value))
    ),
)
_HOSTS: Final = Rule(
    'an expression like those of --limit ("role=web,!web3", but no @failed), or an'
    " array of them",
    lambda value: (
        "@" not in value
        if isinstance(value, str)
        else bool(value) and all(item and "@" not in item for item in value)
    ),
)
_PLUGIN: Final = _text("the name of a plug-in", rf"(?:{NAME_PATTERN})?")
_LABEL_NAME: Final = _text(
    "names without spaces, comma, = ! @ in them, no - first",
    rf"(?!-)[^\s,=!@{_CONTROL}]+",
    each=True,
)
_LABEL: Final = _text("a string of one line", _WORD)
_S3: Final = _text(
    '"s3://bucket/object" or "s3://bucket/prefix/"',
    rf"s3://[A-Za-z0-9][^/\s]*(?:/{_LINE})?",
)
# A password that is not quoted would be taken for the port and the path, and be shown.
_GIT: Final = _text(
    "a URL or a path; in a password %2F for /, %3F for ?, %23 for #",
    rf"(?![-\s])(?!\w+://[^/?#@[]*:(?!\d*[/?#])[^@]*[/?#][^@]*@){_FULL}{_LINE}",
)
_VERSION: Final = _text("a version id", r"[^\s\x00-\x1f\x7f]*")

_LONGEST_COMMAND: Final = 100_000
"""Bytes: a command is one argument of a shell on a host; Linux takes 131,071 there."""

_COMMAND: Final = Rule(
    f"a text without NUL, of at most {_LONGEST_COMMAND:,} bytes",
    lambda value: (
        "\0" not in value
        and len(value.encode(errors="surrogatepass")) <= _LONGEST_COMMAND
    ),
)

RULES: Final[Mapping[type, Mapping[str, Rule]]] = {
    App: {
        "name": _NAME,
        "env": _NAME,
        "role": _NAME,
        "color": _COLOR,
        "active_color": _COLOR,
        "env_vars": _VARIABLES,
        "secrets": _VARIABLES,
    },
    Signing: {"key": _PLAIN, "command": _NO_NUL},
    StoreSettings: {
        "url": _text(
            'a path or "s3://bucket/prefix"', rf"{_BUCKET}|{_FULL}(?!.*://){_LINE}"
        ),
        "keep": _whole(1),
        "keep_runs": _text(
            'days, weeks or years, such as "90d", "12w" or "2y", or ""',
            r"(?:[1-9][0-9]{0,3}[dwy])?",
        ),
        "endpoint_url": _HTTP,
        "region": _PLAIN,
        "signers": _PLAIN,
        "sse": _words("AES256", "aws:kms", ""),
        "sse_key": _PLAIN,
        "checksums": _words(*get_args(Checksums)),
    },
    Ssh: {
        "user": _SSH_USER,
        "port": _PORT,
        "identity": _PLAIN,
        "known_hosts": _PLAIN,
        "host_keys": _words(*get_args(HostKeys)),
        "config": Rule("a path or false", lambda value: value is not True),
        "jump": _text(
            "hops such as user@bastion:22, with commas between",
            rf"(?:{_HOP}(?:,{_HOP})*)?",
        ),
        "sudo": _SUDO,
        "proxy_command": _PLAIN,
        "connects": _whole(0),
    },
    Layout: {
        "root": _TARGET,
        "proof": _words(*get_args(Proof)),
        "keep": _whole(1),
        "trusted": _TRUSTED,
    },
    Rollout: {
        "waves": _WAVES,
        "spread_by": _PLAIN,
        "min_serving": _BUDGET,
        "soak": _SECONDS,
        "max_failures": _BUDGET,
        "max_unreachable": _UNREACHABLE,
        "on_failure": _words(*get_args(OnFailure)),
        "concurrency": _whole(1),
        "confirm": _SILENCE,
        "transfer": _words(*get_args(Transfer)),
        "max_push": _whole(0),
    },
    BalancerSettings: {"kind": _PLUGIN},
    InventorySettings: {"command": _NO_NUL, "plugin": _PLUGIN},
    Hook: {"run": _COMMAND, "on": _words(*get_args(HookPlace))},
    Gate: {"run": _NO_NUL},
    Deadlines: {
        **dict.fromkeys(attrs.fields_dict(Deadlines), _ABOVE_0),
        **dict.fromkeys(("before_switch", "drain", "undrain"), _SECONDS),
    },
    Host: {
        "name": _text(
            "host names, addresses and ranges like web[001-300];"
            " user and port have keys of their own",
            r"[A-Za-z0-9_:][A-Za-z0-9._:%-]*",
        ),
        "address": _ADDRESS,
        "port": _PORT,
        "user": _SSH_USER,
        "host_key_alias": _ADDRESS,
        "host_keys": _text(
            'public keys, such as "ssh-ed25519 AAAA…"',
            r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*",
            each=True,
        ),
        "labels": _LABEL_NAME,
    },
    GitSource: {
        "git": _GIT,
        "rev": _text("a branch, tag or commit", r"(?!-)[^\s\x00-\x1f\x7f]*"),
    },
    DirectorySource: {"dir": _text("a path", rf"{_FULL}{_LINE}")},
    S3Source: {"s3": _S3, "version": _VERSION},
    Script: {
        "path": _text(_INSIDE.allowed, rf"(?:{_STEP}(?:/{_STEP})*)?"),
        "inline": _NO_NUL,
        "file": _PLAIN,
        "run_as": _USER,
    },
    Verify: {
        "command": _COMMAND,
        "url": _HTTP,
        "run_as": _USER,
        "interval": _ABOVE_0,
        "attempt_timeout": _ABOVE_0,
    },
    Module: {
        "name": _NAME,
        "path": _TARGET,
        "uid": _ID,
        "gid": _ID,
        "submodules": _SUBMODULES,
        "exclude": _INSIDE,
        "attributes": _words(*get_args(AttributesKept)),
        "shared_dirs": _INSIDE,
        "shared_files": _INSIDE,
        "hosts": _HOSTS,
    },
}
"""Rules of all keys that do not take every value of their type."""

# A finding names the place as it stands in the file: modules[0].buildpack, not .path.
_UNNAMED: Final = {(Script, "path"), (Signing, "key"), (Host, "name")}
"""Fields that are written as a bare string, without their name."""


def allowed(cls: type, name: str) -> str:
    """Return what a key takes, in words; "" where its type says it all."""
    rule = RULES[cls].get(name)
    return "" if rule is None or rule.each else rule.allowed


def check_values(plan: Plan, hosts: Sequence[str], findings: Findings) -> None:
    """Note every value of *plan* that breaks its rule; *hosts* are their places."""
    for name in ("app", "store", "ssh", "layout", "rollout", "inventory"):
        _walk(getattr(plan, name), name, findings)
    for index, module in enumerate(plan.modules):
        _walk(module, f"modules[{index}]", findings)
    check_hosts(zip(hosts, plan.hosts, strict=True), findings)


def check_hosts(located: Iterable[tuple[str, Host]], findings: Findings) -> None:
    """Note every value of hosts that breaks its rule, each with its place."""
    for where, host in located:
        _walk(host, where, findings)
        for name, text in host.labels.items():
            if not _LABEL.accepts(text):
                findings.wrong(at(at(where, "labels"), name), text, _LABEL.allowed)


def is_label(name: str, text: str) -> bool:
    """Tell whether a host can have the label *name* with the value *text*."""
    return bool(_LABEL_NAME.accepts(name) and _LABEL.accepts(text))


def _walk(value: attrs.AttrsInstance, where: str, findings: Findings) -> None:
    cls = type(value)
    for field in attrs.fields(cls):
        inner = getattr(value, field.name)
        place = where if (cls, field.name) in _UNNAMED else at(where, field.name)
        if attrs.has(type(inner)):
            _walk(inner, place, findings)
        elif (rule := RULES[cls].get(field.name)) is not None:
            _apply(rule, inner, place, findings)


def _apply(rule: Rule, value: object, where: str, findings: Findings) -> None:
    if isinstance(value, Mapping):
        for key in value:
            if not rule.accepts(key):
                findings.add(
                    at(where, key), f"is no name for it; allowed: {rule.allowed}"
                )
    elif rule.each and isinstance(value, Sequence):
        for index, item in enumerate(value):
            if not rule.accepts(item):
                findings.wrong(f"{where}[{index}]", item, rule.allowed)
    elif not rule.accepts(value):
        findings.wrong(where, value, rule.allowed)
