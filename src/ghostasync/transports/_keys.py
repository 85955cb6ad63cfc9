"""
The keys of this machine: read once, and left to the agent where they have a passphrase.

A deploy never prompts. A locked key is used by naming its public half to the agent;
what the agent lacks as well is an error that says what to type. A public key that is
named by itself is one that the agent has, as hardware keys are. A key that others can
read is left out, as ssh does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import asyncssh
import attrs
from asyncssh.public_key import CERT_TYPE_USER, SSHOpenSSHCertificate

from .._local.owners import readable
from ._endpoint import AgentKey, Keys, PrivateKey
from ._files import expanded, unusable

__all__ = ["DEFAULT_KEYS", "KeyNames", "KeyRing", "flaw"]

DEFAULT_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")


@attrs.frozen
class KeyNames:
    """
    The keys that a host is offered, by name.

    *files* are None for ssh's default keys; *agent* is a socket, *exclusive* keeps it
    from offering others than those that are named.
    """

    files: tuple[str, ...] | None = None
    certificates: tuple[str, ...] = ()
    agent: str = ""
    exclusive: bool = False


@attrs.frozen
class _Found:
    """
    What a file holds: a key, one that is *locked*, or *loose* for others to read.

    *error* is why it holds none.
    """

    offers: tuple[PrivateKey | AgentKey, ...] = ()
    locked: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()
    error: OSError | ValueError | None = None


class KeyRing:
    """The keys in files, and those of agents."""

    def __init__(self) -> None:
        self._read: dict[str, _Found] = {}  # by path

    def chosen(self, path: str, agent: str) -> Keys:
        """
        Return the key at *path*, and nothing else.

        Raises:
            OSError: The file cannot be read. ValueError: The file is no key, others can
            read it, or it has a passphrase and no agent can have it.
        """
        found = self.read(path)
        if found.loose:
            raise ValueError(found.loose[0])
        by_agent = any(isinstance(offer, AgentKey) for offer in found.offers)
        if found.locked and not (agent and by_agent):
            raise ValueError(_advice(path, agent))
        if by_agent and not agent:
            raise ValueError(_no_agent(path))
        # Asked without need, the agent would offer its own keys first, each a try
        # towards sshd's MaxAuthTries of 6.
        return Keys(found.offers, agent if by_agent else "", locked=found.locked)

    def keys(self, names: KeyNames) -> Keys:
        """
        Return the keys that *names* name; as with ssh, some may be missing or bad.

        Raises:
            ValueError: One is bad or locked, and nothing else is left to offer.
        """
        paths = names.files
        if paths is None:
            paths = tuple(f"~/.ssh/{name}" for name in DEFAULT_KEYS)
        found: list[_Found] = []
        bad: list[str] = []
        missing: list[str] = []
        for path in paths:
            try:
                found.append(self.read(path))
            except FileNotFoundError as exc:
                missing.append(unusable(exc, path))
            except (OSError, ValueError) as exc:
                bad.append(unusable(exc, path))
        offers = [offer for each in found for offer in each.offers]
        offers = [*_certified(names.certificates, offers, bad), *offers]
        if not names.agent:
            offers = [each for each in offers if not isinstance(each, AgentKey)]
        loose = tuple(why for each in found for why in each.loose)
        locked = tuple(path for each in found for path in each.locked)
        # Nobody asked for a default key by name: where it is locked or no key, the
        # others may still open the door.
        if names.files is None:
            bad, missing, locked = [], [], ()
        elif not offers and not (names.agent and not names.exclusive):
            self._explain(names, found, [*locked], bad)
        asked = bool(names.agent) and not names.exclusive
        by_agent = any(isinstance(offer, AgentKey) for offer in offers)
        named = names.files is not None or names.certificates
        return Keys(
            tuple(offers),
            names.agent if asked or by_agent else "",
            # As with ssh, what is named is offered before what the agent has besides.
            others=("last" if named else "first") if asked else "",
            locked=locked,
            loose=(*loose, *bad, *(() if offers else missing)),
        )

    def read(self, path: str) -> _Found:
        """Read a key and its certificate; of a locked key, its public half."""
        known = self._read.get(path)
        # Certificates of some minutes are made anew while a run is at work; where the
        # file is gone by then, what was read before is all there is.
        if known is None or any(map(_expired, known.offers)):
            found = _attempt(expanded(path))
            if known is None or found.error is None:
                known = self._read[path] = found
        if known.error is not None:
            raise known.error.with_traceback(None)
        return known

    def _explain(
        self,
        names: KeyNames,
        found: list[_Found],
        locked: list[str],
        bad: list[str],
    ) -> None:
        """Raise ValueError where a file tells why there is no key to offer."""
        if locked:
            raise ValueError(_advice(locked[0], names.agent))
        if bad:
            raise ValueError(bad[0])
        for path, each in zip(names.files or (), found, strict=False):
            if each.offers and not names.agent:
                raise ValueError(_no_agent(path))


def _certified(
    paths: Sequence[str], offers: list[PrivateKey | AgentKey], bad: list[str]
) -> Iterator[PrivateKey | AgentKey]:
    """Yield the certificates at *paths*, each with its key, be it the agent's."""
    keys = [offer[0] if isinstance(offer, tuple) else offer for offer in offers]
    for path in paths:
        try:
            certificate = asyncssh.read_certificate(expanded(path))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            bad.append(unusable(exc, path))
            continue
        public = certificate.key.public_data
        for key in keys:
            if isinstance(key, asyncssh.SSHKey) and key.public_data == public:
                yield key, certificate
                break
        else:
            yield AgentKey(public, certificate)


