"""
The way into each host, as the plan says, or else as ssh would go.

A way is worked out once and kept: the connection that is opened again in the middle of
a run takes the way that led to the host before, whatever has become of the files. Keys
are parsed once per transport and shared: a path handed to asyncssh would be read and
decrypted again for every connection.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import attrs

from ..errors import ConfigError
from ..model import Host, Ssh
from ._config_file import home, local_user
from ._endpoint import DEFAULT_PORT, Endpoint, Keys
from ._files import expanded, unusable
from ._keys import DEFAULT_KEYS, KeyNames, KeyRing
from ._ssh_config import Answer, Asked, SshConfig
from ._tokens import fill, fill_with_environment, shell_safe

__all__ = ["Login", "hop"]


class Login:
    """
    The logins of one transport, worked out host by host; *environ* names the agent.

    Raises:
        ConfigError: The identity cannot be read, is locked without an agent, or can be
            read by others; or others can change ``~/.ssh/config``.
    """

    def __init__(self, settings: Ssh, environ: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._environ = environ
        self._config = SshConfig.found(settings.config, environ)
        self._ring = KeyRing()
        self._agent = environ.get("SSH_AUTH_SOCK", "")
        self._hops = [hop(text).name for text in settings.jump.split(",")]
        self._ways: dict[_Asker, tuple[Endpoint, KeyNames | None]] = {}
        chosen = settings.identity
        self._identity = str(expanded(chosen)) if chosen else ""
        try:
            self._keys(None if chosen else KeyNames(agent=self._agent))
        except (OSError, ValueError) as exc:
            wrong = unusable(exc, self._identity)
            raise ConfigError([f"ssh.identity: {wrong}"]) from exc

    @property
    def reads_files(self) -> bool:
        """Whether :meth:`endpoint` asks ssh or reads files: it belongs in a thread."""
        return self._config is not None

    def stop(self) -> None:
        """End what is still asked."""
        if self._config is not None:
            self._config.stop()

    def endpoint(self, host: Host, jump: str | None = None) -> Endpoint:
        """
        Return the way to *host*, and the keys it is offered.

        *jump* is given for a jump host: the hops before it, empty for none.

        Raises:
            ValueError: The configuration of ssh, or a key that it names, is wrong.
            OSError: One of these files cannot be read.
        """
        asker = _Asker(host.name, host.address, host.port, host.user, jump)
        if asker not in self._ways:
            self._ways[asker] = self._worked_out(host, jump)
        endpoint, names = self._ways[asker]
        return attrs.evolve(
            endpoint,
            alias=host.host_key_alias or endpoint.alias,
            host_keys=host.host_keys,
            keys=self._keys(names),
        )

    def _keys(self, names: KeyNames | None) -> Keys:
        if names is None:
            return self._ring.chosen(self._identity, self._agent)
        return self._ring.keys(names)

    def _worked_out(
        self, host: Host, jump: str | None
    ) -> tuple[Endpoint, KeyNames | None]:
        """Return the way to *host*, and its keys; None for the identity alone."""
        settings = self._settings
        is_hop = jump is not None
        asked = self._asked(host, is_hop=is_hop)
        answer = self._ask(asked)
        values = _values(asked, answer)
        if jump is None:
            jump = settings.jump
            if not jump and not settings.proxy_command:
                jump = fill(answer.jump, values)
            jump = self._chain(jump)
            command = shlex.split(settings.proxy_command)
        else:
            command = []
        # The command is split into words before: whatever a value holds, it makes none.
        words = tuple(fill(word, values) for word in command)
        # As with ssh, hops that are given rule out a command of the configuration.
        if not words and not jump and answer.proxy_command:
            words = self._by_shell(answer.proxy_command, values)
        elif jump and (shared := self._shared(jump, answer)):
            # Somebody has a connection to the jump host, which may have taken a second
            # factor: ssh leads through it.
            jump, words = "", shared
        endpoint = Endpoint(
            address=answer.hostname,
            port=answer.port,
            user=answer.user,
            jump=jump,
            proxy_command=words,
            alias=answer.alias or None,
            identity=self._identity,
            family=answer.family,
            gssapi=answer.gssapi,
            delegates=answer.delegates,
        )
        # An identity of the plan is the one key that a host is offered. ssh tells
        # nothing of it to a jump host, which may know others alone.
        if self._identity and not is_hop:
            return endpoint, None
        return endpoint, self._names(answer, values)

    def _asked(self, host: Host, *, is_hop: bool) -> Asked:
        settings = self._settings
        user, port = host.user, host.port
        # ssh gives a jump host nothing of what it was told about the host behind it. A
        # hop of the plan has the user of the plan.
        if not user and (not is_hop or host.name in self._hops):
            user = settings.user
        # A port of 22 may be the default of ssh.port and not a wish, so the
        # configuration may say another.
        if not port and not is_hop and settings.port != DEFAULT_PORT:
            port = settings.port
        return Asked(host.address or host.name, port, user)

    def _ask(self, asked: Asked) -> Answer:
        if self._config is not None:
            answer = self._config.ask(asked)
        else:
            port = asked.port or DEFAULT_PORT
            answer = Answer(asked.address, port, asked.user or local_user())
        if not answer.user:
            raise ValueError("who runs this has no name here: set ssh.user")
        return answer

    def _by_shell(self, command: str, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return a ProxyCommand as ssh runs it, which is by the user's shell."""
        shell = self._environ.get("SHELL") or "/bin/sh"
        used = {name: value for name, value in values.items() if f"%{name}" in command}
        shell_safe(used)
        return shell, "-c", f"exec {fill(command, values)}"

    def _chain(self, jump: str) -> str:
        """Return *jump* with the jump hosts that its first one is reached through."""
        chain = jump
        while chain and self._config is not None:
            asked = self._asked(hop(chain.partition(",")[0]), is_hop=True)
            answer = self._ask(asked)
            before = fill(answer.jump, _values(asked, answer))
            # "Host *" with a ProxyJump names the bastion of all hosts, the bastion
            # itself included: a hop that is in the chain already ends it.
            if not before or _addresses(before) & _addresses(chain):
                break
            chain = f"{before},{chain}"
        return chain

    def _shared(self, jump: str, answer: Answer) -> tuple[str, ...]:
        if self._config is None:
            return ()
        last = self._asked(hop(jump.rpartition(",")[2]), is_hop=True)
        return self._config.through(last, answer.hostname, answer.port)

    def _names(self, answer: Answer, values: Mapping[str, str]) -> KeyNames:
        """Return the names of the keys that *answer* has for a host."""

        def paths(texts: tuple[str, ...]) -> tuple[str, ...]:
            filled = (fill_with_environment(t, values, self._environ) for t in texts)
            return tuple(map(_at_home, filled))

        files = None if answer.identities is None else paths(answer.identities)
        if self._identity:
            usual = tuple(f"~/.ssh/{name}" for name in DEFAULT_KEYS)
            files = (self._identity, *(paths(usual) if files is None else files))
        agent = answer.agent
        if agent == "SSH_AUTH_SOCK":
            agent = self._agent
        elif agent == "none":
            agent = ""
        elif agent.startswith("$") and not agent.startswith("${"):
            agent = self._environ.get(agent[1:], "")
        else:
            (agent,) = paths((agent,))
        certificates = paths(answer.certificates)
        return KeyNames(files, certificates, agent, exclusive=answer.exclusive)


