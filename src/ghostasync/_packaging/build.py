"""
The packer: a built tree becomes an archive, its manifest, and a :class:`Package`.

How it works: one pass over the tree reads every file once; what is read goes into the
archive, into the digest of the file and, through the compressor, into the digest of the
archive. The manifest is known when the pass ends, so ``ghost/`` follows ``release/``.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
from anyio import from_thread, to_thread

from .._local.attributes import restorable, summary
from .._local.beneath import named_in
from ..errors import PackageError
from ..model import Module, Package, Revision
from ._host import boot, seal, settle
from .manifest import Entry, Kind, format_manifest
from .tar import TarWriter
from .tree import TreeReader, shown

__all__ = ["MESSAGE_FILE", "Packed", "pack"]

MESSAGE_FILE: Final = "commit_message"
"""File with the whole message of the commit: a variable of scripts may be too small."""

ATTRIBUTES: Final = "attributes"
"""File with the capabilities, ACLs and attributes of a tree that has any to keep."""

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

    *left_behind* says what the tree has and the package has not; mostly empty.
    """

    package: Package
    archive: Path
    manifest: Path
    left_behind: str = ""


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
    with _explained(os.fsencode(order.tree)):
        writer = TarWriter(archive, pulse)
        try:
            entries, ghost, left_behind = _fill(writer, order)
            manifest.write_bytes(ghost["manifest"])
            pulse()
        except BaseException:
            # Half an archive must not be taken for one by the next run.
            writer.discard()
            manifest.unlink(missing_ok=True)
            raise
    package = Package(
        id=order.id,
        module=order.module.name,
        revision=order.revision,
        sha256=writer.sha256,
        content=_content(ghost, order),
        nbytes=writer.nbytes,
        unpacked=_room(map(_size, entries)) + _room(map(len, ghost.values())),
        entries=len(entries) + len(ghost) + 1,
        scripts=tuple(sorted(order.scripts)),
        manifest=hashlib.sha256(ghost["manifest"]).hexdigest(),
    )
    return Packed(package, archive, manifest, left_behind)


def _fill(
    writer: TarWriter, order: _Order
) -> tuple[list[Entry], dict[str, bytes], str]:
    """
    Write the archive.

    Returns:
        The tree's entries, what is in ``ghost/``, and what was left behind.
    """
    module, keep = order.module, order.module.attributes == "keep"
    writer.owned_by(max(module.uid, 0), max(module.gid, 0))
    tree = os.fsencode(order.tree)
    reader = TreeReader(tree, b"release", module.exclude, keep=keep)
    entries = list(reader.read(writer))
    if not module.allow_empty and all(e.kind is Kind.FOLDER for e in entries):
        raise PackageError(
            f"{module.name}: nothing to deploy: the tree has no files (0 files); where "
            "that is meant: modules.allow_empty = true"
        )
    having = summary(
        {shown(path): [*names] for path, names in reader.attributes.items()}
    )
    if having and module.attributes == "refuse":
        raise PackageError(f'{having}: refused by modules.attributes = "refuse"')
    ghost = {
        **order.scripts,
        MESSAGE_FILE: os.fsencode(order.revision.message),
        "seal": seal(entries),
        "settle": settle(entries, attributes=keep and bool(having)),
        **({ATTRIBUTES: restorable(reader.attributes)} if keep and having else {}),
        "manifest": format_manifest(entries),
    }
    ghost["boot"] = boot(module, _content(ghost, order))
    # Nobody but the user who works on the host may read what is in ghost/. Its time is
    # that of the tree, so that one tree gives the same archive at any time.
    writer.owned_by(0, 0)
    mtime = entries[0].mtime
    writer.member(b"ghost/", Kind.FOLDER, mode=0o700, mtime=mtime)
    for name, text in ghost.items():
        path = b"ghost/" + name.encode()
        writer.member(path, Kind.FILE, mode=0o600, mtime=mtime, size=len(text))
        writer.write(text)
    writer.finish()
    return entries, ghost, "" if keep else having


def _content(ghost: Mapping[str, bytes], order: _Order) -> str:
    """Return a digest of all that makes a release differ on a host."""
    module, scripts = order.module, order.scripts
    # A host is UNCHANGED where this digest is the same. Times are left out: a build of
    # the same commit gives files with other times, and serves the same.
    settings = {
        "path": module.path,
        "owner": [module.uid, module.gid],
        "shared": [sorted(module.shared_dirs), sorted(module.shared_files)],
        "verify": attrs.asdict(module.verify),
        "scripts": {
            name: hashlib.sha256(text).hexdigest() for name, text in scripts.items()
        },
        "users": {name: getattr(module, name).run_as for name in sorted(scripts)},
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(ghost.get(ATTRIBUTES, b""))
    for line in ghost["manifest"].split(b"\n"):
        digest.update(b"\n" + line.partition(b" ")[2])
    return digest.hexdigest()


def _size(entry: Entry) -> int:
    return BLOCK if entry.kind is Kind.FOLDER else entry.size


def _room(sizes: Iterable[int]) -> int:
    """Return the bytes that inodes of these sizes take on disk, names included."""
    return sum(-(-size // BLOCK) * BLOCK + INODE for size in sizes)


@contextmanager
def _explained(tree: bytes) -> Generator[None]:
    """Turn an OSError into a PackageError that names the path, relative to *tree*."""
    try:
        yield
    except OSError as error:
        path = os.fsencode(named_in(error))
        where = shown(path.removeprefix(tree + b"/")) or "the manifest"
        raise PackageError(f"{where}: {error.strerror}") from error
