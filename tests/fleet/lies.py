"""
Hosts that lie: their ``/bin/sh`` answers a script of ours by itself, where it is told.

A liar stands in the place of the shell, in the host's own namespaces. It hands all on
to the honest one, but for scripts that a lie is told about.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tests.fleet.sshd import SshdFleet

__all__ = ["LIED_ABOUT", "LIES", "be_honest", "have_lying", "install", "lie"]

_LIAR: Final = """\
#!/mnt/honest-sh
# usage: as sh; a script of ours comes as: -c COMMAND ghost-NAME WORD
case ${3-} in ghost-*) ;; *) exec /mnt/honest-sh "$@" ;; esac
lie=/mnt/lies/${3#ghost-}
[ -f "$lie" ] || lie=/mnt/lies/all
[ -f "$lie" ] || exec /mnt/honest-sh "$@"
honest() { /mnt/honest-sh "$@"; }
begin() { # reads the first line of the script's text, which has the word of its frame
	IFS= read -r nonce && nonce=${nonce#nonce=}
	printf '\\n%s begin\\n' "$nonce"
}
end() { printf '\\n%s end %s\\n' "$nonce" "$1"; }
. "$lie"
"""

LIES: Final = {
    "nothing": "begin; end 0",
    "half": "begin; printf 'uid=0\\ngid=0\\nhome=/root\\nmodule=/x'",
    "half and a status": "begin; printf 'uid=0\\ngid=0\\nhome=/root\\n'; end 0",
    "noise": "begin; head -c 3000 /dev/urandom; end 0",
    "no frame": "head -c 3000 /dev/urandom",
    "another status": "begin; end 99999999999999999999",
    "no end": "begin; tr '\\000' x </dev/zero",
    "lines without end": "begin; yes",
    "errors without end": "begin; yes >&2",
    "another folder": 'honest "$@" | sed "s,^module=.*,module=/ghost/other,"',
    "a wild number": 'honest "$@" | sed "s/^fence=[0-9]*/fence=1152921504606846976/; '
    's/^[0-9][0-9]*:/1152921504606846976:/"',
    "a high number": 'honest "$@" | sed "s/^fence=[0-9]*/fence=900000000000000/"',
    "a lock": "begin; echo 'run 20200101T000000Z-ffffff (deploy) by eve' >&2; end 75",
    "tricks": "begin; printf '\\033[2J\\342\\200\\256\\342\\200\\250\\n"
    "00:00:00 h9  live\\302\\205\\n' >&2; end 1",
}
"""What a host may be told to say; sh for the liar."""

LIED_ABOUT: Final = (
    *("probe", "lock", "check", "receive", "environment", "record_moves", "restore"),
)
"""Scripts about which a soak has hosts lie: their lies are found out at once."""

_MOUNT: Final = 'mount --bind {} "$(readlink -f /bin/sh)"\n'


def install(fleet: SshdFleet, host: str) -> None:
    """Have a host be able to lie, from when it is started; it is honest at first."""
    folder = _folder(fleet, host)
    shutil.copy2(Path("/bin/sh").resolve(), folder / "honest-sh")
    (folder / "liar").write_text(_LIAR)
    (folder / "liar").chmod(0o755)
    (folder / "lies").mkdir()
    with folder.with_name("mounts").open("a") as mounts:
        mounts.write(_MOUNT.format('"$1/bin/liar"'))


def have_lying(fleet: SshdFleet, host: str) -> None:
    """Have a host that runs be able to lie."""
    install(fleet, host)
    fleet.shell(host, _MOUNT.format("/mnt/liar"))


def lie(fleet: SshdFleet, host: str, script: str, what: str) -> None:
    """
    Have a host answer *script* by a lie of :data:`LIES`, from now on.

    The script ``all`` is any.
    """
    (_folder(fleet, host) / "lies" / script).write_text(f"{LIES[what]}\n")


def be_honest(fleet: SshdFleet, host: str) -> None:
    """Have a host tell no lies any more."""
    for file in (_folder(fleet, host) / "lies").iterdir():
        file.unlink()


def _folder(fleet: SshdFleet, host: str) -> Path:
    return fleet.path(host, "/ghost").with_name("bin")
