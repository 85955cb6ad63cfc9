"""
Standard output that holds up no run: not when it is slow, not when it is gone.

All text of others that comes to people passes :func:`show`, :meth:`Sink.tell` or
:class:`Errors`, which make it plain.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterable
from typing import Self, TextIO

from ..views.text import plain

__all__ = ["Errors", "Sink", "show"]


class Sink:
    """
    Writes text in a thread of its own, in order.

    A stopped terminal (Ctrl-S) or a full pipe would block the event loop, and with it
    every host; a lost terminal or a reader that has gone raises. Here a slow one only
    makes a queue grow, and a lost one ends the writing: the run goes on into its log.
    Use it as a context manager.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.lost = False

    def write(self, text: str) -> None:
        """Have *text* written soon. Never blocks, never raises."""
        if not self.lost:
            self._texts.put(text)

    def tell(self, line: str) -> None:
        """Have *line*, made plain, written soon; as :meth:`write` does."""
        self.write(plain(line) + "\n")

    @property
    def busy(self) -> bool:
        """Whether text waits; a frame of a moving picture is then better dropped."""
        return not self._texts.empty()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until all is written; the run is over, and a reader may be slow."""
        self._texts.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (text := self._texts.get()) is not None:
            # The queue is emptied all the same, up to the end that __exit__ puts in.
            if self.lost:
                continue
            try:
                self._stream.write(_writable(text, self._stream))
                self._stream.flush()
            except (OSError, ValueError):
                # The stream is gone, or closed: nothing can be written to it any more.
                self.lost = True


class Errors(logging.Formatter):
    """The form of what libraries log: no text of others in it is obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of *record*, each made plain."""
        return "\n".join(map(plain, super().format(record).split("\n")))


def show(lines: Iterable[str], stream: TextIO, *, exact: bool = False) -> None:
    """
    Print *lines*, made plain unless they are to be *exact*.

    A reader that has gone is no failure of the command.
    """
    with contextlib.suppress(OSError):
        for line in lines:
            text = line if exact else plain(line)
            print(_writable(text, stream), file=stream)
        stream.flush()


def _writable(text: str, stream: TextIO) -> str:
    """Put question marks where *stream* has no letter; hosts write anything."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
