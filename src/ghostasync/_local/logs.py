"""
A log of what somebody else prints: all of it, but for the middle of a very long one.

How it works. Bytes are appended to a file. Where it has grown to its beginning and two
ends, the older of these ends makes room: the newest bytes are moved up behind a line
that says how many are left out. A file is thus never larger than :data:`MOST`, is in
order at any time, and the work is the same for each byte, however many there are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

__all__ = ["HEAD", "MOST", "TAIL", "CappedLog"]

HEAD: Final = 4 << 20
"""Bytes of the beginning that are kept."""

TAIL: Final = 4 << 20
"""Bytes of the end that are kept, at least."""

_LINE: Final = (
    b"\n--- %20d bytes are left out here: a log keeps its beginning and end\n"
)

MOST: Final = HEAD + 2 * TAIL + len(_LINE % 0)
"""Bytes of a file, at most."""


@attrs.define
class CappedLog:
    """
    The log at *path*, which nobody else writes to meanwhile.

    *left_out* is how many bytes are not in the file.
    """

    path: Path
    left_out: int = 0

    def write(self, data: bytes) -> None:
        """
        Append *data*.

        Raises:
            OSError: The file cannot be written; it is as it was, or lacks an end.
        """
        # Opened anew each time: a file that stays open for each host of a large fleet
        # would meet the limit of open files.
        with self.path.open("ab+", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                room = MOST - os.fstat(file.fileno()).st_size
                if not room:
                    self._make_room(file.fileno())
                    continue
                rest = rest[file.write(rest[:room]) :]

    def _make_room(self, fd: int) -> None:
        newest = os.pread(fd, TAIL, MOST - TAIL)
        self.left_out += MOST - TAIL - HEAD - (len(_LINE % 0) if self.left_out else 0)
        # A file that is opened to append takes all writes at its end.
        os.truncate(fd, HEAD)
        os.write(fd, _LINE % self.left_out + newest)
