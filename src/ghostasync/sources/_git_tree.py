"""
The tree of a commit, put in place from its mirror, and its submodules from theirs.

How it works: a commit is checked out into a repository of its own, which borrows the
mirror's objects. Where the tree has a submodule, the same is done again in its folder,
with a mirror of its own. A commit gives the same tree each time: contents, modes and
times, whatever the user's own configuration of git says.

Rule 1: a repository that came over the network does not reach into this machine's disk,
neither by a submodule's URL nor by settings of Git LFS.
Rule 2: the mirror of a submodule belongs to the repository that names it: nobody gets
from the cache what another repository's credentials have opened.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

import attrs
from anyio import from_thread, to_thread

from .._local.beneath import walk
from ..errors import SourceError
from ..model import Submodules
from ._git_cli import NETWORK, UPLOAD_PACK, Remote
from ._git_mirror import FETCH, Mirror

__all__ = ["Tree", "settle"]

EVERYTHING: Final = (
    "+refs/heads/*:refs/remotes/origin/*",
    "+refs/tags/*:refs/tags/*",
)

LFSCONFIG: Final = ".lfsconfig"
MODULES: Final = ".gitmodules"

GITLINK: Final = b"160000 "
"""The beginning of an entry that is a submodule's commit."""


@attrs.frozen
class Tree:
    """
    The tree of a commit of *mirror*.

    *cache* is for the mirrors of submodules; *keep_git* keeps each ``.git``; *chosen*
    says which submodules are wanted; *at* is the tree's place in the whole one.
    """

    module: str
    mirror: Mirror
    cache: Path
    keep_git: bool
    chosen: Submodules
    at: PurePosixPath = attrs.field(factory=PurePosixPath)

    async def fill(self, commit: str, into: Path) -> None:
        """
        Check *commit*, which the mirror has, out into the empty folder *into*.

        Raises:
            SourceError: It could not be had, or a submodule could not.
        """
        git_dir = f"--git-dir={self.mirror.folder}"
        await self._require_a_file(git_dir, commit)
        await self._require_no_local_lfs(git_dir, f"{commit}:{LFSCONFIG}")
        try:
            await self._check_out(commit, into)
        except SourceError as error:
            # A spoilt object in the mirror shows only when it is read. A sound mirror
            # means that the error was about something else.
            if not await self.mirror.heal(error):
                raise
            await to_thread.run_sync(_empty, into)
            await self._check_out(commit, into)
        # An entry that is out of its order is in the index, and else not found.
        await self._require_no_local_lfs(f"--git-dir={into}/.git", f":{LFSCONFIG}")
        links = await self._links(into)
        self._require_chosen(links)
        wanted = {path: links[path] for path in links if self._wants(path)}
        urls = await self._urls(into, list(wanted)) if wanted else {}
        for path, linked in wanted.items():
            await self._add(path, urls[path], linked, into)

    async def _add(self, path: str, url: str, commit: str, into: Path) -> None:
        """Put a submodule in its place."""
        at = self.at / path
        git, parent = self.mirror.git, self.mirror.git.remote
        remote = Remote.parse(url, into, git.environ)
        if remote.local and not parent.local:
            raise SourceError(
                f"{self.module}: {at}: a repository of the network names a submodule "
                f"on this machine: {url}: transport 'file' not allowed"
            )
        if not remote.base:
            # git gives them to servers of that address alone.
            remote = attrs.evolve(
                remote,
                base=parent.base,
                username=parent.username,
                password=parent.password,
            )
        own = attrs.evolve(
            git,
            module=f"{self.module}: {at}",
            remote=remote,
            allow=git.allow if parent.local else NETWORK,
        )
        mirror = Mirror.of(own, self.cache, self.mirror.folder.name)
        if not (found := await mirror.obtain(commit)):
            raise SourceError(
                f"{own.module}: {remote.url} has no commit {commit[:7]}, which the "
                "tree names: push it there"
            )
        inner = attrs.evolve(self, mirror=mirror, at=at)
        await inner.fill(found, into / path)

    def _wants(self, path: str) -> bool:
        if isinstance(self.chosen, str):
            return self.chosen == "all"
        at = self.at / path
        # Those within a chosen one come along, and so do those on the way to it.
        return any(
            at.is_relative_to(each) or PurePosixPath(each).is_relative_to(at)
            for each in self.chosen
        )

    def _require_chosen(self, links: Iterable[str]) -> None:
        """
        Do nothing, unless a path that was chosen, and would be here, is no submodule.

        Raises:
            SourceError: It is none.
        """
        there = [self.at / path for path in links]
        for each in () if isinstance(self.chosen, str) else self.chosen:
            path = PurePosixPath(each)
            below = self.at != path and path.is_relative_to(self.at)
            if below and not any(path.is_relative_to(known) for known in there):
                raise SourceError(
                    f"{self.module}: {each} is no submodule (modules.submodules); "
                    f"known here: {', '.join(map(str, there)) or 'none'}"
                )

    async def _check_out(self, commit: str, into: Path) -> None:
        own = self.mirror.git

        async def git(*args: str, config: Mapping[str, str] | None = None) -> None:
            await own.run(*args, cwd=into, doing="check out", config=config or {})

        ids = "sha1" if len(commit) == 40 else "sha256"  # noqa: PLR2004  hex digits
        await git("init", "--quiet", f"--object-format={ids}")
        # Submodules with relative URLs, and git-lfs, go by the URL of the origin.
        await git("config", "remote.origin.url", own.remote.url)
        mirror = self.mirror.folder
        # A kept .git has to be whole without the mirror, so it fetches from it; one
        # that is dropped after the checkout borrows the mirror's objects for nothing.
        if self.keep_git:
            await git("config", "remote.origin.fetch", EVERYTHING[0])
            refs = (*EVERYTHING, commit)
            await attrs.evolve(own, allow="file").run(
                *(*FETCH, UPLOAD_PACK, "--", str(mirror), *refs),
                cwd=into,
                doing="check out",
            )
        else:
            alternates = into / ".git/objects/info/alternates"
            alternates.parent.mkdir(exist_ok=True)
            alternates.write_bytes(os.fsencode(mirror / "objects") + b"\n")
            await git("config", "lfs.storage", str(mirror / "lfs"))
        await git(
            *("checkout", "--quiet", "--progress", "--force", "--detach", commit),
            config=await own.without_filters(into),
        )
        if self.keep_git:
            # An index has numbers and times of the files here, or none of them.
            await git("read-tree", commit)

    async def _links(self, into: Path) -> dict[str, str]:
        """Return the commits of the tree's submodules, by path."""
        entries = _Links()
        await self.mirror.git.run(
            *("ls-files", "--stage", "-z"),
            cwd=into,
            doing="list",
            into=entries.feed,
        )
        return entries.found

    async def _urls(self, into: Path, paths: Sequence[str]) -> dict[str, str]:
        """
        Return the URLs of the submodules at *paths*, relative ones made whole.

        Raises:
            SourceError: One has none.
        """
        git, here = self.mirror.git, ("-C", str(into), "config", "--null", "--list")
        text = b""
        if await git.look("-C", str(into), "ls-files", "--", MODULES):
            where = f"--blob=:{MODULES}"
            text = await git.ask(*here, where, doing=f"read {MODULES} of")
        named = _settings(text.decode("utf-8", "surrogateescape"))
        names = {
            value.rstrip("/"): key.removesuffix(".path")
            for key, value in named.items()
            if key.endswith(".path")
        }
        for path in paths:
            if not named.get(f"{names.get(path)}.url"):
                raise SourceError(
                    f"{self.module}: {self.at / path} is a submodule without a URL in "
                    ".gitmodules: add it there, or git rm --cached it, or leave it out "
                    "(modules.submodules)"
                )
        await git.run(
            *("submodule", "--quiet", "init", "--", *paths),
            cwd=into,
            doing="list the submodules of",
        )
        known = _settings(await git.look(*here, "--local"))
        return {path: known[f"{names[path]}.url"] for path in paths}

    async def _require_a_file(self, git_dir: str, commit: str) -> None:
        """
        Do nothing, unless the settings of Git LFS in *commit* are a link.

        Raises:
            SourceError: They are: what another file has could not be looked at.
        """
        git = self.mirror.git
        entry = await git.look(git_dir, "ls-tree", commit, "--", LFSCONFIG)
        if entry.startswith("120000 "):
            raise SourceError(f"{git.module}: {LFSCONFIG} is a link: have it a file")

    async def _require_no_local_lfs(self, where: str, blob: str) -> None:
        """
        Do nothing, unless settings of Git LFS take files from this machine's disk.

        Raises:
            SourceError: They do, which is not for a remote repository to say.
        """
        git = self.mirror.git
        # git-lfs asks nobody which protocols it may use.
        if git.remote.local:
            return
        answer = await git.look(where, "config", f"--blob={blob}", "--list", "--null")
        for key, url in _settings(answer).items():
            local = re.match(r"file:|[^:]*/|[^:]+$", url, re.IGNORECASE)
            if key.endswith(("lfs.url", ".lfsurl")) and local:
                raise SourceError(
                    f"{git.module}: {LFSCONFIG} has Git LFS take files from this "
                    f"machine: {key} = {url}"
                )


@attrs.define
class _Links:
    """The submodules in a list of all entries, which may be long."""

    found: dict[str, str] = attrs.field(factory=dict)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        *entries, self._rest = (self._rest + data).split(b"\0")
        for entry in entries:
            if entry.startswith(GITLINK):
                facts, _, path = entry.partition(b"\t")
                self.found[os.fsdecode(path)] = facts.split()[1].decode()


def _settings(answer: str) -> dict[str, str]:
    """Return what ``git config --null --list`` has printed; the last value counts."""
    pairs = (pair.partition("\n") for pair in answer.split("\0") if pair)
    return {key: value for key, _, value in pairs}


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def settle(tree: Path, seconds: int, keep_git: bool) -> None:
    """
    Make modes and times those of the commit, and drop ``.git`` unless it is kept.

    *seconds* is the commit's time, since 1970.
    """
    # A tree has to depend on the commit alone, or every build would be a new release.
    # Git stores one bit of a mode, so the others would be those of the umask; and it
    # stores no times, which would be those of the checkout.
    times = seconds, seconds
    for found in walk(tree, lambda _, name: name == b".git"):
        from_thread.check_cancelled()
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


def _drop_git(folder: int) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(".git", dir_fd=folder)
