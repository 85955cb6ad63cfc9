"""
How git is started: never by a shell, never asking, never led astray.

Rule 1: what a user or a repository chose stands behind ``--``, or is checked first.
Rule 2: nothing secret is in an argument list, ours or that of a child of git.
Rule 3: of the caller's ``GIT_*`` only what says how to reach a server gets through.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import attrs

from .._local.paths import git_url
from .._local.redact import Redactor
from .._local.scripts import Tail, capture, run
from ..errors import BuildError, SourceError
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
"""Deploy keys, authorities and proxies are told this way; no repository is."""

NETWORK: Final = "git:http:https:ssh"
"""Protocols a repository may name; ``ext::`` and ``fd::`` would run programs."""

LOCAL: Final = f"file:{NETWORK}"
"""The same and paths of this machine."""

CONFIG: Final = (
    # The tree depends on the commit alone, not on who builds it.
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.eol=lf",
    "core.symlinks=true",
    # Nothing runs besides git.
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    # Folders are ours or named by the plan, whoever owns them.
    "safe.directory=*",
    # Packs appear whole, loose objects of a killed fetch would not.
    "fetch.unpackLimit=1",
    # Nothing stays behind in the background.
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
)

LFS: Final = (
    "filter.lfs.process=git-lfs filter-process",
    "filter.lfs.smudge=git-lfs smudge -- %f",
    "filter.lfs.clean=git-lfs clean -- %f",
    "filter.lfs.required=true",
)
"""Files in Git LFS are put in place by the checkout itself, submodules' ones too."""

LFS_MISSING: Final = ("filter.lfs.process=", "filter.lfs.required=true")
"""Makes a checkout with such files fail: pointers to them are not what was meant."""

NO_LFS: Final = "the tree has files in Git LFS, and git-lfs is not here: install it"

VAGUE: Final = re.compile(
    r"Could not read from remote|Please make sure you have|and the repository exists"
    r"|filter lfs failed|external filter|git lfs logs|Errors logged to"
    r"|Retry scheduled|a second time, aborting|into submodule path"
)
"""What git says after it has said why."""

UPLOAD_PACK: Final = "--upload-pack=git -c 'safe.directory=*' upload-pack"
"""Reads a local repository of another user; CONFIG does not reach that end of it."""

HELPER: Final = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n"'
    ' "$GHOSTASYNC_GIT_USERNAME" "$GHOSTASYNC_GIT_PASSWORD"; }; f'
)
"""Tells git the credentials of the URL; a constant, they are in its environment."""


def _ignore(_: bytes) -> None:
    """Nobody wants to read this output."""


@attrs.frozen
class Remote:
    """
    A repository: *url* is what git and people are told, without credentials.

    *base* is the part of an ``http(s)`` URL that its credentials are for. A *password*
    of None was not given at all.
    """

    url: str
    local: bool = False
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
            return cls(
                base + text[match.end() :],
                base=base,
                username=unquote(name),
                password=unquote(password) if colon else None,
            )
        url = git_url(text, folder, environ)
        if "://" in url or ":" in url.partition("/")[0]:
            # ssh takes no password from a URL, so nothing is lost.
            url = re.sub(r"\A(\w[\w+.-]*://[^/?#@:]*):[^/?#]*@", r"\1@", url)
            return cls(url, local=url.startswith("file://"))
        return cls(str(Path(url).resolve()), local=True)

    @property
    def options(self) -> tuple[str, ...]:
        """What a fetch or question needs besides the URL."""
        return (UPLOAD_PACK,) if self.local else ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be printed; a lone user name may be a token."""
        return (self.username if self.password is None else self.password,)


@attrs.frozen
class Cli:
    """git, for one module and its repository."""

    module: str
    remote: Remote
    environ: Mapping[str, str] = attrs.field(default=os.environ, repr=False)

    async def run(
        self,
        *args: str,
        cwd: Path,
        doing: str,
        output: OnOutput = _ignore,
        allow: str = LOCAL,
    ) -> None:
        """
        Run git; *allow* is what it may reach, as in ``GIT_ALLOW_PROTOCOL``.

        Raises:
            SourceError: It failed: the module, what it was *doing*, git's last line.
        """
        tail = Tail()

        def both(data: bytes) -> None:
            tail.feed(data)
            output(data)

        try:
            status = await run(
                (*self._git(), *args),
                cwd=cwd,
                env=self._env(allow),
                output=both,
                what="git",
            )
        except BuildError as error:
            raise SourceError(f"{self.module}: cannot {doing}: {error}") from error
        if status:
            raise self.failure(doing, status, tail.text())

    async def ask(self, *args: str, doing: str) -> bytes:
        """Return what git answers; raises SourceError as :meth:`run` does."""
        try:
            return await self._capture(*args)
        except BuildError as error:
            status = error.exit_status
            raise self.failure(doing, status, error.tail or str(error)) from error

    async def look(self, *args: str) -> str:
        """Return one line of git's, empty where it has none to give."""
        try:
            return (await self._capture(*args)).decode("utf-8", "replace").strip()
        except BuildError as error:
            if error.exit_status is None:
                raise SourceError(f"{self.module}: {error}") from error
            return ""

    def failure(self, doing: str, status: int | None, output: str) -> SourceError:
        """Return the error for a git that said *output*."""
        if "filter lfs failed" in output and not _lfs_is_here():
            return SourceError(f"{self.module}: {NO_LFS}")
        line = _telling_line(output) or f"git exited {status}"
        text = f"{self.module}: cannot {doing} {self.remote.url}: {line}"
        text = Redactor(self.remote.secrets).text(" ".join(text.split()))
        return SourceError(re.sub(r"(https?://)[^/@\s]*@", r"\1", text))

    async def _capture(self, *args: str) -> bytes:
        argv = (*self._git(), *args)
        return await capture(argv, cwd=Path("/"), env=self._env(LOCAL), what="git")

    def _git(self) -> tuple[str, ...]:
        config = [*CONFIG, *(LFS if _lfs_is_here() else LFS_MISSING)]
        if self.remote.base:
            key = f"credential.{self.remote.base}.helper"
            # With a password, the user's own helpers are not asked; the first answers.
            config += [f"{key}="] * (self.remote.password is not None)
            config.append(f"{key}={HELPER}")
        return ("git", *(part for pair in config for part in ("-c", pair)))

    def _env(self, allow: str) -> dict[str, str]:
        env = {
            key: value
            for key, value in self.environ.items()
            if key in REACHING or not key.startswith("GIT_")
        }
        env.pop("DISPLAY", None)  # where ssh would ask; it has no terminal either
        env |= {
            "GIT_ALLOW_PROTOCOL": allow,
            "GIT_ASKPASS": "",
            "GIT_TEMPLATE_DIR": "",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            "SSH_ASKPASS_REQUIRE": "never",
        }
        if self.remote.base:
            env |= {
                "GHOSTASYNC_GIT_PASSWORD": self.remote.password or "",
                "GHOSTASYNC_GIT_USERNAME": self.remote.username,
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"credential.{self.remote.base}.username",
                "GIT_CONFIG_VALUE_0": self.remote.username,
            }
        return env


def _lfs_is_here() -> bool:
    return shutil.which("git-lfs") is not None


def _telling_line(output: str) -> str:
    """Return the last line that tells why."""
    lines = [line for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if not VAGUE.search(line)]
    return (telling or lines or [""])[-1]
