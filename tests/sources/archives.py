"""Archives, and the folders that they are unpacked into."""

from __future__ import annotations

import io
import os
import resource
import signal
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from anyio import to_thread

from ghostasync.sources._archive import extract

__all__ = [
    "EPOCH",
    "Jail",
    "Member",
    "small_files",
    "tar_of",
    "umask",
    "zip_of",
    "zipped",
]

EPOCH = 1_700_000_000

Member = tuple[str, bytes, dict[str, Any]]
"""A member of a tar: its name, its data, and what else its header says."""

Told = tuple[str, int, int, bytes]


@attrs.frozen
class Jail:
    """A folder to unpack into, with neighbours that nobody may touch."""

    top: Path

    @classmethod
    def make(cls, top: Path) -> Jail:
        (top / "a").mkdir(parents=True)
        (top / "a" / "x").write_text("outside")
        (top / "into").mkdir()
        return cls(top)

    @property
    def into(self) -> Path:
        return self.top / "into"

    async def unpack(self, data: bytes, name: str) -> None:
        act = partial(extract, io.BytesIO(data), name, self.into, EPOCH)
        await to_thread.run_sync(act)

    def tree(self) -> dict[bytes, Told]:
        """Return kind, mode, time and data of all that was unpacked."""
        return told(self.into)

    def outside(self) -> dict[bytes, Told]:
        """Return what lies beside; it has to stay as it is."""
        inside = b"into/"
        found = told(self.top)
        return {k: v for k, v in found.items() if k != b"into" and inside != k[:5]}


def told(top: Path) -> dict[bytes, Told]:
    found: dict[bytes, Told] = {}
    root = os.fsencode(top)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118  names are bytes
            about = os.lstat(path)
            mode, mtime = stat.S_IMODE(about.st_mode), int(about.st_mtime)
            if stat.S_ISLNK(about.st_mode):
                what = "link", 0, mtime, os.readlink(path)  # noqa: PTH115  bytes
            elif stat.S_ISDIR(about.st_mode):
                what = "folder", mode, mtime, b""
            else:
                with open(path, "rb") as file:  # noqa: PTH123  names are bytes
                    what = "file", mode, mtime, file.read()
            found[path[len(root) + 1 :]] = what
    return found


def tar_of(*members: Member, **how: Any) -> bytes:
    """Return a tar of members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **how) as tar:
        for name, data, about in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), EPOCH
            for key, value in about.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(name: str, **about: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20))
    for key, value in about.items():
        setattr(info, key, value)
    return info


def zip_of(*members: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return out.getvalue()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def small_files(nbytes: int) -> Iterator[None]:
    """Have no file grow larger: to those who write it is like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
