"""Which lines are found, by what, and at which price."""

from __future__ import annotations

import base64
import hmac
import os

import pytest

from ghostasync.transports._known_hosts import AUTHORITY, KnownHosts, algorithm


def key(number: int, kind: str = "ssh-ed25519") -> bytes:
    parts = (kind.encode(), number.to_bytes(32, "big"))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def line(names: str, key: bytes, marker: str = "") -> str:
    data = base64.b64encode(key).decode()
    return f"{marker} {names} {algorithm(key)} {data}".strip()


def hashed(name: str) -> str:
    salt = os.urandom(20)
    words = (salt, hmac.digest(salt, name.encode(), "sha1"))
    return "|1|" + "|".join(base64.b64encode(word).decode() for word in words)


def read(*lines: str) -> KnownHosts:
    known = KnownHosts()
    assert known.add("\n".join(lines)) == []
    return known


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each name that is hashed."""
    seen = []
    digest = hmac.digest

    def noted(salt: bytes, name: bytes, method: str) -> bytes:
        seen.append(name.decode())
        return digest(salt, name, method)

    monkeypatch.setattr(hmac, "digest", noted)
    return seen


def test_a_key_on_record_is_found_among_hashed_names_at_the_price_of_one(
    hashes: list[str],
) -> None:
    known = read(*(line(hashed(f"web{n}"), key(n)) for n in range(500)))
    hashes.clear()

    assert all(known.has(key(n), [f"web{n}"]) for n in range(500))
    assert known.algorithms(["web1"]) == ["ssh-ed25519"]

    assert len(hashes) == 500


def test_all_names_are_compared_once_for_a_host_whose_key_is_not_on_record(
    hashes: list[str],
) -> None:
    known = read(*(line(hashed(f"web{n}"), key(n)) for n in range(50)))
    hashes.clear()

    for _ in range(3):
        assert known.keys(["web7"]) == [key(7)]

    assert hashes == ["web7"] * 50


def test_a_kind_of_key_is_preferred_by_name_and_else_by_number() -> None:
    rsa = [line(hashed(f"web{n}"), key(n, "ssh-rsa")) for n in range(3)]
    known = read(line("web9", key(9)), line(hashed("web4"), key(4)), *rsa)

    assert known.algorithms(["web9"]) == ["ssh-ed25519"]
    assert known.algorithms(["web4"]) == ["ssh-rsa", "ssh-ed25519"]
    known.keys(["web4"])
    assert known.algorithms(["web4"]) == ["ssh-ed25519"]


@pytest.mark.parametrize(
    ("names", "matching", "others"),
    [
        ("Web1", "web1", "web2"),
        ("web1,[web2]:22", "[web2]:22", "web2"),
        ("web?.*", "web1.example.com", "web12.example.com"),
        ("*,!web2", "web1", "web2"),
        ("[web*]:2201", "[web1]:2201", "web1"),
        ("web[12]", "web[12]", "web1"),
    ],
)
def test_names_are_patterns_of_ssh(names: str, matching: str, others: str) -> None:
    known = read(line(names, key(1)), line(names, key(2), AUTHORITY))

    for name, found in ((matching, 1), (others, 0)):
        assert known.has(key(1), [name]) == bool(found)
        assert known.keys([name]) == [key(1)] * found
        assert known.marked(AUTHORITY, [name]) == [key(2)] * found


def test_what_cannot_be_read_is_told_by_its_number() -> None:
    good = line("web1", key(1))
    bad = ["<<<<<<< HEAD", "=======", "web1 ssh-ed25519 AAAA", f"@later {good}"]
    bad += ["web1 1024 35 12345", good.replace(" ssh-ed25519 ", " ssh-rsa "), "|2|x"]
    known = KnownHosts()

    assert known.add("\n".join(["# x", *bad, "", good])) == [*range(2, len(bad) + 2)]
    assert known.keys(["web1"]) == [key(1)]
