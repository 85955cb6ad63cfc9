"""
Answers of commands that only look, as text or JSON: previews, findings, status.

One file, though long: the answers share their columns, cuts and words.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, get_args

import attrs

from .. import BackPreview, Preview
from ..model import Revision
from ..survey.check import Finding, Overview
from ..survey.coming import Coming
from ..survey.history import HistoryEntry
from ..survey.logs import Log
from ..survey.preview import Commits, Step
from ..survey.status import (
    Condition,
    FleetStatus,
    HostStatus,
    OpenRun,
    OtherStore,
)
from ..views.folding import fold_hosts, short_hosts
from ..views.summary import TypedCommand
from ..views.text import ago, balanced, plain, plural, size, span

__all__ = [
    "back_json",
    "findings",
    "findings_json",
    "frozen_json",
    "history",
    "history_json",
    "logs",
    "logs_json",
    "outputs",
    "overview",
    "overview_json",
    "preview",
    "preview_json",
    "releases",
    "status",
    "status_json",
    "verified",
    "verified_json",
    "ways",
]

COMMAND: Final = TypedCommand()
_WIDTH: Final = 48
"""Cells for host ranges; longer ones are counted."""

_HOSTS: Final = 32
"""Cells for host ranges beside the id of a release."""

_RELEASES: Final = 5
"""Releases of a module that are shown at least; older ones are counted."""

_ACTOR: Final = 12
"""Letters of the name of who brought a release."""

_LINE: Final = 80
"""Cells for a line that ends with a commit's subject."""

_SUBJECT: Final = 40
"""Characters of a commit's subject in a table."""

_PRINTED: Final = re.compile(
    rb"^--- exec of \S+ in [^\n]*\n(?!\n--- exec of \S+ cut)(.*)\n--- exec of ",
    re.DOTALL | re.MULTILINE,
)
"""
The output of a script, between the lines of a host's log about it.

Before these may come those of a try that did not begin: the connection had died.
"""

_CURABLE: Final = frozenset({"drift", "stranded"})


def preview(answer: Preview) -> Iterator[str]:
    """Say what a deploy would do, module by module, and where it would stop."""
    for name, revision in answer.modules.items():
        yield _cut(f"{name}: {_said(revision)}")
        if isinstance(revision, Revision):
            stored = answer.packages.get(name, "")
            yield f"  {_built(stored, again=name in answer.same)}"
        yield from _steps(answer, name)
    folded: dict[str, list[str]] = defaultdict(list)
    for host, text in answer.obstacles.items():
        folded[text].append(host)
    for text, hosts in folded.items():
        yield f"{fold_hosts(hosts)}: {text}"
    yield from _waves(answer.waves)
    for warning in answer.warnings:
        yield f"warning: {warning}"
    total = plural(sum(map(len, answer.waves)), "host")
    ends = answer.stops or f"{total}; stops at failure number {answer.allowed + 1}"
    yield f"{ends}; nothing was changed"
    if answer.held:
        yield answer.held


def _built(stored: str, *, again: bool) -> str:
    """Say whether a module has to be built, of which the store may have a package."""
    if again:
        return f"{stored} again, unless the build differs"
    return "to be built" + f"; stored of this commit: {stored}" * bool(stored)


def _steps(answer: Preview, module: str) -> Iterator[str]:
    """Say what hosts would get of a module, those alike in one line."""
    groups: dict[Step, list[str]] = defaultdict(list)
    for host, steps in answer.hosts.items():
        if module in steps and host not in answer.obstacles:
            groups[steps[module]].append(host)
    known = {each.old: each for each in answer.commits.get(module, ())}
    for step, hosts in groups.items():
        where = short_hosts(hosts, _HOSTS)
        yield f"  {where}: now {step.live or 'nothing'}; {_fate(step)}"
        if each := known.get(step.commit):
            yield from _between(each)


