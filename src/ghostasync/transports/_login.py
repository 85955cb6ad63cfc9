"""
Who logs in where: the plan, and what ``~/.ssh/config`` says where the plan does not.

All is parsed once per transport and shared: a path handed to asyncssh would be read
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

from ..errors import ConfigError
from ..model import Host, Ssh
from ._endpoint import DEFAULT_PORT, Endpoint, Keys
from ._files import unusable
from ._keys import KeyRing

__all__ = ["Login", "hop"]


class Login:
    """Finds out, for each host, who logs in where; *environ* names the agent."""

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
        """Whether :meth:`target` reads files, and so belongs in a thread."""
        return self._config is not None

    def target(self, host: Host, jump: str | None = None) -> Endpoint:
        """
        Return where *host* is; *jump* is given for a jump host: what comes before it.

        Raises:
            ValueError: ``~/.ssh/config``, or a key that it names, is wrong.
            OSError: It cannot be read.
        """
        settings = self._settings
        asked = Endpoint(
            address=host.address or host.name,
            port=host.port or settings.port,
            user=host.user or settings.user,
            jump=settings.jump if jump is None else jump,
            proxy_command=settings.proxy_command if jump is None else "",
            keys=self._own,
            identity=self._identity,
        )
        if self._config is not None:
            # 22 may be the default, so ~/.ssh/config may say another port.
            port = host.port or (settings.port if settings.port != DEFAULT_PORT else 0)
            asked = self._configured(asked, port, self._config, hop=jump is not None)
            if jump is None:
                asked = attrs.evolve(asked, jump=self._chain(asked.jump, self._config))
        if not asked.user:
            asked = attrs.evolve(asked, user=_user())
        return attrs.evolve(asked, proxy_command=_filled(asked))

    def _configured(
        self, asked: Endpoint, port: int, config: Path, *, hop: bool
    ) -> Endpoint:
        """Fill in what ``~/.ssh/config`` says and the plan does not."""
        found = asyncssh.SSHClientConnectionOptions(
            host=asked.address,
            port=port or (),
            username=asked.user or (),
            tunnel=asked.jump or (None if hop else ()),
            proxy_command=asked.proxy_command or (),
            config=[str(config)],
            client_keys=None,
            known_hosts=None,
            x509_trusted_certs=None,
        )
        target = attrs.evolve(
            asked,
            address=found.host,
            port=found.port,
            user=found.username,
            jump=_unless_none(found.tunnel),
            proxy_command=asked.proxy_command or shlex.join(found.proxy_command or ()),
            alias=found.host_key_alias,
        )
        if self._settings.identity:
            return target
        return attrs.evolve(target, keys=self._keys(found))

    def _keys(self, found: asyncssh.SSHClientConnectionOptions) -> Keys:
        said = found.config.get("IdentityAgent", "SSH_AUTH_SOCK")
        agent = self._own.agent if said == "SSH_AUTH_SOCK" else str(said or "")
        exclusive = bool(found.config.get("IdentitiesOnly"))
        paths = found.config.get("IdentityFile")
        if isinstance(paths, list) and paths:
            return self._ring.named([*map(str, paths)], agent, exclusive=exclusive)
        return attrs.evolve(self._own, agent="" if exclusive else agent)

    def _chain(self, jump: str, config: Path) -> str:
        """Return *jump* with the jump hosts that its first one is reached through."""
        chain = jump
        while chain:
            found = asyncssh.SSHClientConnectionOptions(
                host=hop(chain.split(",")[0]).address,
                config=[str(config)],
                client_keys=None,
                known_hosts=None,
                x509_trusted_certs=None,
            )
            before = _unless_none(found.tunnel)
            # "Host *" names the bastion of all hosts, itself among them.
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
    return path if path.is_file() else None


def _unless_none(jump: object) -> str:
    return jump if isinstance(jump, str) and jump.lower() != "none" else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:
        raise ValueError("who runs this has no name here: set ssh.user") from exc


def _filled(target: Endpoint) -> str:
    """Fill in the tokens that ssh knows in a proxy command."""
    values = {"%%": "%", "%h": target.address, "%p": str(target.port)}
    values |= {"%r": target.user, "%n": target.address}
    return re.sub("%[%hprn]", lambda token: values[token.group()], target.proxy_command)
