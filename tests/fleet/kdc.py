"""A real Kerberos realm on loopback: its KDC, the keys of a host and of a user."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from tests.fleet.ports import reserve

__all__ = ["KDC", "Realm", "realm"]

KDC: Final = "/usr/sbin/krb5kdc"
START_SECONDS: Final = 20

CLIENTS: Final = """\
[libdefaults]
 default_realm = EXAMPLE.TEST
 default_keytab_name = {folder}/keytab
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 EXAMPLE.TEST = {{
  kdc = 127.0.0.1:{port}
 }}
"""

SERVER: Final = """\
[logging]
 kdc = FILE:{folder}/log
[realms]
 EXAMPLE.TEST = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
 }}
"""

PRINCIPALS: Final = """\
addprinc -randkey root
addprinc -randkey host/localhost
ktadd -k {folder}/keytab host/localhost
ktadd -k {folder}/user root
"""


@attrs.frozen
class Realm:
    """*environ* is what its members need: the user ``root``, the host ``localhost``."""

    folder: Path

    @property
    def environ(self) -> Mapping[str, str]:
        """Return the variables that lead to this realm, and to its user's tickets."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5CCNAME": f"FILE:{self.folder}/tickets",
        }

    def log_in(self) -> None:
        """Get the user a ticket, as kinit does at a terminal."""
        _run(self.environ, "kinit", "-k", "-t", str(self.folder / "user"), "root")

    def tickets(self) -> str:
        """Return the tickets that the user has by now."""
        return _run(self.environ, "klist")


@contextlib.contextmanager
def realm(folder: Path) -> Iterator[Realm]:
    """Start a realm of its own in *folder*, without tickets."""
    folder.mkdir()
    with reserve() as held:
        names = {"folder": folder, "port": held.getsockname()[1]}
        (folder / "krb5.conf").write_text(CLIENTS.format(**names))
        (folder / "kdc.conf").write_text(SERVER.format(**names))
        here = Realm(folder)
        env = {**here.environ, "KRB5_KDC_PROFILE": str(folder / "kdc.conf")}
        _run(env, "kdb5_util", "create", "-s", "-P", "secret")
        _run(env, "kadmin.local", stdin=PRINCIPALS.format(**names))
        process = subprocess.Popen([KDC, "-n"], env={**os.environ, **env})
        try:
            _await_start(process, folder / "log")
            yield here
        finally:
            process.kill()
            process.wait()


def _run(env: Mapping[str, str], *words: str, stdin: str = "") -> str:
    done = subprocess.run(
        words,
        check=True,
        capture_output=True,
        text=True,
        input=stdin,
        env={**os.environ, **env, "PATH": f"/usr/sbin:{os.environ['PATH']}"},
    )
    return done.stdout


def _await_start(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not log.exists() or "commencing operation" not in log.read_text():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no KDC: {log.read_text() if log.exists() else ''}")
        time.sleep(0.005)