def preview_json(answer: Preview) -> str:
    """Return the same as one line of JSON."""
    modules = {name: _revision(revision) for name, revision in answer.modules.items()}
    same = sorted(answer.same)
    return _json(
        **{**attrs.asdict(answer), "modules": modules, "same": same},
        exit=answer.exit_status,
    )


def _revision(revision: Revision | str) -> str:
    if isinstance(revision, str):
        return revision
    return " ".join(filter(None, (revision.rev, revision.commit))) or revision.repo


def _said(revision: Revision | str) -> str:
    if isinstance(revision, str) or not revision.commit:
        return _revision(revision)
    commit, subject = revision.commit[:7], revision.message.partition("\n")[0]
    named = f"{revision.rev} is " * (not revision.commit.startswith(revision.rev))
    return f"{named}{commit} {subject}"


def _fate(step: Step) -> str:
    """Say what a host would get in place of what it serves."""
    if step.unchanged:
        return "unchanged"
    if step.sends is None:
        return "to be sent"
    sent = f"{size(step.sends)} to send" if step.sends else "nothing to send"
    return f"{'goes BACK, ' * step.back}{sent}"


def _between(commits: Commits) -> Iterator[str]:
    """Say which commits come with a release, and which go with the one before."""
    old, new = commits.old[:7], commits.new[:7]
    if commits.ships is None or commits.back is None:
        yield f"    {old} and {new}: the source does not say which is older"
        return
    if commits.ships and commits.back:
        yield f"    the histories of {old} and {new} diverge"
    if commits.ships:
        yield f"    ships {plural(commits.ships, 'commit')}, {old}..{new}"
        yield from _subjects("+", commits.coming, commits.ships)
    if commits.back:
        yield f"    goes BACK {plural(commits.back, 'commit')}, {new}..{old}"
        yield from _subjects("-", commits.going, commits.back)


def _subjects(mark: str, subjects: Sequence[str], count: int) -> Iterator[str]:
    for subject in subjects:
        yield _cut(f"      {mark} {subject}")
    if count > len(subjects):
        yield f"      {mark} {count - len(subjects):,} more"


def _waves(waves: Sequence[Sequence[str]]) -> Iterator[str]:
    """Name the hosts of waves; those as large that follow each other are one line."""
    last = 0
    for length, group in groupby(waves, len):
        alike = [*group]
        first, last = last + 1, last + len(alike)
        hosts = short_hosts([host for wave in alike for host in wave], _WIDTH)
        which = f"wave {first}" if first == last else f"waves {first} to {last}"
        each = plural(length, "host") + " each" * (first != last)
        yield f"{which} of {len(waves)}: {each}, {hosts}"


def _cut(text: str, width: int = _LINE) -> str:
    """Return a line for people that fits a terminal of 80 columns, or a part of it."""
    text = plain(text)
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def releases(answer: BackPreview, now: float) -> Iterator[str]:
    """
    Say which releases there were, the newest first, and mark what hosts leave.

    *now* is in POSIX seconds.
    """
    for module, known in answer.releases.items():
        yield module
        left = {serves.get(module) for serves in answer.serves.values()}
        goals = {to.get(module) for to in answer.to.values()}
        commits = Counter(each.commit[:7] for each in known)
        rows = []
        for each in known:
            marks = "from" * (each.release in left), "to" * (each.release in goals)
            short = each.commit[:7]
            row = (
                " ".join(filter(None, marks)),
                _age(each.at, now),
                short if short and commits[short] == 1 else each.release,
                each.actor[:_ACTOR],
                short_hosts(each.hosts, _HOSTS) if each.hosts else "",
            )
            rows.append((row, each.subject))
        last = max((at for at, (row, _) in enumerate(rows) if row[0]), default=0)
        shown = rows[: max(last + 1, _RELEASES)]
        lines = _aligned([row for row, _ in shown])
        for line, (_, subject) in zip(lines, shown, strict=True):
            yield _cut(f"  {line}  {subject}").rstrip()
        if len(rows) > len(shown):
            yield f"  {len(rows) - len(shown):,} older"


