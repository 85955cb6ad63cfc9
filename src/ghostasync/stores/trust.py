"""
Signatures as OpenSSH makes them: ``ssh-keygen -Y verify`` takes what is made here.

A key is in a file, in an agent, or behind a command. Whose signatures count stands in a
file of allowed signers (ssh-keygen(1), ALLOWED SIGNERS): a line that is removed, or has
run out, takes away what its key has signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import anyio
import anyio.to_thread
import asyncssh
import attrs
from asyncssh.agent import SSHAgentKeyPair
from asyncssh.public_key import SSHOpenSSHCertificate
from asyncssh.sshsig import (
    SSHAllowedSigners,
    create_sshsig,
    import_allowed_signers,
    validate_sshsig,
)

from .._local.owners import readable
from .._local.paths import local_path
from ..errors import PlanError, StoreError
from ..model import App, StoreSettings

__all__ = ["NAMESPACE", "Trust"]

NAMESPACE: Final = "ghostasync"
"""What signatures are for: one that was made for a mail or a commit is none here."""

SIGN_SECONDS: Final = 60.0
"""Seconds in which an agent or a command has to sign: time to touch a key."""

_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"


@attrs.define(eq=False)
class Trust:
    """
    Who signs for an app, and whose signatures count; both may be nobody.

    Args:
        app: The app that signatures are for.

        settings: Its *sign* and *signers*.

        base: The folder that relative paths are relative to.

        environ: For ``~`` in paths, for commands, and for the agent's socket.
    """

    app: App
    settings: StoreSettings
    base: Path
    environ: Mapping[str, str] = attrs.field(repr=False)
    _signers: tuple[str, SSHAllowedSigners] | None = attrs.field(
        default=None, init=False
    )

    @property
    def signs(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self.settings.sign)

    @property
    def asks(self) -> bool:
        """Whether what is not signed is refused."""
        return bool(self.settings.signers)

    def require_signers(self) -> None:
        """
        Do nothing, unless the file of allowed signers cannot be read.

        Raises:
            PlanError: It cannot, or there is no key in it.
        """
        if self.asks:
            self._allowed()

    async def require_key(self) -> None:
        """
        Do nothing, unless what a run makes could not be signed.

        Raises:
            PlanError: As :meth:`sign`.
        """
        try:
            await self.sign(b"ghostasync trial 1\n")
        except StoreError as exc:
            raise PlanError(str(exc)) from exc

    async def sign(self, statement: bytes) -> bytes:
        """
        Return a signature of *statement*, in armor.

        Raises:
            StoreError: The key cannot be used, the command failed, or the signature
                would be refused.
        """
        sign, act = self.settings.sign, self._by_key
        if not sign:
            raise StoreError(
                "store.signers is set and store.sign is not: what is not signed would "
                "be refused; say which key signs"
            )
        if sign.command:
            act = self._by_command
        try:
            with anyio.fail_after(SIGN_SECONDS):
                signature = await act(statement)
        except TimeoutError:
            text = f"store.sign: no signature within {SIGN_SECONDS:g} s"
            raise StoreError(text) from None
        except (OSError, ValueError) as exc:
            # asyncssh's errors about keys are ValueErrors.
            why = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
            raise StoreError(f"store.sign: {sign.command or sign.key}: {why}") from exc
        if self.asks:
            self.verify(statement, signature, "what store.sign signs")
        return signature

    def verify(self, statement: bytes, signature: bytes, what: str) -> None:
        """
        Do nothing, unless nobody who may has made *signature* of *statement*.

        Raises:
            StoreError: Nobody has; *what* begins the text.
            PlanError: As :meth:`require_signers`.
        """
        text, signers = self._allowed()
        public, namespace = _parts(signature)
        names = {*_names(text), *_certified(public)}
        try:
            # The library believes whatever the signature says that it is for.
            if namespace == NAMESPACE and any(
                validate_sshsig(statement, signature, n, signers) for n in names
            ):
                return
        except ValueError:
            pass  # no signature at all
        raise StoreError(
            f"{what} has no valid signature of anybody in {self._path()}: it was "
            "changed, or its key is revoked or no longer valid"
        )

    def _path(self) -> Path:
        return local_path(self.settings.signers, self.base, self.environ)

    def _allowed(self) -> tuple[str, SSHAllowedSigners]:
        # Read once: who may sign does not change while a run goes on.
        if self._signers is None:
            path = self._path()
            try:
                text = path.read_text(encoding="utf-8")
                self._signers = text, import_allowed_signers(text)
            except OSError as exc:
                raise PlanError(f"store.signers: {path}: {exc.strerror}") from exc
            except ValueError as exc:
                raise PlanError(
                    f"store.signers: {path}: {exc}; a line is NAME ssh-ed25519 AAAA… "
                    "(ssh-keygen(1), ALLOWED SIGNERS)"
                ) from exc
        return self._signers

    async def _by_command(self, statement: bytes) -> bytes:
        command = ("/bin/sh", "-c", self.settings.sign.command)
        with await anyio.to_thread.run_sync(_file_of, statement) as file:
            done = await anyio.run_process(
                command, stdin=file, cwd=self.base, env=self.environ, check=False
            )
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise ValueError(f"exited {done.returncode}" + f": {last}" * bool(last))
        if not done.stdout.startswith(_BEGIN):
            raise ValueError(f"printed no {_BEGIN.decode().strip('-')[6:]}")
        return done.stdout

    async def _by_key(self, statement: bytes) -> bytes:
        path = local_path(self.settings.sign.key, self.base, self.environ)
        if path.suffix != ".pub":
            try:
                return await anyio.to_thread.run_sync(_by_file, path, statement)
            except asyncssh.KeyImportError as exc:
                # asyncssh has no class of its own for a key without its passphrase.
                if not str(exc).startswith("Passphrase"):
                    raise
            path = path.with_name(f"{path.name}.pub")
        wanted = asyncssh.read_public_key(path).public_data
        socket = self.environ.get("SSH_AUTH_SOCK", "")
        if not socket:
            raise ValueError("only an agent could sign with it: SSH_AUTH_SOCK is unset")
        async with asyncssh.connect_agent(socket) as agent:
            for pair in await agent.get_keys():
                if isinstance(pair, SSHAgentKeyPair) and pair.public_data == wanted:
                    return await _by_agent(pair, statement)
        raise ValueError("the agent does not have it: ssh-add")


def _file_of(statement: bytes) -> IO[bytes]:
    # A pipe would break where a command does not read.
    file = tempfile.TemporaryFile()  # noqa: SIM115  closed by the caller
    file.write(statement)
    file.seek(0)
    return file


def _by_file(path: Path, statement: bytes) -> bytes:
    # A certificate beside the key is taken along.
    signature = create_sshsig(str(path), statement, namespace=NAMESPACE)
    if why := readable(path):
        raise ValueError(why)
    return signature


async def _by_agent(pair: SSHAgentKeyPair, statement: bytes) -> bytes:
    """Return a signature as OpenSSH's PROTOCOL.sshsig describes it."""
    # The library's own function cannot wait for an agent.
    if pair.sig_algorithm == b"ssh-rsa":
        pair.set_sig_algorithm(b"rsa-sha2-512")
    about = _strings(NAMESPACE.encode(), b"", b"sha512")
    hashed = _strings(hashlib.sha512(statement).digest())
    made = await pair.sign_async(b"SSHSIG" + about + hashed)
    version = struct.pack(">I", 1)
    blob = b"SSHSIG" + version + _strings(pair.public_data) + about + _strings(made)
    text = base64.b64encode(blob)
    lines = (text[at : at + 70] for at in range(0, len(text), 70))
    return b"\n".join((_BEGIN, *lines, _BEGIN.replace(b"BEGIN", b"END"), b""))


