"""A reading of a module's scripts, as a deploy will read them."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
from anyio import to_thread

from .._engine.spec import ModuleToDeploy
from .._lint.offline import warning
from ..errors import SourceError
from ..model import Module, Script

__all__ = ["complaints"]

_KEYS = ("buildpack", "pre_deploy", "before_switch", "post_deploy", "after_all_deploy")


async def complaints(chosen: ModuleToDeploy, base: Path, seconds: float) -> list[str]:
    """
    Return a line for each script that is not there, or does what it should not.

    Scripts in the source tree are read at its revision; a script that the buildpack
    may yet make is not missed.

    Args:
        chosen: The module; nothing is said of stored packages.

        base: The folder of the configuration.

        seconds: How long the source may take to deliver the tree.
    """
    scripts = [getattr(chosen.module, key) for key in _KEYS]
    # A stored package was built, and its scripts were read, when it was made.
    if chosen.source is None or chosen.error is not None:
        return []
    async with anyio.TemporaryDirectory(prefix="ghostasync-") as folder:
        tree = Path(folder)
        if any(script.path for script in scripts):
            try:
                with anyio.fail_after(seconds):
                    await chosen.source.fetch(chosen.revision, tree, _ignore)
            except SourceError as exc:
                return [str(exc)]
            except TimeoutError:
                return [f"not fetched within {seconds:g} s (rollout.deadlines.build)"]
        return await to_thread.run_sync(_read, chosen.module, base, tree)


def _read(module: Module, base: Path, tree: Path) -> list[str]:
    texts: list[str] = []
    for key in _KEYS:
        script: Script = getattr(module, key)
        if script.inline:
            texts.append(warning(key, os.fsencode(script.inline)))
        elif script:
            path = tree / script.path if script.path else base / script.file
            try:
                texts.append(warning(key, path.read_bytes()))
            except OSError as exc:
                # The buildpack has to be in the source; it may make the others.
                made_later = script.path and module.buildpack and key != "buildpack"
                if not made_later:
                    name = script.path or script.file
                    texts.append(f"{key}: {name}: {exc.strerror}")
    return [text for text in texts if text]


def _ignore(data: bytes) -> None:
    del data
