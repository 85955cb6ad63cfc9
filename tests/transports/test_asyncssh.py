"""What asyncssh looks for when it is imported is found, and no program is started."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ghostasync.transports import _asyncssh

needs_cache = pytest.mark.skipif(
    not _asyncssh.CACHE.exists(), reason="the loader is not glibc's"
)

WATCH = """\
import json, sys

started = []

def watch(event, args):
    if event.split(".")[0] == "subprocess" or event in {
        "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"
    }:
        started.append(f"{event} {args[0] if args else ''}")

sys.addaudithook(watch)
"""

TELL = """
import asyncssh, ctypes.util
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_public_key_algs

print(json.dumps({
    "started": started,
    "finds": ctypes.util.find_library.__module__,
    "algorithms": [
        [name.decode() for name in names()]
        for names in (
            get_encryption_algs, get_kex_algs, get_mac_algs, get_public_key_algs
        )
    ],
}))
"""


def after(imports: str, **env: str) -> Any:  # JSON
    """Return what a new interpreter tells after some imports."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH + imports + TELL],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    return json.loads(done.stdout)


@needs_cache
def test_importing_what_a_deploy_needs_starts_no_program() -> None:
    plain = after("import asyncssh")
    ours = after("import ghostasync.cli, ghostasync.transports.ssh")

    assert plain["started"], "asyncssh asks nobody any more: the detour can go"
    assert ours["started"] == []
    assert ours["finds"] == plain["finds"] == "ctypes.util"
    assert ours["algorithms"] == plain["algorithms"]


@needs_cache
@pytest.mark.parametrize("name", ["c", "z", "nettle", "ssl", "nosuch"])
def test_the_cache_knows_what_ldconfig_knows(name: str) -> None:
    cache = _asyncssh.CACHE.read_bytes()

    assert _asyncssh.find_library(name, cache) == ctypes.util.find_library(name)


LINKED = """\
import sys
from ghostasync.transports._asyncssh import find_library

print(find_library("linked", sys.argv[1].replace(",", "\\0").encode()))
"""


@needs_cache
@pytest.mark.parametrize(
    ("cache", "found"),
    [
        (",liblinked.so.6,liblinked.so,/lib/liblinked.so.10,", "liblinked.so.10"),
        (",liblinked.so.6,liblinked.so.11,", "liblinked.so.6"),
        (",liblinkedness.so.6,oliblinked.so.6,", "liblinked.so"),
    ],
)
def test_the_newest_that_the_loader_takes_is_found(
    tmp_path: Path, cache: str, found: str
) -> None:
    name = ctypes.util.find_library("z") or "libz.so.1"
    mapped = "import ctypes; ctypes.CDLL({!r}); print(open('/proc/self/maps').read())"
    maps = subprocess.run(
        [sys.executable, "-c", mapped.format(name)],
        check=True,
        capture_output=True,
        text=True,
    )
    (library,) = {
        line.split()[-1] for line in maps.stdout.splitlines() if "/libz.so" in line
    }
    for version in ("", ".6", ".10"):
        (tmp_path / f"liblinked.so{version}").symlink_to(library)
    (tmp_path / "liblinked.so.11").write_text("not for this machine")

    done = subprocess.run(
        [sys.executable, "-c", LINKED, cache],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
    )

    assert done.stdout.split() == [found]


def test_without_a_cache_the_search_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ctypes.util.find_library
    monkeypatch.setattr(_asyncssh, "CACHE", tmp_path / "none")

    with _asyncssh.without_programs():
        assert ctypes.util.find_library is before
