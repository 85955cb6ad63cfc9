"""The one place where errors of asyncssh and of the network become ours."""

from __future__ import annotations

import os
import shlex
import socket

import asyncssh

from ..errors import Unreachable
from ..model import Host
from ._endpoint import Endpoint
from ._trust import Trust

__all__ = ["HungUp", "TryLater", "behind", "not_forwarded", "one_line", "unreachable"]


class TryLater(Unreachable):
    """The road ended before we had said who we are: another try does no harm."""

    def __init__(self, host: str, text: str) -> None:
        super().__init__(host, text, retriable=True)


class HungUp(TryLater):
    """The server closed before its version line: too many logins, or a penalty."""

    def __init__(self, host: str, said: str) -> None:
        why = f" ({said})" if said else ""
        super().__init__(
            host,
            f"hung up before its version line{why}: sshd's MaxStartups or "
            "PerSourcePenalties may be too low for ssh.connects",
        )


def unreachable(
    host: Host,
    target: Endpoint,
    trust: Trust,
    exc: Exception,
) -> Unreachable:
    """Say in one line what kept us from *host*, and what to do about it."""
    where = target.place
    match exc:
        case asyncssh.PermissionDenied():
            return Unreachable(host.name, _refused(target), denied=True)
        case asyncssh.ProtocolError() if "authentication failures" in exc.reason:
            text = f"{_refused(target)}; {one_line(exc)}: name one key as ssh.identity"
            return Unreachable(host.name, text, denied=True)
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


def behind(host: Host, exc: Unreachable) -> Unreachable:
    """Say of *host* what kept us from its jump host."""
    text = f"jump host {exc.host}: {exc}"
    if type(exc) is TryLater:
        return TryLater(host.name, text)
    return Unreachable(host.name, text, retriable=exc.retriable, denied=exc.denied)


def not_forwarded(host: str, target: Endpoint, exc: Exception) -> Exception:
    """Say why the jump host *host* opened no road to *target*."""
    text = f"jump host {host}: {one_line(exc)}"
    code = exc.code if isinstance(exc, asyncssh.ChannelOpenError) else None
    if code != asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return ConnectionError(text)
    return Unreachable(
        host,
        f"{text}: its sshd_config has to allow {target.place} (AllowTcpForwarding, "
        "PermitOpen)",
    )


def one_line(exc: Exception) -> str:
    """Return the text of *exc*, never empty, as one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


def _refused(target: Endpoint) -> str:
    keys = target.keys
    if keys.locked and not keys.own:
        key = keys.locked[0]
        return (
            f"login refused for user {target.user} (publickey): {key} has a "
            f"passphrase, so the agent has to have it: ssh-add {key}"
        )
    offered = "the key" if keys.own else "a key"
    if keys.agent:
        offered = "a key of the agent"
    key = f"-i {shlex.quote(target.identity)} " if target.identity else ""
    return (
        f"login refused for user {target.user} (publickey): is {offered} in "
        f"authorized_keys there? ssh -v {key}-p {target.port} "
        f"{target.user}@{target.address}"
    )


def _wrong_key(target: Endpoint, trust: Trust, reason: str) -> str:
    file = shlex.quote(str(trust.path))
    if trust.knows(target) or "another run" in reason:
        return (
            f"the host key of {target.known_as} does not match known_hosts ({reason}): "
            f"if the host was replaced, ssh-keygen -R '{target.known_as}' "
            f"-f {file}"
        )
    return (
        f"the host key of {target.known_as} is unknown: ssh-keyscan -p {target.port} "
        f'{target.address} >> {file}, or ssh.host_keys = "accept-new"'
    )


def _network(exc: OSError) -> str:
    return os.strerror(exc.errno).lower() if exc.errno else one_line(exc)
