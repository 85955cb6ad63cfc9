"""
The texts that a store writes, whatever it writes to: ids, MANIFEST, file names, JSON.

Pure: every store of ghostasync agrees on these texts, so that a directory may be copied
into a bucket and back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import cattrs

from .._build.environment import (
    exports,
    parse_exports,
    secret_names,
    split_secret_names,
)
from .._local.paths import parse_package_id
from ..errors import PlanError, StoreError
from ..model import NAME_PATTERN, Package
from ..protocols import ActiveColor, Environment, Freeze, ManifestLine

__all__ = [
    "ACTIVE",
    "ACTIVE_CURE",
    "age",
    "check_id",
    "dump",
    "dump_environment",
    "file_name",
    "join_manifest",
    "load",
    "load_environment",
    "load_package",
    "marker_of",
    "merge",
    "module_of",
    "next_epoch",
    "number_of",
    "outdated",
    "parse_manifest",
    "require_listing",
    "require_same_color",
    "require_unchanged",
]

_LINE: Final = re.compile(
    rf"({NAME_PATTERN}):([^:\n]+):([^:\n]+):([0-9a-f]{{64}}):([0-9]{{1,15}})",
)
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f/%]")

ACTIVE: Final = "ACTIVE"
"""The name of the active color's record, beside the stores of both colors."""

ACTIVE_CURE: Final = "remove it, and app.active_color counts until the next swap"

_CURE: Final = "remove it and deploy the module anew"

_CONVERTER: Final = cattrs.Converter(detailed_validation=False)

_Kept = TypeVar("_Kept", ActiveColor, Freeze, Package)


def check_id(package_id: str) -> str:
    """
    Return *package_id*, which is then safe as the name of a file.

    Raises:
        StoreError: The text is no package id.
    """
    # Ids come from command lines, journals and MANIFEST; a path in place of one would
    # lead out of the store.
    try:
        parse_package_id(package_id)
    except PlanError as error:
        raise StoreError(str(error)) from None
    return package_id


def module_of(package_id: str) -> str:
    """Return the module a package belongs to; empty where the text is no id."""
    try:
        return parse_package_id(package_id).module
    except PlanError:
        return ""


def age(package_id: str) -> tuple[int, str]:
    """Return a key that sorts packages by age, the oldest first."""
    return parse_package_id(package_id).epoch, package_id


def next_epoch(now: int, ids: Iterable[str]) -> int:
    """Return *now*, or the first second after those of *ids*."""
    # One machine's clock may be hours behind another's. Its packages are to sort behind
    # those that are there: prune keeps the newest.
    return max([now, *(parse_package_id(each).epoch + 1 for each in ids)])


def outdated(ids: Sequence[str], keep: int, named: frozenset[str]) -> list[str]:
    """Return which of *ids*, oldest first, may go: neither *named* nor new."""
    old = ids[: max(len(ids) - keep, 0)]
    return [each for each in old if each not in named]


def parse_manifest(text: str, name: str) -> tuple[ManifestLine, ...]:
    """
    Read MANIFEST; *name* is what messages call it.

    Raises:
        StoreError: A line (named by number) is damaged, or names a module for the
            second time.
    """
    lines: dict[str, ManifestLine] = {}
    if not text:
        return ()
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        match = _LINE.fullmatch(line)
        # MANIFEST decides what a new instance boots with, so nothing in it is guessed:
        # a package of another module is as wrong as a line that cannot be read.
        if not match or module_of(match[2]) != match[1] or match[1] in lines:
            raise StoreError(
                f"{name}, line {number}: {line!r} is not "
                "module:package:path:sha256:generation of a module of its own; put it "
                "right by hand"
            )
        module, package, path, sha256, number_of_run = match.groups()
        lines[module] = ManifestLine(module, package, path, sha256, int(number_of_run))
    return tuple(lines.values())


def join_manifest(lines: Sequence[ManifestLine]) -> str:
    """
    Write MANIFEST, each line with its newline.

    Raises:
        StoreError: A value does not fit into a line.
    """
    text = "".join(
        f"{each.module}:{each.package}:{each.path}:{each.sha256}:{each.generation}\n"
        for each in lines
    )
    # A path with a colon or newline would be read back as something else, by a booting
    # host at the worst moment.
    if parse_manifest(text, "the new MANIFEST") != tuple(lines):
        raise StoreError("the new MANIFEST would not read back as it was meant")
    return text


