"""
The way into each host, as the plan says, or else ``~/.ssh/config``.

Keys are parsed once per transport and shared: a path handed to asyncssh would be read
and decrypted again for every connection.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import asyncssh
import attrs

from .._local.owners import trespass
from ..errors import ConfigError
from ..model import Host, Ssh
from ._endpoint import DEFAULT_PORT, Endpoint, Keys
from ._files import unusable
from ._keys import KeyRing

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
        self._config = _existing(settings.config)
        self._ring = KeyRing(environ.get("SSH_AUTH_SOCK", ""))
        chosen = settings.identity
        self._identity = str(Path(chosen).expanduser()) if chosen else ""
        try:
            own = (
                self._ring.chosen(settings.identity)
                if settings.identity
                else self._ring.defaults()
            )
        except (OSError, ValueError) as exc:
            wrong = unusable(exc, self._identity)
            raise ConfigError([f"ssh.identity: {wrong}"]) from exc
        self._own = own

    @property
    def reads_files(self) -> bool:
        """Whether :meth:`endpoint` reads files, and so belongs in a thread."""
        return self._config is not None

    def endpoint(self, host: Host, jump: str | None = None) -> Endpoint:
        """
        Return the way to *host*, and the keys it is offered.

        *jump* is given for a jump host: the hops before it, empty for none.

        Raises:
            ValueError: ``~/.ssh/config``, or a key that it names, is wrong.
            OSError: One of these files cannot be read.
        """
        settings = self._settings
        command = shlex.split(settings.proxy_command) if jump is None else ()
        asked = Endpoint(
            address=host.address or host.name,
            port=host.port or settings.port,
            user=host.user or settings.user,
            jump=settings.jump if jump is None else jump,
            proxy_command=tuple(command),
            alias=host.host_key_alias or None,
            host_keys=host.host_keys,
            keys=self._own,
            identity=self._identity,
        )
        if self._config is not None:
            # A port of 22 may be the default of ssh.port and not a wish, so
            # ~/.ssh/config may say another.
            port = host.port or (settings.port if settings.port != DEFAULT_PORT else 0)
            asked = self._configured(asked, port, self._config, hop=jump is not None)
            # The hops of a jump host are known already: they were given as *jump*.
            if jump is None:
                asked = attrs.evolve(asked, jump=self._chain(asked.jump, self._config))
        if not asked.user:
            asked = attrs.evolve(asked, user=_user())
        # asyncssh has filled in the tokens of a command in ~/.ssh/config.
        if settings.proxy_command:
            return attrs.evolve(asked, proxy_command=_filled(asked))
        return asked

    def _configured(
        self, asked: Endpoint, port: int, config: Path, *, hop: bool
    ) -> Endpoint:
        """Fill in from ``~/.ssh/config`` what the plan leaves open."""
        options = asyncssh.SSHClientConnectionOptions(
            host=asked.address,
            # An empty tuple is asyncssh's word for "not given"; the file decides then.
            port=port or (),
            username=asked.user or (),
            # A hop without hops before it is reached directly, whatever the file says:
            # the chain was worked out for the host behind it.
            tunnel=asked.jump or (None if hop else ()),
            proxy_command=asked.proxy_command or (),
            config=[str(config)],
            client_keys=None,
            known_hosts=None,
            x509_trusted_certs=None,
        )
        endpoint = attrs.evolve(
            asked,
            address=options.host,
            port=options.port,
            user=options.username,
            jump=_unless_none(options.tunnel),
            proxy_command=asked.proxy_command or tuple(options.proxy_command or ()),
            alias=asked.alias or options.host_key_alias,
        )
        # An identity of the plan is the one key that is offered.
        if self._settings.identity:
            return endpoint
        return attrs.evolve(endpoint, keys=self._keys(options))

    def _keys(self, options: asyncssh.SSHClientConnectionOptions) -> Keys:
        # ssh_config(5): IdentityAgent SSH_AUTH_SOCK means the agent of the environment,
        # "none" (which asyncssh gives as None) means no agent.
        setting = options.config.get("IdentityAgent", "SSH_AUTH_SOCK")
        agent = self._own.agent if setting == "SSH_AUTH_SOCK" else str(setting or "")
        exclusive = bool(options.config.get("IdentitiesOnly"))
        paths = options.config.get("IdentityFile")
        if isinstance(paths, list) and paths:
            return self._ring.named([*map(str, paths)], agent, exclusive=exclusive)
        # Without names, IdentitiesOnly means ssh's default keys and no agent.
        return attrs.evolve(self._own, agent="" if exclusive else agent)

    def _chain(self, jump: str, config: Path) -> str:
        """Return *jump* with the jump hosts that its first one is reached through."""
        chain = jump
        while chain:
            options = asyncssh.SSHClientConnectionOptions(
                host=hop(chain.split(",")[0]).address,
                config=[str(config)],
                client_keys=None,
                known_hosts=None,
                x509_trusted_certs=None,
            )
            before = _unless_none(options.tunnel)
            # "Host *" with a ProxyJump names the bastion of all hosts, the bastion
            # itself included: a hop that is in the chain already ends it.
            if not before or _addresses(before) & _addresses(chain):
                break
            chain = f"{before},{chain}"
        return chain


def hop(text: str) -> Host:
    """Read one jump host: ``[user@]address[:port]``."""
    user, _, place = text.strip().rpartition("@")
    address, _, port = place.rpartition(":")
    bare = address.count(":") > 0 and not address.endswith("]")
    if not address or not port.isdigit() or bare:
        address, port = place, ""  # no port; a bare IPv6 address is all colons
    return Host(text.strip(), address.strip("[]"), int(port or 0), user)


def _addresses(chain: str) -> set[str]:
    return {hop(text).address for text in chain.split(",")}


def _existing(config: str | bool) -> Path | None:
    if config is False:
        return None
    path = Path("~/.ssh/config" if config is True else config).expanduser()
    if not path.is_file():
        return None
    # It may name a command, as the configuration itself does; ssh refuses it as well.
    if why := trespass(path):
        raise ConfigError([f"ssh.config: {why}"])
    return path


def _unless_none(jump: object) -> str:
    return jump if isinstance(jump, str) and jump.lower() != "none" else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:
        raise ValueError("who runs this has no name here: set ssh.user") from exc


def _filled(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the proxy command with the tokens of ssh_config(5) filled in."""
    values = {"%%": "%", "%h": endpoint.address, "%p": str(endpoint.port)}
    values |= {"%r": endpoint.user, "%n": endpoint.address}
    # The command is split into words before: whatever a value holds, it makes no word.
    return tuple(
        re.sub("%[%hprn]", lambda token: values[token.group()], word)
        for word in endpoint.proxy_command
    )
