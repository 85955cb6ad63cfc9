"""
The way git is started: never by a shell, never asking, never led astray.

Rule 1: words that a user or a repository chose stand behind ``--``, or are checked
first.
Rule 2: nothing secret is in an argument list, neither ours nor that of a child of git.
Rule 3: of the caller's ``GIT_*`` only what says how to reach a server gets through.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

import anyio
import attrs

from .._local.paths import git_url
from .._local.redact import Redacting, Redactor
from .._local.scripts import Tail, capture, run
from ..errors import BuildError, SourceError, credentials_in, without_credentials
from ..protocols import OnOutput

__all__ = ["LOCAL", "NETWORK", "UPLOAD_PACK", "Cli", "Remote"]

REACHING: Final = frozenset(
    {
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_PROXY_COMMAND",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
        "GIT_SSL_NO_VERIFY",
    }
)
"""
The variables of git that get through: they tell of deploy keys, authorities, proxies.

All others are dropped: a leaked GIT_DIR or GIT_WORK_TREE, as in a hook, would have git
work on another repository.
"""

REACHING_KEYS: Final = re.compile(
    r"(?:credential|http|url)\.|core\.(?:gitProxy|sshCommand)$", re.IGNORECASE
)
"""
The settings in GIT_CONFIG_COUNT that get through, for the same reason.

Jobs of a CI server have the tokens for it there, which no file should hold.
"""

NETWORK: Final = "git:http:https:ssh"
"""Protocols a repository may name; ``ext::`` and ``fd::`` would run programs."""

LOCAL: Final = f"file:{NETWORK}"
"""The protocols of NETWORK, and paths of this machine."""

CONFIG: Final = (
    # A tree depends on the commit alone, not on the settings of the user who builds it.
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.eol=lf",
    # A reflog has the time of a fetch, and who fetched.
    "core.logAllRefUpdates=false",
    "core.sparseCheckout=false",
    "core.symlinks=true",
    "submodule.recurse=false",
    # Hooks of the user's template, or a file watcher, would be programs besides git.
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    # Every folder here is ours or was named by the plan, whichever user owns it; git
    # refuses repositories of other users otherwise.
    "safe.directory=*",
    # A pack appears whole. Objects are unpacked one by one below this limit, and a
    # killed fetch would leave some of them cut short.
    "fetch.unpackLimit=1",
    # A git in the background would write to the mirror without the mirror's lock.
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "advice.detachedHead=false",
    "color.ui=false",
    "init.defaultBranch=main",
    "init.defaultObjectFormat=sha1",
)

LFS: Final = (
    "filter.lfs.process=git-lfs filter-process",
    "filter.lfs.smudge=git-lfs smudge -- %f",
    "filter.lfs.clean=git-lfs clean -- %f",
    "filter.lfs.required=true",
)
"""Files in Git LFS are put in place by the checkout itself, submodules' ones too."""

LFS_MISSING: Final = ("filter.lfs.process=", "filter.lfs.required=true")
"""
The settings without git-lfs: a checkout with files in Git LFS fails.

Without them the tree would hold the pointers in place of the files.
"""

NO_LFS: Final = "the tree has files in Git LFS, and git-lfs is not here: install it"

FOREIGN: Final = (
    r"^(filter\..*\.(smudge|clean|process|required)|lfs\.fetch(in|ex)clude)$"
)
"""
The settings of a user that would change files on their way into a tree.

Filters have any name, so they are looked for and emptied; an empty one does nothing.
"""

PROGRESS: Final = r"\d+% \(\d|^remote: (?:Total|Enumerating) "
"""Lines that say how far git is, and are drawn anew all the time."""

VAGUE: Final = re.compile(
    r"Could not read from remote|Please make sure you have|and the repository exists"
    r"|filter lfs failed|external filter|git lfs logs|Errors logged to"
    r"|Retry scheduled|a second time, aborting|repository corruption on the remote side"
    r"|invalid index-pack output|fsck error in packed object|error processing config"
    rf"|bad pack header|pack-objects died|{PROGRESS}"
)
"""Lines that git prints beside those that tell why: after them, or of its progress."""

PARTIAL: Final = re.compile(r"from promisor remote|lazy fetching disabled")

PAUSES: Final = (1.0, 10.0)
"""First and longest pause before another state of git's progress, in seconds."""

LONGEST_LINE: Final = 1 << 16
"""Bytes of a line of git that are held to see its end."""

ANSWER: Final = 1 << 20
"""Bytes of an answer of git's that are held in memory."""

UPLOAD_PACK: Final = "--upload-pack=git -c 'safe.directory=*' upload-pack"
"""
The option that reads a local repository of another user.

A fetch starts a second git at the repository's end, which CONFIG does not reach.
"""

HELPER: Final = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n"'
    ' "$GHOSTASYNC_GIT_USERNAME" "$GHOSTASYNC_GIT_PASSWORD"; }; f'
)
"""
The credential helper that hands git the credentials of the URL.

The text is a constant, so that it may stand in an argument list: the credentials are in
git's environment.
"""


