"""The one place where errors of asyncssh and of the network become ours."""

from __future__ import annotations

import os
import socket

import asyncssh

from ..errors import Unreachable
from ..model import Host
from ._login import Target, Trust

__all__ = ["HungUp", "one_line", "unreachable"]


class HungUp(Unreachable):
    """The server closed before its version line: too many logins, or a penalty."""

    def __init__(self, host: str, said: str) -> None:
        why = f" ({said})" if said else ""
        super().__init__(
            host,
            f"hung up before its version line{why}: sshd's MaxStartups or "
            "PerSourcePenalties may be too low for ssh.connects",
            retriable=True,
        )


def unreachable(
    host: Host,
    target: Target,
    trust: Trust,
    exc: Exception,
) -> Unreachable:
    """Say in one line what kept us from *host*, and what to do about it."""
    where = f"{target.address}:{target.port}"
    match exc:
        case asyncssh.PermissionDenied():
            text = _refused(target)
        case asyncssh.HostKeyNotVerifiable():
            text = _wrong_key(target, trust, exc.reason)
        case asyncssh.KeyExchangeFailed():
            text = f"no algorithm in common: {one_line(exc)}"
        case asyncssh.ConnectionLost():
            text = f"{where} closed the connection during login"
            return Unreachable(host.name, text, retriable=True)
        case TimeoutError():
            text = f"{where} did not answer or let us in within the time for a login"
            return Unreachable(host.name, text, retriable=True)
        case socket.gaierror():
            text = f"no such host: {target.address} ({exc.strerror})"
        case OSError():
            text = f"{where}: {_network(exc)}"
            return Unreachable(host.name, text, retriable=True)
        case _:
            text = one_line(exc)
    return Unreachable(host.name, text)


def one_line(exc: Exception) -> str:
    """Return the text of *exc*, never empty, as one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


def _refused(target: Target) -> str:
    offered = "the key" if target.identities else "a key"
    if target.agent:
        offered = "a key of the agent"
    return (
        f"login refused for user {target.user} (publickey): is {offered} in "
        f"authorized_keys there? ssh -v -p {target.port} {target.user}@{target.address}"
    )


def _wrong_key(target: Target, trust: Trust, reason: str) -> str:
    if trust.knows(target):
        return (
            f"the host key of {target.known_as} does not match known_hosts ({reason}): "
            f"if the host was replaced, ssh-keygen -R '{target.known_as}'"
        )
    return (
        f"the host key of {target.known_as} is unknown: ssh-keyscan -p {target.port} "
        f'{target.address} >> known_hosts, or ssh.host_keys = "accept-new"'
    )


def _network(exc: OSError) -> str:
    return os.strerror(exc.errno).lower() if exc.errno else one_line(exc)
