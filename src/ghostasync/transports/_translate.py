"""
The translation of errors of asyncssh and of the network into this project's errors.

*retriable* marks an error that may pass by itself, *denied* a login that was refused.
Text without a mark is final: the same attempt would fail the same way.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
from typing import Final

import asyncssh

from ..errors import Unreachable
from ..model import Host
from ._endpoint import Endpoint
from ._heard import Heard
from ._stream import Stream
from ._trust import REVOKED, Trust

__all__ = [
    "HungUp",
    "TryLater",
    "behind",
    "not_forwarded",
    "not_greeted",
    "not_opened",
    "one_line",
    "still_silent",
    "unreachable",
]

_THROTTLED: Final = re.compile(
    "_exchange_identification:|banner exchange|Connection (closed|reset) by"
)
"""What ssh says, as a proxy command, where a server dropped it before its greeting."""

_CHATTER: Final = ("Warning: ", "** ", "debug")
"""How lines of ssh begin that are no reasons."""

_NO_MATCH: Final = re.compile(
    r"No matching (.+) algorithm found, sent (\S+) and received (\S+)"
)
_KEYWORDS: Final = {
    "key exchange": "KexAlgorithms",
    "encryption": "Ciphers",
    "MAC": "MACs",
    "compression": "Compression",
}
_NO_ALGORITHM: Final = ("ext-info-", "kex-strict-")
_SHOWN: Final = 4


class TryLater(Unreachable):
    """
    The stream ended before a login began: another try does no harm.

    *tries* bounds the further ones; by default there are as many as there are pauses.
    """

    tries = -1

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


class ProxyEnded(TryLater):
    """A proxy command failed without a word: its server may have hung up on it."""

    tries = 2


def not_greeted(host: str, stream: Stream) -> Exception:
    """Return the error of a *stream* that ended before the server's version line."""
    if stream.early.startswith("HTTP/"):
        return ConnectionError(f"a web server answers, and no sshd: {stream.early}")
    said = _said(stream)
    if stream.exited <= 0:
        return HungUp(host, stream.early or "; ".join(said[-2:]))
    text = f"the proxy command exited {stream.exited}"
    reasons = [line for line in said if not _THROTTLED.search(line)]
    # ssh may have been dropped as one of many that came together; for all else that it
    # says, another try would end the same way.
    if reasons:
        return ConnectionError(f"{text}: {'; '.join(reasons[-2:])}")
    return HungUp(host, f"{text}: {said[-1]}") if said else ProxyEnded(host, text)


def still_silent(stream: Stream) -> TimeoutError:
    """Return the error of a *stream* on which no version line has come for too long."""
    if stream.early:
        return TimeoutError(f"; it says: {stream.early}")
    # It may wait for somebody to log in with a browser.
    said = "; ".join(_said(stream)[-2:])
    return TimeoutError(f"; the proxy command says: {said}" if said else "")


def _said(stream: Stream) -> list[str]:
    """Return what a proxy command has written to stderr, without chatter."""
    lines = [" ".join(line.split()) for line in stream.said.splitlines()]
    return [line for line in lines if line and not line.startswith(_CHATTER)]


def unreachable(
    host: Host,
    endpoint: Endpoint,
    trust: Trust,
    exc: Exception,
    heard: Heard,
) -> Unreachable:
    """Return the error of *host*: the cause in one line, and the cure."""
    error = _unreachable(host, endpoint, trust, exc, heard)
    if not heard.banner:
        return error
    return Unreachable(
        host.name,
        f"{error}; the server says: {heard.banner}",
        retriable=error.retriable,
        denied=error.denied,
    )


