"""
The source that is a git repository, through a mirror on this machine.

How it works: the remote says where the wanted branch or tag is, a mirror of all its
branches and tags follows it in the cache, and the commit is checked out into the build
folder, which borrows the mirror's objects. A whole commit id that the mirror has costs
no network. A commit gives the same tree each time: contents, modes and times.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from anyio import to_thread

from .._local.scripts import Tail
from ..errors import AmbiguousRevision, SourceError, UnknownRevision
from ..model import GitSource, Revision, Submodules
from ..protocols import OnOutput
from ._git_cli import Cli, Remote
from ._git_mirror import FULL, Mirror
from ._git_tree import Tree, settle

__all__ = ["Git"]

COMMITTED: Final = re.compile(rb"^committer .*> (\d{1,10}) [+-]\d+$", re.MULTILINE)
"""The time of a commit in its object, in seconds since 1970."""

SAID: Final = 1 << 20
"""Bytes of git's words that are kept until there is a log for them."""


class Git:
    """
    A :class:`~ghostasync.protocols.Source` that is a git repository.

    Args:
        module: Whose tree it is; errors begin with it.

        source: The repository and revision.

        cache: Where mirrors are kept, below ``mirrors/``.

        base: What a repository given as a path is relative to.

        keep_git: Whether trees keep their ``.git``, without credentials.

        environ: The environment that git is started in.

        submodules: Which submodules belong to the tree.

        listen: Called with what git says before a tree is fetched, as it comes.
    """

    def __init__(
        self,
        module: str,
        source: GitSource,
        *,
        cache: Path,
        base: Path = Path(),
        keep_git: bool = False,
        environ: Mapping[str, str] = os.environ,
        submodules: Submodules = "all",
        listen: OnOutput | None = None,
    ) -> None:
        self._module, self._rev, self._keep_git = module, source.rev, keep_git
        self._remote = Remote.parse(source.git, base, environ)
        self._said, self._listen = Tail(SAID), listen
        self._output: OnOutput | None = None
        git = Cli(module, self._remote, environ, self._hear)
        self._mirror = Mirror.of(git, cache)
        self._tree = Tree(module, self._mirror, cache, keep_git, submodules)

    @property
    def said(self) -> bytes:
        """What git said while no output was given to it."""
        return os.fsencode(self._said.text())

    async def resolve(self) -> Revision:
        """
        Find out which commit the wanted revision is now.

        Branches and tags may be spelled in full, ``refs/tags/1.0``; 40 hex digits are
        always a commit.

        Raises:
            UnknownRevision: There is no such branch, tag or commit.
            AmbiguousRevision: There are several, and they differ.
            SourceError: The repository could not be asked.
        """
        async with self._translated():
            rev, commit = await self._resolved()
            text = await self._mirror.read(commit)
        head, _, message = text.partition(b"\n\n")
        committed = COMMITTED.search(head)
        return Revision(
            repo=self._remote.url,
            rev=self._rev or rev.removeprefix("refs/heads/"),
            commit=commit,
            message=message.rstrip(b"\n").decode("utf-8", "surrogateescape"),
            epoch=int(committed[1]) if committed else 0,
        )

    async def fetch(self, revision: Revision, into: Path, output: OnOutput) -> None:
        """
        Check *revision* out into the empty folder *into*, submodules and LFS included.

        Raises:
            UnknownRevision: The repository does not have the commit any more.
            SourceError: It could not be fetched.
        """
        self._output = output
        try:
            async with self._translated():
                # Another run may have made the mirror anew since then.
                if not await self._mirror.obtain(revision.commit):
                    raise self._unknown()
                await self._tree.fill(revision.commit, into)
                args = into, revision.epoch, self._keep_git
                await to_thread.run_sync(settle, *args)
        finally:
            self._output = None

    async def distance(self, commit: str, other: str) -> tuple[int, int] | None:
        """
        Return how many commits *commit* is ahead of *other*, and how many behind.

        None where the repository does not have both, or cannot be asked.
        """
        try:
            async with self._translated():
                for each in (commit, other):
                    if not await self._mirror.obtain(each):
                        return None
                return await self._mirror.distance(commit, other)
        except (SourceError, UnknownRevision):
            return None

    async def subjects(self, commit: str, other: str, count: int) -> tuple[str, ...]:
        """
        Return the newest *count* commits that *commit* has and *other* has not.

        Each is an abbreviated id and the first line of its message; none where the
        mirror lacks one of the two. Nothing is fetched.
        """
        try:
            async with self._translated():
                return await self._mirror.subjects(commit, other, count)
        except SourceError:
            return ()

    async def _resolved(self) -> tuple[str, str]:
        """Return the wanted revision's name and its commit, which the mirror has."""
        rev = self._rev
        # A whole id is always a commit, whatever else is called so.
        if FULL.fullmatch(rev):
            commit = await self._mirror.obtain(rev)
        else:
            found = await self._mirror.current(rev)
            commit = self._only(found)
            if rev in {"", "HEAD"} and found:
                (name,) = found
                # A HEAD that is on no branch is a commit by its id.
                rev = commit if name == "HEAD" else name
        if not commit:
            raise self._unknown()
        return rev, commit

    def _only(self, found: Mapping[str, str]) -> str:
        """
        Return the one commit among those *found*, empty where none was.

        Raises:
            AmbiguousRevision: They differ.
        """
        commits = set(found.values())
        if len(commits) > 1:
            raise AmbiguousRevision(self._module, self._rev, found)
        return commits.pop() if commits else ""

    def _hear(self, data: bytes) -> None:
        if self._output:
            self._output(data)
            return
        self._said.feed(data)
        if self._listen:
            self._listen(data)

    def _unknown(self) -> UnknownRevision:
        return UnknownRevision(self._module, self._remote.url, self._rev or "HEAD")

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(f"{self._module}: {error}") from error
