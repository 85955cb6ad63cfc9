"""
Gates on a host: who comes by first waits there until the test says what to do.

A gate stands in a tool that the engine uses (``tar``, ``mv``, …) or in a script of the
app. One that is not armed lets everybody through; one that is stops one process, once.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

import attrs

__all__ = ["GATED_PATH", "HOLD", "TOOLS", "Gate", "install"]

GATED_PATH: Final = "/mnt:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of a host whose tools have gates."""

HOLD: Final = "/mnt/hold"
"""What scripts call: ``/mnt/hold NAME || exit``."""

REACHING: Final = 40.0
"""Seconds that a run may take to come to a gate, on a busy machine."""

_HEAD: Final = "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n"

_HOLD: Final = (
    _HEAD
    + """\
# usage: hold NAME   (waits where NAME is armed, then does what it is told)
cd /mnt/gates && [ -e "$1.armed" ] || exit 0
mv "$1.armed" "$1.held" 2>/dev/null || exit 0
echo "$1" >"$1.reached"
read -r what <"$1.go" || exit 0
eval "$what"
"""
)

TOOLS: Final = {
    # Only the probe of CONNECTING asks for a name.
    "id": '[ "$1" != -un ] || /mnt/hold id || exit\nexec id "$@"\n',
    "df": '[ ! -e /mnt/gates/df.armed ] || /mnt/hold df || exit\nexec df "$@"\n',
    "tar": '[ ! -e /mnt/gates/tar.armed ] || /mnt/hold tar || exit\nexec tar "$@"\n',
    "mv": """\
[ "$1 $3" = "-T /srv/site" ] || exec mv "$@"
case $(tr '\\0' ' ' </proc/$PPID/cmdline) in
*ghost-switch*) /mnt/hold switch && mv "$@" && /mnt/hold switched ;;
*ghost-restore*) /mnt/hold restore && mv "$@" && /mnt/hold restored ;;
*) exec mv "$@" ;;
esac
""",
}


def install(folder: Path, tools: Iterable[str] = TOOLS) -> None:
    """Put gates into *folder*, a host's ``/mnt``."""
    texts = {"hold": _HOLD} | {name: _HEAD + TOOLS[name] for name in tools}
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "gates").mkdir()


@attrs.define(eq=False)
class Gate:
    """One gate of a host, from when it is armed until it is closed."""

    _stem: Path
    _reached: int
    _go: int

    @classmethod
    def arm(cls, folder: Path, name: str) -> Self:
        """Arm the gate *name* of the host whose ``/mnt`` is *folder*."""
        stem = folder / "gates" / name
        pipes = []
        for suffix in (".reached", ".go"):
            os.mkfifo(f"{stem}{suffix}")
            # For both ways, so that nobody waits for the other side to open it.
            pipes.append(os.open(f"{stem}{suffix}", os.O_RDWR | os.O_NONBLOCK))
        Path(f"{stem}.armed").touch()
        return cls(stem, *pipes)

    def wait(self, seconds: float = REACHING) -> None:
        """Return once somebody waits at the gate."""
        ready, _, _ = select.select([self._reached], [], [], seconds)
        if not ready:
            raise TimeoutError(f"nobody came to {self._stem.name} in {seconds} s")

    def go(self, what: str = ":") -> None:
        """Tell who waits there to do *what*, a line of sh, and to go on."""
        os.write(self._go, f"{what}\n".encode())

    def close(self) -> None:
        """Let who still waits go on, and take the gate away."""
        os.close(self._reached)
        os.close(self._go)
        for suffix in (".reached", ".go", ".armed", ".held"):
            Path(f"{self._stem}{suffix}").unlink(missing_ok=True)
