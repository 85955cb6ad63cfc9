"""
The mirror of a repository on this machine: fetched often, healed where it is broken.

How it follows: the remote is asked where the wanted refs are, and the mirror has to
have just these, after a fetch where need be. One that ends well is not enough: where
the remote is a shallow clone, git leaves a ref as it was, with a warning and status 0.

How it heals: a fetch that fails may mean that the server is away or that a killed git
left the mirror damaged. Where git's words point to damage its own check tells which. A
broken mirror is fetched anew beside the old one, and the two are swapped by renames.

Rule 1: a writer holds the mirror's lock; reading needs none, since packs appear whole
and a new mirror takes the old one's place under the same path.
Rule 2: a mirror is thrown away only where git itself finds it broken, and not before
the new one is there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
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

FULL: Final = re.compile(r"[0-9a-fA-F]{40}(?:[0-9a-fA-F]{24})?")
"""A whole commit id, of SHA-1 or SHA-256."""

SHORT: Final = re.compile(r"[0-9a-fA-F]{4,63}")
"""An abbreviated commit id; git takes none of less than four digits."""

_TYPED: Final = 7
"""Digits from which on a name is taken for an abbreviated commit beside a ref."""

FETCH: Final = (
    *("fetch", "--quiet", "--progress", "--force", "--prune"),
    *("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
)

ALL: Final = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")

TRIES: Final = 3
"""Fetches of a remote whose refs move meanwhile."""

DAMAGE: Final = re.compile(
    r"not a git repository|bad (?:config|object|ref|signature|tree|\w+ file)|corrupt"
    r"|broken|unable to (?:read|parse|find|open object|map)|missing|garbage|truncated"
    r"|could not (?:read(?! from| User| Pass)|parse|open)|inflate|mismatch|is empty"
    r"|invalid (?:sha1|object|ref)|unresolved|does not match|did not send all"
    r"|not a (?:tree|valid|commit)|unknown (?:object|repository)|wrong (?:index|v)"
    r"|loose object|pack (?:has|too)|index file|packed-refs|revision walk|null sha1"
    r"|git exited -\d",
    re.IGNORECASE,
)
"""Words of git's that may be about the mirror, and not the way to the remote."""

OTHER_IDS: Final = "mismatched algorithms"
"""The words of git where ids of the remote are of another kind than the mirror's."""

LEFT: Final = re.compile(r"^ ! |\brejected\b|^error: ")
"""Lines in which git says of a ref that it was left as it was."""

NO_REF: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
"""Characters that are in no ref's name, and of which some lead to many."""

FSCK: Final = 120
"""Seconds to look for damage after a failure; too large a mirror is kept as it is."""


