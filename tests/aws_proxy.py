"""A proxy before moto, behind which load balancers take their time, as in AWS."""

from __future__ import annotations

import base64
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

import aiohttp
import anyio
import attrs
from aiohttp import web

from tests.aws_server import Aws

__all__ = ["AwsProxy", "aws_proxy"]

_ENTERS: Final = ("RegisterTargets", "RegisterInstancesWithLoadBalancer")
_LEAVES: Final = ("DeregisterTargets", "DeregisterInstancesFromLoadBalancer")
_STATES: Final = ("DescribeTargetHealth", "DescribeInstanceHealth")
_ERROR: Final = (
    "<ErrorResponse><Error><Code>{code}</Code><Message>{text}</Message></Error>"
    "<RequestId>1</RequestId></ErrorResponse>"
)
_TARGET: Final = (
    "<member><Target><Id>{id}</Id><Port>80</Port></Target><TargetHealth><State>{state}"
    "</State><Description>{text}</Description></TargetHealth></member>"
)
_INSTANCE: Final = (
    "<member><InstanceId>{id}</InstanceId><State>{state}</State>"
    "<Description>{text}</Description></member>"
)

Place = tuple[str, str]
"""A target group or load balancer, and a target in it."""


@attrs.define
class AwsProxy:
    """
    Passes calls on; a target that comes or goes is on its way for *polls* looks at it.

    *calls* counts those that came, by action; an action in *refused* fails, with the
    code there. While it is *stale*, states are told as they were first. *consoles* are
    what instances have written, by their ids.
    """

    upstream: str
    session: aiohttp.ClientSession
    polls: int = 2
    refused: dict[str, str] = attrs.field(factory=dict)
    stale: bool = False
    first: str = ""
    consoles: dict[str, str] = attrs.field(factory=dict)
    calls: Counter[str] = attrs.field(factory=Counter)
    coming: dict[Place, int] = attrs.field(factory=dict)
    going: dict[Place, int] = attrs.field(factory=dict)
    more: anyio.Event = attrs.field(factory=anyio.Event)

    async def until(self, action: str, count: int = 1) -> None:
        """Wait until an action has been asked for so often, from now on."""
        wanted = self.calls[action] + count
        while self.calls[action] < wanted:
            await self.more.wait()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        form = dict(parse_qsl(body.decode()))
        action = form.get("Action", "")
        place = form.get("TargetGroupArn") or form.get("LoadBalancerName", "")
        ids = [v for k, v in form.items() if k.endswith((".Id", ".InstanceId"))]
        self.calls[action] += 1
        self.more.set()
        self.more = anyio.Event()
        if code := self.refused.get(action):
            return _error(code, f"not {action}")
        if action == "GetConsoleOutput":
            return _console(form["InstanceId"], self.consoles)
        for identity in ids:
            if action in _ENTERS:
                self.going.pop((place, identity), None)
                self.coming[place, identity] = self.polls
            if action in _LEAVES:
                self.coming.pop((place, identity), None)
                self.going[place, identity] = self.polls
        async with self.session.post(
            self.upstream, data=body, headers=dict(request.headers)
        ) as found:
            text, kind = await found.text(), found.headers["Content-Type"]
        if action in _STATES:
            wanted = [i for p, i in self.going if p == place and (not ids or i in ids)]
            if action == "DescribeInstanceHealth" and ids:
                gone = [i for i in ids if "<State>Unknown" in text and i not in wanted]
                if gone:
                    return _error("InvalidInstance", f"no instance {gone[0]}")
            text = self._slowly(text, action, place, wanted)
            self.first = self.first or text
            text = self.first if self.stale else text
        return web.Response(
            status=found.status, body=text.encode(), headers={"Content-Type": kind}
        )

    def _slowly(self, text: str, action: str, place: str, going: list[str]) -> str:
        of_group = action == "DescribeTargetHealth"
        member = _TARGET if of_group else _INSTANCE
        for identity in self._on_the_way(self.coming, place):
            told = ("initial", "") if of_group else ("OutOfService", "Registering.")
            text = _replaced(text, identity, member, told)
        for identity in self._on_the_way(self.going, place, going):
            leaves = "Instance deregistration currently in progress."
            told = ("draining", "") if of_group else ("InService", leaves)
            text = _replaced(text, identity, member, told)
        return text

    def _on_the_way(
        self, polls: dict[Place, int], place: str, ids: list[str] | None = None
    ) -> Iterator[str]:
        for there, identity in [*polls]:
            if there == place and (ids is None or identity in ids):
                if polls[there, identity] <= 0:
                    del polls[there, identity]
                else:
                    polls[there, identity] -= 1
                    yield identity


def _replaced(text: str, identity: str, member: str, told: tuple[str, str]) -> str:
    mine = member.format(id=identity, state=told[0], text=told[1])
    parts = re.findall(r"<member>.*?</member>", text, re.DOTALL)
    for part in parts:
        if f">{identity}<" in part:
            return text.replace(part, mine)
    # What has been taken out is listed as long as visitors are there.
    for name in ("TargetHealthDescriptions", "InstanceStates"):
        text = text.replace(f"<{name}/>", f"<{name}></{name}>")
        text = text.replace(f"</{name}>", f"{mine}</{name}>")
    return text


def _error(code: str, text: str) -> web.Response:
    body = _ERROR.format(code=code, text=text)
    return web.Response(status=400, text=body, content_type="text/xml")


def _console(identity: str, consoles: Mapping[str, str]) -> web.Response:
    told = base64.b64encode(consoles.get(identity, "").encode()).decode()
    name = "GetConsoleOutputResponse"
    body = f"<instanceId>{identity}</instanceId><output>{told}</output>"
    return web.Response(text=f"<{name}>{body}</{name}>", content_type="text/xml")


@contextlib.asynccontextmanager
async def aws_proxy(aws: Aws) -> AsyncIterator[tuple[AwsProxy, Aws]]:
    """Run a proxy; hand it out with the account as clients see it through it."""
    async with aiohttp.ClientSession() as session:
        found = AwsProxy(aws.endpoint, session)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", found.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            yield found, attrs.evolve(aws, endpoint=f"http://127.0.0.1:{port}")
        finally:
            await runner.cleanup()
