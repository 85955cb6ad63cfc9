"""
One service of AWS, with its connections as long as somebody uses them.

A client tries calls again that may succeed then, and slows down where AWS asks for
that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.to_thread
import attrs

from .errors import AwsError, explained
from .maker import client_maker

__all__ = ["Account", "Service"]

TRIES: Final = 6
"""Attempts of a call that may succeed later."""

_CLOSING: Final = 5.0

_ACTIONS: Final = {"elb": "elasticloadbalancing", "elbv2": "elasticloadbalancing"}
"""Services whose permissions have another name."""


@attrs.frozen
class Account:
    """
    The way to AWS; credentials are where the AWS command line finds them.

    *where* is the table of the configuration that the other two are keys of.
    """

    where: str
    region: str = ""
    endpoint_url: str = ""


class Service:
    """
    A service by its name in the library.

    A context manager that any number of tasks may have entered: the first one opens the
    client, and the last one closes it.
    """

    def __init__(self, name: str, account: Account) -> None:
        self._name, self._account = name, account
        self._turn = anyio.Lock()
        self._users = 0
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        async with self._turn:
            if not self._users:
                # The library imports, and reads what a service can do, for a second.
                make = await anyio.to_thread.run_sync(
                    _client_maker, self._name, self._account
                )
                try:
                    self._client = await self._stack.enter_async_context(make())
                except Exception as exc:
                    raise explained(exc, self._name, self._account.where) from exc
            self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(_CLOSING, shield=True):
            async with self._turn:
                self._users -= 1
                if not self._users:
                    await self._stack.aclose()

    async def call(self, method: str, **how: Any) -> Any:
        """
        Make a call, and return its answer.

        Raises:
            AwsError: It failed; the text names the permission that it needs.
        """
        try:
            return await getattr(self._client, method)(**how)
        except Exception as exc:
            name = "".join(word.capitalize() for word in method.split("_"))
            what = f"{_ACTIONS.get(self._name, self._name)}:{name}"
            raise explained(exc, what, self._account.where) from exc

    async def items(self, method: str, key: str, **how: Any) -> AsyncIterator[Any]:
        """Yield what all pages of an answer list under *key*."""
        more: dict[str, str] = {}
        while True:
            page = await self.call(method, **how, **more)
            for item in page.get(key, ()):
                yield item
            if token := page.get("NextToken"):
                more = {"NextToken": token}
            elif token := page.get("NextMarker"):
                more = {"Marker": token}
            else:
                return


def _client_maker(service: str, account: Account) -> Callable[[], Any]:
    """
    Return a function that opens a client.

    Raises:
        AwsError: The extra ``aws`` is not installed.
    """
    try:
        return client_maker(
            service,
            account.region,
            account.endpoint_url,
            mode="adaptive",
            tries=TRIES,
        )
    except ImportError:
        text = f"{account.where}: AWS needs more: pip install 'ghostasync[aws]'"
        raise AwsError(text) from None
