"""
The journal: the records of a run as lines of JSON, as ``--output json`` prints them.

One function makes the line for the screen, the audit log and the replay of a killed
run. A line is ASCII and ends with its newline; the newline is what commits it. A
controller may be killed within a line: a last line without its newline is passed over
when a journal is read, and cut off when it is opened again.

Text that is not UTF-8 (surrogate escapes, as in a commit message in Latin-1) cannot
stand in JSON that every parser takes. Such a line shows U+FFFD in its place, and its
key ``raw`` holds, as a string, the line as Python writes it: :func:`decode` reads that
and gives the bytes back exactly.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import attrs
import cattrs

from . import events as e
from .errors import StoreError
from .model import State

__all__ = ["Journal", "decode", "encode", "line", "records", "replay"]

VERSION: Final = 1
"""The value of ``v``; it changes when a reader of today would misread a line."""

_EVENTS: Final = {
    kind.__name__: kind
    for kind in vars(e).values()
    if isinstance(kind, type) and issubclass(kind, e.HostEvent | e.RunEvent)
}
_LONGEST_WHY: Final = 200
"""Characters of what is wrong with a line; a value in it may be of any length."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@attrs.frozen
class _Envelope:
    """The keys that every line has; the rest of a line is the event's own."""

    v: int
    seq: int
    at: str
    run: str
    event: str
    state: State | None = None
    wave: int | None = None


def _exactly(value: object, kind: type) -> object:
    # cattrs would call the type: "false" would become True, and 2.9 would become 2.
    # Only a float may be written as a whole number, as other writers of JSON do.
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise TypeError(f"{value!r} is not of type {kind.__name__}")


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(
        detailed_validation=False, unstruct_collection_overrides={tuple: list}
    )
    for kind in (str, int, float, bool):
        converter.register_structure_hook(kind, _exactly)
    return converter


_CONVERTER: Final = _make_converter()
_encode: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def _dumps(fields: dict[str, object]) -> str:
    # JSON escapes all that is no ASCII, and all controls but this one.
    return _encode(fields).replace("\x7f", "\\u007f")


def encode(record: e.Record) -> dict[str, object]:
    """
    Return *record* as plain values, in the order of the line: envelope, then event.

    ``state`` and ``wave`` are there where the record has them; an event that has a
    wave of its own shows that one. Text keeps its surrogate escapes.
    """
    event = record.event
    fields: dict[str, object] = {
        "v": VERSION,
        "seq": record.seq,
        "at": _timestamp(record.at),
        "run": record.run,
        "event": type(event).__name__,
    }
    if isinstance(event, e.HostEvent):
        fields["host"] = event.host
    if record.state is not None:
        fields["state"] = record.state.value
    if record.wave is not None:
        fields["wave"] = record.wave
    fields.update(_CONVERTER.unstructure(event))
    return fields


def line(record: e.Record) -> str:
    """Return *record* as one line of ASCII JSON, without the newline."""
    fields = encode(record)
    text = _dumps(fields)
    # A surrogate is written as \udXXX, so nearly every line is done after one search.
    # The same four characters stand in a line for a backslash before "ud" and for one
    # half of an emoji: only text that is not escaped tells those from a surrogate.
    if "\\ud" not in text:
        return text
    shown = json.dumps(fields, ensure_ascii=False)
    if not _SURROGATE.search(shown):
        return text
    return _dumps({**json.loads(_SURROGATE.sub("\ufffd", shown)), "raw": text})


def decode(text: str) -> e.Record:
    """
    Return the record that :func:`line` made *text* of; times to the millisecond.

    The record's wave is the event's own where the event has one. Unknown keys are
    passed over.

    Raises:
        ValueError: *text* is not a line of a journal, or one of another version.
    """
    try:
        fields = json.loads(text)
        if "raw" in fields:
            fields = json.loads(fields["raw"])
        envelope = _CONVERTER.structure(fields, _Envelope)
        if envelope.v != VERSION:
            raise ValueError(f"version {envelope.v} is not {VERSION}")
        event = _CONVERTER.structure(fields, _EVENTS[envelope.event])
        at = datetime.fromisoformat(envelope.at).astimezone(UTC).timestamp()
    except KeyError as error:
        raise ValueError(f"{error} is missing or not known") from None
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("its brackets are nested without end") from None
    return e.Record(
        envelope.seq, at, envelope.run, event, envelope.state, envelope.wave
    )


class Journal:
    """
    A run's records in one local file, which only ever grows; a context manager.

    A line that a killed controller left unfinished is cut off when the file is opened
    again.

    Raises:
        StoreError: The file could not be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._nbytes = _prepare(path)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, record: e.Record, *, sync: bool = False) -> None:
        """
        Add *record*; a record that is only for screens, such as progress, is dropped.

        Args:
            record: The record to add.

            sync: Return only when this line, and all before, would survive a power
                failure. Without it they survive the death of this process.

        Raises:
            StoreError: The line could not be written; the file is as it was before.
        """
        if not e.is_passing(record.event):
            self._write(line(record).encode() + b"\n")
        if sync:
            self.flush()

    @property
    def nbytes(self) -> int:
        """The size of the file's whole lines, in bytes."""
        return self._nbytes

    def read(self, at: int) -> bytes:
        """
        Return the lines from byte *at* on, whole ones only.

        Raises:
            StoreError: The file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(at)
                return file.read(self._nbytes - at)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def flush(self) -> None:
        """
        Wait until all lines are on disk; may be called in a worker thread.

        Raises:
            StoreError: The disk failed.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file; lines that were not flushed are left to the kernel."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        rest = data
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            # Half a line would run into the next one and damage both.
            with suppress(OSError):
                self._file.truncate(self._nbytes)
            raise _unwritable(self.path, error) from error
        self._nbytes += len(data)


def replay(path: Path) -> Iterator[e.Record]:
    """
    Read a journal; a last line without its newline was never committed.

    Raises:
        StoreError: There is no such file, or a line (named by number) is damaged.
    """
    try:
        with path.open("rb") as file:
            yield from records(file, str(path))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; is this the right run?") from error


def records(lines: Iterable[bytes], name: str) -> Iterator[e.Record]:
    """
    Read the lines of a journal, each with its newline; *name* is for messages.

    Raises:
        StoreError: A line is damaged, or lines of a run are missing.
    """
    last = None
    for number, data in enumerate(lines, start=1):
        # A line without its newline is the last one, and was never committed.
        if not data.endswith(b"\n"):
            return
        try:
            record = decode(data.decode("ascii"))
        except ValueError as error:
            raise _damaged(name, number, str(error)) from None
        # Each run counts from one. A gap could hide moves that the way back has to
        # undo, so such a journal is not followed any further.
        if last and last.run == record.run and last.seq + 1 != record.seq:
            raise _damaged(name, number, f"{record.seq} follows {last.seq}")
        yield record
        last = record


def _timestamp(at: float) -> str:
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _prepare(path: Path) -> int:
    """Make *path*, or cut off its unfinished line; return its size in bytes."""
    nbytes = 0
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(opened, "a+b") as file:
        # An empty file cannot be mapped. The last newline is searched from the end, so
        # the journal of a long run costs no reading of all of it.
        if file.tell():
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
                nbytes = content.rfind(b"\n") + 1
        file.truncate(nbytes)
    # A new file is lost with the power, flushed or not, until its name is flushed too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return nbytes


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: {error.strerror}; a run needs its journal")


def _damaged(name: str, number: int, why: str) -> StoreError:
    what = f"{name}, line {number} is damaged ({why[:_LONGEST_WHY]})"
    return StoreError(f"{what}; the store has a copy of the journal")