def _age(at: float, now: float) -> str:
    # A clock that is ahead of this one, or of others, tells no age.
    return ago(now - at) if 0 < at <= now else "?"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as lines, with their columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True))


def ways(answer: BackPreview) -> Iterator[str]:
    """Say where a rollback would take hosts, those alike in one line."""
    if answer.run:
        yield f"undoes run {answer.run}"
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for host, modules in answer.to.items():
        for module, release in modules.items():
            now = answer.serves.get(host, {}).get(module, "?")
            groups[module, now, release].append(host)
    for (module, now, release), hosts in groups.items():
        where = release or "nothing: the link is removed"
        way = where if now == "?" else f"{now or 'nothing'} -> {where}"
        told = f"{module}: {way}, on {short_hosts(hosts, _WIDTH)}"
        # Releases that were named are gone to from whatever serves.
        silent = ", no answer yet" * (now == "?" and bool(answer.run))
        yield f"{told}{silent}"
    if answer.manifest:
        lines = ", ".join(sorted(answer.manifest))
        yield f"MANIFEST goes back first: {lines}"
    for warning in answer.warnings:
        yield f"warning: {warning}"


def back_json(answer: BackPreview) -> str:
    """Return the same as one line of JSON."""
    return _json(**attrs.asdict(answer))


def findings(answer: Sequence[Finding]) -> Iterator[str]:
    """Say each finding once, with all hosts that share it."""
    if not answer:
        yield "nothing stands in the way"
    folded: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for finding in answer:
        folded[finding.module, finding.text, finding.warning].append(finding.host)
    for (module, text, warning), hosts in folded.items():
        where = [fold_hosts(filter(None, hosts)), module]
        words = f"warning: {text}" if warning else text
        yield ": ".join([*filter(None, where), words])


def findings_json(answer: Iterable[Finding]) -> Iterator[str]:
    """Return a line of JSON for each finding of each host."""
    for finding in answer:
        yield _json(
            host=finding.host,
            module=finding.module,
            text=finding.text,
            warning=finding.warning,
        )


def overview(answer: Overview) -> Iterator[str]:
    """
    Say what is live and what a deploy would bring, where nothing stands in its way.

    Else say what does, and nothing besides.
    """
    if any(not finding.warning for finding in answer.findings):
        yield from findings(answer.findings)
        return
    rows = [("hosts", "", f"{len(answer.hosts)}: {short_hosts(answer.hosts, _WIDTH)}")]
    rows += [("user", "", text) for text in _groups(answer.logins, answer)]
    for name, live in answer.live.items():
        rows += [("live", name, text) for text in _groups(live, answer)]
    for name, what in answer.modules.items():
        rows += [("deploy", name, text) for text in _to_deploy(what)]
    rows.append(("store", "", answer.store))
    if answer.balancer_seconds:
        rows.append(("drain", "", balanced(answer.balancer_seconds)))
    width = max(map(len, answer.modules))
    seen = ("", "")
    for key, name, text in rows:
        first = key if key != seen[0] else ""
        second = name if (key, name) != seen else ""
        cells = f"{first:8}{second:{width}}  " if name else f"{first:8}"
        yield f"{cells}{text}"
        seen = key, name
    yield ""
    if answer.findings:
        yield from findings(answer.findings)
    yield from findings(())


def _groups(by_host: Mapping[str, str], answer: Overview) -> Iterator[str]:
    """Say what hosts have, those alike in one line; a module may be for a few."""
    groups: dict[str, list[str]] = defaultdict(list)
    for host, value in by_host.items():
        groups[value or "nothing"].append(host)
    for value, hosts in groups.items():
        where = f"on {plural(len(hosts), 'host')}"
        if len(hosts) == len(answer.hosts):
            where = f"on {'all hosts' if len(hosts) > 1 else hosts[0]}"
        elif len(groups) > 1:
            where = f"on {short_hosts(hosts, _WIDTH // 2)}"
        yield f"{value} {where}"


