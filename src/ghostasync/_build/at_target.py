"""
The way to build at the path that will be served; what is mounted for it is seen by the
buildpack alone, and ends with it.
"""

from __future__ import annotations

import os
from importlib import resources
from typing import Final

from ..model import Module

__all__ = ["at_target"]

_SCRIPT: Final = resources.files(__package__).joinpath("at_target.sh")


def at_target(module: Module) -> tuple[str, ...]:
    """Return the command that runs a buildpack as its module says; mostly none."""
    if not module.build_at_target:
        return ()
    # Mounting takes root, if need be that of a namespace; the buildpack is who we are.
    root = () if os.getuid() == 0 else ("--map-root-user",)
    ids = str(os.getuid()), str(os.getgid())
    script = ("/bin/sh", "-c", _SCRIPT.read_text(), "at_target", module.path, *ids)
    return ("unshare", "--mount", *root, *script)