def _strings(*values: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(each)) + each for each in values)


def _names(text: str) -> Iterator[str]:
    """Return a name for each pattern of a file of allowed signers that it matches."""
    # A signature holds no name, and which of the signers it is does not matter here.
    for line in text.splitlines():
        if (line := line.strip()) and not line.startswith("#"):
            for pattern in line.split()[0].strip('"').split(","):
                if not pattern.startswith("!"):
                    yield pattern.replace("*", "").replace("?", "x") or "x"


def _parts(signature: bytes) -> tuple[bytes, str]:
    """Return the public key in a signature, and what it says that it is for."""
    try:
        lines = signature.strip().splitlines()
        blob = base64.b64decode(b"".join(lines[1:-1]), validate=True)
        (size,) = struct.unpack_from(">I", blob, 10)
        at = 14 + size
        (length,) = struct.unpack_from(">I", blob, at)
        return blob[14:at], blob[at + 4 : at + 4 + length].decode("ascii", "replace")
    except (binascii.Error, struct.error):
        return b"", ""


def _certified(public: bytes) -> Iterator[str]:
    """Return the names in a public key that is a certificate."""
    try:
        (size,) = struct.unpack_from(">I", public)
        kind = public[4 : 4 + size]
        if b"-cert-" in kind:
            line = b"%b %b" % (kind, base64.b64encode(public))
            certificate = asyncssh.import_certificate(line)
            if isinstance(certificate, SSHOpenSSHCertificate):
                yield from certificate.principals
    except (struct.error, ValueError):
        return