def _to_deploy(what: Coming) -> Iterator[str]:
    """Say which revision a deploy would bring, and whether it has to be built."""
    revision = what.revision
    subject = _cut(revision.message.partition("\n")[0].rstrip(), _SUBJECT)
    is_ = " is ".join(filter(None, (revision.rev, revision.commit[:7])))
    words = [is_ or revision.repo, f'"{subject}"' * bool(subject)]
    yield " ".join(filter(None, words))
    yield _built(what.stored, again=what.package is not None)


def overview_json(answer: Overview) -> Iterator[str]:
    """Return a line of JSON for each finding, and one for all the rest."""
    yield from findings_json(answer.findings)
    modules = {
        name: {
            "rev": what.revision.rev,
            "commit": what.revision.commit,
            "message": what.revision.message,
            "package": what.stored,
            "again": what.package is not None,
        }
        for name, what in answer.modules.items()
    }
    yield _json(
        hosts=answer.hosts,
        users=dict(answer.logins),
        live=answer.live,
        modules=modules,
        store=answer.store,
        balancer_seconds=dict(answer.balancer_seconds),
    )


def status(fleet: FleetStatus, command: TypedCommand = COMMAND) -> Iterator[str]:
    """
    Say what is expected, then what hosts serve, those alike in one line.

    Args:
        fleet: The answer of the hosts.

        command: The command as typed; the next one is for the same configuration.
    """
    if fleet.color:
        yield f"color       {fleet.color}"
        by_plan = f"{fleet.active_color}, by app.active_color"
        text = fleet.active.text if fleet.active else by_plan
        if fleet.active_color:
            yield f"active      {text}"
    for module, release in fleet.expected.items():
        yield f"expected    {module}: {release}"
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, host in fleet.hosts.items():
        live = _live(host.live) if host.live else ""
        groups[host.state, live, _more(host)].append(name)
    yield from _hosts(groups)
    if fleet.frozen:
        yield ""
        yield fleet.frozen
    if fleet.other is not None:
        yield ""
        yield from _other_store(fleet, fleet.other)
    if fleet.run is not None:
        yield ""
        yield from _open_run(fleet, fleet.run, command)
        return
    if advice := [*_advice(fleet, command)]:
        yield ""
        yield from map(plain, advice)


def _advice(fleet: FleetStatus, command: TypedCommand) -> Iterator[str]:
    """Say what brings hosts in line; a command that takes hosts back says "back"."""
    # A host that said nothing is left out: a converge could not reach it either.
    by_way: dict[str, list[str]] = defaultdict(list)
    for name, host in fleet.hosts.items():
        if host.way and host.state in _CURABLE and fleet.expected:
            by_way[host.way].append(name)
    ahead, back = by_way["ahead"], by_way["back"]
    if forward := by_way["forward"]:
        # Hosts that would go back are behind as well.
        group = "" if back else "@behind"
        yield f"bring in line:   {command.converge(forward, group)}"
    if ahead and fleet.ahead:
        packages = " ".join(
            f"--package {each.release}" for each in fleet.ahead.values()
        )
        later = all(each.later for each in fleet.ahead.values())
        along = "take the others along:" if later else "take the others back as well:"
        yield f"{short_hosts(ahead, _WIDTH)}: moved by a later run than MANIFEST's"
        yield f"  {along:30}{command.other(f'deploy {packages}')}"
        yield f"  {'or take these back:':30}{command.converge(ahead)}"
    elif ahead:
        back = [*ahead, *back]
    if back:
        yield f"take back:       {command.converge(back)}"


