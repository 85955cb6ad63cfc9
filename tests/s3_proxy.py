"""A proxy before a server that speaks S3, which spoils one call."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import AsyncIterator
from typing import Final, Literal

import aiohttp
import anyio
import attrs
from aiohttp import web

from tests.s3_servers import S3Server

Fault = Literal["answer lost", "reset", "503", "slow", "answer cut"]
FAULTS: Final[tuple[Fault, ...]] = (
    *("answer lost", "reset", "503", "slow", "answer cut"),
)

SLOW: Final = 0.3
_BUSY: Final = "<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"


@attrs.define
class Proxy:
    """
    Passes calls on; the one of number *at*, from 0, meets *fault*.

    While it is *away* each is cut off, and always one that the expression *cuts* finds.
    *calls* are those that came: method and path. Parameters that it *ignores* are taken
    out.
    """

    upstream: str
    session: aiohttp.ClientSession
    fault: Fault | None = None
    at: int = -1
    away: bool = False
    cuts: str | None = None
    ignores: str = ""
    calls: list[str] = attrs.field(factory=list)
    more: anyio.Event = attrs.field(factory=anyio.Event)

    async def until(self, text: str) -> None:
        """Wait for a call in which *text* is."""
        while not any(text in call for call in self.calls):
            await self.more.wait()

    def spoil(self, fault: Fault | None, at: int) -> None:
        """Count from 0 again."""
        self.fault, self.at, self.calls = fault, at, []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fault = self.fault if len(self.calls) == self.at else None
        call = f"{request.method} {request.path_qs}"
        self.calls.append(call)
        cut = self.away or (self.cuts and re.search(self.cuts, call))
        self.more.set()
        self.more = anyio.Event()
        transport = request.transport
        assert transport is not None
        if fault == "503":
            return web.Response(status=503, text=_BUSY, content_type="application/xml")
        if fault == "reset" or cut:
            transport.abort()
            return web.Response()
        if fault == "slow":
            await anyio.sleep(SLOW)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "expect"}
        async with self.session.request(
            request.method,
            self.upstream + self._without(request.raw_path),
            headers=headers,
            data=io.BytesIO(body),
            skip_auto_headers=("Content-Type",),
        ) as found:
            data = await found.read()
            kept = {
                key: value
                for key, value in found.headers.items()
                if key.lower()
                not in {"content-length", "transfer-encoding", "connection"}
            }
        if fault == "answer lost":
            transport.abort()
            return web.Response()
        if fault == "answer cut" and len(data) > 1:
            response = web.StreamResponse(status=found.status, headers=kept)
            response.content_length = len(data)
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            transport.abort()
            return response
        if request.method == "HEAD":
            kept["Content-Length"] = found.headers.get("Content-Length", "0")
        return web.Response(status=found.status, headers=kept, body=data)

    def _without(self, path: str) -> str:
        return re.sub(rf"\b{self.ignores}=[^&]*", "", path) if self.ignores else path


@contextlib.asynccontextmanager
async def proxy(server: S3Server) -> AsyncIterator[tuple[Proxy, S3Server]]:
    """Run a proxy; hand it out with the server as clients see it through it."""
    # Each answer is passed on whole, and as it was encoded.
    connector = aiohttp.TCPConnector(limit=0)
    making = aiohttp.ClientSession(connector=connector, auto_decompress=False)
    async with making as session:
        found = Proxy(server.endpoint, session)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", found.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            endpoint = f"http://127.0.0.1:{port}"
            yield found, attrs.evolve(server, endpoint=endpoint)
        finally:
            await runner.cleanup()
