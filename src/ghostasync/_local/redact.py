"""
The redactor: secrets out of what scripts and tools print, however the bytes are cut.

How it works: a stream keeps the longest end of the data that may begin a secret, and
hands out the rest. Occurrences that overlap are joined and masked as one. A secret that
repeats itself ("aaaa") may be found once more over bytes that were masked already, so
the number of masked bytes among those held is kept as well. What comes of that loses
the credentials of URLs: a last word that may be a URL is held until it ends.

Rule 1: a byte that belongs to any secret is never handed out, overlaps included.
Rule 2: a stream holds back only bytes that a secret or a URL may begin with.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs

from .. import events as e
from ..errors import without_credentials
from ..model import Revision

__all__ = ["SHORTEST", "Redacting", "Redactor"]

MASK: Final = b"***"

_WRITTEN: Final = ("reason", "text", "tail", "actor", "holder")
"""Fields of events that hold free text."""

_ENDS_URL: Final = tuple(bytes([byte]) for byte in b" \t\r\n\"'<>")

_SCHEME: Final = 33
"""Bytes that a URL's scheme may have, and the one before it."""

_LONGEST_URL: Final = 8192
"""Bytes of a word from which on it is not waited for."""

SHORTEST: Final = 8
"""Characters from which on a text is masked: a shorter one (``}``, ``EOF``, ``prod``)
stands in what has nothing to do with it, too."""


class Redactor:
    """
    Replaces secrets by ``***``.

    A secret is masked as given and without the white space around it; each line of one
    with several lines is masked on its own too, for shells print ``$KEY`` without its
    newlines. What is shorter than *shortest* characters is not masked.
    """

    def __init__(self, secrets: Iterable[str], shortest: int = SHORTEST) -> None:
        self._given = frozenset(secrets)
        self._shortest = shortest
        forms = _forms(self._given, shortest)
        encoded = (form.encode("utf-8", "surrogateescape") for form in forms)
        self._secrets = tuple(sorted(encoded))

    def knowing(self, secrets: Iterable[str]) -> Redactor:
        """Return a redactor that knows these secrets as well."""
        more = self._given.union(secrets)
        return self if more == self._given else Redactor(more, self._shortest)

    def text(self, text: str) -> str:
        """
        Return *text* without the secrets, and without credentials of any URL.

        Surrogate escapes stay as they are.
        """
        if not self._secrets:
            return without_credentials(text)
        redacted = self.bytes(text.encode("utf-8", "surrogateescape"))
        return redacted.decode("utf-8", "surrogateescape")

    def event(self, event: e.Event) -> e.Event:
        """Return *event* without the secrets in what people or tools have written."""
        # Names and ids stay as they are, whatever a secret is: a record is read back.
        said = {name: getattr(event, name) for name in _WRITTEN if hasattr(event, name)}
        if isinstance(event, e.Started):
            said["script"] = event.script
        clean: dict[str, Any] = {name: self.text(text) for name, text in said.items()}
        if isinstance(event, e.Resolved):
            clean["revision"] = self.revision(event.revision)
        return event if clean == said else attrs.evolve(event, **clean)

    def revision(self, revision: Revision) -> Revision:
        """Return *revision* without the secrets in its message."""
        return attrs.evolve(revision, message=self.text(revision.message))

    def bytes(self, data: builtins.bytes) -> builtins.bytes:
        """Return *data* without the secrets, and without credentials of any URL."""
        stream = self.stream()
        return stream.feed(data) + stream.flush()

    def stream(self) -> Redacting:
        """Return a redactor for data that comes in pieces."""
        return Redacting(self._secrets)


class Redacting:
    """One stream on its way through a :class:`Redactor`."""

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""
        self._masked = 0  # number of held bytes whose mask was handed out already
        self._word = b""  # without secrets; may be a URL
        self._shown = b""  # the end of what was handed out; may be a URL's scheme

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that are certain by now and were not handed out before."""
        if self._secrets:
            data = self._held + data
            data = self._advance(data, _beginning_of_a_secret(data, self._secrets))
        data = self._word + data
        cut = _beginning_of_a_url(data)
        self._word = data[cut:]
        return self._clean(data[:cut])

    def flush(self) -> bytes:
        """Return the bytes that were held back: the stream has ended."""
        data = self._word + self._advance(self._held, len(self._held))
        self._word = b""
        return self._clean(data)

    def _clean(self, data: bytes) -> bytes:
        """Return *data* without credentials of URLs, which may have begun before it."""
        clean = _without_credentials(self._shown + data)
        if clean.startswith(self._shown):
            clean = clean[len(self._shown) :]
        else:
            clean = _without_credentials(data)
        self._shown = (self._shown + clean)[-_SCHEME:]
        return clean

    def _advance(self, data: bytes, cut: int) -> bytes:
        out = []
        at = self._masked
        masked_to = 0
        for start, end in _merged(_occurrences(data, self._secrets), self._masked):
            # A secret that begins after the cut is held back, and found again.
            if start < cut:
                out.append(data[at:start])
                # A span that begins among masked bytes has had its mask.
                if start >= self._masked:
                    out.append(MASK)
                at = masked_to = end
        out.append(data[at:cut])
        self._masked = max(self._masked, masked_to, cut) - cut
        self._held = data[cut:]
        return b"".join(out)


def _forms(secrets: Iterable[str], shortest: int) -> Iterator[str]:
    yielded = set[str]()
    for secret in secrets:
        # A secret of one line gives no form here that is not there already.
        for form in (secret, *map(str.strip, (secret, *secret.splitlines()))):
            if len(form.strip()) >= shortest and form not in yielded:
                yielded.add(form)
                yield form


def _beginning_of_a_secret(data: bytes, secrets: tuple[bytes, ...]) -> int:
    """Return the start of the longest end of *data* that a secret begins with."""
    earliest = len(data)
    for secret in secrets:
        at = data.find(secret[:1], max(0, len(data) - len(secret) + 1))
        while 0 <= at < earliest:
            if secret.startswith(data[at:]):
                earliest = at
            else:
                at = data.find(secret[:1], at + 1)
    return earliest


def _beginning_of_a_url(data: bytes) -> int:
    """Return the start of the last word, if it may be a URL that goes on."""
    start = 1 + max(map(data.rfind, _ENDS_URL))
    long = len(data) - start > _LONGEST_URL
    return start if data.find(b":", start) >= 0 and not long else len(data)


def _without_credentials(data: bytes) -> bytes:
    if b":/" not in data and b":\\/" not in data:
        return data
    return without_credentials(data.decode("latin-1")).encode("latin-1")


def _occurrences(data: bytes, secrets: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    for secret in secrets:
        at = data.find(secret)
        while at >= 0:
            yield at, at + len(secret)
            at = data.find(secret, at + 1)


def _merged(spans: Iterable[tuple[int, int]], masked: int) -> Iterator[tuple[int, int]]:
    """Join spans that overlap; the first *masked* bytes count as one of them."""
    start, end = 0, masked
    for first, last in sorted(spans):
        if first < end:
            end = max(end, last)
        else:
            if end:
                yield start, end
            start, end = first, last
    if end:
        yield start, end