def _other_store(fleet: FleetStatus, other: OtherStore) -> Iterator[str]:
    """Say that what serves is not known to this store."""
    hosts = short_hosts(other.hosts, _WIDTH)
    serve = "serves" if len(other.hosts) == 1 else "serve"
    if len(other.hosts) == len(fleet.hosts):
        hosts, serve = "all hosts", "serve"
    by = " ".join(filter(None, (f"by {other.actor}" * bool(other.actor), other.at)))
    head = f"run {other.run} {by} brought what {hosts} {serve}"
    yield f"{head}, from another store;"
    yield f"  this one does not know it: {other.url}"


def _hosts(groups: Mapping[tuple[str, str, str], Sequence[str]]) -> Iterator[str]:
    if not groups:
        return
    folded = {key: fold_hosts(hosts) for key, hosts in groups.items()}
    width = min(_WIDTH, max(map(len, folded.values())))
    # Hosts that need a person come last, next to the prompt.
    order: tuple[str, ...] = get_args(Condition)
    for key in sorted(folded, key=lambda key: order.index(key[0])):
        state, live, text = key
        words = "; ".join(filter(None, (live, text)))
        yield f"{state:12}{folded[key]:{width}}  {words}".rstrip()


def _more(host: HostStatus) -> str:
    """Return the text about a host, without the releases that are shown anyway."""
    told = {f"{name}: serves {release}" for name, release in host.live.items()}
    return "; ".join(text for text in host.text.split("; ") if text not in told)


def _open_run(fleet: FleetStatus, run: OpenRun, command: TypedCommand) -> Iterator[str]:
    """Say that a run goes on, or where it was killed, and what to type then."""
    if run.holder:
        yield f"{run.holder} is going on"
        return
    by = f" by {run.actor}" if run.actor else ""
    head = f"run {run.id}, {run.action}{by}, was killed"
    resume = command.other("resume")
    if run.going_back:
        yield f"{head} on its way back"
        yield from _who_serves(fleet, run)
        yield f"  take it back:    {resume}"
        return
    if run.committed:
        yield f"{head} once MANIFEST had moved; what comes after that is left"
    elif run.moved:
        yield f"{head} while it switched"
        yield from _who_serves(fleet, run)
    else:
        yield f"{head} before a link had moved"
    for module, host in run.migrating.items():
        text = f"before_switch of {module} began on {host}, and may be at work"
        yield f"  migrates:        {text}"
    yield f"  finish it:       {resume}"
    yield f"  or put it back:  {command.other('resume --revert')}"


def _who_serves(fleet: FleetStatus, run: OpenRun) -> Iterator[str]:
    """Say which hosts serve what the run brought, and which do not."""
    new: list[str] = []
    old: list[str] = []
    for name, host in fleet.hosts.items():
        if host.live:
            moved = all(host.live.get(m) == r for m, r in run.releases.items())
            (new if moved else old).append(name)
    words = [f"new on {short_hosts(new, _WIDTH)}"] * bool(new)
    words += [f"old on {short_hosts(old, _WIDTH)}"] * bool(old)
    if words and run.releases:
        yield f"  serves now:      {', '.join(words)}"


def status_json(fleet: FleetStatus) -> str:
    """Return the same as one line of JSON, host by host."""
    hosts = {
        name: {
            "state": host.state,
            "live": dict(host.live),
            "text": host.text,
            "runs": dict(host.runs),
            "way": host.way,
        }
        for name, host in fleet.hosts.items()
    }
    run = attrs.asdict(fleet.run) if fleet.run else None
    other = attrs.asdict(fleet.other) if fleet.other else None
    return _json(
        expected=dict(fleet.expected),
        hosts=hosts,
        run=run,
        ahead={name: each.release for name, each in fleet.ahead.items()},
        other_store=other,
        frozen=fleet.frozen,
        color=fleet.color,
        active_color=fleet.active_color,
        active=attrs.asdict(fleet.active) if fleet.active else None,
    )


