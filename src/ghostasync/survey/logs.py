"""Logs: what scripts printed in a run, here and on hosts, as the store keeps it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

import attrs

from .. import events as e
from .._local.paths import build_log, host_log
from .._local.together import at_once
from ..errors import NotInStore, PlanError
from ..history.runs import JOURNAL, run_named
from ..journal import records
from ..protocols import RunLog

__all__ = ["Log"]

AT_ONCE: Final = 16
"""Logs that are read at once."""

_GATE: Final = "after_wave"
_HERE: Final = frozenset({"buildpack", "after_all_deploy", _GATE})
"""Scripts that run here. Those of a module share its log; the gate has one for all."""

_ON_HOSTS: Final = (
    *("pre_deploy", "before_switch", "post_deploy"),
    *("verify", "drain", "undrain", "exec"),
)
_BEGINS: Final = re.compile(rb"--- (\w+)(?: of \S+)? in ")
_ENDS: Final = re.compile(rb"--- (\w+)(?: of \S+)? (?:exited|ended|cut short)")


@attrs.frozen
class Log:
    """
    Output of the scripts of a run: those on *host*, or here those of *module*, which
    is ``after_wave`` for that gate.

    *text* is as it was printed, but for secrets, which are blotted out.
    """

    text: bytes = attrs.field(repr=False)
    host: str = ""
    module: str = ""


async def read_logs(
    runs: RunLog, asked: str, *, host: str = "", script: str = ""
) -> tuple[Log, ...]:
    """
    Return the logs of the run that *asked* names, those of modules first.

    Raises:
        PlanError: There is no such run or script, or the host was not part of the run.
        StoreError: The store cannot be read, or the run's journal is damaged.
    """
    if script not in {"", *_HERE, *_ON_HOSTS}:
        known = ", ".join([*sorted(_HERE), *_ON_HOSTS])
        raise PlanError(f"there is no script {script!r}; there are {known}")
    run = await run_named(runs, asked)
    lines = io.BytesIO(await runs.load(run, JOURNAL))
    modules, hosts = dict[str, None](), dict[str, None]()
    for record in records(lines, f"run {run}"):
        match record.event:
            case e.Started(modules=names, hosts=all_hosts):
                modules |= dict.fromkeys(names)
                hosts |= dict.fromkeys(all_hosts)
            case e.Joined(hosts=joined):
                hosts |= dict.fromkeys(joined)
            case e.Resolved(module=name):
                modules[name] = None
    if host and host not in hosts:
        raise PlanError(f"run {run} had no host {host}")
    logs = []
    if not host and script in {"", *_HERE}:
        gate = [_GATE] if script in {"", _GATE} else []
        logs += [
            Log(await _text(runs, run, build_log(name)), module=name)
            for name in [*([] if script == _GATE else modules), *gate]
        ]
    if script not in _HERE:
        chosen = [host] if host else [*hosts]
        read = partial(_text, runs, run)
        texts = await at_once(AT_ONCE, read, map(host_log, chosen))
        for name, text in zip(chosen, texts, strict=True):
            mine = b"".join(_sections(text, script.encode())) if script else text
            logs.append(Log(mine, host=name))
    return tuple(log for log in logs if log.text)


async def _text(runs: RunLog, run: str, name: str) -> bytes:
    try:
        return await runs.load(run, name)
    except NotInStore:
        return b""  # nothing was printed there


def _sections(text: bytes, script: bytes) -> Iterator[bytes]:
    """Yield the lines of one script: from its heading to the line about its end."""
    inside = False
    for line in text.splitlines(keepends=True):
        begins, ends = _BEGINS.match(line), _ENDS.match(line)
        if begins:
            inside = begins[1] == script
        if inside:
            yield line
        if inside and ends and ends[1] == script:
            inside = False
