"""
The packer: a built tree becomes an archive, its manifest, and a :class:`Package`.

How it works: one pass over the tree reads every file once; what is read goes into the
archive, into the digest of the file and, through the compressor, into the digest of the
archive. The manifest is known when the pass ends, so ``ghost/`` follows ``release/``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

import attrs
from anyio import from_thread, to_thread

from .._local.attributes import restorable, summary
from .._local.beneath import named_in
from ..errors import PackageError
from ..model import Module, Package, Revision
from ._host import Seal, Settling, boot
from .manifest import HEADER, Entry, Kind, format_entry
from .tar import Headers, TarWriter
from .tree import TreeReader, shown

__all__ = ["MESSAGE_FILE", "Packed", "pack"]

MESSAGE_FILE: Final = "commit_message"
"""File with the whole message of the commit: a variable of scripts may be too small."""

ATTRIBUTES: Final = "attributes"
"""File with the capabilities, ACLs and attributes of a tree that has any to keep."""

CHUNK: Final = 1 << 16
"""Bytes of a file of ``ghost/`` that are read at once."""

BLOCK: Final = 4096
"""Bytes that most file systems give out at once."""

INODE: Final = 512
"""
Bytes for an inode and its name in a folder: ext4 takes 256, and 8 more than the name.

The first block of a folder counts as the folder's content.
"""


@attrs.frozen
class Packed:
    """
    A new package, and the two files that hold it until a store takes them.

    *left_behind* says what the tree has and the package has not, *bound* what in it
    holds the path of the folder that it was built in, *stand_ins* what is packaged in
    place of something else; all are mostly empty.
    """

    package: Package
    archive: Path
    manifest: Path
    left_behind: str = ""
    bound: str = ""
    stand_ins: str = ""

    @property
    def warnings(self) -> Iterator[str]:
        """Yield what hosts will hardly know what to do with."""
        if self.bound:
            yield (
                f"{self.bound}: lead to the build folder, which no host has: see "
                "docs/builds.md"
            )
        if self.stand_ins:
            yield (
                f"{self.stand_ins}: not the files that are meant, but pointers of Git "
                "LFS (git lfs pull) or what git-crypt has made of them (git-crypt "
                "unlock)"
            )


@attrs.frozen(kw_only=True)
class _Order:
    """The arguments of :func:`pack`."""

    tree: Path
    id: str
    module: Module
    revision: Revision
    scripts: Mapping[str, bytes]
    into: Path


async def pack(
    tree: Path,
    *,
    package_id: str,
    module: Module,
    revision: Revision,
    scripts: Mapping[str, bytes],
    into: Path,
) -> Packed:
    """
    Put *tree* into an archive, in a worker thread, reading every file once.

    The same tree, times included, gives the same bytes. Hard links become files,
    symlinks stay what they are, owners are those of *module* or root.

    Args:
        tree: The folder that becomes the release. Nothing may write to it meanwhile.

        package_id: The name of the package and of both files.

        module: The settings: excluded names, owner, target.

        revision: The revision that the tree was built from.

        scripts: The texts of the scripts that run on hosts, where there are any.

        into: The folder for ``<id>.tar.zst`` and ``<id>.manifest``, which must be new.

    Raises:
        PackageError: The tree has no files, or something in it cannot be read or
            packaged, or changed meanwhile, or there is no room; neither file is left
            behind, as when cancelled.
    """
    order = _Order(
        tree=tree,
        id=package_id,
        module=module,
        revision=revision,
        scripts=scripts,
        into=into,
    )
    abandoned = threading.Event()
    try:
        return await to_thread.run_sync(partial(_pack, order, abandoned.is_set))
    except BaseException:
        # A thread sees for itself that its scope was cancelled, and anyio waits for it.
        # A task that was cancelled through asyncio leaves its thread at work: only this
        # flag keeps it from finishing a package that nobody asks for.
        abandoned.set()
        raise


def _pack(order: _Order, abandoned: Callable[[], bool]) -> Packed:
    def pulse() -> None:
        from_thread.check_cancelled()
        if abandoned():
            raise PackageError(f"{order.id}: abandoned")

    archive = order.into / f"{order.id}.tar.zst"
    manifest = order.into / f"{order.id}.manifest"
    with _explained(order):
        writer = TarWriter(archive, pulse)
        try:
            with ExitStack() as files:

                def spool() -> IO[bytes]:
                    return files.enter_context(TemporaryFile(dir=order.into))

                text = files.enter_context(manifest.open("w+b"))
                packed = _fill(writer, order, text, spool)
            pulse()
        except BaseException:
            # Half an archive must not be taken for one by the next run.
            manifest.unlink(missing_ok=True)
            writer.discard()
            raise
    package = Package(
        id=order.id,
        module=order.module.name,
        revision=order.revision,
        sha256=writer.sha256,
        content=packed.content,
        nbytes=writer.nbytes,
        unpacked=packed.room,
        entries=packed.entries,
        scripts=tuple(sorted(order.scripts)),
        manifest=_digest(manifest),
        settings=packed.settings,
    )
    said = packed.left_behind, packed.bound, packed.stand_ins
    return Packed(package, archive, manifest, *said)


@attrs.frozen
class _Filled:
    """What an archive was filled with; *content* is a digest."""

    content: str
    settings: Mapping[str, str]
    room: int
    entries: int
    left_behind: str
    bound: str
    stand_ins: str


def _fill(
    writer: TarWriter,
    order: _Order,
    manifest: IO[bytes],
    spool: Callable[[], IO[bytes]],
) -> _Filled:
    """Write the archive, and the manifest; *spool* opens files for the meantime."""
    module, keep = order.module, order.module.attributes == "keep"
    owner = max(module.uid, 0), max(module.gid, 0)
    writer.owned_by(*owner)
    tree = os.fsencode(order.tree)
    folders = spool()
    seal, settling = Seal(spool), Settling(folders, Headers(*owner))
    reader = TreeReader(
        tree, b"release", module.exclude, keep=keep, left=settling.leave
    )
    room = entries = files = mtime = 0
    manifest.write(HEADER + b"\n")
    for entry in reader.read(writer):
        # The tree's own folder comes first.
        mtime = mtime if entries else entry.mtime
        room += _room(_size(entry))
        entries += 1
        files += entry.kind is not Kind.FOLDER
        manifest.write(format_entry(entry) + b"\n")
        seal.add(entry)
        settling.add(entry)
    if not files and not module.allow_empty:
        raise PackageError(
            f"{module.name}: nothing to deploy: the tree has no files (0 files); where "
            "that is meant: modules.allow_empty = true"
        )
    having = summary(
        {shown(path): [*names] for path, names in reader.attributes.items()}
    )
    if having and module.attributes == "refuse":
        text = f'{having}: refused by modules.attributes = "refuse"'
        raise PackageError(f"{module.name}: {text}")
    kept = restorable(reader.attributes) if keep and having else b""
    settings = _settings(order, kept)
    content = _content(manifest, settings)
    ghost: dict[str, bytes | IO[bytes]] = {
        **order.scripts,
        MESSAGE_FILE: os.fsencode(order.revision.message),
        "seal": seal.text(),
        "settle": settling.text(attributes=bool(kept), sparse=reader.sparse),
        **({ATTRIBUTES: kept} if kept else {}),
        "folders": folders,
        "manifest": manifest,
        "boot": boot(module, content),
    }
    # Nobody but the user who works on the host may read what is in ghost/. Its time is
    # that of the tree, so that one tree gives the same archive at any time.
    writer.owned_by(0, 0)
    writer.member(b"ghost/", Kind.FOLDER, mode=0o700, mtime=mtime)
    for name, part in ghost.items():
        room += _room(_add(writer, b"ghost/" + name.encode(), part, mtime))
    writer.finish()
    left_behind = "" if keep else having
    bound, stand_ins = map(_named, (reader.bound, reader.stand_ins))
    entries += len(ghost) + 1
    return _Filled(content, settings, room, entries, left_behind, bound, stand_ins)


def _named(paths: Iterable[bytes]) -> str:
    return summary({shown(path): () for path in paths})


def _add(writer: TarWriter, path: bytes, part: bytes | IO[bytes], mtime: int) -> int:
    """Add a file of ``ghost/``; return how many bytes it has."""
    file = io.BytesIO(part) if isinstance(part, bytes) else part
    size = file.seek(0, os.SEEK_END)
    writer.member(path, Kind.FILE, mode=0o600, mtime=mtime, size=size)
    file.seek(0)
    while chunk := file.read(CHUNK):
        writer.write(chunk)
    return size


def _settings(order: _Order, attributes: bytes) -> dict[str, str]:
    """Return digests of all besides the tree that makes a release differ on a host."""
    module, scripts = order.module, order.scripts
    values: dict[str, object] = {
        "path": module.path,
        "uid": module.uid,
        "gid": module.gid,
        "shared_dirs": sorted(module.shared_dirs),
        "shared_files": sorted(module.shared_files),
        "attributes": attributes.hex(),
        "verify": attrs.asdict(module.verify),
    }
    for name, text in scripts.items():
        values[name] = text.hex()
        values[f"{name}.run_as"] = getattr(module, name).run_as
    texts = {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
    return {
        name: hashlib.sha256(text.encode()).hexdigest()[:32]
        for name, text in texts.items()
    }


def _content(manifest: IO[bytes], settings: Mapping[str, str]) -> str:
    """Return a digest of all that makes a release differ on a host."""
    # A host is UNCHANGED where this digest is the same. Times are left out: a build of
    # the same commit gives files with other times, and serves the same.
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    manifest.seek(0)
    for line in manifest:
        digest.update(b"\n" + line.rstrip(b"\n").partition(b" ")[2])
    digest.update(b"\n")
    return digest.hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _size(entry: Entry) -> int:
    return BLOCK if entry.kind is Kind.FOLDER else entry.size


def _room(size: int) -> int:
    """Return the bytes that an inode of this size takes on disk, its name included."""
    return -(-size // BLOCK) * BLOCK + INODE


@contextmanager
def _explained(order: _Order) -> Generator[None]:
    """Turn an OSError into a PackageError with the module and the path in its tree."""
    try:
        yield
    except OSError as error:
        path = os.fsencode(named_in(error))
        where = path.removeprefix(os.fsencode(order.tree) + b"/")
        name = shown(where) or "the manifest"
        text = f"{order.module.name}: {name}: {error.strerror}"
        raise PackageError(text) from error
