"""A web application on hosts behind a balancer, and visitors who ask all the time."""

from __future__ import annotations

import shutil
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

__all__ = ["APP", "HEALTHY", "POST_DEPLOY", "Visitors", "until"]

CLIENTS = 6
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable

APP = """\
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
version = open("/srv/site/version", "rb").read()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.0 if self.path == "/health" else 0.05)
        self.send_response(200)
        self.send_header("Content-Length", str(len(version)))
        self.end_headers()
        self.wfile.write(version)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# An application that has to be restarted, and is away for a while.
POST_DEPLOY = f"""\
set -eu
eval "port=\\$PORT_$GHOST_HOST"
if [ -f /srv/pid ]; then
    kill "$(cat /srv/pid)"
    while kill -0 "$(cat /srv/pid)" 2>/dev/null; do sleep 0.1; done
fi
sleep 0.5
setsid {PYTHON} app.py "$port" </dev/null >/dev/null 2>&1 &
echo "$!" >/srv/pid
"""

HEALTHY = (
    f"{PYTHON} -c 'import sys, urllib.request as u;"
    ' u.urlopen("http://127.0.0.1:%s/health" % sys.argv[1], timeout=3)\''
    ' "$(eval "echo \\$PORT_$GHOST_HOST")"'
)


@attrs.define
class Visitors:
    """Clients that ask all the time, and what they got."""

    url: str
    got: Counter[str] = attrs.field(factory=Counter)
    over: threading.Event = attrs.field(factory=threading.Event)

    def ask(self) -> str:
        try:
            with urllib.request.urlopen(self.url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError as exc:
            return f"error: {exc}"

    def _stay(self) -> None:
        while not self.over.is_set():
            self.got[self.ask()] += 1

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._stay) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
