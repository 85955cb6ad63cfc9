"""
Records as plain lines, for logs and for people who read along.

A line is the time, the host, module or run, and a fact. Steps on the way have no line,
because a large fleet would write thousands of them that say nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from .. import events as e
from ..model import Action, State
from ..views.board import Board
from ..views.folding import short_hosts, step_of
from ..views.text import balanced, last_lines, plain, plural, size, span
from ._why import why

__all__ = ["LineWriter"]

_WORDS: Final[dict[type[e.HostEvent], str]] = {
    e.Unchanged: "unchanged",
    e.Resumed: "live already",
    e.Prepared: "ready",
    e.Switched: "switched",
}
_WIDEST: Final = 24
"""Cells for the name of a host or module, at most."""


@attrs.define
class LineWriter:
    """
    Writer of the lines of a run's records.

    A build's output comes as tails that overlap: the writer remembers the last one, so
    that each line is written once.
    """

    _told: dict[str, list[str]] = attrs.field(factory=dict)

    def tell(self, record: e.Record, board: Board) -> Iterator[str]:
        """
        Say in lines what *record* says, or nothing where it is a step on the way.

        Args:
            record: The event, its time written as local time of day.

            board: The run so far, *record* applied.
        """
        event = record.event
        if isinstance(event, e.HostEvent):
            subject, texts = event.host, _host(event)
            if (board.executes or board.swaps) and isinstance(event, e.Unchanged):
                texts = ["done"]
        else:
            subject = getattr(event, "module", "") or "run"
            texts = self._output(event) if isinstance(event, e.BuildOutput) else []
            word = "done" if board.executes or board.swaps else "live"
            texts = texts or _packaging(event) or _waves(event, word) or _gates(event)
            texts = texts or _rollout(event)
            if isinstance(event, e.Judged):
                # The run does without hosts of which it was not certain before.
                texts += [
                    f"FAILED {row.name}: {row.failure.reason}"
                    for row in board.failed
                    if row.failure and row.failure.locked
                ]
            if isinstance(event, e.Finished) and (
                halted := board.tallies[State.HALTED]
            ):
                # In one line: all have the run's reason, which was told.
                texts = [f"{plural(halted, 'host')} halted"]
        # Names have one width, so that facts stand below each other; a longer name is
        # not cut, and moves its own line only.
        names = max(map(len, (*board.hosts, *board.modules, "run")))
        at = time.strftime("%H:%M:%S", time.localtime(record.at))
        for line in texts:
            yield f"{at} {plain(subject):{min(_WIDEST, names)}}  {line}"

    def _output(self, event: e.BuildOutput) -> list[str]:
        """Return the whole lines of a tail that were not in the last one."""
        whole = event.text[: event.text.rfind("\n") + 1]
        lines = last_lines(whole, whole.count("\n"))
        known = self._told.get(event.module, [])
        self._told[event.module] = lines
        return [f"| {line}" for line in lines[_overlap(known, lines) :]]


def _overlap(known: Sequence[str], lines: Sequence[str]) -> int:
    """Count the first of *lines* that end *known*; a tail's first may be cut short."""
    # A tail is the end of the output so far: the lines that it shares with the one
    # before stand at the end of that. The longest overlap wins, so that a line which a
    # script repeats is not written twice.
    for count in range(min(len(known), len(lines)), 0, -1):
        first, *rest = known[-count:]
        if first.endswith(lines[0]) and rest == list(lines[1:count]):
            return count
    return 0


def _host(event: e.HostEvent) -> list[str]:
    texts = [_WORDS[type(event)]] if type(event) in _WORDS else []
    match event:
        case e.Uploaded(nbytes=0, fetched=0):
            texts = ["has the release already"]
        case e.Uploaded(nbytes=0, fetched=nbytes, seconds=seconds):
            texts = [f"fetched {size(nbytes)} in {span(seconds)}"]
        case e.Uploaded(nbytes=nbytes, seconds=seconds):
            texts = [f"uploaded {size(nbytes)} in {span(seconds)}"]
        case e.Drained() | e.Undrained():
            texts = _balanced(event)
        # The run waits for such a host, or stops because of the first one, and says so.
        case e.Failed(stage=stage, reason=reason, locked=False):
            texts = [f"{f'FAILED {step_of(stage, reason)}'.strip()}: {reason}"]
        case e.Gone(reason=reason):
            texts = [f"halted: {reason}"]
        case e.RolledBack(to=releases):
            texts = [f"back to {_releases(releases) or 'no release, as before'}"]
        case e.HostWarned(text=text):
            texts = [f"warning: {text}"]
    return texts


def _balanced(event: e.Drained | e.Undrained) -> list[str]:
    """Say how long a command of the balancer took; without one, that a host is live."""
    took = f"in {span(event.seconds)}" if event.seconds else ""
    if isinstance(event, e.Drained):
        return [f"drained {took}"] if took else []
    return [f"live, undrained {took}" if took else "live"]


