"""Deploy to a whole fleet over SSH in two phases, and put every symlink back."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._api import (
        BackPreview,
        PastRelease,
        RunOptions,
        boot_script,
        boot_unit,
        boot_user_data,
        build,
        check,
        converge,
        deploy,
        dry_run,
        execute,
        freeze,
        logs,
        overview,
        past_runs,
        preview_rollback,
        redeploy,
        resume,
        revert,
        rollback,
        start,
        status,
        swap,
        unfreeze,
        verify_history,
    )
    from ._run.run import Run
    from .config import load_plan
    from .errors import DeployFailed, GhostasyncError, PlanError
    from .goal import (
        Converge,
        Deploy,
        Execute,
        Goal,
        Redeploy,
        Resume,
        Revert,
        Rollback,
        Swap,
    )
    from .model import (
        Action,
        App,
        Deadlines,
        DirectorySource,
        Gate,
        GitSource,
        Hook,
        Host,
        HostReport,
        Layout,
        Module,
        Outcome,
        Package,
        Plan,
        Report,
        Rollout,
        S3Source,
        Script,
        Ssh,
        State,
        StoreSettings,
        Verify,
    )
    from .survey.check import Finding, Overview
    from .survey.history import HistoryEntry
    from .survey.logs import Log
    from .survey.preview import Preview
    from .survey.status import FleetStatus, HostStatus, OpenRun

__all__ = [
    "Action",
    "App",
    "BackPreview",
    "Converge",
    "Deadlines",
    "Deploy",
    "DeployFailed",
    "DirectorySource",
    "Execute",
    "Finding",
    "FleetStatus",
    "Gate",
    "GhostasyncError",
    "GitSource",
    "Goal",
    "HistoryEntry",
    "Hook",
    "Host",
    "HostReport",
    "HostStatus",
    "Layout",
    "Log",
    "Module",
    "OpenRun",
    "Outcome",
    "Overview",
    "Package",
    "PastRelease",
    "Plan",
    "PlanError",
    "Preview",
    "Redeploy",
    "Report",
    "Resume",
    "Revert",
    "Rollback",
    "Rollout",
    "Run",
    "RunOptions",
    "S3Source",
    "Script",
    "Ssh",
    "State",
    "StoreSettings",
    "Swap",
    "Verify",
    "boot_script",
    "boot_unit",
    "boot_user_data",
    "build",
    "check",
    "converge",
    "deploy",
    "dry_run",
    "execute",
    "freeze",
    "load_plan",
    "logs",
    "overview",
    "past_runs",
    "preview_rollback",
    "redeploy",
    "resume",
    "revert",
    "rollback",
    "start",
    "status",
    "swap",
    "unfreeze",
    "verify_history",
]

_HOMES: Final = (
    *("model", "errors", "goal", "config"),
    *("survey.check", "survey.history", "survey.logs"),
    *("survey.preview", "survey.status"),
    *("_run.run", "_api"),
)
"""Modules that define these names; the first are the fastest to import."""

# The command line is in this package, so each command imports this file first. Names
# that it does not ask for, the engine and asyncssh behind them, are therefore imported
# at their first use.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import the module that defines *name*, or the submodule of that name."""
        for home in _HOMES if name in __all__ else ():
            module = import_module(f".{home}", __name__)
            if name in module.__all__:
                globals()[name] = value = getattr(module, name)
                return value
        if name[0] != "_":
            with suppress(ModuleNotFoundError):
                return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