def _live(live: Mapping[str, str]) -> str:
    return ", ".join(release or f"{name}: none" for name, release in live.items())


def history(entries: Sequence[HistoryEntry], now: float) -> Iterator[str]:
    """
    Say what each run was in one line, and below it by whom, of what, and why.

    *now* is in POSIX seconds.
    """
    if not entries:
        yield "no run is known"
        return
    rows = [
        (
            f"#{entry.generation}" if entry.generation else "-",
            entry.id,
            entry.action,
            entry.outcome,
            plural(entry.hosts, "host"),
            "" if entry.seconds is None else span(entry.seconds),
            _age(entry.at, now),
        )
        for entry in entries
    ]
    for entry, line in zip(entries, _aligned(rows), strict=True):
        yield line.rstrip()
        if entry.actor:
            yield _cut(f"    by {entry.actor}")
        for module in entry.modules:
            commit = entry.commits.get(module, "")[:7]
            told = (module, entry.releases.get(module, ""), commit)
            words = " ".join(filter(None, told[: 2 if told[1] else 3]))
            yield _cut(f"    {words}  {entry.subjects.get(module, '')}".rstrip())
        if entry.reason:
            yield f"    why: {entry.reason}"


def history_json(entries: Iterable[HistoryEntry]) -> Iterator[str]:
    """Return a line of JSON for each run."""
    for entry in entries:
        yield _json(**attrs.asdict(entry))


def verified(compared: int, wrong: Sequence[str]) -> Iterator[str]:
    """Say what is wrong with the journals of how many runs."""
    yield from map(plain, wrong)
    if not wrong:
        yield "no journal was changed, cut off or taken away"
    yield f"{plural(compared, 'run')} compared, each with what the next one saw of it"


def verified_json(compared: int, wrong: Sequence[str]) -> str:
    """Return the same as one line of JSON."""
    return _json(compared=compared, wrong=wrong)


def frozen_json(text: str, left: Mapping[str, str]) -> str:
    """Return what became of a freeze, and why not on some hosts, as a line of JSON."""
    return _json(text=text, left=dict(left))


def logs(answer: Sequence[Log]) -> Iterator[str]:
    """Print logs, each once with all hosts that printed the same; names come first."""
    if not answer:
        yield "nothing was printed"
    folded: dict[tuple[str, bytes], list[str]] = defaultdict(list)
    for log in answer:
        folded[log.module, log.text].append(log.host)
    for (module, text), hosts in folded.items():
        where = f"{module or short_hosts(hosts, _WIDTH)} | " if len(folded) > 1 else ""
        for line in _lines(text):
            yield f"{where}{line}"


def outputs(answer: Iterable[Log]) -> Iterator[str]:
    """
    Print what a script of exec has printed on hosts, equal texts once.

    One line stands behind the names of its hosts, more stand below them.
    """
    folded: dict[bytes, list[str]] = defaultdict(list)
    for log in answer:
        printed = _PRINTED.search(log.text)
        folded[printed[1] if printed else b""].append(log.host)
    for text, hosts in folded.items():
        lines = _lines(text)
        if len(lines) == 1:
            yield f"{fold_hosts(hosts)}: {lines[0]}"
        elif lines:
            yield f"{fold_hosts(hosts)}:"
            yield from (f"  {line}" for line in lines)


def _lines(text: bytes) -> list[str]:
    """Return the lines of a log; other signs than a newline begin none."""
    lines = text.decode(errors="replace").split("\n")
    return lines if lines[-1] else lines[:-1]


def logs_json(answer: Iterable[Log]) -> Iterator[str]:
    """Return a line of JSON for each log."""
    for log in answer:
        text = log.text.decode(errors="replace")
        yield _json(host=log.host, module=log.module, text=text)


def _json(**values: object) -> str:
    text = json.dumps({"v": 1, **values}, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f")  # the one control that JSON leaves
