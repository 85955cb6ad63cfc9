"""A reading of a module's scripts, as a deploy will read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import anyio
import attrs
from anyio import to_thread

from .._engine.spec import ModuleToDeploy
from .._lint.form import LONGEST, advice, flaw
from .._lint.offline import warning
from .._local.scripts import text_of
from ..errors import SourceError
from ..model import Module

__all__ = ["ScriptsRead", "read_scripts"]


@attrs.frozen
class ScriptsRead:
    """
    The scripts of a module, as a deploy will read them.

    *complaints* has a line for each script that is not there, or does what it should
    not; *first_lines* maps those that name an interpreter to the line that does.
    """

    complaints: tuple[str, ...] = ()
    first_lines: Mapping[str, str] = attrs.field(factory=dict)


async def read_scripts(
    chosen: ModuleToDeploy, base: Path, seconds: float
) -> ScriptsRead:
    """
    Read the scripts of a module.

    Scripts in the source tree are read at its revision; a script that the buildpack
    may yet make is not missed.

    Args:
        chosen: The module; nothing is said of stored packages.

        base: The folder of the configuration.

        seconds: How long the source may take to deliver the tree.
    """
    # A stored package was built, and its scripts were read, when it was made.
    if chosen.source is None or chosen.error is not None:
        return ScriptsRead()
    async with anyio.TemporaryDirectory(prefix="ghostasync-") as folder:
        tree = Path(folder)
        if any(script.path for script in chosen.module.scripts.values()):
            try:
                with anyio.fail_after(seconds):
                    await chosen.source.fetch(chosen.revision, tree, _ignore)
            except SourceError as exc:
                return ScriptsRead((str(exc),))
            except TimeoutError:
                text = f"not fetched within {seconds:g} s (rollout.deadlines.source)"
                return ScriptsRead((text,))
        return await to_thread.run_sync(_read, chosen.module, base, tree)


def _read(module: Module, base: Path, tree: Path) -> ScriptsRead:
    complaints: list[str] = []
    first_lines: dict[str, str] = {}
    for key, script in module.scripts.items():
        if not script:
            continue
        try:
            text = text_of(script, tree, base)
        except OSError as exc:
            # The buildpack has to be in the source; it may make the others.
            missing = isinstance(exc, FileNotFoundError) and script.path
            if not (missing and module.buildpack and key != "buildpack"):
                name = script.path or script.file
                complaints.append(f"{key}: {name}: {exc.strerror}")
            continue
        name = script.path or script.file
        # The buildpack may yet make the interpreter.
        made = module.buildpack and key != "buildpack"
        if why := flaw(text, name, None if made else tree):
            complaints.append(f"{key}: {name}: {why}" if name else f"{key}: {why}")
            continue
        complaints += [warning(key, text), advice(key, text)]
        line = text[:LONGEST].partition(b"\n")[0].partition(b"\0")[0]
        if line.startswith(b"#!"):
            first_lines[key] = os.fsdecode(line)
    return ScriptsRead(tuple(filter(None, complaints)), first_lines)


def _ignore(data: bytes) -> None:
    del data
