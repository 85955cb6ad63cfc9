"""
CONNECTING: one connection for the whole run, and the identity at its other end.

A login that is accepted says nothing about what it runs: a forced command ignores ours,
nologin exits, and the first command can hang where the login does not (PAM, logind).
So a host is connected once ``probe.sh`` has answered.
"""

from __future__ import annotations

import anyio

from ... import events as e
from ..._remote import answers
from ..._remote.call import query
from ..._remote.facts import Identity
from ...errors import (
    BadAnswer,
    ConnectionDied,
    DeadlinePassed,
    Refused,
    RemoteError,
)
from ..host import HostRun

__all__ = ["connect"]


async def connect(ctx: HostRun) -> e.Connected:
    """
    Log in and make sure that the login runs our commands.

    Raises:
        Unreachable: No connection, login refused, or the wrong host key.
        Refused: The login runs something else (a forced command, nologin), or may not
            use sudo.
    """
    started, seconds = anyio.current_time(), ctx.run.deadlines.connect
    await ctx.session.open()
    # The transport bounds the login. The first command has a time of its own: behind
    # PAM and logind it may take 25 to 120 s after the login was accepted.
    try:
        with anyio.fail_after(seconds):
            ctx.attempt.identity = await _ask(ctx)
    except TimeoutError:
        what = "the login was accepted, but its first command was"
        raise DeadlinePassed(ctx.name, "connect", seconds, what=what) from None
    except (ConnectionDied, RemoteError, BadAnswer) as exc:
        raise Refused(
            ctx.name,
            f"the login does not run commands ({exc}); it needs a shell, and no "
            "forced command in authorized_keys or sshd_config",
        ) from exc
    if ctx.sudo and ctx.attempt.identity.sudo:
        complaint, user = ctx.attempt.identity.sudo.strip(), ctx.attempt.identity.user
        cure = _cure(complaint, user, ctx.sudo)
        raise Refused(ctx.name, f"sudo -n refused: {complaint}; {cure}")
    seconds = anyio.current_time() - started
    return e.Connected(ctx.name, seconds=seconds, key=ctx.session.key)


async def _ask(ctx: HostRun) -> Identity:
    """Ask the host for the login's identity, on a second connection if one dies."""
    args = (ctx.sudo,) if ctx.sudo else ()
    try:
        return await query(ctx.session, "probe", *args, read=answers.identity)
    except ConnectionDied:
        ctx.disconnect()
    await ctx.session.open()
    return await query(ctx.session, "probe", *args, read=answers.identity)


def _cure(complaint: str, login: str, user: str) -> str:
    """Return what root has to do on the host, by what sudo complained about."""
    line = f"{login} ALL=({user}) NOPASSWD: ALL"
    if "unknown user" in complaint:
        return f"as root: useradd --system {user}"
    if "not found" in complaint or "ermission denied" in complaint:
        return "install sudo, or log in as root"
    if " tty" in complaint:
        line = f"Defaults:{login} !requiretty"
    return f"as root: echo '{line}' >/etc/sudoers.d/ghostasync"
