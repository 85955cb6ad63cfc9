"""``ghostasync boot-script``, which prints what new hosts run."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import ghostasync as api

from ..errors import PlanError
from ._options import COMMON, Common, Flag
from ._running import run_async
from ._sink import show

__all__ = ["boot_script"]


def boot_script(
    *,
    user_data: Flag = False,
    unit: Flag = False,
    base_url: str = "",
    group: str = "",
    hook: str = "",
    wait: int = 900,
    options: Common = COMMON,
) -> int:
    """
    Print the script by which a new host gets what MANIFEST names, by itself.

    Args:
        user_data: Print a short one for cloud-init: it gets the script from the store,
            which keeps it, to /var/lib/ghostasync/boot, and runs it.

        unit: Print a unit of systemd instead, that runs that script at every boot.

        base_url: Where hosts reach a store that is a folder, served by HTTP.

        group: The Auto Scaling group whose lifecycle action is completed.

        hook: The lifecycle hook of that group.

        wait: Seconds to wait for the network, the store and another run.

        options: As everywhere.
    """
    if unit and user_data:
        raise PlanError("boot-script: --unit or --user-data; they are two files")
    if unit:
        text = api.boot_unit()
    else:
        told: dict[str, Any] = {"base_url": base_url, "group": group, "hook": hook}
        kept = partial(api.boot_user_data, options.plan(), wait=wait, **told)
        text = (
            run_async(kept)
            if user_data
            else api.boot_script(options.plan(), wait=wait, **told)
        )
    show(text.split("\n")[:-1], sys.stdout, exact=True)
    return 0
