"""
The frame around a script's output: an opening and a closing line; no I/O.

Both lines hold a random word that the script does not know. Noise of rc files comes
before the opening line, and the output of children that outlive the script after the
closing one, which has the exit status.
"""

from __future__ import annotations

from typing import Final

import attrs

from .answers import status

__all__ = ["Frame"]

_LINE: Final = 16
"""Bytes that the rest of a closing line, a status, has at the very most."""


@attrs.define
class Frame:
    """
    A parser of framed output, fed in pieces of any size.

    *begun* is whether the opening line was seen, *ended* whether the closing line was;
    *status* is the script's exit status then, None where that line has none.
    """

    nonce: str
    begun: bool = False
    ended: bool = False
    status: int | None = None
    _held: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Return the output that is certain by now; the rest of *data* is held back."""
        if self.ended:
            return b""
        self._held += data
        if not self.begun and not self._skip_preamble():
            return b""
        closing = f"\n{self.nonce} end ".encode()
        at = self._held.find(closing)
        if at < 0:
            return self._split_off(self._safe(closing))
        # The status itself may come in pieces: only a whole line counts.
        line, newline, _ = self._held[at + len(closing) :].partition(b"\n")
        if newline or len(line) > _LINE:
            self.ended, self.status = True, status(line)
        return self._split_off(at)

    def _skip_preamble(self) -> bool:
        """Drop all up to the opening line; tell whether it has come."""
        opening = f"\n{self.nonce} begin\n".encode()
        at = self._held.find(opening)
        if at < 0:
            self._held = self._held[-len(opening) :]
            return False
        self.begun, self._held = True, self._held[at + len(opening) :]
        return True

    def _safe(self, closing: bytes) -> int:
        """Return how many held bytes cannot be the start of the closing line."""
        last = self._held.rfind(b"\n")
        if last >= 0 and closing.startswith(self._held[last:]):
            return last
        return len(self._held)

    def _split_off(self, nbytes: int) -> bytes:
        output, self._held = self._held[:nbytes], self._held[nbytes:]
        return output
