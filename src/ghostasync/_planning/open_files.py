"""How many files a run has open at once, and whether this process may."""

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
"""Two pipes for each proxy command, and what tells of its end."""

OPEN_FILES: Final = Path("/dev/fd")


def needed(ssh: Ssh, connections: int) -> int:
    """
    Return how many files *connections* to hosts at once take.

    A ``jump`` host has one socket for all that are behind it. What ``~/.ssh/config``
    says of single hosts is not looked at.
    """
    each = PROXIED if ssh.proxy_command else 0 if ssh.jump else 1
    return connections * each + SPARE


def require(ssh: Ssh, connections: int) -> None:
    """
    Refuse what would run out of open files half way.

    Raises:
        PlanError: The limit of this process is too low; says what to set.
    """
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
