"""
Logins by a Kerberos ticket: GSSAPI, where ssh's configuration has it.

asyncssh does it, with the module ``gssapi``, which the extra of that name installs.
Here is told why it did not work.

Rule: the host's key is looked at all the same. A key exchange by GSSAPI, which does
without one, is not offered.
"""

from __future__ import annotations

import importlib

from ._endpoint import Endpoint

__all__ = ["why_not"]


def why_not(endpoint: Endpoint) -> str:
    """Return why no ticket opened the door; blocks, as the KDC is asked for one."""
    try:
        gssapi = importlib.import_module("gssapi")
    except ImportError:
        return "to log in by a Kerberos ticket: pip install 'ghostasync[gssapi]'"
    if not endpoint.gssapi:
        return "set GSSAPIAuthentication yes in ~/.ssh/config to log in by a ticket"
    service = f"host@{endpoint.address}"
    try:
        name = gssapi.Name(service, gssapi.NameType.hostbased_service)
        gssapi.SecurityContext(name=name, usage="initiate").step()
    except gssapi.exceptions.GSSError as exc:
        # Codes and general words come first, what happened last.
        reason = " ".join(str(exc).split()).rpartition("): ")[2]
        return f"no Kerberos ticket for {endpoint.address}: {reason} (klist, kinit)"
    return f"{service} did not take the Kerberos ticket: see .k5login of that user"
