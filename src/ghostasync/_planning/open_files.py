"""
The open files of a run, checked before any host is contacted.

A process may have 1,024 files open by default (RLIMIT_NOFILE). A run that passes the
limit half way fails with errors that do not name it; other tools die like that at some
850 to 1,000 hosts.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

from ..errors import PlanError
from ..model import Ssh

__all__ = ["SPARE", "needed", "require"]

SPARE: Final = 64
"""Files of a run besides its connections: journal, archives, a log that is written,
pipes of a buildpack, look-ups of names, logins that ask an agent."""

PROXIED: Final = 3
"""Files for each proxy command: two pipes, and one that tells of its end."""

OPEN_FILES: Final = Path("/dev/fd")
"""The folder with a name for each open file of this process, where the system has
it."""


def needed(ssh: Ssh, connections: int) -> int:
    """
    Return how many files *connections* to hosts at once take.

    A ``jump`` host has one socket for all that are behind it. Settings of
    ``~/.ssh/config`` for single hosts are not looked at.
    """
    each = PROXIED if ssh.proxy_command else 0 if ssh.jump else 1
    return connections * each + SPARE


def require(ssh: Ssh, connections: int) -> None:
    """
    Refuse a run that would run out of open files half way.

    Raises:
        PlanError: The limit of this process is too low; the text says what to set.
    """
    # The limit is not raised here: it is the process's, and a library leaves that
    # alone.
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed(ssh, connections) + _open_now()
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    raise PlanError(
        f"{connections:,} hosts at once need {wanted:,} open files and this process "
        f"may have {soft:,}: raise it with `ulimit -n {wanted}` (LimitNOFILE={wanted} "
        "in a systemd unit), or choose fewer hosts"
    )


def _open_now() -> int:
    return len(list(OPEN_FILES.iterdir())) if OPEN_FILES.is_dir() else 0
