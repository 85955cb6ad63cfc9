"""A look at what a folder would ship: secrets, what git ignores, lost attributes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from anyio import from_thread, to_thread

from .._local.attributes import read_attributes, summary
from .._local.beneath import File, Found, named_in, walk
from .._packaging.tree import excluded, shown
from ..errors import SourceError
from ..model import Module
from ..sources._git_cli import Cli, Remote
from ..sources.directory import Directory

__all__ = ["Shipped", "look_at_folder"]

_CURE: Final = "leave them out by modules.exclude"

_SECRET_NAME: Final = re.compile(
    rb"\.env(?!\.(?:example|sample|template|dist)\Z)(?:\..+)?|\.netrc|\.pgpass"
    rb"|\.git-credentials|id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|.+\.(?:key|p12|pfx|ppk)",
    re.DOTALL,
)
_PRIVATE_KEY: Final = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-"
)
_FIRST: Final = 64
"""Bytes at the beginning of a file that tell a private key."""

_Leave = Callable[[bytes, bytes], bool]


class Shipped:
    """
    What a folder would ship, as far as people should know.

    *obstacles* keep it from being deployed, *warnings* do not.
    """

    def __init__(self) -> None:
        self.obstacles: list[str] = []
        self.warnings: list[str] = []
        self._secret: dict[str, list[str]] = {}
        self._attributes: dict[str, list[str]] = {}

    def read(self, source: Directory, leave: _Leave) -> None:
        """Look at all that is in the folder; to be called in a worker thread."""
        try:
            for found in walk(source.folder, leave):
                from_thread.check_cancelled()
                self._look_at(found)
        except OSError as exc:
            where = source.folder / named_in(exc)
            self.obstacles.append(f"{shown(os.fsencode(where))}: {exc.strerror}")

    def _look_at(self, found: Found) -> None:
        path = shown(found.path)
        attributes: Mapping[str, bytes] = {}
        if found.kind == "d":
            attributes = read_attributes(found.folder)
        elif found.kind == "f":
            with File(found) as file:
                attributes = read_attributes(file.fd)
                begin = file.first(_FIRST)
            if _PRIVATE_KEY.match(begin):
                self._secret[path] = ["a private key"]
            elif _SECRET_NAME.fullmatch(found.name):
                self._secret[path] = []
        if attributes:
            self._attributes[path] = [*attributes]

    def judge(self, module: Module, ignored: Mapping[str, list[str]]) -> None:
        """Put what was found, and what git ignores, into words."""
        if self._secret:
            text = f"would ship what looks secret: {summary(self._secret)}: {_CURE}"
            self.warnings.append(text)
        if ignored:
            text = f"would ship what git ignores: {summary(ignored)}: {_CURE}"
            self.warnings.append(text)
        if self._attributes and module.attributes != "keep":
            refused = module.attributes == "refuse"
            how = "refused" if refused else "left behind"
            text = f'{how} by modules.attributes = "{module.attributes}"'
            where = self.obstacles if refused else self.warnings
            where.append(f"{summary(self._attributes)}: {text}")


async def look_at_folder(
    module: Module, source: Directory, environ: Mapping[str, str]
) -> Shipped:
    """Look at the folder that a module is deployed from; nothing is copied."""
    by_pattern = excluded(module.exclude)

    def leave(path: bytes, name: bytes) -> bool:
        return path in source.left_out or by_pattern(path, name)

    shipped = Shipped()
    await to_thread.run_sync(partial(shipped.read, source, leave))
    ignored = await _ignored(module, source.folder, environ)
    left = [path for path in ignored if not _stays_out(path, leave)]
    shipped.judge(module, {shown(path): [] for path in left})
    return shipped


async def _ignored(
    module: Module, folder: Path, environ: Mapping[str, str]
) -> list[bytes]:
    """Return what git ignores in *folder*, if that is part of a repository."""
    git = Cli(module.name, Remote(str(folder), local=True), environ)
    words = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard")
    with suppress(SourceError):
        # Not of others: what their repository says may have git start their programs.
        options = ("-c", "safe.directory=", "-C", str(folder), *words, "--directory")
        answer = await git.ask(*options, doing="list what is ignored in")
        # A folder that is ignored as a whole, such as a build's, is meant as it is.
        return [path for path in answer.split(b"\0") if path not in {b"", b"./"}]
    return []


def _stays_out(path: bytes, leave: _Leave) -> bool:
    parts = path.rstrip(b"/").split(b"/")
    ways = [b"/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return any(map(leave, ways, parts))
