"""``ghostasync init``, which needs no plan and no more than a template."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..config import template
from ..errors import PlanError
from ..manual import complete
from ._options import COMMON, Common, Flag
from ._sink import show

__all__ = ["init"]


def init(*, full: Flag = False, options: Common = COMMON) -> int:
    """
    Write a short ghostasync.toml to begin with; never overwrites one.

    In a git repository the source is that repository, else the folder.

    Args:
        full: Write every key and its meaning; those with a default are commented out.

        options: As everywhere.
    """
    path = options.path()
    folder = path.absolute().parent
    name = re.sub("[^A-Za-z0-9]+", "-", folder.name).strip("-")
    git, rev = _repository(folder, os.environ)
    text = template(name or "app", git=git, rev=rev)
    try:
        # "x": another process may write the file between a look and the opening.
        with path.open("x", encoding="utf-8") as file:
            file.write(complete(text) if full else text)
    except FileExistsError:
        raise PlanError(f"{path}: is there already; move it away first") from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be written: {error.strerror}") from None
    show([f"{path} is written; fill in the hosts, then: ghostasync check"], sys.stdout)
    return 0


def _repository(folder: Path, environ: Mapping[str, str]) -> tuple[str, str]:
    """
    Return the address and the branch of the repository that *folder* is in.

    The address is that of the remote, without credentials, or else a path; both are
    empty where there is no repository, or no git.
    """
    # A variable that a hook leaves behind would lead to another repository.
    env = {k: v for k, v in environ.items() if not k.startswith("GIT_")}

    def ask(*words: str) -> str:
        argv = ["git", "-C", str(folder), *words]
        try:
            done = subprocess.run(argv, capture_output=True, check=False, env=env)
        except OSError:
            return ""
        return os.fsdecode(done.stdout).strip() if done.returncode == 0 else ""

    top = ask("rev-parse", "--show-cdup", "--show-toplevel")
    if not top:
        return "", ""
    remote = ask("config", "--get", "remote.origin.url")
    default = ask("symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    branch = ask("symbolic-ref", "--short", "HEAD")
    if not remote or remote.startswith("."):
        up, _, _ = top.rpartition("\n")
        return up.rstrip("/") or ".", branch or "main"
    return _bare(remote), default.removeprefix("origin/") or branch or "main"


def _bare(url: str) -> str:
    """Return *url* without a password, or a name or query that may be a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # check says what is wrong with it
    if parts.scheme in {"http", "https"}:
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="").geturl()
    return re.sub(r"\A(\w[\w+.-]*://[^/?#@:]*):[^/?#]*@", r"\1@", url)