def _ignore(_: bytes) -> None:
    """Drop output that is kept nowhere but in the tail for errors."""


@attrs.frozen
class Remote:
    """
    A repository; *url* is for people and arguments of git, and holds no credentials.

    *address* is what git goes to in its place, empty where that is the same.

    *base* is the part of an ``http(s)`` URL that its credentials are for; *password* is
    None where the URL has none, not even an empty one.
    """

    url: str
    local: bool = False
    address: str = attrs.field(default="", repr=False)
    base: str = ""
    username: str = attrs.field(default="", repr=False)
    password: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(
        cls, text: str, folder: Path, environ: Mapping[str, str] = os.environ
    ) -> Remote:
        """Read a URL, ``host:path`` or a path, the last relative to *folder*."""
        if match := re.match(r"(https?://)([^/?#]*)@([^/?#]*)", text, re.IGNORECASE):
            base = match[1] + match[3]
            name, colon, password = match[2].partition(":")
            shown, address = _two(base + text[match.end() :])
            return cls(
                shown,
                address=address,
                base=base,
                username=unquote(name),
                password=unquote(password) if colon else None,
            )
        url = git_url(text, folder, environ)
        if "://" in url or ":" in url.partition("/")[0]:
            # ssh takes no password from a URL, so one that stands there is of no use
            # and would only be shown.
            url = re.sub(r"\A(\w[\w+.-]*://[^/?#@:]*):[^/?#]*@", r"\1@", url)
            shown, address = _two(url)
            return cls(shown, local=url.startswith("file://"), address=address)
        return cls(str(Path(url).resolve()), local=True)

    @property
    def options(self) -> tuple[str, ...]:
        """The options that a fetch or question needs besides the URL."""
        return (UPLOAD_PACK,) if self.local else ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that must not be printed; a lone user name may be a token."""
        login = self.username if self.password is None else self.password
        return (login, *credentials_in(self.address))


@attrs.define
class _Lines:
    """
    The way of git's words to *output*: without *secrets*, and as lines.

    Progress is drawn anew all the time: of its states comes one now and then, and none
    of what is soon over.
    """

    output: OnOutput
    secrets: Redacting
    _rest: bytes = b""
    _pause: float = attrs.field(factory=lambda: PAUSES[0])
    _told: float = attrs.field(factory=anyio.current_time)

    def feed(self, data: bytes) -> None:
        self._tell(self.secrets.feed(data))

    def end(self) -> None:
        self._tell(self.secrets.flush())
        if self._rest:
            self.output(self._rest.rstrip() + b"\n")

    def _tell(self, data: bytes) -> None:
        # A CR at the very end may be that of a CRLF, which ssh writes.
        *whole, self._rest = re.split(rb"(?<=\n)|(?<=\r)(?=[^\n])", self._rest + data)
        if len(self._rest) > LONGEST_LINE:
            whole, self._rest = [*whole, self._rest + b"\n"], b""
        for line in whole:
            if line.endswith(b"\r") or re.search(PROGRESS.encode(), line):
                now = anyio.current_time()
                if now - self._told < self._pause:
                    continue
                self._told, self._pause = now, min(2 * self._pause, PAUSES[1])
            self.output(line.rstrip() + b"\n")


@attrs.frozen
class Cli:
    """
    git, for one module and its repository.

    *module* begins every error; *output* is called with what git says, line by line;
    *allow* lists the protocols git may use, as in ``GIT_ALLOW_PROTOCOL``.
    """

    module: str
    remote: Remote
    environ: Mapping[str, str] = attrs.field(default=os.environ, repr=False)
    output: OnOutput = attrs.field(default=_ignore, repr=False)
    allow: str = LOCAL

    async def run(
        self,
        *args: str,
        cwd: Path,
        doing: str,
        config: Mapping[str, str] = MappingProxyType({}),
        into: OnOutput | None = None,
    ) -> str:
        """
        Run git and return the end of what it said; *into* gets its stdout apart.

        *config* are settings of git for this once.

        Raises:
            SourceError: git failed; the text has the module, what git was *doing* and
                the last line of git that tells why.
        """
        tail = Tail()

        def both(data: bytes) -> None:
            tail.feed(data)
            self.output(data)

        lines = _Lines(both, Redactor(self.remote.secrets, shortest=1).stream())
        try:
            status = await run(
                (*self._git(), *args),
                cwd=cwd,
                env=self._env(config),
                output=into or lines.feed,
                errors=lines.feed if into else None,
                what="git",
            )
        except BuildError as error:
            raise SourceError(f"{self.module}: cannot {doing}: {error}") from error
        finally:
            lines.end()
        if status:
            raise self.failure(doing, status, tail.text())
        return tail.text()

    async def ask(self, *args: str, doing: str) -> bytes:
        """Return git's stdout, at most ANSWER bytes; raises as :meth:`run` does."""
        answer = bytearray()

        def keep(data: bytes) -> None:
            if len(answer) <= ANSWER:
                answer.extend(data)

        await self.run(*args, cwd=Path("/"), doing=doing, into=keep)
        if len(answer) > ANSWER:
            raise self.failure(doing, None, f"git printed more than {ANSWER} bytes")
        return bytes(answer)

    async def look(self, *args: str) -> str:
        """
        Return one line of git's, empty where git exits non-zero.

        Raises:
            SourceError: git could not be started.
        """
        argv = (*self._git(), *args)
        try:
            found = await capture(argv, cwd=Path("/"), env=self._env(), what="git")
            return found.decode("utf-8", "surrogateescape").strip()
        except BuildError as error:
            # A status is git's answer "no such name"; without one git never ran.
            if error.exit_status is None:
                raise SourceError(f"{self.module}: {error}") from error
            return ""

    async def without_filters(self, folder: Path) -> dict[str, str]:
        """Return settings under which no filter of the user works in *folder*."""
        # Asked for where they would count: a user's file may include others for some
        # folders only.
        names = await self.look(
            *("-C", str(folder), "config", "--null", "--name-only"),
            *("--get-regexp", FOREIGN),
        )
        return {
            name: "false" if name.endswith(".required") else ""
            for name in names.split("\0")
            if name and not name.startswith("filter.lfs.")
        }

    def failure(self, doing: str, status: int | None, output: str) -> SourceError:
        """Return the error for a git that printed *output*."""
        # Without git-lfs git's own words are about a filter, which nobody has heard of.
        if "filter lfs failed" in output and not _lfs_is_here():
            return SourceError(f"{self.module}: {NO_LFS}")
        redactor = Redactor(self.remote.secrets, shortest=1)
        *others, line = _telling_lines(output) or [f"git exited {status}"]
        if PARTIAL.search(output):
            others, line = (
                [*others, line],
                (
                    "it is a partial clone, which lacks objects; type there: "
                    "git fetch --refetch --no-filter"
                ),
            )
        text = f"{self.module}: cannot {doing} {self.remote.url}: {line}"
        text = redactor.text(" ".join(text.split()))
        return SourceError(text, tail=redactor.text("\n".join(others)))

    def _git(self) -> tuple[str, ...]:
        config = [*CONFIG, *(LFS if _lfs_is_here() else LFS_MISSING)]
        if self.remote.base:
            key = f"credential.{self.remote.base}.helper"
            # A URL with a password needs no other helper: an empty value clears the
            # list of the user's own. A lone user name is completed by those helpers.
            config += [f"{key}="] * (self.remote.password is not None)
            config.append(f"{key}={HELPER}")
        return ("git", *(part for pair in config for part in ("-c", pair)))

    def _env(
        self, settings: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, str]:
        env = {
            key: value
            for key, value in self.environ.items()
            if key in REACHING or not key.startswith("GIT_")
        }
        # ssh would ask for a passphrase in a window where it has a display; it has no
        # terminal here to ask on.
        env.pop("DISPLAY", None)
        env |= {
            "GIT_ALLOW_PROTOCOL": self.allow,
            "GIT_ASKPASS": "",
            # Those of the machine are no part of the commit either.
            "GIT_ATTR_NOSYSTEM": "1",
            # A path is that file, whatever characters its name begins with.
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_TEMPLATE_DIR": "",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            "SSH_ASKPASS_REQUIRE": "never",
        }
        # The caller's first: of two that say the same, the last one counts.
        config = [*_reaching(self.environ), *settings.items()]
        if self.remote.base:
            env |= {
                "GHOSTASYNC_GIT_PASSWORD": self.remote.password or "",
                "GHOSTASYNC_GIT_USERNAME": self.remote.username,
            }
            key = f"credential.{self.remote.base}.username"
            config.append((key, self.remote.username))
        if self.remote.address:
            key = f"url.{self.remote.address}.insteadOf"
            config.append((key, self.remote.url))
        for number, (key, value) in enumerate(config):
            env |= {
                f"GIT_CONFIG_KEY_{number}": key,
                f"GIT_CONFIG_VALUE_{number}": value,
            }
        return env | {"GIT_CONFIG_COUNT": str(len(config))}


def _reaching(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the settings in GIT_CONFIG_COUNT that say how to reach a server."""
    count = environ.get("GIT_CONFIG_COUNT", "")
    for number in range(int(count) if re.fullmatch("[0-9]{1,3}", count) else 0):
        key = environ.get(f"GIT_CONFIG_KEY_{number}", "")
        if REACHING_KEYS.match(key):
            yield key, environ.get(f"GIT_CONFIG_VALUE_{number}", "")


def _two(url: str) -> tuple[str, str]:
    """Return *url* for people, and for git where that is another one."""
    shown = without_credentials(url)
    return shown, url if url != shown else ""


def _lfs_is_here() -> bool:
    return shutil.which("git-lfs") is not None


def _telling_lines(output: str) -> list[str]:
    """Return the lines of *output* that tell why, the most telling one last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return [line for line in lines if not VAGUE.search(line)] or lines[-1:]
