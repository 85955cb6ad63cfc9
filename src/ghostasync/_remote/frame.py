"""Find a script's own output between two lines with a random word; no I/O."""

from __future__ import annotations

import attrs

__all__ = ["Frame"]


@attrs.define
class Frame:
    """
    A parser of framed output, fed in pieces of any size.

    *begun* is whether the opening line was seen, *status* the script's exit status once
    the closing line was.
    """

    nonce: str
    begun: bool = False
    status: int | None = None
    _held: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Return what of *data* is certainly the script's own output."""
        if self.status is not None:
            return b""
        self._held += data
        if not self.begun and not self._skip_preamble():
            return b""
        closing = f"\n{self.nonce} end ".encode()
        at = self._held.find(closing)
        if at < 0:
            return self._take(self._safe(closing))
        line, newline, _ = self._held[at + len(closing) :].partition(b"\n")
        if not newline:
            return self._take(at)
        self.status = int(line)
        return self._take(at)

    def _skip_preamble(self) -> bool:
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

    def _take(self, nbytes: int) -> bytes:
        taken, self._held = self._held[:nbytes], self._held[nbytes:]
        return taken
