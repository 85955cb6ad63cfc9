"""An agent with one key of the kind that a person has to touch, and who touches it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KIND", "TouchedAgent"]

KIND = b"sk-ssh-ed25519@openssh.com"
PRESENT = b"\x01" + struct.pack(">I", 1)
"""What a touched key signs besides: that somebody was there, and how often."""


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class TouchedAgent:
    """The agent; *touches* counts what it was asked to sign."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes_raw()
        self.public = text(KIND) + text(public) + text(b"ssh:")
        self.touches = 0

    def write(self, path: Path) -> Path:
        """Write the private half, which is a handle for the key's own memory."""
        head = self.public + b"\x01"
        private = b"same" * 2 + head + text(b"handle") + text(b"") + text(b"touched")
        padding = bytes(range(1, -len(private) % 8 + 1))
        none = text(b"none") * 2 + text(b"")
        parts = struct.pack(">I", 1) + text(self.public) + text(private + padding)
        data = base64.encodebytes(b"openssh-key-v1\0" + none + parts).decode()
        path.touch(mode=0o600)
        name = "OPENSSH PRIVATE KEY"
        path.write_text(f"-----BEGIN {name}-----\n{data}-----END {name}-----\n")
        return path

    @asynccontextmanager
    async def listening(self, path: str) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, path)
        try:
            yield
        finally:
            server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while size := await reader.read(4):
                request = await reader.readexactly(*struct.unpack(">I", size))
                writer.write(text(self._answer(request)))
        finally:
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        if request[0] == 11:  # which keys?
            return b"\x0c" + struct.pack(">I", 1) + text(self.public) + text(b"touched")
        data = request[1 + 4 + len(self.public) :]
        message = data[4 : 4 + struct.unpack(">I", data[:4])[0]]
        self.touches += 1
        digest = hashlib.sha256(message).digest()
        signed = hashlib.sha256(b"ssh:").digest() + PRESENT + digest
        return b"\x0e" + text(text(KIND) + text(self._key.sign(signed)) + PRESENT)
