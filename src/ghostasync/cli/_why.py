"""Why hosts are not left alone, in lines: what ``deploy --why`` asks for."""

from __future__ import annotations

from ..events import Differs
from ..views.folding import short_hosts
from ..views.text import plural

__all__ = ["why"]


def why(event: Differs) -> list[str]:
    """Return by what a release differs from the one that hosts serve."""
    serve = f"{short_hosts(event.hosts)} serve{'s' * (len(event.hosts) == 1)}"
    live = event.live or f"no release of {event.module}"
    if event.live == event.package:
        head = f"{serve} {event.live} already"
    else:
        head = f"{serve} {live}, and {event.package} comes"
    lines = [f"{head}: {event.reason}" if event.reason else f"{head}; what differs:"]
    if counts := [f"{count:,} {word}" for word, count in event.files.items() if count]:
        lines += [f"  files: {', '.join(counts)}"]
        lines += [f"    {path}" for path in event.paths]
        if left := sum(event.files.values()) - len(event.paths):
            lines += [f"    and {plural(left, 'other')}"]
    if event.settings:
        lines += [f"  of the module: {', '.join(event.settings)}"]
    if event.variables:
        lines += [f"  variables: {', '.join(event.variables)}"]
    return lines
