"""
How many hosts serve, and whether one more may stop: what no wave undercuts.

Only keeps count and has others wait; who stops, and why, is decided elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import anyio
import attrs

__all__ = ["NoRoom", "Serving"]


class NoRoom(Exception):
    """However long one waits, no host may stop any more."""

    def __init__(self, least: int, left: int) -> None:
        hosts = "host" if least == 1 else "hosts"
        super().__init__(
            f"{least} {hosts} must serve and no more than {left} can: "
            "no other may be drained (rollout.min_serving)"
        )


@attrs.define(eq=False)
class _Turn:
    """A host that waits; *admitted* is set with *over*, or it is in vain."""

    host: str
    over: anyio.Event = attrs.field(factory=anyio.Event)
    admitted: bool = False


class Serving:
    """
    The hosts of a run that serve, of which *least* always do.

    With *least* 0 nobody waits. *hosts* all serve at first; others count once they are
    back, or are on their way (:meth:`stop`).
    """

    def __init__(self, hosts: Iterable[str] = (), least: int = 0) -> None:
        self.least = least
        self._serving = set(hosts)
        self._away: set[str] = set()
        self._queue: deque[_Turn] = deque()

    async def leave(self, host: str) -> None:
        """
        Wait, in turn, until *host* may stop serving; it does when this returns.

        One that does not serve need not wait.

        Raises:
            NoRoom: So many are lost that it never may.
        """
        if not self.least or host not in self._serving:
            return
        turn = _Turn(host)
        self._queue.append(turn)
        self._call()
        try:
            # One that need not wait cannot be cancelled here either.
            if not turn.admitted:
                await turn.over.wait()
        except BaseException:
            if turn.admitted:
                self.back(host)
            elif turn in self._queue:
                self._queue.remove(turn)
            raise
        if not turn.admitted:
            raise NoRoom(self.least, self._most)

    def stop(self, host: str) -> None:
        """Count *host* out at once: it does not serve any more, but may again."""
        self._serving.discard(host)
        self._away.add(host)

    def back(self, host: str) -> None:
        """Count *host* again: it serves."""
        self._away.discard(host)
        self._serving.add(host)
        self._call()

    def lose(self, host: str) -> None:
        """Count *host* no more: it does not serve, and nobody here can change that."""
        self._away.discard(host)
        self._serving.discard(host)
        self._call()

    @property
    def _most(self) -> int:
        """How many can serve once all that are away are back."""
        return len(self._serving) + len(self._away)

    def _call(self) -> None:
        """Let those go whose turn it is; where nobody ever may, tell all that wait."""
        while self._queue and len(self._serving) > self.least:
            turn = self._queue.popleft()
            self.stop(turn.host)
            turn.admitted = True
            turn.over.set()
        if self._most <= self.least:
            for turn in self._queue:
                turn.over.set()
            self._queue.clear()
