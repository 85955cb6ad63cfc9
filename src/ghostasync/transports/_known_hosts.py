"""
The lines of ``known_hosts`` files, found by the key that a server shows.

A hashed name has a salt of its own, so it is compared for the price of an HMAC, and
files have tens of thousands of them. A key stands in few lines: whether a server is the
one on record takes few comparisons. All lines are gone through for a host only where
its key is not on record, and then once.

Rule: names are compared as OpenSSH does, in small letters, with patterns of ``*`` and
``?`` that a leading ``!`` excludes.
"""

from __future__ import annotations

import binascii
import functools
import hmac
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

__all__ = ["AUTHORITY", "REVOKED_MARK", "KnownHosts", "Line", "algorithm"]

AUTHORITY: Final = "@cert-authority"
REVOKED_MARK: Final = "@revoked"

_HASHED: Final = "|1|"


@attrs.frozen
class Line:
    """One key, and the *names* of the hosts that *marker* says it is good for."""

    marker: str
    names: str
    key: bytes

    @classmethod
    def read(cls, text: str) -> Line:
        """
        Read one line.

        Raises:
            ValueError: It is none of a host.
        """
        words = text.split()
        marker = words.pop(0) if text.startswith("@") else ""
        names, kind, data, *_ = words
        key = binascii.a2b_base64(data)
        if marker not in ("", AUTHORITY, REVOKED_MARK) or algorithm(key) != kind:
            raise ValueError("no key, or an unknown marker")
        if names.startswith("|"):
            _salt_and_hash(names)
            return cls(marker, names, key)
        return cls(marker, names.lower(), key)

    @property
    def hashed(self) -> bool:
        return self.names.startswith(_HASHED)

    @property
    def plain(self) -> bool:
        """Whether its names are names, neither hashed nor patterns."""
        return not any(sign in self.names for sign in "|*?!")

    def is_for(self, name: str) -> bool:
        """Tell whether a host of this name is meant."""
        if self.hashed:
            salt, digest = _salt_and_hash(self.names)
            return hmac.digest(salt, name.encode(), "sha1") == digest
        found = False
        for pattern in self.names.split(","):
            if _pattern(pattern.lstrip("!")).fullmatch(name.lower()):
                if pattern.startswith("!"):
                    return False
                found = True
        return found


class KnownHosts:
    """The lines of some files, in order."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[Line]] = {}
        self._by_name: dict[str, list[Line]] = {}
        self._patterns: list[Line] = []
        self._hashed: list[Line] = []
        self._marked: list[Line] = []
        self._found: dict[str, list[bytes]] = {}

    def add(self, text: str) -> list[int]:
        """Add the lines of a file; return the numbers of those that are none."""
        unread = []
        # Not splitlines: a line of theirs ends with a newline and nothing else.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                try:
                    self._add(Line.read(line.strip()))
                except ValueError:
                    unread.append(number)
        return unread

    def _add(self, line: Line) -> None:
        if line.marker:
            self._marked.append(line)
            return
        self._by_key.setdefault(line.key, []).append(line)
        if line.hashed:
            self._hashed.append(line)
        elif line.plain:
            for name in line.names.split(","):
                self._by_name.setdefault(name, []).append(line)
        else:
            self._patterns.append(line)

    def has(self, key: bytes, names: Iterable[str]) -> bool:
        """Tell whether *key* is on record for a host of one of these names."""
        lines = self._by_key.get(key, ())
        return any(line.is_for(name) for name in names for line in lines)

    def keys(self, names: Iterable[str]) -> list[bytes]:
        """Return all keys on record for a host of these names."""
        return [key for name in names for key in self._keys(name)]

    def marked(self, marker: str, names: Iterable[str]) -> list[bytes]:
        """Return the keys that *marker* marks for a host of these names."""
        lines = [line for line in self._marked if line.marker == marker]
        return [line.key for name in names for line in lines if line.is_for(name)]

    def algorithms(self, names: Sequence[str]) -> list[str]:
        """
        Return kinds of keys, those first that a host is most likely on record with.

        Nothing is hashed for that: where its name is, those come first that most have.
        """
        likely = [
            key
            for name in names
            for key in self._found.get(name) or self._unhashed(name)
        ]
        kinds = Counter(map(algorithm, likely or [line.key for line in self._hashed]))
        return [kind for kind, _ in kinds.most_common()]

    def _keys(self, name: str) -> list[bytes]:
        if name not in self._found:
            hashed = [line.key for line in self._hashed if line.is_for(name)]
            self._found[name] = [*self._unhashed(name), *hashed]
        return self._found[name]

    def _unhashed(self, name: str) -> list[bytes]:
        patterns = [line for line in self._patterns if line.is_for(name)]
        lines = [*self._by_name.get(name.lower(), ()), *patterns]
        return [line.key for line in lines]


def algorithm(key: bytes) -> str:
    """Return the kind of a key, which it begins with: ``ssh-ed25519`` …."""
    return key[4 : 4 + int.from_bytes(key[:4], "big")].decode("ascii", "replace")


def _salt_and_hash(names: str) -> tuple[bytes, bytes]:
    _, version, salt, digest = names.split("|")
    if version != "1":
        raise ValueError("an unknown way to hash")
    return binascii.a2b_base64(salt), binascii.a2b_base64(digest)


@functools.lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    """Return a pattern of ssh's: brackets in it are those of a port."""
    literal = re.escape(text)
    return re.compile(literal.replace(r"\*", ".*").replace(r"\?", "."))