@attrs.frozen
class _Asker:
    """Of a host, what its way depends on."""

    name: str
    address: str
    port: int
    user: str
    jump: str | None


def hop(text: str) -> Host:
    """Read one jump host: ``[user@]address[:port]``, or that behind ``ssh://``."""
    name = text.strip()
    is_url = name.startswith("ssh://")
    user, _, place = name.removeprefix("ssh://").rstrip("/").rpartition("@")
    address, _, port = place.rpartition(":")
    bare = address.count(":") > 0 and not address.endswith("]")
    if not address or not port.isdigit() or bare:
        address, port = place, ""  # no port; a bare IPv6 address is all colons
    user = unquote(user) if is_url else user
    return Host(name, address.strip("[]"), int(port or 0), user)


def _addresses(chain: str) -> set[str]:
    return {hop(text).address for text in chain.split(",")}


def _at_home(path: str) -> str:
    """Return *path* with ``~`` as ssh has it or, if nothing is there, as HOME has."""
    own = str(home() / path[2:]) if path.startswith("~/") else path
    return own if Path(own).exists() else str(expanded(path))


def _values(asked: Asked, answer: Answer) -> dict[str, str]:
    """Return the values of ssh's tokens for a host."""
    here, user = socket.gethostname(), local_user()
    values = {"h": answer.hostname, "n": asked.address, "p": str(answer.port)}
    values |= {"r": answer.user, "k": answer.alias or asked.address}
    values |= {"j": answer.jump, "d": str(home()), "i": str(os.getuid()), "u": user}
    values |= {"l": here, "L": here.partition(".")[0]}
    parts = (here, answer.hostname, str(answer.port), answer.user, answer.jump)
    digest = hashlib.sha1("".join(parts).encode(errors="surrogateescape"))  # noqa: S324
    return values | {"C": digest.hexdigest()}
