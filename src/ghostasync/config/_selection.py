"""
Choice of hosts of the inventory: the grammar of ``--limit``.

One ``--limit`` is a list of terms that must all hold; several ``--limit`` add up::

    --limit 'web*,az=a,!web3' --limit @failed

A term is a glob on the host's name, ``label=glob``, ``@failed`` for hosts that failed
in their own last run, or ``@behind`` for hosts that serve another, not later, release
than MANIFEST's; ``!`` in front turns it round. A term that names nothing is an error
and no empty set: the usual cause is a typing mistake, and behind a ``!`` it would
deploy to the very host that was to be spared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from ..errors import PlanError
from ..model import Host

__all__ = ["BEHIND", "FAILED", "named", "select"]

FAILED = "@failed"
"""
Hosts that failed by themselves in their own last run.

Those are FAILED, ROLLED_BACK or STRANDED; hosts that were only halted are none. A
script that exec ran counts for nothing here.
"""

BEHIND = "@behind"
"""
Hosts that answer and serve another, not later, release than MANIFEST's.

They are asked first; those that do not answer are named.
"""

Groups = Mapping[str, Collection[str]]
"""The names of the hosts in each group that a term may ask for, by that term."""

_EMPTY = {
    FAILED: "no host failed by itself in its last run",
    BEHIND: "no host that answers is behind MANIFEST",
}


def select(
    hosts: Sequence[Host], limits: Sequence[str], groups: Groups
) -> tuple[Host, ...]:
    """
    Return the hosts that *limits* name, in the order of the inventory.

    Args:
        hosts: The whole inventory.

        limits: The expressions; none means all hosts.

        groups: The hosts of each group that a term asks for.

    Raises:
        PlanError: A term names nothing, or no host is left.
    """
    if not hosts:
        raise PlanError("inventory.hosts: there are no hosts to deploy to")
    if not limits:
        return tuple(hosts)
    names: set[str] = set()
    for limit in limits:
        try:
            names |= _all_terms(hosts, limit, groups)
        except PlanError as error:
            raise PlanError(f"--limit {limit}: {error}") from None
    return tuple(host for host in hosts if host.name in names)


def named(hosts: Sequence[Host], expressions: Sequence[str]) -> frozenset[str]:
    """
    Return the names of the hosts that *expressions* choose; none means all.

    Raises:
        PlanError: A term names nothing, or no host is left.
    """
    if not expressions:
        return frozenset(host.name for host in hosts)
    return frozenset().union(*(_all_terms(hosts, e, {}) for e in expressions))


def _all_terms(hosts: Sequence[Host], limit: str, groups: Groups) -> frozenset[str]:
    names = frozenset(host.name for host in hosts)
    for term in limit.split(","):
        term_text = term.strip()
        matched = _term(hosts, term_text.removeprefix("!"), groups)
        names = names - matched if term_text.startswith("!") else names & matched
        # "!@failed" after a run without failures is no typing mistake: it is all hosts.
        if not matched and term_text not in {f"!{FAILED}", f"!{BEHIND}"}:
            raise PlanError(_nothing(hosts, term_text))
    if not names:
        hint = ', for a comma means "and": for "or" it is repeated' * ("," in limit)
        raise PlanError(f"no host is left{hint}")
    return names


def _term(hosts: Sequence[Host], term: str, groups: Groups) -> frozenset[str]:
    label, equals, pattern = term.partition("=")
    if term in groups:
        matched = (host for host in hosts if host.name in groups[term])
    elif equals:
        matched = (
            host
            for host in hosts
            if label in host.labels and fnmatchcase(host.labels[label], pattern)
        )
    else:
        matched = (host for host in hosts if fnmatchcase(host.name, term))
    return frozenset(host.name for host in matched)


def _nothing(hosts: Sequence[Host], term_text: str) -> str:
    term = term_text.removeprefix("!")
    label, equals, pattern = term.partition("=")
    if term in _EMPTY:
        return _EMPTY[term]
    if term.startswith("@"):
        return f"there is no {term}, only {FAILED} and {BEHIND}"
    if not term:
        return "a term is empty"
    if not equals:
        return f"no host is named {term}"
    known = sorted({label for host in hosts for label in host.labels})
    if label in known:
        return f"no host has {label}={pattern}"
    return f"no host has a label {label}; labels: {', '.join(known) or 'none'}"
