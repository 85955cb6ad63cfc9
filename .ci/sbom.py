"""
Writes the bill of materials of a wheel: CycloneDX 1.6, as JSON, to stdout.

usage: sbom.py WHEEL CONSTRAINTS

Components are all that the wheel and its extras need on this Python, by the metadata of
what is installed here; each has to be of the version that CONSTRAINTS names, which is
the one that was tested. Equal wheels and constraints give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename


def constraints(path: Path) -> dict[str, str]:
    """Return the versions in *path*, by canonical name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    pairs = (line.split("==", 1) for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


def needs(found: Distribution, extras: set[str]) -> Iterator[Requirement]:
    """Yield what a distribution needs here, with *extras*."""
    for requirement in map(Requirement, found.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in {"", *extras}):
            yield requirement


def closure(name: str, extras: set[str]) -> dict[str, set[str]]:
    """Return all that *name* needs, each with the names of what it needs itself."""
    found: dict[str, set[str]] = {}
    todo = [(name, extras)]
    while todo:
        name, extras = todo.pop()
        wanted = [*needs(distribution(name), extras)]
        below = {canonicalize_name(each.name) for each in wanted}
        if name not in found or below - found[name]:
            found[name] = found.get(name, set()) | below
            todo += [(canonicalize_name(w.name), {*w.extras}) for w in wanted]
    return found


def component(name: str, version: str) -> dict[str, Any]:
    """Return one library; its license is what its own metadata says."""
    about = distribution(name).metadata
    kind = about.get("License-Expression") or about.get("License") or ""
    # Some have the whole text of the license there.
    one_line = kind if kind and "\n" not in kind else ""
    license_ = {"licenses": [{"license": {"name": one_line}}]} if one_line else {}
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        **license_,
    }


def bill(wheel: Path, tested: dict[str, str]) -> dict[str, Any]:
    """Return the bill of *wheel*; SystemExit where something else is installed."""
    name, version, *_ = parse_wheel_filename(wheel.name)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    # What takes a compiler is Debian's in the tests, and so in no bill of PyPI's.
    extras = {*distribution(name).metadata.get_all("Provides-Extra", [])} - {"gssapi"}
    graph = closure(name, extras)
    own = component(name, str(version))
    hashed = {"hashes": [{"alg": "SHA-256", "content": digest}]}
    versions = {each: tested.get(each, "no version") for each in graph if each != name}
    for each, expected in versions.items():
        if (here := distribution(each).version) != expected:
            sys.exit(f"{each} {here} is installed, and {expected} was tested")
    refs = {name: own["bom-ref"]}
    refs |= {each: f"pkg:pypi/{each}@{versions[each]}" for each in versions}
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "component": own | hashed,
        },
        "components": [component(each, versions[each]) for each in sorted(versions)],
        "dependencies": [
            {"ref": refs[each], "dependsOn": sorted(refs[n] for n in graph[each])}
            for each in sorted(graph)
        ],
    }


if __name__ == "__main__":
    wheel, listed = map(Path, sys.argv[1:])
    json.dump(bill(wheel, constraints(listed)), sys.stdout, indent=1)
    sys.stdout.write("\n")
