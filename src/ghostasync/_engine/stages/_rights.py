"""Whether scripts may run on a host as the users that the plan names."""

from __future__ import annotations

from ..._remote.call import query
from ...errors import RemoteError
from ..host import HostRun

__all__ = ["rights"]


async def rights(ctx: HostRun) -> list[str]:
    """Return what keeps scripts from running as other users, each with what to do."""
    users = {user: m.name for m in ctx.modules for user in sorted(m.users)}
    users.pop(ctx.login, None)
    return [
        finding
        for user, module in users.items()
        if (finding := await _finding(ctx, user, module))
    ]


async def _finding(ctx: HostRun, user: str, module: str) -> str:
    try:
        await query(ctx.session, "change_user", user, "exit 0", sudo=ctx.sudo)
    except RemoteError as exc:
        why = exc.tail.strip() or str(exc)
    else:
        return ""
    finding = f"scripts of {module} cannot run as {user}: {why}"
    if ctx.login == "root" or why.startswith("there is no user"):
        return finding
    return f"{finding}; add to sudoers: {ctx.login} ALL=({user}) NOPASSWD: ALL"
