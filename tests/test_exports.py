"""
What users may import: a change of the promise is a change of the table in this file.

A module without an underscore in its name is promised, with the names of its
``__all__``; everything else may change at any time.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import ghostasync

PROMISED = {
    "ghostasync": """
        Action App BackPreview Converge Deadlines Deploy DeployFailed
        DirectorySource Execute Finding FleetStatus Gate GhostasyncError
        GitSource Goal HistoryEntry Hook Host HostReport HostStatus Layout Log
        Module OpenRun Outcome Overview Package PastRelease Plan PlanError
        Preview Redeploy Report Resume Revert Rollback Rollout Run RunOptions
        S3Source Script Ssh State StoreSettings Swap Verify boot_script
        boot_unit boot_user_data build check converge deploy dry_run execute
        freeze load_plan logs overview past_runs preview_rollback redeploy
        resume revert rollback start status swap unfreeze verify_history
    """,
    "ghostasync.adapters": "balancer inventory notifier",
    "ghostasync.balancers": "",
    "ghostasync.balancers.alb": "Alb",
    "ghostasync.balancers.clb": "Clb",
    "ghostasync.balancers.commands": "Commands",
    "ghostasync.balancers.haproxy": "HAProxy",
    "ghostasync.cli": "COMMANDS execute main",
    "ghostasync.config": """
        check_plan load_plan parse_budget parse_plan parse_waves template
    """,
    "ghostasync.errors": """
        AmbiguousRevision BadAnswer BuildError ConfigError ConnectionDied
        DeadlinePassed DeployFailed Frozen GhostasyncError HostError LockHeld
        NeverSent NotInStore NothingToResume PackageError PlanError Refused
        RemoteError SourceError StillRunning StoreError UnknownRevision Unreachable
    """,
    "ghostasync.events": """
        Activated Admitted AfterAllFailed AfterWaveFailed AfterWavePassed
        AfterWaveStarted BeforeSwitchFailed BeforeSwitchPassed BeforeSwitchStarted
        BuildFailed BuildOutput BuildStarted Cause Checked ColorMoved Committed
        Connected Differs Disconnected Drained Event Failed Finished
        FleetRollbackStarted Gone Halted HostEvent HostWarned Joined Judged
        KilledRunFound LockAwaited ManifestMoved Numbered Output Packaged Prepared
        Progressed Reconnected Record Resolved Resumed RollbackRequested RolledBack
        RunEvent RunsRemoved ScalingResumed ScalingSuspended Soaked Started Stopped
        Switched Unchanged Undrained Uploaded Verified Warned WaveFinished WaveStarted
        is_passing
    """,
    "ghostasync.fold": "HostState RunState folded",
    "ghostasync.goal": """
        Converge Deploy Execute Goal Redeploy Resume Revert Rollback Swap
    """,
    "ghostasync.history": "",
    "ghostasync.history.chain": "Seen broken last_before",
    "ghostasync.history.outdated": "outdated seconds_of",
    "ghostasync.history.past_run": "PastRun",
    "ghostasync.history.replay": "read_run",
    "ghostasync.history.reports": "REPORT failed_hosts last_states still_stranded",
    "ghostasync.history.runs": """
        JOURNAL find_run open_runs run_named unended_migration
    """,
    "ghostasync.inventories": "",
    "ghostasync.inventories.command": "CommandInventory",
    "ghostasync.inventories.ec2": "Ec2",
    "ghostasync.inventories.static": "Static",
    "ghostasync.journal": "Journal decode encode line records replay",
    "ghostasync.machine": """
        AFTER_SWITCH BACK_FOR_KILLED_RUN GONE_BACK HostMachine IN_ORDER
        IllegalTransition LEFT_ALONE MAY_BE_DRAINED MAY_HAVE_MOVED NOT_BACK NOT_LOOKED
        NOT_MOVED NOT_UPLOADED RESTING SERVES_NEW SETTLED SPARED SWITCHED TERMINAL
        TRANSITIONS after mermaid
    """,
    "ghostasync.manual": "Entry GROUPS Group complete entries find near reference",
    "ghostasync.model": """
        Action App BalancerSettings Deadlines DirectorySource ExitStatus Gate GitSource
        Hook HookPlace Host HostKeys HostReport InventorySettings Layout Module
        OnFailure Outcome Package Plan Proof Report Revision Rollout S3Source Script
        Signing Source Ssh State StoreSettings Submodules Transfer Verify
    """,
    "ghostasync.protocols": """
        ActiveColor AddressedPackages AudibleSource Balancer BootStore Channel
        ColorStore Environment Freeze GzipPackages HostAccess Inventory Lineage Manifest
        ManifestLine Notifier Observer OnOutput Packages PartialBalancer
        PartialSource RunLog Session SignedStore Source Store SuspendableInventory
        TestableStore TimedBalancer Transport
    """,
    "ghostasync.sources": "",
    "ghostasync.sources.directory": "Directory",
    "ghostasync.sources.git": "Git",
    "ghostasync.sources.s3": "S3",
    "ghostasync.stores": "DirectoryStore",
    "ghostasync.stores.directory": """
        DirectoryManifest DirectoryPackages DirectoryRunLog DirectoryStore
    """,
    "ghostasync.stores.s3": "S3Manifest S3Packages S3RunLog S3Store",
    "ghostasync.stores.trust": "NAMESPACE Trust",
    "ghostasync.survey": "",
    "ghostasync.survey.check": "Finding Look Overview look_at_hosts survey",
    "ghostasync.survey.coming": "Coming HOST_SCRIPTS coming migrates",
    "ghostasync.survey.history": "HistoryEntry of_hosts of_store",
    "ghostasync.survey.logs": "Log",
    "ghostasync.survey.preview": "Commits Preview Step",
    "ghostasync.survey.status": """
        Ahead Condition FleetStatus HostStatus OpenRun OtherStore Way
    """,
    "ghostasync.testing": """
        Answer Break Call FakeHost FakeHosts FakeModule FakeTransport Handler
        InProcessFleet LocalTransport MemoryStore step
    """,
    "ghostasync.transports": "",
    "ghostasync.transports.ssh": "Handshakes SshChannel SshSession SshTransport",
    "ghostasync.views": "",
    "ghostasync.views.board": "Board GateRow HostRow ModuleRow",
    "ghostasync.views.folding": "Failure Failures WIDTH fold_hosts short_hosts step_of",
    "ghostasync.views.summary": "MAX_LINES TypedCommand failure is_clean success",
    "ghostasync.views.text": "ago balanced clock last_lines plain plural size span",
}
"""Every public module, and what it exports."""


def find_public_modules() -> list[str]:
    found = pkgutil.walk_packages(ghostasync.__path__, "ghostasync.")
    names = [name for _, name, _ in found]
    return [name for name in names if not any(p[0] == "_" for p in name.split("."))]


def own(module: ModuleType) -> list[str]:
    """Return the public names of a module that are no modules themselves."""
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and not isinstance(value, ModuleType)
    ]


def test_the_public_modules_are_those_that_are_promised() -> None:
    assert sorted(["ghostasync", *find_public_modules()]) == list(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_a_module_exports_what_is_promised(name: str) -> None:
    exported = getattr(importlib.import_module(name), "__all__", [])

    assert sorted(exported) == PROMISED[name].split()


@pytest.mark.parametrize("name", PROMISED)
def test_all_is_there_and_names_what_exists(name: str) -> None:
    module = importlib.import_module(name)

    exported = getattr(module, "__all__", None)

    if exported is None:
        # A package that only says what it is about has its submodules and no more.
        assert own(module) in ([], ["annotations"])
        return
    assert [item for item in exported if not hasattr(module, item)] == []
    assert len(set(exported)) == len(exported)


def test_the_package_exports_in_order() -> None:
    assert sorted(ghostasync.__all__) == ghostasync.__all__


def test_importing_the_package_does_not_import_what_is_heavy() -> None:
    code = (
        "import sys, ghostasync; "
        "print([m for m in ('asyncssh', 'rich', 'aioboto3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
