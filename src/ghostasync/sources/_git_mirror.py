"""
The mirror of a repository on this machine: fetched often, healed where it is broken.

How it heals: a fetch that fails may mean that the server is away or that a killed git
left the mirror damaged. Git's own check tells which. A broken mirror is fetched anew
beside the old one, and the two are swapped by renames.

Rule 1: a writer holds the mirror's lock; reading needs none, since packs appear whole
and a new mirror takes the old one's place under the same path.
Rule 2: a mirror is thrown away only where git itself finds it broken, and not before
the new one is there.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

import anyio
import attrs
from anyio import to_thread

from .._local.owners import make_private
from .._local.paths import mirror_dir
from .._local.scripts import locked
from ..errors import SourceError
from ._git_cli import Cli

__all__ = ["FETCH", "FULL", "Mirror"]

FULL: Final = re.compile(r"[0-9a-fA-F]{40}")
"""A whole commit id."""

SHORT: Final = re.compile(r"[0-9a-fA-F]{4,39}")
"""An abbreviated commit id; git takes none of less than four digits."""

_TYPED: Final = 7
"""Digits from which on a name is taken for an abbreviated commit beside a ref."""

FETCH: Final = (
    *("fetch", "--quiet", "--force", "--prune"),
    *("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
)

ALL: Final = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")

FSCK: Final = 120
"""Seconds to look for damage after a failure; too large a mirror is kept as it is."""


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
                # A sound mirror outlives a repository that cannot be reached: another
                # fetch of all of it would fail too.
                if await self._sound():
                    raise
                await self._replace()

    async def heal(self) -> bool:
        """Make a broken mirror anew; return whether it was broken."""
        async with locked(self._beside(".lock")):
            # Of two runs that read the same spoilt object, the second finds it healed.
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
            # A commit that no ref leads to would be collected as garbage some day.
            await self._fetch(self.folder, f"+{commit}:refs/ghostasync/{commit}")

    async def default_branch(self) -> str:
        """
        Return the remote's default branch as it is now: ``refs/heads/`` and a name.

        It is a commit id where the remote's HEAD is detached, and empty where HEAD
        leads nowhere, as in an empty repository.
        """
        answer = await self.git.ask(
            *("ls-remote", "--symref", *self.git.remote.options),
            *("--", self.git.remote.url, "HEAD"),
            doing="ask",
        )
        text = answer.decode("utf-8", "surrogateescape")
        if match := re.search(r"^ref: (refs/heads/.+)\tHEAD$", text, re.MULTILINE):
            return match[1]
        if match := re.search(r"^([0-9a-f]{40})\tHEAD$", text, re.MULTILINE):
            return match[1]
        return ""

    async def find(self, rev: str) -> dict[str, str]:
        """
        Return the commits that *rev* may name in the mirror, by their full spelling.

        A branch, a tag and an abbreviated commit may have the same name, and more than
        one commit the same abbreviation; 40 hex digits are always one commit.
        """
        # No argument of a program can hold a NUL, and no ref is called so.
        if "\0" in rev:
            return {}
        if FULL.fullmatch(rev):
            return await self._commits(rev)
        # rev-parse would take far more than names, such as main~3 or :/message: refs
        # are asked for by their full name. A full spelling is what it says, whatever
        # else is called so.
        whole = rev.startswith(("refs/heads/", "refs/tags/"))
        if whole and (found := await self._refs(rev)):
            return found
        found = await self._refs(f"refs/heads/{rev}", f"refs/tags/{rev}")
        # A tag such as 2024 would be ambiguous one day by chance.
        if SHORT.fullmatch(rev) and not (found and len(rev) < _TYPED):
            ids = await self._look("rev-parse", f"--disambiguate={rev}")
            found |= await self._commits(*ids.split())
        return found

    async def read(self, commit: str) -> bytes:
        """Return the commit object as it was stored, whatever its encoding."""
        return await self.git.ask(
            *(f"--git-dir={self.folder}", "cat-file", "commit", commit),
            doing="read",
        )

    async def distance(self, commit: str, other: str) -> tuple[int, int]:
        """Return how many commits each of two has that the other lacks."""
        answer = await self.git.ask(
            *(f"--git-dir={self.folder}", "rev-list", "--left-right", "--count"),
            *("--end-of-options", f"{commit}...{other}"),
            doing="compare commits of",
        )
        ahead, behind = answer.split()
        return int(ahead), int(behind)

    async def subjects(self, commit: str, other: str, count: int) -> tuple[str, ...]:
        """Return ids and first lines of the newest commits that *other* lacks."""
        answer = await self.git.ask(
            *(f"--git-dir={self.folder}", "rev-list", "--oneline", "--abbrev=7"),
            *(f"--max-count={count}", "--end-of-options", f"{other}..{commit}"),
            doing="list commits of",
        )
        # A subject may hold any other character that Python ends a line at.
        lines = answer.decode("utf-8", "surrogateescape").split("\n")
        return tuple(filter(None, lines))

    async def _refs(self, *refs: str) -> dict[str, str]:
        """Return the commits of those of *refs* that are there and lead to one."""
        found = dict[str, str]()
        for ref in refs:
            line = await self._look("show-ref", "--verify", "--hash", "--", ref)
            if commit := line and await self._peel(line):
                found[ref] = commit
        return found

    async def _commits(self, *ids: str) -> dict[str, str]:
        """Return those of *ids* that are commits; a tag's own id leads to one."""
        found = [await self._peel(name) for name in ids]
        return {commit: commit for commit in found if commit}

    async def _peel(self, name: str) -> str:
        return await self._look(
            "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}"
        )

    async def _look(self, *args: str) -> str:
        return await self.git.look(f"--git-dir={self.folder}", *args)

    async def _fetch_all(self, folder: Path) -> None:
        make_private(folder)
        # On a mirror that is there already, init puts back the files that it lacks.
        await self._run("init", "--quiet", "--bare", folder=folder)
        await self._fetch(folder, *ALL)

    async def _fetch(self, folder: Path, *refs: str) -> None:
        remote = self.git.remote
        options = (*FETCH, *remote.options)
        await self._run(*options, "--", remote.url, *refs, folder=folder)

    async def _run(self, *args: str, folder: Path) -> None:
        await self.git.run(f"--git-dir={folder}", *args, cwd=folder, doing="fetch")

    async def _sound(self) -> bool:
        # A check that takes too long decides nothing: a mirror as large as that is
        # expensive to fetch again, and is kept.
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
        # rename(2) replaces no folder that is not empty, so the old mirror steps aside.
        self.folder.rename(old)
        new.rename(self.folder)
        await to_thread.run_sync(_remove, old)

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(self.folder.name + suffix)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_locks(mirror: Path) -> None:
    """Remove the lock files of a git that was killed."""
    # A leftover .lock of a ref makes every later fetch fail. No git is at work here:
    # the caller holds the one lock that runs go by.
    for path in mirror.rglob("*.lock"):
        path.unlink(missing_ok=True)
