"""``ghostasync init``, which needs no plan and no more than a template."""

from __future__ import annotations

import re
import sys

from ..config import template
from ..errors import PlanError
from ..manual import complete
from ._options import COMMON, Common, Flag
from ._sink import show

__all__ = ["init"]


def init(*, full: Flag = False, options: Common = COMMON) -> int:
    """
    Write a short ghostasync.toml to begin with; never overwrites one.

    Args:
        full: Write every key and its meaning; those with a default are commented out.

        options: As everywhere.
    """
    path = options.path()
    name = re.sub("[^A-Za-z0-9]+", "-", path.absolute().parent.name).strip("-")
    text = template(name or "app")
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
