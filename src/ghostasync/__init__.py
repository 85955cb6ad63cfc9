"""Deploy to a whole fleet over SSH in two phases, and put every symlink back."""

from __future__ import annotations

from ._api import (
    Preview,
    build,
    check,
    converge,
    deploy,
    dry_run,
    resume,
    rollback,
    start,
    status,
)
from ._planning.modules import Selection
from ._run.run import Run
from .config import load_plan
from .errors import DeployFailed, GhostasyncError, PlanError
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
    Script,
    Ssh,
    State,
    StoreSettings,
    Verify,
)
from .survey.check import Finding
from .survey.status import FleetStatus, HostStatus, OpenRun

__all__ = [
    "Action",
    "App",
    "Deadlines",
    "DeployFailed",
    "DirectorySource",
    "Finding",
    "FleetStatus",
    "Gate",
    "GhostasyncError",
    "GitSource",
    "Hook",
    "Host",
    "HostReport",
    "HostStatus",
    "Layout",
    "Module",
    "OpenRun",
    "Outcome",
    "Package",
    "Plan",
    "PlanError",
    "Preview",
    "Report",
    "Rollout",
    "Run",
    "Script",
    "Selection",
    "Ssh",
    "State",
    "StoreSettings",
    "Verify",
    "build",
    "check",
    "converge",
    "deploy",
    "dry_run",
    "load_plan",
    "resume",
    "rollback",
    "start",
    "status",
]
