"""
The unpacker of archives that somebody else made: tar, compressed or not, and zip.

All members come into the tree, or there is an error that names one. Of modes the bits
that say who may read, write and execute are kept, and of times the seconds; owners,
setuid bits and the like are not. The time of a zip, which says no time zone, is taken
for UTC.
"""

from __future__ import annotations

import bz2
import calendar
import gzip
import lzma
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, Self

import attrs
from anyio import from_thread

from .._packaging.new_tree import FILE_MODE, FOLDER_MODE, Tree, chunks, named
from ..errors import SourceError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdFile
else:
    from backports.zstd import ZstdFile

__all__ = ["extract", "is_archive"]

_TARS: Final[Mapping[str, Callable[[IO[bytes]], Any]]] = {
    ".tar": lambda file: file,
    **dict.fromkeys((".tar.gz", ".tgz"), lambda file: gzip.GzipFile(fileobj=file)),
    **dict.fromkeys((".tar.bz2", ".tbz2"), bz2.BZ2File),
    **dict.fromkeys((".tar.xz", ".txz"), lzma.LZMAFile),
    ".tar.zst": ZstdFile,
}
"""What opens a tar that is compressed, by the end of its name."""

_ZIP: Final = ".zip"
_PERMISSIONS: Final = 0o777

_LONGEST_NOTE: Final = 1 << 20
"""Bytes of what stands before a member of a tar, like its name: read all at once."""

_LONGEST_TARGET: Final = 4096
"""Bytes of a link's target: Linux takes no more."""

_UNKNOWN: Final = "a member of an unknown kind"
_ZIP_KINDS: Final = {
    # Others than Unix say no kind.
    **dict.fromkeys((0, stat.S_IFREG), "file"),
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "a fifo",
    **dict.fromkeys((stat.S_IFCHR, stat.S_IFBLK), "a device"),
}

_UTF8: Final = 0x800
_ENCRYPTED: Final = 0x1
_UNIX: Final = 3
_NOTES: Final = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}


@attrs.frozen
class _Member:
    """
    A member of an archive.

    *kind* is "file", "folder", "link" or "hard link", or else words for what it is that
    no tree can have. *open* gives the *nbytes* bytes of a file.
    """

    name: bytes
    kind: str
    mode: int
    mtime: int
    target: bytes = b""
    nbytes: int = 0
    open: Callable[[], Any] = bytes


def is_archive(name: str) -> bool:
    """Tell by its end whether *name* is that of an archive."""
    return name.lower().endswith((*_TARS, _ZIP))


def extract(archive: IO[bytes], name: str, into: Path, mtime: int) -> None:
    """
    Extract a whole archive into an empty folder; to be called in a worker thread.

    Args:
        archive: The archive, open at its beginning.

        name: Its name, which says of what kind it is.

        into: The folder.

        mtime: The time of folders that it does not have, in seconds since 1970.

    Raises:
        SourceError: It is damaged, has a member that no tree can have, or cannot be
            written. The member is named.
    """
    with named(), closing(Tree(into, mtime)) as tree:
        with closing(_members(archive, name, mtime)) as members:
            for member in members:
                from_thread.check_cancelled()
                with named(member.name):
                    _add(tree, member)
        tree.settle()


def _members(archive: IO[bytes], name: str, mtime: int) -> Generator[_Member]:
    if name.lower().endswith(_ZIP):
        return _zipped(archive, mtime)
    return _tarred(next(_TARS[e] for e in _TARS if name.lower().endswith(e))(archive))


def _add(tree: Tree, member: _Member) -> None:
    name, mode, mtime = member.name, member.mode & _PERMISSIONS, member.mtime
    match member.kind:
        case "file":
            with member.open() as data:
                if tree.file(name, chunks(data), mode, mtime) != member.nbytes:
                    raise SourceError("damaged: it is shorter than the archive says")
        case "folder":
            tree.folder(name, mode, mtime)
        case "link":
            tree.link(name, member.target, mtime)
        case "hard link":
            tree.copy(name, member.target, mode, mtime)
        case what:
            raise SourceError(f"{what} cannot be unpacked")