def _packaging(event: e.RunEvent) -> list[str]:
    texts: list[str] = []
    match event:
        case e.Resolved(revision=revision):
            at = f" is {revision.commit[:7]}" if revision.commit else ""
            texts = [f"{revision.rev or revision.repo}{at}"]
        case e.BuildStarted():
            texts = ["building"]
        case e.Packaged(package=package, nbytes=nbytes, entries=entries, reused=reused):
            files = "1 entry" if entries == 1 else f"{entries:,} entries"
            how = "built before" if reused else f"in {span(event.seconds)}"
            texts = [f"packaged {size(nbytes)}, {files} {how}: {package}"]
        case e.Differs():
            texts = why(event)
        case e.BuildFailed(reason=reason):
            texts = [f"FAILED: {reason}"]
    return texts


def _rollout(event: e.RunEvent) -> list[str]:
    texts: list[str] = []
    match event:
        case e.Started():
            texts = list(_begins(event))
        case e.LockAwaited(host=host, holder=holder, seconds=seconds):
            texts = [f"{host}: {holder}; waiting up to {span(seconds)} for it"]
        case e.Judged(ready=ready, failed=failed, allowed=allowed):
            texts = [f"{plural(ready, 'host')} ready, {failed} failed ({allowed} may)"]
        case e.Stopped(reason=reason):
            texts = [f"stopping: {reason}"]
        case e.FleetRollbackStarted(hosts=hosts, reason=reason):
            texts = [f"{plural(len(hosts), 'host')} going back: {reason}"]
        case e.ManifestMoved(releases=releases):
            texts = [f"instances that boot now get {_releases(releases)}"]
        case e.ScalingSuspended() | e.ScalingResumed():
            texts = [_scaling(event)]
        case e.AfterAllFailed(reason=reason):
            texts = [f"FAILED, but the fleet stays live: {reason}"]
        case e.Warned(text=text):
            texts = [f"warning: {text}"]
    return texts


def _scaling(event: e.ScalingSuspended | e.ScalingResumed) -> str:
    done = "suspended" if isinstance(event, e.ScalingSuspended) else "resumed"
    groups = [f"{k}: {' '.join(v)}" for k, v in event.processes.items()]
    return f"{done} {'; '.join(groups)}"


def _begins(event: e.Started) -> Iterator[str]:
    by = f" by {event.actor}" if event.actor else ""
    why = f": {event.reason}" if event.reason else ""
    where = f"{event.app} on {plural(len(event.hosts), 'host')}"
    of = f" (back from run {event.of})" if event.of else ""
    if event.color:
        of = f" to {event.color}"
    if event.action == Action.RESUME.value:
        of = f" (goes on with run {event.of})"
    yield f"{event.action} {where}{by}{of}{why}"
    if event.balancer_seconds:
        yield f"drain {balanced(event.balancer_seconds)}"


def _waves(event: e.RunEvent, word: str) -> list[str]:
    texts: list[str] = []
    match event:
        case e.WaveStarted(wave=wave, waves=waves, hosts=hosts):
            texts = [f"wave {wave} of {waves}: {short_hosts(hosts, 60)}"]
        case e.WaveFinished(wave=wave, live=live, failed=failed, skew=skew):
            moved = f"; its links moved within {span(skew)}" if skew else ""
            texts = [f"wave {wave}: {live} {word}, {failed} failed{moved}"]
        case e.ColorMoved(color=color):
            texts = [f"{color} is the active color"]
        case e.Joined(hosts=hosts):
            texts = [f"joined meanwhile, and brought along: {short_hosts(hosts, 60)}"]
        case e.Soaked(wave=wave, seconds=seconds):
            texts = [f"wave {wave} still well after {span(seconds)}"]
    return texts


def _gates(event: e.RunEvent) -> list[str]:
    texts: list[str] = []
    match event:
        case e.BeforeSwitchStarted(host=host):
            texts = [f"before_switch on {host}"]
        case e.BeforeSwitchPassed(host=host, seconds=seconds):
            texts = [f"before_switch passed on {host} in {span(seconds)}"]
        case e.BeforeSwitchFailed(host=host, reason=reason):
            texts = [f"FAILED, and no link moves: {reason} on {host}"]
        case e.AfterWaveStarted(wave=wave):
            texts = [f"wave {wave}: after_wave"]
        case e.AfterWavePassed(wave=wave, seconds=seconds):
            texts = [f"wave {wave}: after_wave passed in {span(seconds)}"]
        case e.AfterWaveFailed(wave=wave, reason=reason):
            texts = [f"wave {wave}: FAILED: {reason}"]
    return texts


def _releases(releases: Mapping[str, str]) -> str:
    return ", ".join(release for release in releases.values() if release)
