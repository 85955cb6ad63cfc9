"""A look at the plan with the eyes of a CI job, which ends, and its disk with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from .._local.paths import state_home
from .._planning.ci import FOLDERS, in_ci
from ..model import Plan

__all__ = ["wrong_in_ci"]

_DISPOSABLE: Final = {
    "RUNNER_ENVIRONMENT": "github-hosted",
    "CI_DISPOSABLE_ENVIRONMENT": "true",  # of GitLab
}
"""What says that the whole runner is there for one job."""


def wrong_in_ci(plan: Plan, url: str, environ: Mapping[str, str]) -> Iterator[str]:
    """
    Yield what is wrong for a plan that is deployed by a CI job; nothing elsewhere.

    Args:
        plan: The plan.

        url: The address of its store.

        environ: The environment of this process.
    """
    if not in_ci(environ):
        return
    if Path(url).is_absolute() and (folder := _passing(plan, Path(url), environ)):
        yield (
            f"store.url: {url} is in {folder}, which may end with this CI job, and "
            "packages, MANIFEST and journals with it: name a folder that outlives the "
            "job, such as a mounted volume"
        )
    if not plan.rollout.confirm:
        yield (
            "rollout.confirm is 0: where this CI job is cancelled or loses its runner, "
            "hosts stay half-way: set it, to 60 for example, and hosts that hear "
            "nothing put their links back"
        )


def _passing(plan: Plan, store: Path, environ: Mapping[str, str]) -> str:
    """Return the runner's folder that a store is in, on the same disk; else ""."""
    named = [environ[name] for name in (*FOLDERS, "HOME") if environ.get(name)]
    named.append(tempfile.gettempdir())
    if any(environ.get(name) == value for name, value in _DISPOSABLE.items()):
        named.append("/")
    for folder in (*map(Path, named), plan.base.absolute(), state_home(environ)):
        # A volume that is mounted in a workspace outlives it.
        if store.is_relative_to(folder) and _disk(store) == _disk(folder):
            return str(folder)
    return ""


def _disk(path: Path) -> int:
    there = next(each for each in (path, *path.parents) if each.exists())
    return there.stat().st_dev
