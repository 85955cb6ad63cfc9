"""
A local mirror of a repository: fetched often, healed when something killed it.

Rule 1: whoever writes to the mirror holds its lock; reading needs none, since packs
appear whole and a new mirror takes the old one's place under the same path.
Rule 2: it is thrown away only where git itself finds it broken, and not before the new
one is there.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

import anyio
import attrs
from anyio import to_thread

from .._local.paths import mirror_dir
from .._local.scripts import locked
from ..errors import SourceError
from ._git_cli import Cli

__all__ = ["FETCH", "FULL", "Mirror"]

FULL: Final = re.compile(r"[0-9a-fA-F]{40}")
"""A whole commit id."""

SHORT: Final = re.compile(r"[0-9a-fA-F]{4,39}")
"""What git takes for an abbreviated one."""

FETCH: Final = (
    *("fetch", "--quiet", "--force", "--prune"),
    *("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
)

ALL: Final = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")

FSCK: Final = 120
"""Seconds to look for damage after a failure; a mirror too large for it is kept."""


@attrs.frozen
class Mirror:
    """The bare repository in *folder*, of the remote that *git* is for."""

    git: Cli
    folder: Path

    @classmethod
    def of(cls, git: Cli, cache: Path) -> Mirror:
        """Return the mirror in *cache*; nothing is made yet."""
        return cls(git, mirror_dir(cache, git.remote.url))

    async def update(self) -> None:
        """
        Fetch branches and tags, and forget those that are gone.

        Raises:
            SourceError: The repository could not be fetched.
        """
        async with locked(self._beside(".lock")):
            try:
                await to_thread.run_sync(_remove_stale_locks, self.folder)
                await self._fetch_all(self.folder)
            except SourceError:
                if await self._sound():
                    raise
                await self._replace()

    async def heal(self) -> bool:
        """Make a broken mirror anew; return whether it was broken."""
        async with locked(self._beside(".lock")):
            if await self._sound():
                return False
            await self._replace()
            return True

    async def fetch_commit(self, commit: str) -> None:
        """
        Fetch a commit that no branch or tag leads to.

        Raises:
            SourceError: The repository does not give it.
        """
        async with locked(self._beside(".lock")):
            # The ref keeps it from being collected as garbage.
            await self._fetch(self.folder, f"+{commit}:refs/ghostasync/{commit}")

    async def default_branch(self) -> str:
        """
        Return the name of the remote's default branch, as it is now.

        A commit where its HEAD is detached, empty where HEAD leads nowhere.
        """
        answer = await self.git.ask(
            *("ls-remote", "--symref", *self.git.remote.options),
            *("--", self.git.remote.url, "HEAD"),
            doing="ask",
        )
        text = answer.decode("utf-8", "surrogateescape")
        if match := re.search(r"^ref: refs/heads/(.+)\tHEAD$", text, re.MULTILINE):
            return match[1]
        if match := re.search(r"^([0-9a-f]{40})\tHEAD$", text, re.MULTILINE):
            return match[1]
        return ""

    async def find(self, rev: str) -> str:
        """Return the commit that *rev* names in the mirror, empty where none."""
        if "\0" in rev:
            return ""
        if FULL.fullmatch(rev):
            return await self._peel(rev)
        for kind in ("heads", "tags"):
            ref = f"refs/{kind}/{rev}"
            if line := await self._look("show-ref", "--verify", "--hash", "--", ref):
                return await self._peel(line)
        return await self._peel(rev) if SHORT.fullmatch(rev) else ""

    async def read(self, commit: str) -> bytes:
        """Return the commit object as it was stored, whatever its encoding."""
        return await self.git.ask(
            *(f"--git-dir={self.folder}", "cat-file", "commit", commit),
            doing="read",
        )

    async def _peel(self, name: str) -> str:
        return await self._look(
            "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}"
        )

    async def _look(self, *args: str) -> str:
        return await self.git.look(f"--git-dir={self.folder}", *args)

    async def _fetch_all(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # On a mirror that is there already, this puts back what it lacks.
        await self._run("init", "--quiet", "--bare", folder=folder)
        await self._fetch(folder, *ALL)

    async def _fetch(self, folder: Path, *refs: str) -> None:
        remote = self.git.remote
        options = (*FETCH, *remote.options)
        await self._run(*options, "--", remote.url, *refs, folder=folder)

    async def _run(self, *args: str, folder: Path) -> None:
        await self.git.run(f"--git-dir={folder}", *args, cwd=folder, doing="fetch")

    async def _sound(self) -> bool:
        with anyio.move_on_after(FSCK):
            try:
                args = ("fsck", "--no-dangling", "--no-progress")
                await self._run(*args, folder=self.folder)
            except SourceError:
                return False
        return True

    async def _replace(self) -> None:
        new, old = self._beside(".new"), self._beside(".old")
        for leftover in (new, old):
            await to_thread.run_sync(_remove, leftover)
        await self._fetch_all(new)
        self.folder.rename(old)
        new.rename(self.folder)
        await to_thread.run_sync(_remove, old)

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(self.folder.name + suffix)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_locks(mirror: Path) -> None:
    """Remove what a killed git left; ours is the only lock that counts here."""
    for path in mirror.rglob("*.lock"):
        path.unlink(missing_ok=True)
