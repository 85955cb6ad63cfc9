"""
``ghostasync.toml`` -> :class:`~ghostasync.model.Plan`.

Reading is strict, and all findings are told at once: one line each, with its place and
what is allowed there. A text goes through four steps, which share one set of findings:
tables become values (``_tables``, ``_structure``), each value is held to its rule
(``_rules``), values to each other (``_together``), and scripts beside the file have to
exist. A plan that was built in Python goes through the last three.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .._engine.waves import parse_budget, parse_waves
from .._local.owners import trespass
from .._local.paths import local_path
from ..errors import ConfigError
from ..model import Plan
from ._rules import check_values
from ._structure import Findings
from ._tables import read_plan
from ._template import template
from ._together import check_together, too_large

__all__ = [
    "check_plan",
    "load_plan",
    "parse_budget",
    "parse_plan",
    "parse_waves",
    "template",
]

_POSITION: Final = re.compile(r"(.*) \(at (.*)\)", re.DOTALL)


def load_plan(path: Path | str) -> Plan:
    """
    Read a configuration file. Relative paths in it are relative to its folder.

    Raises:
        ConfigError: It cannot be read, or is wrong; ``.problems`` says it all.
    """
    file = Path(path)
    if why := trespass(file):
        raise ConfigError([why])
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        message = f"{file}: there is no such file; `ghostasync init` writes one"
        raise ConfigError([message]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: is not UTF-8"]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([f"{file}: cannot be read: {reason}"]) from None
    plan = parse_plan(text, file.absolute().parent, name=str(file))
    # A copy would count as changed since it was checked.
    object.__setattr__(plan, "file", file.absolute())
    return plan


def parse_plan(
    text: str,
    base: Path,
    *,
    name: str = "ghostasync.toml",
    environ: Mapping[str, str] = os.environ,
) -> Plan:
    """
    Read the text of a configuration.

    Args:
        text: TOML.

        base: The folder that relative paths are relative to.

        name: What messages call the text where it is no TOML.

        environ: The environment, for ``~`` in the paths of scripts.

    Raises:
        ConfigError: It is wrong; ``.problems`` holds one line for each finding.
    """
    try:
        raw: Mapping[str, object] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([_not_toml(name, error)]) from None
    findings = Findings()
    plan, hosts = read_plan(raw, base, findings)
    check_values(plan, hosts, findings)
    check_together(plan, hosts, findings)
    _check_files(plan, environ, findings)
    if lines := findings.lines():
        raise ConfigError(lines)
    # Planning would check the plan once more, without the places in the file. A frozen
    # value has no other way to say of itself what only its reader knows.
    object.__setattr__(plan, "checked", True)
    return plan


def check_plan(plan: Plan, environ: Mapping[str, str] = os.environ) -> list[str]:
    """
    Return what is wrong with a plan that was built in Python, a line each.

    A plan that was read from a file has been checked, with the places in that file.
    """
    if plan.checked:
        return []
    findings = Findings()
    hosts = [f"hosts[{index}]" for index in range(len(plan.hosts))]
    check_values(plan, hosts, findings)
    check_together(plan, hosts, findings)
    _check_files(plan, environ, findings)
    return findings.lines()


def check_secrets(plan: Plan, environ: Mapping[str, str]) -> list[str]:
    """Return a line for each of the plan's secrets that *environ* cannot give."""
    missing = [
        f"app.secrets[{index}]: {name} is not set in the environment"
        for index, name in enumerate(plan.app.secrets)
        if name not in environ
    ]
    given = {name: environ[name] for name in plan.app.secrets if name in environ}
    large = too_large({**plan.app.env_vars, **given})
    return [*missing, *(f"app: {name} {problem}" for name, problem in large.items())]


def _not_toml(name: str, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"{name}: is nested too deeply"
    match = _POSITION.fullmatch(str(error))
    if match is None:
        return f"{name}: is not TOML: {error}"
    return f"{name}: is not TOML, {match[2]}: {match[1]}"


def _check_files(plan: Plan, environ: Mapping[str, str], findings: Findings) -> None:
    def check(where: str, name: str, kind: str) -> None:
        path = local_path(name, plan.base, environ)
        if not os.path.isfile(path):  # noqa: PTH113  never raises
            findings.add(where, f"there is no file {path}; allowed: {kind}")
        elif why := trespass(path):
            findings.add(where, why)

    if plan.store.signers:
        check("store.signers", plan.store.signers, "a file of allowed signers")
    for index, module in enumerate(plan.modules):
        for key, script in module.scripts.items():
            if script.file:
                check(f"modules[{index}].{key}.file", script.file, "a script's file")
