"""CONNECTING: one connection for the whole run, and who we are at its other end."""

from __future__ import annotations

import anyio

from ... import events as e
from ..._remote.call import query
from ..._remote.facts import parse_identity
from ...errors import ConnectionDied, DeadlinePassed, Refused, RemoteError
from ..host import Context

__all__ = ["connect"]


async def connect(ctx: Context) -> e.Connected:
    """
    Log in and make sure that the login runs our commands.

    Raises:
        Unreachable: No connection, login refused, or the wrong host key.
        Refused: The login runs something else (a forced command, nologin), or may not
            use sudo.
    """
    started, seconds = anyio.current_time(), ctx.run.deadlines.connect
    await ctx.session.open()
    try:
        with anyio.fail_after(seconds):
            ctx.identity = parse_identity(await _ask(ctx))
    except TimeoutError:
        what = "the login was accepted, but its first command was"
        raise DeadlinePassed(ctx.name, "connect", seconds, what=what) from None
    except (ConnectionDied, RemoteError, LookupError) as exc:
        raise Refused(
            ctx.name,
            f"the login does not run commands ({exc}); it needs a shell, and no "
            "forced command in authorized_keys or sshd_config",
        ) from exc
    if ctx.sudo and ctx.identity.sudo:
        words, user = ctx.identity.sudo.strip(), ctx.identity.user
        raise Refused(ctx.name, f"sudo -n refused: {words}; {_cure(words, user)}")
    return e.Connected(ctx.name, seconds=anyio.current_time() - started)


async def _ask(ctx: Context) -> str:
    """Ask the host who we are there; once more where the connection dies under it."""
    wanted = ("sudo",) if ctx.run.plan.ssh.sudo else ()
    try:
        return await query(ctx.session, "probe", *wanted)
    except ConnectionDied:
        ctx.disconnect()
    await ctx.session.open()
    return await query(ctx.session, "probe", *wanted)


def _cure(words: str, user: str) -> str:
    """Return what root has to do there, by what sudo complained about."""
    line = f"{user} ALL=(root) NOPASSWD: ALL"
    if "not found" in words or "ermission denied" in words:
        return "install sudo, or log in as root"
    if " tty" in words:
        line = f"Defaults:{user} !requiretty"
    return f"as root: echo '{line}' >/etc/sudoers.d/ghostasync"
