"""pyinfra: put the gzip archive on the host, then unpack it."""

from __future__ import annotations

from pyinfra.operations import (  # type: ignore[import-not-found]  # in another venv
    files,
    server,
)

files.put(src="archive.tar.gz", dest="/ghost/archive.tar.gz")
server.shell(
    "mkdir -p /ghost/bench && tar -xzf /ghost/archive.tar.gz -C /ghost/bench "
    "&& rm /ghost/archive.tar.gz"
)
