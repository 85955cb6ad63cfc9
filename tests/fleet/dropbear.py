"""A real dropbear in the place of a host's sshd, as small devices have it."""

from __future__ import annotations

from typing import Final

import attrs

from ghostasync.model import Host
from tests.fleet.ports import reserve
from tests.fleet.sshd import SshdFleet

__all__ = ["DROPBEAR", "dropbear"]

DROPBEAR: Final = "/usr/sbin/dropbear"

# It ends with the host's namespaces. This one takes a wish for a kind of key that it
# does not have for a bug of its own, and dies: it is asked for the newest kind first.
START: Final = """\
dropbearkey -t ed25519 -f /srv/key >/dev/null 2>&1
dropbear -r /srv/key -p {address}:{port} -P /srv/pid -E \\
    </dev/null >/srv/dropbear.log 2>&1
"""


def dropbear(fleet: SshdFleet, name: str = "h1") -> Host:
    """Start one within a host's namespaces; return the host with the port of it."""
    (host,) = (host for host in fleet.hosts if host.name == name)
    with reserve(host.address) as held:
        port = held.getsockname()[1]
        # It binds before it goes to the background, so it listens when this returns.
        fleet.shell(name, START.format(address=host.address, port=port))
    return attrs.evolve(host, port=port)
