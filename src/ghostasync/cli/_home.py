"""A home folder for a process that has none, as in a container."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import ConfigError

__all__ = ["find_home"]


def find_home() -> None:
    """
    Have HOME name a folder of ours, where who runs this has no home folder.

    A container may give "/" to a uid that it has no name for, or nothing at all. git,
    asyncssh and buildpacks look for files of ours there, as we do.

    Raises:
        ConfigError: The folder is somebody else's, or cannot be made.
    """
    home = os.path.expanduser("~")  # noqa: PTH111  Path's raises RuntimeError
    if home != "~" and (home != "/" or os.geteuid() == 0):
        return
    temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  it is made ours
    folder = Path(temporary) / f"ghostasync-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise ConfigError([f"there is no home folder here: set HOME ({exc})"]) from exc
    # Whoever made it before us could have git run what they like.
    made = folder.lstat()
    own = stat.S_ISDIR(made.st_mode) and made.st_uid == os.geteuid()
    if not own or made.st_mode & 0o022:
        raise ConfigError(
            [f"there is no home folder here: set HOME ({folder} is somebody else's)"]
        )
    os.environ["HOME"] = str(folder)