def _unreachable(
    host: Host, endpoint: Endpoint, trust: Trust, exc: Exception, heard: Heard
) -> Unreachable:
    where = endpoint.address_and_port
    match exc:
        case asyncssh.PermissionDenied():
            text = _wants_more(endpoint, heard) or _refused(endpoint, heard)
            # A server that takes keys as well is asked for one by who has no ticket.
            if heard.no_ticket and (endpoint.gssapi or not heard.takes_keys):
                text = f"{text}; {heard.no_ticket}"
            return Unreachable(host.name, text, denied=True)
        # sshd counts every key of an agent as a try and hangs up after MaxAuthTries, 6
        # by default; asyncssh reports that as an error of the protocol.
        case asyncssh.ProtocolError() if "authentication failures" in exc.reason:
            text = (
                f"{_refused(endpoint, heard)}; {one_line(exc)}: name one key as "
                "ssh.identity"
            )
            return Unreachable(host.name, text, denied=True)
        case asyncssh.HostKeyNotVerifiable():
            text = _wrong_key(endpoint, trust, exc.reason)
        case asyncssh.KeyExchangeFailed():
            text = _nothing_in_common(one_line(exc))
        case asyncssh.ConnectionLost():
            text = f"{where} closed the connection during login"
            return Unreachable(host.name, text, retriable=True)
        case TimeoutError():
            text = _too_late(where, heard) + ("" if exc.errno else str(exc))
            return Unreachable(host.name, text, retriable=True)
        # gaierror is an OSError too, so its case comes before that of the network.
        case socket.gaierror():
            text = f"no such host: {endpoint.address} ({exc.strerror})"
        case OSError():
            text = f"{where}: {_network(exc)}"
            return Unreachable(host.name, text, retriable=True)
        case _:
            text = one_line(exc)
    return Unreachable(host.name, text)


def behind(host: Host, exc: Unreachable) -> Unreachable:
    """Return the error of *host* whose jump host could not be used."""
    text = f"jump host {exc.host}: {exc}"
    # Only a jump host that died is worth another try for this host at once. HungUp is a
    # TryLater as well, but the jump host's own tries have been used up by then.
    if type(exc) is TryLater:
        return TryLater(host.name, text)
    return Unreachable(host.name, text, retriable=exc.retriable, denied=exc.denied)


def not_forwarded(host: str, endpoint: Endpoint, exc: Exception) -> Exception:
    """Return the error of a jump host *host* that opened no channel to *endpoint*."""
    text = f"jump host {host}: {one_line(exc)}"
    code = exc.code if isinstance(exc, asyncssh.ChannelOpenError) else None
    # A bastion that may not forward needs its configuration changed; any other code is
    # about the host behind it, and reads as an error of the network.
    if code != asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return ConnectionError(text)
    return Unreachable(
        host,
        f"{text}: its sshd_config has to allow {endpoint.address_and_port} "
        "(AllowTcpForwarding, PermitOpen)",
    )


def not_opened(exc: Exception) -> str:
    """Return why a connection that lives took no further command."""
    if not isinstance(exc, asyncssh.ChannelOpenError):
        return one_line(exc)
    # A run holds the lock by one command while it gives others, and asks a host that
    # hangs who it is by a third.
    return (
        f"{one_line(exc)}: sshd takes no more commands on one connection: set "
        "MaxSessions in its sshd_config to 10, as it is by default"
    )


def one_line(exc: Exception) -> str:
    """Return the text of *exc*, never empty, as one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


def _too_late(where: str, heard: Heard) -> str:
    if heard.signing:
        return (
            f"the agent has not signed with {heard.signing} within the time for a "
            f"login to {where}: it waits for a touch, or for somebody to confirm"
        )
    return f"{where} did not answer or let us in within the time for a login"


def _wants_more(endpoint: Endpoint, heard: Heard) -> str:
    """Return which other way to log in the server insists on; empty where on none."""
    others = " or ".join(heard.others)
    user = f"user {endpoint.user}"
    if heard.accepted:
        return (
            f"the key of {user} is accepted, but the server also wants {others}, and "
            "nobody is asked here: set AuthenticationMethods publickey for that user "
            "in its sshd_config"
        )
    if others and not heard.takes_keys:
        return (
            f"login refused for {user}: the server takes no keys, only {others}, and "
            "nobody is asked here: set PubkeyAuthentication yes in its sshd_config"
        )
    return ""


def _nothing_in_common(reason: str) -> str:
    """Return asyncssh's *reason* with its lists cut short."""
    found = _NO_MATCH.search(reason)
    if found is None:
        return f"no algorithm in common: {reason}"
    kind, ours, theirs = found.groups()
    return (
        f"no {kind} algorithm in common: the server has {_some(theirs)}, and this side "
        f"{_some(ours)}: see {_KEYWORDS.get(kind, 'HostKeyAlgorithms')} in its "
        "sshd_config, or renew its sshd"
    )


def _some(names: str) -> str:
    """Return the first of a list of algorithms."""
    every = [name for name in names.split(",") if not name.startswith(_NO_ALGORITHM)]
    return ", ".join(every[:_SHOWN]) + (" …" if every[_SHOWN:] else "")


