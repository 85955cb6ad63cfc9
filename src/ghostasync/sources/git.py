"""
The source that is a git repository, through a mirror on this machine.

How it works: a mirror of all branches and tags is fetched into the cache, the wanted
revision is looked up there, and its commit is checked out into the build folder, which
borrows the mirror's objects. The default branch is asked for each time; a whole commit
id that the mirror has costs no network. A commit gives the same tree each time:
contents, modes and times.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from anyio import from_thread, to_thread

from .._local.beneath import walk
from ..errors import AmbiguousRevision, SourceError, UnknownRevision
from ..model import GitSource, Revision
from ..protocols import OnOutput
from ._git_cli import LOCAL, NETWORK, UPLOAD_PACK, Cli, Remote
from ._git_mirror import FETCH, FULL, Mirror

__all__ = ["Git"]

COMMITTED: Final = re.compile(rb"^committer .*> (\d{1,10}) [+-]\d{4}$", re.MULTILINE)
"""The time of a commit in its object, in seconds since 1970."""

EVERYTHING: Final = (
    "+refs/heads/*:refs/remotes/origin/*",
    "+refs/tags/*:refs/tags/*",
)


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
    ) -> None:
        self._module, self._rev, self._keep_git = module, source.rev, keep_git
        self._remote = Remote.parse(source.git, base, environ)
        self._git = Cli(module, self._remote, environ)
        self._mirror = Mirror.of(self._git, cache)

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
            rev = self._rev
            # A commit never changes, so a whole id that the mirror has needs no
            # network; a branch or tag may have moved since it was fetched.
            found = await self._mirror.find(rev) if FULL.fullmatch(rev) else {}
            commit = self._only(found)
            if not commit:
                # A fetch does not move a mirror's HEAD, so a renamed default branch is
                # only known by asking.
                if rev in {"", "HEAD"}:
                    rev = await self._mirror.default_branch()
                await self._mirror.update()
                commit = await self._find(rev)
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
        commit = revision.commit
        async with self._translated():
            # Another run may have made the mirror anew since the revision was resolved.
            if not await self._mirror.find(commit):
                await self._mirror.update()
                await self._find(commit)
            name = ".lfsconfig"
            await self._require_a_file(commit, name)
            await self._require_no_local_lfs(name, f"--blob={commit}:{name}")
            try:
                await self._check_out(commit, into, output)
            except SourceError:
                # A spoilt object in the mirror shows only when it is read. A sound
                # mirror means that the error was about something else.
                if not await self._mirror.heal():
                    raise
                await to_thread.run_sync(_empty, into)
                await self._check_out(commit, into, output)
            if (into / ".gitmodules").is_file():
                await self._add_submodules(into, output)
            settle = partial(_settle, into, revision.epoch, self._keep_git)
            for path in await to_thread.run_sync(settle):
                # Those of submodules are known only now.
                await self._require_no_local_lfs(path, f"--file={into / path}")

    async def distance(self, commit: str, other: str) -> tuple[int, int] | None:
        """
        Return how many commits *commit* is ahead of *other*, and how many behind.

        None where the repository does not have both, or cannot be asked.
        """
        try:
            async with self._translated():
                for each in (commit, other):
                    if not await self._mirror.find(each):
                        await self._mirror.update()
                        await self._find(each)
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

    async def _find(self, rev: str) -> str:
        found = await self._mirror.find(rev)
        # A commit that no branch or tag leads to any more may still be had by its id.
        if not found and FULL.fullmatch(rev):
            try:
                await self._mirror.fetch_commit(rev.lower())
            except SourceError as error:
                raise self._unknown() from error
            found = await self._mirror.find(rev)
        if not found:
            raise self._unknown()
        return self._only(found)

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

    def _unknown(self) -> UnknownRevision:
        return UnknownRevision(self._module, self._remote.url, self._rev or "HEAD")

    async def _check_out(self, commit: str, into: Path, output: OnOutput) -> None:
        async def git(*args: str) -> None:
            await self._git.run(*args, cwd=into, doing="check out", output=output)

        await git("init", "--quiet")
        # Submodules with relative URLs, and git-lfs, go by the URL of the origin.
        await git("config", "remote.origin.url", self._remote.url)
        mirror = self._mirror.folder
        # A kept .git has to be whole without the mirror, so it fetches from it; one
        # that is dropped after the checkout borrows the mirror's objects for nothing.
        if self._keep_git:
            await git("config", "remote.origin.fetch", EVERYTHING[0])
            refs = (*EVERYTHING, commit)
            await git(*FETCH, UPLOAD_PACK, "--", str(mirror), *refs)
        else:
            alternates = into / ".git/objects/info/alternates"
            alternates.parent.mkdir(exist_ok=True)
            alternates.write_bytes(os.fsencode(mirror / "objects") + b"\n")
            await git("config", "lfs.storage", str(mirror / "lfs"))
        await git("checkout", "--quiet", "--force", "--detach", commit)

    async def _add_submodules(self, into: Path, output: OnOutput) -> None:
        # A repository that came over the network must not reach into this machine's
        # disk by a submodule's URL. A local repository was named by the plan, and its
        # submodules are its neighbours; git refuses local paths unless they are
        # allowed.
        await self._git.run(
            *("submodule", "--quiet", "update", "--init", "--recursive", "--force"),
            cwd=into,
            doing="fetch the submodules of",
            output=output,
            allow=LOCAL if self._remote.local else NETWORK,
        )

    async def _require_a_file(self, commit: str, name: str) -> None:
        """
        Do nothing, unless *name* is there in *commit*, and is a link.

        Raises:
            SourceError: It is: settings that another file has could not be looked at.
        """
        git_dir = f"--git-dir={self._mirror.folder}"
        entry = await self._git.look(git_dir, "ls-tree", commit, "--", name)
        if entry.startswith("120000 "):
            raise SourceError(f"{self._module}: {name} is a link: have it a file")

    async def _require_no_local_lfs(self, what: str, *where: str) -> None:
        """
        Do nothing, unless settings of Git LFS take files from this machine's disk.

        Raises:
            SourceError: They do, which is not for a remote repository to say.
        """
        # git-lfs asks nobody which protocols it may use.
        if self._remote.local:
            return
        git_dir = f"--git-dir={self._mirror.folder}"
        answer = await self._git.look(git_dir, "config", *where, "--list", "-z")
        for pair in answer.split("\0"):
            key, _, url = pair.partition("\n")
            here = re.match(r"file:|[^:]*/|[^:]+$", url, re.IGNORECASE)
            if key.endswith(("lfs.url", ".lfsurl")) and here:
                raise SourceError(
                    f"{self._module}: {what} has Git LFS take files from this "
                    f"machine: {key} = {url}"
                )

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(f"{self._module}: {error}") from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _settle(tree: Path, seconds: int, keep_git: bool) -> list[str]:
    """
    Make modes and times those of the commit, and drop ``.git`` unless it is kept.

    *seconds* is the commit's time, since 1970. Return the paths of settings of Git LFS.
    """
    lfs_configs: list[str] = []
    # A tree has to depend on the commit alone, or every build would be a new release.
    # Git stores one bit of a mode, so the others would be those of the umask; and it
    # stores no times, which would be those of the checkout.
    times = seconds, seconds
    for found in walk(tree, lambda _, name: name == b".git"):
        from_thread.check_cancelled()
        if found.name == b".lfsconfig":
            lfs_configs.append(os.fsdecode(found.path))
        if found.kind == "f":
            fd = found.open()
            try:
                executable = os.fstat(fd).st_mode & 0o100
                os.fchmod(fd, 0o755 if executable else 0o644)
                os.utime(fd, times)
            finally:
                os.close(fd)
        elif found.kind == "e":
            if not keep_git:
                _drop_git(found.folder)
            os.fchmod(found.folder, 0o755)
            os.utime(found.folder, times)
        elif found.kind == "l":
            os.utime(found.name, times, dir_fd=found.folder, follow_symlinks=False)
    return lfs_configs


def _drop_git(folder: int) -> None:
    # A submodule's .git is a file, the repository's own a folder.
    try:
        os.unlink(".git", dir_fd=folder)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        shutil.rmtree(".git", dir_fd=folder)
