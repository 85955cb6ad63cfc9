"""Agreement of several keys of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

from .._build.environment import LONGEST_VARIABLE, MOST_VARIABLES, size_of
from .._lint.form import flaw
from ..errors import PlanError
from ..model import App, GitSource, Module, Plan, Rollout, S3Source
from ._selection import named
from ._structure import Findings, at, show

__all__ = ["USELESS", "check_together", "too_large"]

_HERE: Final = "is for scripts on hosts; allowed: no run_as, this one runs here"
_MIGRATES: Final = "is for migrations; allowed: in before_switch"

USELESS: Final[Mapping[tuple[str, str], str]] = {
    ("buildpack", "run_as"): _HERE,
    ("after_all_deploy", "run_as"): _HERE,
    ("buildpack", "no_return"): _MIGRATES,
    ("pre_deploy", "no_return"): _MIGRATES,
    ("post_deploy", "no_return"): _MIGRATES,
    ("after_all_deploy", "no_return"): _MIGRATES,
}
"""Scripts, and keys of theirs that are refused, with the reason."""

Located = tuple[str, str]
"""A place, and the name or path at it."""


def check_together(plan: Plan, hosts: Sequence[str], findings: Findings) -> None:
    """Note what contradicts itself in *plan*; *hosts* are the places of its hosts."""
    _environment(plan.app, findings)
    _alone(plan, findings)
    _commands(plan.rollout, findings)
    names = [(f"modules[{i}].name", m.name) for i, m in enumerate(plan.modules)]
    findings.twice(names)
    findings.twice([(w, h.name) for w, h in zip(hosts, plan.hosts, strict=True)])
    paths = [(f"modules[{i}].path", m.path) for i, m in enumerate(plan.modules)]
    paths = [("layout.root", plan.layout.root), *paths]
    _apart(paths, findings)
    if plan.ssh.sudo_user not in {"", "root"}:
        for where in (where for where, path in paths if path.startswith("~")):
            text = "is another folder for each login; allowed with ssh.sudo = a user:"
            findings.add(where, f"{text} an absolute path")
    for index, module in enumerate(plan.modules):
        _apart(list(_shared(module, f"modules[{index}]")), findings)
        _here(module, f"modules[{index}]", findings)
        if module.submodules != "all" and not isinstance(module.source, GitSource):
            text = "is for repositories; allowed: with source.git"
            findings.add(f"modules[{index}].submodules", text)
        if module.build_at_target and module.path.startswith("~"):
            text = "is for a path that is known here; allowed: with an absolute path"
            findings.add(f"modules[{index}].build_at_target", text)
        _one_object(module, f"modules[{index}].source.version", findings)
        _placed(plan, module, f"modules[{index}].hosts", findings)
    _spread(plan, findings)
    transfer, url = plan.rollout.transfer, plan.store.url
    if transfer != "push" and not url.startswith(("s3://", "$")):
        text = f'is "{transfer}", and hosts reach no folder; allowed with that: '
        findings.add("rollout.transfer", f'{text}store.url = "s3://bucket/prefix"')


def _alone(plan: Plan, findings: Findings) -> None:
    """Note keys that are set beside another one which does the same."""
    ssh, rollout, inventory = plan.ssh, plan.rollout, plan.inventory
    rivals: list[list[tuple[str, object]]] = [
        [("ssh.jump", ssh.jump), ("ssh.proxy_command", ssh.proxy_command)],
        [
            ("inventory.hosts", plan.hosts),
            ("inventory.command", inventory.command),
            ("inventory.plugin", inventory.plugin),
        ],
        [("rollout.drain", rollout.drain), ("rollout.balancer", rollout.balancer.kind)],
        [
            ("rollout.undrain", rollout.undrain),
            ("rollout.balancer", rollout.balancer.kind),
        ],
    ]
    for keys in rivals:
        first, *others = [key for key, value in keys if value] or [""]
        for other in others:
            findings.add(other, f"is set beside {first}; allowed: one of them")


def _commands(rollout: Rollout, findings: Findings) -> None:
    """Note commands that cannot be started as they are written."""
    for key in ("drain", "undrain", "after_wave"):
        text = getattr(rollout, key).run.encode(errors="surrogateescape")
        if why := flaw(text, ""):
            findings.add(f"rollout.{key}.run", why)


def _here(module: Module, where: str, findings: Findings) -> None:
    """Note what some scripts have no use for."""
    for (script, key), text in USELESS.items():
        if getattr(getattr(module, script), key):
            findings.add(f"{where}.{script}.{key}", text)


def _one_object(module: Module, where: str, findings: Findings) -> None:
    source = module.source
    if isinstance(source, S3Source) and source.version and source.is_prefix:
        text = f"is of one object, and {show(source.s3)} is a prefix; allowed: none"
        findings.add(where, text)


def _placed(plan: Plan, module: Module, where: str, findings: Findings) -> None:
    # Hosts that an inventory has yet to name are looked for once it has.
    if plan.hosts and module.selectors and not findings.spoiled(where):
        try:
            named(plan.hosts, module.selectors)
        except PlanError as error:
            findings.add(where, f"{error}; allowed: hosts of the inventory")


def _environment(app: App, findings: Findings) -> None:
    for key, value in app.env_vars.items():
        if "\0" in value:
            findings.add(
                at("app.env_vars", key), "has a NUL in it; allowed: any other text"
            )
    for key, problem in too_large(app.env_vars).items():
        findings.add(at("app.env_vars", key), problem)
    for index, name in enumerate(app.secrets):
        if name in app.env_vars:
            where = f"app.secrets[{index}]"
            findings.add(
                where, f"{show(name)} is in app.env_vars too; allowed: one place"
            )


def too_large(variables: Mapping[str, str]) -> dict[str, str]:
    """Return which variables are too large for a program, each with what is allowed."""
    sizes = {name: size_of(name, value) for name, value in variables.items()}
    long = {name: size for name, size in sizes.items() if size > LONGEST_VARIABLE}
    if long or sum(sizes.values()) <= MOST_VARIABLES:
        return {
            name: f"has {size:,} bytes; allowed: {LONGEST_VARIABLE:,}, for Linux "
            "starts no script with more in one variable"
            for name, size in long.items()
        }
    largest = max(sizes, key=sizes.__getitem__)
    return {
        largest: f"is the largest of variables that have {sum(sizes.values()):,} bytes "
        f"in all; allowed: {MOST_VARIABLES:,}"
    }


def _shared(module: Module, where: str) -> Iterator[Located]:
    for key in ("shared_dirs", "shared_files"):
        for index, path in enumerate(getattr(module, key)):
            yield f"{where}.{key}[{index}]", path


def _apart(located: Sequence[Located], findings: Findings) -> None:
    """Note each two paths of which one is, or lies inside, the other."""
    for (one, upper), (other, lower) in combinations(located, 2):
        if findings.spoiled(one) or findings.spoiled(other):
            continue
        if upper == lower:
            how = "is the same as"
        elif lower.startswith(f"{upper}/"):
            how = "lies inside"
        elif upper.startswith(f"{lower}/"):
            how = "lies around"
        else:
            continue
        findings.add(other, f"{show(lower)} {how} {one}; allowed: paths apart")


def _spread(plan: Plan, findings: Findings) -> None:
    label = plan.rollout.spread_by
    known = sorted({label for host in plan.hosts for label in host.labels})
    if label and plan.hosts and label not in known:
        allowed = ", ".join(known) or "none, no host has labels"
        findings.wrong("rollout.spread_by", label, allowed)