@attrs.frozen
class Mirror:
    """The bare repository in *folder*, of the remote that *git* is for."""

    git: Cli
    folder: Path

    @classmethod
    def of(cls, git: Cli, cache: Path, within: str = "") -> Mirror:
        """
        Return the mirror in *cache*; nothing is made yet.

        *within* is the mirror of the repository that this one is a submodule of.
        """
        url = git.remote.url
        return cls(git, mirror_dir(cache, f"{within} {url}" if within else url))

    async def current(self, rev: str) -> dict[str, str]:
        """
        Return the commits that *rev* names at the remote now, by their full spelling.

        The mirror has them then. Empty stands for the default branch, and HEAD for a
        HEAD that is on no branch. Whole commit ids are for :meth:`obtain`.

        Raises:
            SourceError: The remote cannot be asked, or gives no such commit.
        """
        found = await self._peeled(await self._follow(rev))
        # A tag such as 2024 would be ambiguous one day by chance.
        if SHORT.fullmatch(rev) and not (found and len(rev) < _TYPED):
            said = await self._update()
            ids = await self._look("rev-parse", f"--disambiguate={rev}")
            found |= await self._commits(*ids.split())
            if said and not found:
                raise self._left(rev, said)
        return found

    async def obtain(self, commit: str) -> str:
        """
        Return a commit by its whole id, empty where the remote does not have it.

        It costs no network where the mirror has it: a commit never changes.

        Raises:
            SourceError: The remote could not be reached, or does not give it.
        """
        if found := await self._peel(commit):
            return found
        said = await self._update()
        # A commit that no branch or tag leads to any more may still be had by its id.
        if not (found := await self._peel(commit)):
            with suppress(SourceError):
                await self._fetch_commit(commit.lower())
            found = await self._peel(commit)
        if said and not found:
            raise self._left(commit, said)
        return found

    async def heal(self, error: SourceError) -> bool:
        """Make a broken mirror anew, if *error* points to that; tell whether it was."""
        async with locked(self._beside(".lock")):
            # Of two runs that read the same spoilt object, the second finds it healed.
            if await self._sound(f"{error}\n{error.tail}"):
                return False
            await self._replace()
            return True

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

    async def _follow(self, rev: str) -> dict[str, str]:
        """Return the refs that *rev* may name, once the mirror has them so, too."""
        asked, left = await self._ask(rev), ""
        for _ in range(TRIES):
            if not await self._stale(asked):
                return asked
            said = await self._update()
            if not (left := await self._stale(asked)):
                return asked
            if said:
                raise self._left(left, said)
            # A ref has moved between the question and the fetch.
            asked = await self._ask(rev)
        raise self._left(left, "")

    async def _ask(self, rev: str) -> dict[str, str]:
        """Return the remote's refs that *rev* may name, and where they are there."""
        whole = [rev] * rev.startswith(("refs/heads/", "refs/tags/"))
        names = [*whole, f"refs/heads/{rev}", f"refs/tags/{rev}"]
        head = rev in {"", "HEAD"}
        if not head and NO_REF.search(rev):
            return {}
        answer = await self.git.ask(
            *("ls-remote", "--symref", *self.git.remote.options),
            *("--", self.git.remote.url, *(["HEAD"] if head else names)),
            doing="ask",
        )
        text = answer.decode("utf-8", "surrogateescape")
        ids = {
            name: oid
            for oid, _, name in (line.partition("\t") for line in text.split("\n"))
        }
        if head:
            oid = ids.get("HEAD", "")
            branch = re.search(r"^ref: (refs/heads/.+)\tHEAD$", text, re.MULTILINE)
            name = branch[1] if branch else "HEAD"
            return {name: oid} if FULL.fullmatch(oid) else {}
        # A full spelling is what it says, whatever else is called so.
        found = {name: ids[name] for name in names if name in ids}
        return {rev: found[rev]} if rev in found else found

    async def _stale(self, asked: Mapping[str, str]) -> str:
        """Return one ref that the mirror does not have as it was told."""
        for ref, oid in asked.items():
            if ref == "HEAD":
                if not await self.obtain(oid):
                    return ref
            elif (
                await self._look("show-ref", "--verify", "--hash", "--", ref) != oid
                # A damaged mirror may have lost what a ref leads to.
                or not await self._look("cat-file", "-t", oid)
            ):
                return ref
        return ""

    def _left(self, what: str, said: str) -> SourceError:
        """Return the error for a fetch that ended well, without *what*."""
        why = "what it has changes meanwhile; try again"
        if "shallow" in said:
            why = "it is a shallow clone; type there: git fetch --unshallow"
        elif said:
            why = said.splitlines()[-1]
        return self.git.failure(f"fetch {what} of", None, why)

    async def _peeled(self, refs: Mapping[str, str]) -> dict[str, str]:
        """Return the commits that *refs* lead to; some lead to none."""
        found = {ref: await self._peel(oid) for ref, oid in refs.items()}
        return {ref: commit for ref, commit in found.items() if commit}

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

    async def _update(self) -> str:
        """
        Fetch branches and tags, and forget those that are gone.

        Return what git says of refs that it left as they were.

        Raises:
            SourceError: The repository could not be fetched.
        """
        async with locked(self._beside(".lock")):
            try:
                return await self._fetch_all(self.folder)
            except SourceError as error:
                # Ids of another kind are another repository under the same address.
                if OTHER_IDS in str(error):
                    return await self._replace()
                # A sound mirror outlives a repository that cannot be reached: another
                # fetch of all of it would fail too.
                said = f"{error}\n{error.tail}".splitlines()
                if await self._sound("\n".join(x for x in said if "remote: " not in x)):
                    raise
                return await self._replace()

    async def _fetch_commit(self, commit: str) -> str:
        async with locked(self._beside(".lock")):
            # A commit that no ref leads to would be collected as garbage some day.
            return await self._fetch(self.folder, f"+{commit}:refs/ghostasync/{commit}")

    async def _fetch_all(self, folder: Path, *init: str) -> str:
        make_private(folder)
        await to_thread.run_sync(_remove_leftovers, folder)
        # On a mirror that is there already, init puts back the files that it lacks.
        await self._run("init", "--quiet", "--bare", *init, folder=folder)
        return await self._fetch(folder, *ALL)

    async def _fetch_anew(self, folder: Path, ids: str) -> str:
        await to_thread.run_sync(_remove, folder)
        return await self._fetch_all(folder, f"--object-format={ids}")

    async def _fetch(self, folder: Path, *refs: str) -> str:
        remote = self.git.remote
        options = (*FETCH, *remote.options)
        said = await self._run(*options, "--", remote.url, *refs, folder=folder)
        return "\n".join(line for line in said.splitlines() if LEFT.search(line))

    async def _run(self, *args: str, folder: Path) -> str:
        return await self.git.run(
            f"--git-dir={folder}", *args, cwd=folder, doing="fetch"
        )

    async def _sound(self, said: str) -> bool:
        """Tell whether the mirror is in order, of which git has *said* something."""
        if not DAMAGE.search(said):
            return True
        # A check that takes too long decides nothing: a mirror as large as that is
        # expensive to fetch again, and is kept.
        with anyio.move_on_after(FSCK):
            try:
                args = ("fsck", "--no-dangling", "--no-progress")
                await self._run(*args, folder=self.folder)
            except SourceError:
                return False
        return True

    async def _replace(self) -> str:
        new, old = self._beside(".new"), self._beside(".old")
        await to_thread.run_sync(_remove, old)
        try:
            said = await self._fetch_anew(new, "sha1")
        except SourceError as error:
            if OTHER_IDS not in str(error):
                raise
            said = await self._fetch_anew(new, "sha256")
        # rename(2) replaces no folder that is not empty, so the old mirror steps aside.
        self.folder.rename(old)
        new.rename(self.folder)
        await to_thread.run_sync(_remove, old)
        return said

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(self.folder.name + suffix)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(mirror: Path) -> None:
    """Remove lock files and halves of packs, of a git that failed or was killed."""
    # A leftover .lock of a ref makes every later fetch fail; a disk that half a pack
    # has filled stays full. No git is at work here: the caller holds the one lock that
    # runs go by.
    for path in (*mirror.rglob("*.lock"), *mirror.glob("objects/pack/tmp_*")):
        path.unlink(missing_ok=True)