# --- tar ------------------------------------------------------------------------------


class _Header(tarfile.TarInfo):
    """A header that is right, or an error; tarfile takes a wrong one for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as exc:
            if buf.count(0) == tarfile.BLOCKSIZE:
                raise  # the end
            text = str(exc) if buf else "it ends too early"
            raise SourceError(f"damaged: {text}") from exc
        # What says no length that can be would be read for ever, or all at once.
        if header.size < 0 or (header.type in _NOTES and header.size > _LONGEST_NOTE):
            raise SourceError("damaged: a header is longer than any can be")
        return header


def _tarred(stream: IO[bytes]) -> Generator[_Member]:
    # Names are bytes; what is no UTF-8 comes back as it was.
    how = {"encoding": "utf-8", "errors": "surrogateescape"}
    with stream, tarfile.TarFile(fileobj=stream, tarinfo=_Header, **how) as tar:  # type: ignore[arg-type]  # keys
        while (found := tar.next()) is not None:
            # It would keep all that it has found.
            tar.members.clear()  # type: ignore[attr-defined]  # not in its stubs
            if found.size < 0:
                raise SourceError("damaged: a size is below 0")
            yield _Member(
                found.name.encode(*how.values()),
                _kind(found),
                found.mode,
                int(found.mtime),
                found.linkname.encode(*how.values()),
                found.size,
                partial(tar.extractfile, found),
            )
        # What compresses knows only at its end whether all of it was sound.
        for chunk in chunks(stream):
            if chunk.strip(b"\0"):
                raise SourceError("damaged: it goes on behind its end")


def _kind(found: tarfile.TarInfo) -> str:
    kinds = {
        "file": found.isreg(),
        "folder": found.isdir(),
        "link": found.issym(),
        "hard link": found.islnk(),
        "a fifo": found.isfifo(),
        "a device": found.isdev(),
    }
    return next((kind for kind, is_it in kinds.items() if is_it), _UNKNOWN)


# --- zip ------------------------------------------------------------------------------


def _zipped(file: IO[bytes], mtime: int) -> Generator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for found in archive.infolist():
            name, mode = _name_of(found), found.external_attr >> 16
            kind = _zip_kind(found, mode)
            default = FOLDER_MODE if kind == "folder" else FILE_MODE
            target = b""
            if kind == "link":
                with named(name), archive.open(found) as data:
                    target = data.read(_LONGEST_TARGET)
                    if data.read(1):
                        raise SourceError("damaged: no link can be as long")
            yield _Member(
                name,
                kind,
                mode & _PERMISSIONS or default,
                _time_of(found, mtime),
                target,
                found.file_size,
                partial(archive.open, found),
            )


def _name_of(found: zipfile.ZipInfo) -> bytes:
    name = found.orig_filename
    # Without the flag a name is of an alphabet of 1981; but Unix has always put there
    # the bytes that it had.
    if found.create_system == _UNIX and not found.flag_bits & _UTF8:
        return name.encode("cp437")
    return name.encode("utf-8", "surrogateescape")


def _zip_kind(found: zipfile.ZipInfo, mode: int) -> str:
    if found.flag_bits & _ENCRYPTED:
        return "an encrypted member"
    kind = _ZIP_KINDS.get(stat.S_IFMT(mode), _UNKNOWN)
    if not found.is_dir() and kind != "folder":
        return kind
    return "a folder with data in it" if found.file_size else "folder"


def _time_of(found: zipfile.ZipInfo, otherwise: int) -> int:
    try:
        return calendar.timegm((*found.date_time, 0, 0, 0))
    except ValueError:  # the day 0 of the month 0 stands for none
        return otherwise
