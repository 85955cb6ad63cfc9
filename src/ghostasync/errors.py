"""
Errors of ghostasync, ordered by what their reader can do.

::

    GhostasyncError
    ├── PlanError              refused: no host was contacted, nothing changed
    │   ├── ConfigError        .problems, each with its key
    │   ├── UnknownRevision    the source has no such branch, tag, commit or version
    │   ├── AmbiguousRevision  it has several of that name; says how each is spelled
    │   └── NothingToResume    no run is unfinished, or not that one
    ├── SourceError            the source could not be fetched
    ├── BuildError             a script on this machine failed
    ├── PackageError           the tree cannot be packaged, or a package is broken
    ├── StoreError             packages, MANIFEST or runs could not be read or written
    │   └── NotInStore         they could, and have no such thing
    ├── HostError              one host; never leaves the run, becomes an event
    │   ├── Unreachable        no connection; .retriable, .denied say more
    │   ├── ConnectionDied     it was there and is gone
    │   │   └── NeverSent      before the host was told what to do
    │   ├── Refused            the host is not fit for the plan; says what to do
    │   │   └── StillRunning   yet: another script runs there, and may end
    │   ├── LockHeld           another run holds the host's lock
    │   ├── DeadlinePassed     the state took longer than its deadline
    │   ├── RemoteError        a script on the host failed
    │   └── BadAnswer          it did not, and its answer makes no sense
    └── DeployFailed           more hosts failed than allowed; .report
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

from .model import Report

__all__ = [
    "AmbiguousRevision",
    "BadAnswer",
    "BuildError",
    "ConfigError",
    "ConnectionDied",
    "DeadlinePassed",
    "DeployFailed",
    "Frozen",
    "GhostasyncError",
    "HostError",
    "LockHeld",
    "NeverSent",
    "NotInStore",
    "NothingToResume",
    "PackageError",
    "PlanError",
    "Refused",
    "RemoteError",
    "SourceError",
    "StillRunning",
    "StoreError",
    "UnknownRevision",
    "Unreachable",
]


# JSON may have a backslash before each slash, and writes "&" as a number. What stands
# for a port and is no number is a password with a "/", "?" or "#" that was not quoted.
_LOGIN = re.compile(
    r"""\b([a-z][a-z0-9+.-]{0,31}:\\?/\\?/)"""
    r"""([^/?#\s"'<>\\]*|[^/?#\s"'<>\\:@[]*:(?!\d*[/?#])[^\s"'<>\\@]{0,256})@""",
    re.IGNORECASE,
)
_QUERY = re.compile(
    r"""([?&;#]|\\u0026)([\w.%[\]-]{1,64})=([^&;#\s"'<>\\]+)""", re.IGNORECASE
)
_TELLING = re.compile(
    "token|secret|passw|signature|credential|api.?key|access.?key|private.?key"
    "|^(?:key|sig|auth|authorization|code|jwt|bearer)$",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """
    Return *text* without what opens doors in the URLs that it holds.

    That are passwords before the host, user names too where they may be tokens, and the
    values in queries whose names say so: private_token, X-Amz-Signature and others.
    """

    def login(found: re.Match[str]) -> str:
        name = found[2].partition(":")[0]
        return found[1] + f"{name}@" * bool(name and not _is_token(found))

    def value(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}=***" if _tells(found) else found[0]

    return _QUERY.sub(value, _LOGIN.sub(login, text)) if _may_have_url(text) else text


def credentials_in(text: str) -> Iterator[str]:
    """Yield what :func:`without_credentials` leaves out, as it is there and decoded."""
    if not _may_have_url(text):
        return
    for found in _LOGIN.finditer(text):
        name, colon, password = found[2].partition(":")
        word = password if colon else name if _is_token(found) else ""
        yield from {word, unquote(word)}
    for found in _QUERY.finditer(text):
        if _tells(found):
            yield from {found[3], unquote(found[3])}


def _is_token(found: re.Match[str]) -> bool:
    # A lone user name is a token for a web server, and a user for all others.
    return found[1].lower().partition(":")[0].endswith(("http", "https"))


def _may_have_url(text: str) -> bool:
    return "://" in text or ":\\/" in text


def _tells(found: re.Match[str]) -> bool:
    return _TELLING.search(unquote(found[2])) is not None


class GhostasyncError(Exception):
    """
    The root of all errors that ghostasync raises on purpose.

    Their texts hold no credentials of URLs: tools and hosts say what they were given.
    """

    def __init__(self, text: object = "") -> None:
        super().__init__(without_credentials(str(text)))


class PlanError(GhostasyncError):
    """The plan cannot be carried out; no host was contacted."""


class ConfigError(PlanError):
    """A configuration is wrong; *problems* holds one line for each finding."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(map(without_credentials, problems))
        super().__init__("\n".join(self.problems))


class UnknownRevision(PlanError):
    """The source has no such branch, tag, commit, object or version; *kind* says."""

    def __init__(
        self, module: str, repo: str, rev: str, kind: str = "branch, tag or commit"
    ) -> None:
        super().__init__(f"{module}: {repo} has no {kind} {rev!r}")
        self.module, self.repo, self.rev = module, repo, rev


class AmbiguousRevision(PlanError):
    """
    The source has different commits under one name.

    *commits* maps the full spelling of each, such as ``refs/tags/1.0``, to its id.
    """

    def __init__(self, module: str, rev: str, commits: Mapping[str, str]) -> None:
        found = [f"{name} ({commit[:7]})" for name, commit in commits.items()]
        told = " or ".join([*found[:3], *["…"] * (len(found) > 3)])  # noqa: PLR2004
        super().__init__(f"{module}: {rev!r} is ambiguous: say {told}")
        self.module, self.rev, self.commits = module, rev, dict(commits)


class Frozen(PlanError):
    """A person has frozen the app: only a rollback or a revert is carried out."""


class NothingToResume(PlanError):
    """Nothing is left of the run that is to be resumed, or no run is unfinished."""


class SourceError(GhostasyncError):
    """A source could not be fetched; *tail* is what else it said about that."""

    def __init__(self, what: str, *, tail: str = "") -> None:
        super().__init__(what)
        self.tail = tail


class BuildError(GhostasyncError):
    """
    A script on this machine failed.

    *exit_status* is None where ghostasync ended the script; *tail* is its last output.
    """

    def __init__(
        self, what: str, *, exit_status: int | None = None, tail: str = ""
    ) -> None:
        super().__init__(what)
        self.exit_status, self.tail = exit_status, tail


class PackageError(GhostasyncError):
    """A tree cannot be packaged, or a package is broken."""


class StoreError(GhostasyncError):
    """The store could not be read or written."""


class NotInStore(StoreError):
    """The store could be read, but has no such package or file of a run."""


class HostError(GhostasyncError):
    """A failure of one host; the text does not repeat the host's name."""

    def __init__(self, host: str, text: str) -> None:
        super().__init__(text)
        self.host = host


class Unreachable(HostError):
    """
    No connection to the host.

    *retriable* is false where a second try makes things worse: after a refused login,
    or a wrong host key. *denied* is whether it was the login that was refused.
    """

    def __init__(
        self, host: str, text: str, *, retriable: bool = False, denied: bool = False
    ) -> None:
        super().__init__(host, text)
        self.retriable, self.denied = retriable, denied


class ConnectionDied(HostError):
    """The connection was there and is gone; the host's state is unknown."""


class NeverSent(ConnectionDied):
    """
    The connection died before the host was told what to do.

    Nothing has changed there: a link that was to move needs no way back.
    """


class Refused(HostError):
    """The host is not fit for the plan. The text says what to do."""


class StillRunning(Refused):
    """
    A script of another run, or of the host's own timer, has not ended in time.

    *lasting*: it may take long, and is to be waited for.
    """

    def __init__(self, host: str, text: str, *, lasting: bool = False) -> None:
        super().__init__(host, text)
        self.lasting = lasting


class LockHeld(HostError):
    """
    Another run holds the host's lock, or a person has frozen the app.

    *holder* says who, from where, and since when.
    """

    def __init__(self, host: str, holder: str) -> None:
        frozen = holder.startswith("frozen ")
        super().__init__(
            host, holder if frozen else f"another run holds the lock: {holder}"
        )
        self.holder = holder


class DeadlinePassed(HostError):
    """
    A state, or else *what*, took longer than its deadline, in seconds.

    *tail* is the last output of a script before it was ended, in bounds. *key* names
    the deadline in the configuration, so that the message says what to change.
    """

    def __init__(
        self, host: str, key: str, seconds: float, *, what: str = "", tail: str = ""
    ) -> None:
        late = f"not done within {seconds:g} s (rollout.deadlines.{key})"
        super().__init__(host, f"{what} {late}".lstrip())
        self.key, self.seconds, self.tail = key, seconds, tail


_LONGEST = 300
"""Characters of a script's last line in a reason; binary data has endless lines."""

_QUOTED = 60
"""Characters of an answer in a reason."""


class RemoteError(HostError):
    """
    A script on the host failed; *tail* is its last output, in bounds.

    *status* is None where a signal ended the script.
    """

    def __init__(
        self, host: str, script: str, status: int | None, tail: str = ""
    ) -> None:
        # The last line is the reason that a script gave; a long one keeps its end.
        ended = "was killed" if status is None else f"exited {status}"
        # Whole, for half an address shows its secrets no more as such.
        last = without_credentials(tail.strip().rsplit("\n", 1)[-1].strip())
        last = last[-_LONGEST:]
        super().__init__(host, f"{script} {ended}" + (f": {last}" if last else ""))
        self.script, self.status, self.tail = script, status, tail


class BadAnswer(HostError):
    """
    A script on the host answered what makes no sense; *why* says of what kind.

    *answer* is what it printed, or the beginning of it.
    """

    def __init__(self, host: str, script: str, why: str, answer: str = "") -> None:
        # As Python writes it: nothing of it is obeyed, or missed, by who reads it.
        bit = f": it begins {answer[:_QUOTED]!r}" if answer else ""
        super().__init__(host, f"{script} answered nonsense ({why}){bit}")
        self.script, self.why = script, why


class DeployFailed(GhostasyncError):
    """More hosts failed than was allowed; *report* says which and why."""

    def __init__(self, report: Report) -> None:
        reason = report.reason or f"the run ended {report.outcome.value}"
        super().__init__(reason)
        self.report = report
