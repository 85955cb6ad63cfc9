"""The tests lie where the code does."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import ghostasync

SOURCE: Final = Path(ghostasync.__file__).parent
TESTS: Final = Path(__file__).parent

TRIVIAL: Final = 50
"""Statements up to which a module needs no test file of its own: tests of its callers
reach all of it."""

ELSEWHERE: Final = {
    # Hosts in memory or real ones tell whether parts of the engine fit together.
    "_run/test_run.py": (
        "_engine/host.py",
        "_engine/pipeline.py",
        "_run/deploy.py",
        "_run/fleet.py",
        "_run/report.py",
    ),
    "_engine/test_takeover.py": ("_engine/stages/rollback.py", "_planning/resume.py"),
    "_planning/test_spec.py": ("_planning/basis.py", "_engine/spec.py"),
    "_planning/test_modules.py": ("_run/manifest.py",),
    "testing/test_inprocess.py": ("testing/_process.py",),
    "transports/test_ssh.py": ("transports/_channel.py",),
    "transports/test_login.py": ("transports/_keys.py", "transports/_trust.py"),
    "fleet/test_ssh_keys.py": ("transports/_client.py",),
    "fleet/test_ssh_reasons.py": ("transports/_heard.py",),
    # The script that prints the facts is the best of all inputs.
    "_remote/test_check.py": ("_remote/facts.py",),
    # An archive, a file or a store is judged as a whole, by those who use it.
    "_packaging/test_build.py": ("_packaging/tree.py",),
    "_remote/test_receive.py": ("_packaging/_host.py",),
    "sources/test_archive.py": ("_packaging/new_tree.py",),
    "stores/test_conformance.py": ("stores/_files.py", "stores/_packages.py"),
    "stores/test_s3.py": (*("_s3/client.py", "_s3/errors.py", "stores/_s3_runs.py"),),
    "config/test_config.py": ("config/_structure.py", "config/_tables.py"),
    # Calls need a server that answers.
    "inventories/test_ec2.py": ("_aws/client.py",),
    "balancers/test_alb.py": ("balancers/_pools.py",),
    "config/test_rules.py": ("config/_together.py",),
    "_lint/test_offline.py": ("_lint/rules.py",),
    "_lint/test_shell.py": ("_lint/shell_words.py",),
    # Records of a run are written by one part and read by another.
    "test_journal.py": ("events.py", "fold.py"),
    "_run/test_record.py": ("history/_leftovers.py",),
    "history/test_replay.py": ("history/past_run.py",),
    # Commands are typed, and pictures are looked at.
    "cli/test_cli.py": ("cli/_commands.py",),
    "cli/test_demo.py": ("cli/_demo_kill.py",),
    # Where real hosts are looked at, a deploy says beside it whether that is right.
    "fleet/test_checked.py": ("survey/check.py",),
    # Words that all others share.
    "test_exports.py": ("model.py", "protocols.py"),
}
"""Modules without a test file of their name, by the file that tests them, and why."""

LISTED: Final = [module for modules in ELSEWHERE.values() for module in modules]


def modules() -> list[str]:
    """Return all modules that are not trivial, relative to the package."""
    files = [path for path in SOURCE.rglob("*.py") if statements(path) > TRIVIAL]
    return sorted(str(path.relative_to(SOURCE)) for path in files)


def statements(path: Path) -> int:
    """Count what a module does and defines, but not what it imports or says."""
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    said = [
        node
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    named = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    done = [node for node in nodes if isinstance(node, ast.stmt)]
    return len({*done} - {*said} - {*named})


def has_own_test(module: str) -> bool:
    """Tell whether a test file has a module's name, in the mirrored place."""
    path = Path(module)
    package = path.stem == "__init__"
    name = (path.parent.name or "exports" if package else path.stem).lstrip("_")
    folder = TESTS / path.parent
    return any(
        file.stem == f"test_{name}" or file.stem.startswith(f"test_{name}_")
        for file in folder.glob("test_*.py")
    )


def test_every_module_has_a_test_file_of_its_name_or_it_is_said_which() -> None:
    alone = {module for module in modules() if not has_own_test(module)}

    assert alone - {*LISTED} == set()


def test_the_list_of_others_is_up_to_date() -> None:
    assert [place for place in ELSEWHERE if not (TESTS / place).exists()] == []
    assert [module for module in LISTED if not (SOURCE / module).exists()] == []
    assert [module for module in LISTED if has_own_test(module)] == []
    assert len(LISTED) == len({*LISTED})


def test_every_folder_of_tests_is_one_of_the_package_or_says_what_it_is_for() -> None:
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    own = {str(folder) for folder in folders if not (SOURCE / folder).is_dir()}

    assert own == {"benchmarks", "examples", "fleet"}


def test_no_test_module_imports_another_one() -> None:
    found = [
        f"{path.relative_to(TESTS)}: {module}"
        for path in sorted(TESTS.rglob("*.py"))
        for module in imported(ast.parse(path.read_text()))
        if any(part.startswith("test_") for part in module.split("."))
    ]

    assert found == []


def imported(tree: ast.Module) -> list[str]:
    """Return the names of all that a module imports, in full."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module or ''}.{alias.name}" for alias in node.names]
    return found
