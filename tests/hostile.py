"""
A host that lies: what it answers to each script, and a session that answers it.

:data:`TRUE` are answers of an honest host. :data:`LIES` are whole answers that no host
gives; :func:`mangled` makes more of them, out of the true ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import anyio
import attrs
from hypothesis import strategies as st

from ghostasync._remote import answers
from ghostasync.model import Host
from ghostasync.protocols import OnOutput

__all__ = [
    "FOLDER",
    "LIES",
    "READERS",
    "TARGET",
    "TRUE",
    "RawSession",
    "mangled",
]

APP: Final = "/ghost/shop/prod/web"
FOLDER: Final = f"{APP}/site"
TARGET: Final = "/srv/site"

_RECORD: Final = "\n".join(
    f"7:{line}"
    for line in (
        "outcome=live    ",
        "generation=7",
        "run=20261127T101500Z-0a1b2c",
        "release=2_site_0a1b2c3",
        "goal=deploy",
        f"previous={FOLDER}/1_site_0a1b2c3",
        f"target={TARGET}",
        "instance=i-1",
        "actor=ann",
        "reason=a\\0012fix",
        "at=2026-11-27T10:15:00Z",
        "origin=7",
    )
)

CHECKED: Final = f"""\
uid=0
gid=0
tool=tar
tool=zstd
blocks=/dev/sda1 1000000 1 999999 1% /
place=0f-1 12:34
inodes=/dev/sda1 1000000 1 999999 1% /
rename=mv
instance=i-1
fence=7 20261127T101500Z-0a1b2c
holder=run 20261127T101500Z-0a1b2c (deploy) by ann
module={FOLDER}
target=link
link={FOLDER}/2_site_0a1b2c3
fingerprint=0123abcd
{_RECORD}
elsewhere=/srv/old
unwritable=/srv
release=1_site_0a1b2c3 pre_deploy post_deploy environment
release=2_site_0a1b2c3 pre_deploy environment
"""

HEALTH: Final = '{"command": "true", "url": "", "interval": 2, "post_deploy_as": "www"}'

READERS: Final[dict[str, Callable[[str], object]]] = {
    "probe": answers.identity,
    "check": functools.partial(answers.facts, modules={FOLDER: "site"}),
    "try": answers.trial,
    "environment": answers.trial,
    "recall": answers.health,
    "restore": functools.partial(answers.restored, targets=[TARGET]),
    "lock": answers.locked,
    "share": answers.warnings,
    "receive": answers.warnings,
    "pull": answers.warnings,
}
"""The readers of what scripts print where they end well."""

ERRORS: Final[dict[str, Callable[[str], object]]] = {
    "holder": answers.holder,
    "outlived": answers.outlived,
    "reason": answers.reason,
    "run_of": answers.run_of,
}
"""The readers of what is on stderr where they fail."""

TRUE: Final = {
    "probe": "home=/root\nuid=0\nuser=root\n",
    "check": CHECKED,
    "try": "tmp=/tmp mkdir: cannot create: Read-only file system\nnoexec= /tmp\n",
    "environment": "noexec=pre_deploy /ghost\nunfit=post_deploy no such file\n",
    "recall": HEALTH,
    "restore": f"restored,post_deploy {TARGET}\nverify {HEALTH}\n",
    "lock": "locked 4711 815, taken over from run 1 by bob; its last sign of life",
    "share": "warning: shared log was there\n",
    "receive": "tar: x: odd\nwarning: shared log was there\n",
    "pull": "",
    "holder": "setlocale: no\nrun 20261127T101500Z-0a1b2c (deploy) by ann, since 10:15",
    "outlived": f"ghost-outlive {FOLDER}/.ghost/2_site_0a1b2c3/before_switch.sh "
    "before_switch@0f@run-1 (pid 7)",
    "reason": "mkdir: /ghost: Permission denied",
    "run_of": "run 20261127T101500Z-0a1b2c (deploy) by ann",
}

LIES: Final = {
    "probe": (
        "",
        "uid=0\n",
        "home=/root\nuid=0",
        "home=\nuid=0\nuser=root\n",
        "home=/root\nuid=²\nuser=root\n",
        f"home=/root\nuid={'9' * 5000}\nuser=root\n",
        "home=/root\nuid=0\nuser=root; reboot #\n",
        "home=/ro\x1bot\nuid=0\nuser=root\n",
    ),
    "check": (
        "",
        "uid=0\ngid=0\n",
        CHECKED.replace("target=link\n", ""),
        CHECKED.replace(FOLDER, "/ghost/shop/prod/web/worker"),
        CHECKED.replace("uid=0", "uid=root"),
        CHECKED.replace("gid=0", f"gid={2**60}"),
        CHECKED.replace("7:", f"{2**60}:"),
        CHECKED.replace("rename=mv", "rename=rm -rf /;"),
        CHECKED.replace("target=link", "target=socket"),
        CHECKED.replace("unwritable=/srv", "unwritable=`reboot`"),
        f"module={FOLDER}\n" * 3,
    ),
    "recall": (
        "[" * 1_000_000,
        "{torn",
        "[]",
        "7",
        "null",
        '{"interval": "soon"}',
        '{"interval": true}',
        '{"interval": NaN}',
        '{"interval": -1}',
        '{"interval": 1e999}',
        f'{{"interval": 1{"0" * 400}}}',
        '{"command": ["rm"]}',
        '{"command": "\\ud800"}',
        '{"command": "a\\u0000b"}',
        '{"post_deploy_as": "www; reboot"}',
    ),
    "restore": (
        "",
        "restored /srv/other\n",
        f"restored {TARGET}\nverify {'[' * 1_000_000}\n",
        f"verify {HEALTH}\n",
        f"gone {TARGET}\n",
        TARGET,
    ),
    "lock": ("", "held", "locked ²", "locked 1e9", f"locked {'9' * 500}", "\x1b[2J"),
}
"""Answers that are no answers."""

_ODD: Final = st.sampled_from(
    (
        *(b"\n", b"\x00", b"\x1b[2J", b"\xff", b"=", b":", b",", b" ", b"module="),
        *(
            "\u202e".encode(),
            "\u2028".encode(),
            "²".encode(),
            b"\xed\xa0\x80",
        ),
        *(str(2**60).encode(), b"9" * 5000, b"-1", b"1e999", b"[" * 5000, b"{", b'"'),
        *(b"../../etc/passwd", b"release=", b"7:outcome=live", b"\\0000", b"verify "),
    )
)


@st.composite
def mangled(draw: st.DrawFn, text: str) -> bytes:
    """Draw bytes that are *text*, cut, stretched and stirred."""
    data = text.encode(errors="surrogateescape")
    for _ in range(draw(st.integers(0, 4))):
        at, to = sorted(draw(st.integers(0, len(data))) for _ in range(2))
        match draw(st.sampled_from(("cut", "put", "double", "turn"))):
            case "cut":
                data = data[:at] + data[to:]
            case "put":
                data = data[:at] + draw(st.one_of(_ODD, st.binary())) + data[to:]
            case "double":
                data = data[:to] + data[at:]
            case _:
                lines = draw(st.permutations(data.split(b"\n")))
                data = b"\n".join(lines)
    return data


# --- On the wire -----------------------------------------------------------------


@attrs.define
class RawSession:
    """
    A session whose channels print *data* and end with *status*; None: they are cut.

    ``NONCE`` in *data* and *errors* is the word of the frame: who reads a script knows
    it. After *data* comes *flood*, again and again, until the channel is dropped.
    """

    data: bytes
    status: int | None = 0
    errors: bytes = b""
    flood: bytes = b""
    host: Host = attrs.field(factory=lambda: Host("web1"))
    key: str = ""
    nbytes: int = 0

    async def open(self) -> None:
        """Do nothing."""

    async def execute(
        self, command: str, *, output: OnOutput, errors: OnOutput
    ) -> RawChannel:
        """Begin to answer."""
        del command
        return RawChannel(self, output, errors)

    def abort(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


@attrs.define(eq=False)
class RawChannel:
    """One answer; it is given once the channel is waited for."""

    session: RawSession
    output: OnOutput
    errors: OnOutput
    aborted: bool = False
    text: bytes = b""
    told: bool = False
    over: anyio.Event = attrs.field(factory=anyio.Event)

    async def write(self, data: bytes | memoryview) -> None:
        self.text += bytes(data)

    def write_eof(self) -> None:
        self.over.set()

    async def wait(self) -> int | None:
        if not self.told:
            self.told = True
            nonce = self.text.partition(b"nonce=")[2].partition(b"\n")[0]
            self.errors(self.session.errors.replace(b"NONCE", nonce))
            self.output(self.session.data.replace(b"NONCE", nonce))
        while self.session.flood and not self.aborted:
            self.output(self.session.flood)
            self.session.nbytes += len(self.session.flood)
            await anyio.lowlevel.checkpoint()
        return None if self.aborted else self.session.status

    def abort(self) -> None:
        self.aborted = True
        self.over.set()