def require_unchanged(
    now: Iterable[ManifestLine],
    expected: Iterable[ManifestLine],
    modules: Iterable[str],
) -> None:
    """
    Do nothing where the lines *now* of *modules* are the *expected* ones.

    Raises:
        StoreError: One is not: another run has moved MANIFEST meanwhile.
    """
    is_now = {line.module: line for line in now}
    was = {line.module: line for line in expected}
    for name in modules:
        if (line := is_now.get(name)) != was.get(name):
            names = line.package if line else "nothing"
            raise StoreError(
                f"another run has moved MANIFEST meanwhile: it names {names} for {name}"
            )


def require_same_color(
    now: ActiveColor | None, expected: ActiveColor | None, name: str
) -> None:
    """
    Do nothing where the active color *now* is the *expected* one.

    Raises:
        StoreError: Another run has moved it meanwhile; *name* is what holds it.
    """
    if now != expected:
        word = f"it is {now.text}" if now else "it is gone"
        raise StoreError(f"{name} is not what it was when it was read: {word}")


def number_of(marker: str) -> tuple[str, int]:
    """Return the run and the generation that :func:`marker_of` made a name of."""
    number, _, run = marker.partition("-")
    return run, int(number) if number.isascii() and number.isdigit() else 0


def marker_of(run: str, generation: int) -> str:
    """Return the name of the file that says which run has which generation."""
    return f"{generation}-{file_name(run)}"


def merge(
    present: Iterable[ManifestLine],
    moved: Iterable[ManifestLine],
    order: Sequence[str],
    drop: Sequence[str] = (),
) -> tuple[ManifestLine, ...]:
    """
    Return *present* with the lines of *moved* in place of their modules'.

    The lines of the modules *drop* are left out. Modules come in *order*; those it does
    not know keep their order behind it.
    """
    both = {each.module: each for each in (*present, *moved)}
    lines = {module: line for module, line in both.items() if module not in drop}
    place = {module: index for index, module in enumerate(order)}
    return tuple(
        sorted(lines.values(), key=lambda each: place.get(each.module, len(place)))
    )


def file_name(name: str) -> str:
    """
    Return *name* as one path segment that stays in its folder.

    Different names stay different: a character that cannot stand in a segment becomes
    ``%`` and two hex digits, and so does ``%`` itself.
    """
    if name in {"", ".", ".."}:
        return "%" + name
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", name)


def dump_environment(kept: Environment) -> bytes:
    """Return an environment as lines that ``/bin/sh`` reads, for a host that boots."""
    said = b"" if kept.secrets is None else secret_names(kept.secrets)
    return said + exports(kept.variables)


def load_environment(data: bytes, package_id: str, name: str) -> Environment:
    """
    Read what :func:`dump_environment` wrote; *name* is what messages call it.

    Raises:
        StoreError: The data is damaged. The message holds none of its values.
    """
    try:
        secrets, data = split_secret_names(data)
        return Environment(package_id, parse_exports(data), secrets)
    except ValueError:
        raise StoreError(f"{name} is damaged; {_CURE}") from None


def load_package(data: bytes, package_id: str, name: str) -> Package:
    """
    Read the package that is kept as *package_id*; *name* is what messages call it.

    Raises:
        StoreError: The data is damaged, or that of another package.
    """
    package = load(data, Package, name)
    if package.id != package_id:
        raise StoreError(f"{name} is damaged; {_CURE}")
    return package


def require_listing(data: bytes, package: Package, name: str) -> bytes:
    """
    Return *data*, the manifest of *package*; *name* is what messages call it.

    Raises:
        StoreError: It is not what was published.
    """
    if hashlib.sha256(data).hexdigest() != package.manifest:
        raise StoreError(f"{name} is damaged; {_CURE}")
    return data


def dump(kept: ActiveColor | Freeze | Package) -> bytes:
    """Return a value as JSON; surrogate escapes come back from :func:`load`."""
    return json.dumps(_CONVERTER.unstructure(kept), indent=1).encode() + b"\n"


def load(
    data: bytes,
    kind: type[_Kept],
    name: str,
    cure: str = _CURE,
) -> _Kept:
    """
    Read what :func:`dump` wrote; *name* is what messages call it.

    Raises:
        StoreError: The data is damaged. The message holds none of its values.
    """
    try:
        return _CONVERTER.structure(json.loads(data), kind)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise StoreError(f"{name} is damaged; {cure}") from None