def _refused(endpoint: Endpoint, heard: Heard) -> str:
    refused = f"login refused for user {endpoint.user} (publickey)"
    keys = endpoint.keys
    if heard.unsigned:
        return (
            f"{refused}: the agent would not sign with {heard.unsigned}: somebody has "
            "said no, or it is bound to hosts (ssh-add -h), which takes ssh itself"
        )
    # Where the only key is locked, the agent was asked and did not have it: a look into
    # authorized_keys would lead astray.
    if keys.locked and not keys.any_read:
        key = keys.locked[0]
        cure = f"so the agent has to have it: ssh-add {key}"
        return f"{refused}: {key} has a passphrase, {cure}"
    if heard.flaw:
        return f"{refused}: {heard.flaw}"
    if keys.loose:
        return f"{refused}; {keys.loose[0]}"
    if heard.keyless:
        cure = f"name a file as ssh.identity, or ssh-add one to the agent{heard.away}"
        return f"{refused}: there is no key to offer: {cure}"
    offered = "the key" if keys.any_read else "a key"
    if keys.agent:
        offered = "the key or one" if keys.any_read else "a key"
        offered = f"{offered} of the agent"
    key = f"-i {shlex.quote(endpoint.identity)} " if endpoint.identity else ""
    return (
        f"{refused}: is {offered} in authorized_keys there? "
        f"ssh -v {key}{_way(endpoint)}-p {endpoint.port} "
        f"{endpoint.user}@{endpoint.address}"
    )


def _way(endpoint: Endpoint) -> str:
    """Return the options by which ssh goes the way to *endpoint*, and a blank."""
    if endpoint.jump:
        return f"-J {shlex.quote(endpoint.jump)} "
    command = shlex.join(endpoint.proxy_command).replace("%", "%%")
    return f"-o ProxyCommand={shlex.quote(command)} " if command else ""


def _learn(endpoint: Endpoint, file: str) -> str:
    """Return the command that adds the host keys of *endpoint* to *file*."""
    # ssh-keyscan itself goes through no jump host, and by no command.
    if endpoint.proxy_command:
        alias = f"-o HostKeyAlias={endpoint.alias} " if endpoint.alias else ""
        where = f"-p {endpoint.port} {endpoint.user}@{endpoint.address}"
        return f"ssh {_way(endpoint)}{alias}-o UserKnownHostsFile={file} {where}"
    scan = f"ssh-keyscan -p {endpoint.port} {endpoint.address}"
    before, _, last = endpoint.jump.rpartition(",")
    if last:
        way = f"-J {shlex.quote(before)} " if before else ""
        last = f"ssh://{last}" if re.search(r"(^[^:]*|\]):\d+$", last) else last
        scan = f"ssh {way}{shlex.quote(last)} {scan}"
    renamed = f" | sed 's/^[^ ]*/{endpoint.known_as}/'" if endpoint.alias else ""
    return f"{scan}{renamed} >> {file}"


def _wrong_key(endpoint: Endpoint, trust: Trust, reason: str) -> str:
    # Whoever has the key of a server that was broken into can answer as that server, so
    # nothing that makes ssh believe the key is an advice.
    if REVOKED in reason:
        return (
            f"{endpoint.address_and_port} shows a key that known_hosts revokes for "
            f"{endpoint.known_as}: whoever answers there may not be that host"
        )
    file = shlex.quote(str(trust.path))
    # A known host with another key is a warning sign, an unknown host is not: only for
    # the latter is accepting a new key an advice.
    if trust.knows(endpoint) or "another run" in reason:
        return (
            f"the host key of {endpoint.known_as} does not match known_hosts "
            f"({reason}): if the host was replaced, "
            f"ssh-keygen -R '{endpoint.known_as}' -f {file}"
        )
    if flaw := trust.flaw(endpoint):
        return (
            f"the host key of {endpoint.known_as} is unknown, and its certificate does "
            f"not count ({flaw}): renew HostCertificate of its sshd_config, with "
            "ssh-keygen -h -s"
        )
    if endpoint.host_keys:
        return (
            f"the host key of {endpoint.known_as} is none of those that its inventory "
            f"names: look who answers at {endpoint.address_and_port}"
        )
    return (
        f"the host key of {endpoint.known_as} is unknown: {_learn(endpoint, file)}, "
        'or ssh.host_keys = "accept-new"'
    )


def _network(exc: OSError) -> str:
    return os.strerror(exc.errno).lower() if exc.errno else one_line(exc)