def _attempt(path: Path) -> _Found:
    try:
        return _read(path)
    except (OSError, ValueError) as exc:
        return _Found(error=exc)


def _read(path: Path) -> _Found:
    public = path.with_name(f"{path.name}.pub")
    try:
        key = asyncssh.read_private_key(path)
    except FileNotFoundError:
        # The public half alone names a key of the agent.
        if not public.exists():
            raise
        return _Found(tuple(_of_agent(public)))
    except asyncssh.KeyImportError as exc:
        # asyncssh has no class of its own for a key that lacks its passphrase.
        locked = str(exc).startswith("Passphrase")
        try:
            offers = tuple(_of_agent(public if locked else path))
        except (OSError, asyncssh.KeyImportError):
            offers = ()
        if not locked and not offers:
            raise
        return _Found(offers, locked=(str(path),) if locked else ())
    if why := readable(path):
        return _Found(loose=(why,))
    certificate = _beside(path)
    # What is in the file of a security key takes an agent to have it touched.
    if key.algorithm.startswith(b"sk-"):
        return _Found(tuple(_halves(key, certificate)))
    return _Found(((key, certificate) if certificate else key,))


def _of_agent(public: Path) -> Iterator[AgentKey]:
    """Yield the key whose public half this is, first with its certificate."""
    key = asyncssh.read_public_key(public)
    yield from _halves(key, _beside(public) or _beside(public.with_suffix("")))


def _halves(
    key: asyncssh.SSHKey, certificate: asyncssh.SSHCertificate | None
) -> Iterator[AgentKey]:
    if certificate:
        yield AgentKey(key.public_data, certificate)
    yield AgentKey(key.public_data)


def _beside(path: Path) -> asyncssh.SSHCertificate | None:
    # A certificate that is none, or not there, leaves the key as it is.
    with contextlib.suppress(OSError, asyncssh.KeyImportError):
        return asyncssh.read_certificate(f"{path}-cert.pub")
    return None


def _expired(offer: PrivateKey | AgentKey) -> bool:
    certificate = offer.certificate if isinstance(offer, AgentKey) else None
    if isinstance(offer, tuple):
        certificate = offer[1]
    return bool(certificate and flaw(certificate))


def flaw(certificate: asyncssh.SSHCertificate, user: str | None = None) -> str:
    """Return why a server may not take *certificate*, for *user* if given; else ""."""
    if not isinstance(certificate, SSHOpenSSHCertificate):
        return ""
    try:
        certificate.validate(CERT_TYPE_USER, user)
    except ValueError as exc:
        # A server may know other names for its users, so this may be none.
        if "principal" in str(exc):
            return f"is for {', '.join(certificate.principals)}"
        return "is not valid yet" if "not yet" in str(exc) else "has expired"
    return ""


def _advice(path: str, agent: str) -> str:
    if agent:
        return f"{path} has a passphrase, and {path}.pub is missing: ssh-keygen -y"
    return (
        f"{path} has a passphrase, and there is no ssh-agent to ask: "
        f'eval "$(ssh-agent)" && ssh-add {path}'
    )


def _no_agent(path: str) -> str:
    return (
        f"{path} names a key that only an ssh-agent can use, and there is none: "
        "set SSH_AUTH_SOCK or IdentityAgent"
    )
