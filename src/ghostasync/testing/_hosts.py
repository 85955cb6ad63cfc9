"""
Hosts that keep books, and so answer what the engine asks as real ones would.

One file, though long: one host, and all scripts that it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Final

import anyio
import attrs

from ._fake import Answer, Call, FakeTransport

__all__ = ["Break", "FakeHost", "FakeHosts", "FakeModule", "step"]

SCRIPTS: Final = {
    "probe": "say_who",
    "lock": "lock",
    "check": "say_what",
    "receive": "receive",
    "pull": "receive",
    "environment": "keep_environment",
    "recall": "recall_environment",
    "record_moves": "record_moves",
    "switch": "switch",
    "restore": "restore",
    "prune": "prune",
    "timer_start": "start_timer",
    "timer_stop": "stop_timer",
    "freeze": "freeze",
    "run": "run",
    "outlive": "run",
    "execute": "run",
}
"""What a host does for a script; others succeed and do nothing."""

DEEDS: Final = frozenset({"receive", "switch", "restore", "run", "outlive"})
"""What is done with the app, and not asked or noted; see :attr:`FakeHost.ran`."""

Break = Callable[[Call], Answer | None]
"""Says how a call ends that is to go wrong; None where the host does its work. It may
raise ConnectionDied."""


def step(call: Call) -> str:
    """
    Return what a call does: the script's name.

    For a script of the app that is its own name, ``post_deploy``, and where it has
    none, as a health check or a hook, its text.
    """
    if call.name in {"outlive", "execute"}:
        return call.args[1]
    if call.name != "run":
        return call.name
    _, file, text, *_ = call.args
    return file.rpartition("/")[2] or text


@attrs.define
class FakeModule:
    """
    What a host has of one module: its releases, the link to one, and the records.

    *link* is what the link says, empty where there is none; *fingerprints* are those of
    releases that proved themselves; *served* are those that the link led to; *records*
    are the lines of activation records, by their numbers.
    """

    folder: str
    link: str = ""
    releases: set[str] = attrs.field(factory=set)
    fingerprints: dict[str, str] = attrs.field(factory=dict)
    served: set[str] = attrs.field(factory=set)
    records: dict[int, dict[str, str]] = attrs.field(factory=dict)

    @property
    def live(self) -> str:
        """The id of the release that it serves; empty where it serves none of ours."""
        folder, _, name = self.link.rpartition("/")
        return name if folder == self.folder else ""

    @property
    def lived(self) -> list[str]:
        """The releases that were live, by the records, the newest first."""
        newest = sorted(self.records.items(), reverse=True)
        lived = (r["release"] for _, r in newest if r["outcome"] == "live")
        return [*dict.fromkeys(lived)]


@attrs.define
class FakeHost:
    """
    One host: who logs in there, what it has, and *ran*: each :func:`step` with which
    it took a release, moved a link or ran a script.

    *modules* are by their folder. :attr:`link` and :attr:`releases` are those of the
    first, for hosts that have one.
    """

    uid: int = 0
    user: str = "root"
    home: str = "/root"
    tools: tuple[str, ...] = ("tar", "zstd")
    rename: str = "mv"
    free_kb: int = 999_999
    free_inodes: int = 999_999
    ends_logins: bool = False
    timer: str = ""
    instance: str = "fake"
    fence: str = ""
    frozen: str = ""
    modules: dict[str, FakeModule] = attrs.field(factory=dict)
    ran: list[str] = attrs.field(factory=list)

    def module(self, folder: str) -> FakeModule:
        """Return what it has of the module in *folder*."""
        return self.modules.setdefault(folder, FakeModule(folder))

    @property
    def link(self) -> str:
        """What the first module's link says."""
        return next((module.link for module in self.modules.values()), "")

    @link.setter
    def link(self, link: str) -> None:
        folder, _, release = link.rpartition("/")
        if link:
            self.module(folder).releases.add(release)
            self.module(folder).link = link
        else:
            next(iter(self.modules.values())).link = ""

    @property
    def releases(self) -> set[str]:
        """The first module's releases."""
        return next((module.releases for module in self.modules.values()), set())


@attrs.frozen
class _Books:
    """What scripts do, each a method that takes the script's arguments."""

    host: FakeHost

    def say_who(self, *_: str) -> Answer:
        host = self.host
        said = f"home={host.home}\nuid={host.uid}\nuser={host.user}\n"
        return Answer(0, said.encode())

    def say_what(self, _: str, __: str, count: str, *words: str) -> Answer:
        host = self.host
        lines = [f"uid={host.uid}", f"gid={host.uid}"]
        lines += [f"tool={tool}" for tool in host.tools]
        lines += [f"rename={host.rename}", *["ends-logins=yes"][: host.ends_logins]]
        for what, free in (("blocks", host.free_kb), ("inodes", host.free_inodes)):
            lines.append(f"{what}=tmpfs 1000000 1 {free} 1% /")
        lines.append(f"instance={host.instance}")
        lines += [f"fence={host.fence}"] if host.fence else []
        lines += [f"frozen={host.frozen}"] if host.frozen else []
        for folder in words[::2]:
            lines += self._module(host.module(folder), int(count))
        return Answer(0, "".join(f"{line}\n" for line in lines).encode())

    def _module(self, module: FakeModule, count: int) -> Iterator[str]:
        yield f"module={module.folder}"
        yield f"target={'link' if module.link else 'absent'}"
        if module.link:
            yield f"link={module.link}"
        if live := module.live:
            if live not in module.releases:
                yield f"dangling={live}"
            if live in module.fingerprints:
                yield f"fingerprint={module.fingerprints[live]}"
        for number in self._told(module, count):
            record = module.records[number].items()
            yield from (f"{number}:{key}={value}" for key, value in record)
        for name in sorted(module.releases):
            served = " environment" * (name in module.served)
            yield f"release={name} pre_deploy post_deploy{served}"

    def _told(self, module: FakeModule, count: int) -> list[int]:
        """Return the numbers of the newest records, and that of the live release's."""
        newest = sorted(module.records, reverse=True)
        live = [
            n
            for n in newest
            if module.records[n]["release"] == module.live
            and module.records[n]["outcome"] != "reverted"
        ]
        return [*newest[:count], *live[:1]]

    def freeze(self, _: str, __: str, ___: str, text: str) -> Answer:
        self.host.frozen = text
        return Answer()

    def lock(self, *words: str) -> Answer:
        if self.host.frozen and not any(words[7:]):
            return Answer(75, b"", self.host.frozen.encode())
        return Answer(None, b"locked\n")

    def receive(self, folder: str, release: str, *_: str) -> Answer:
        self.host.module(folder).releases.add(release)
        return Answer()

    def keep_environment(self, meta: str, *_words: str) -> Answer:
        folder, _, release = meta.partition("/.ghost/")
        self.host.module(folder).fingerprints.pop(release, None)
        return Answer()

    def recall_environment(self, meta: str, *_: str) -> Answer:
        return self.keep_environment(meta)

    def record_moves(
        self, _: str, number: str, run: str, outcome: str, *words: str
    ) -> Answer:
        fence, _, whose = self.host.fence.partition(" ")
        if (fence, whose) != (number, run) and int(fence or 0) >= int(number):
            text = f"run {whose} moved links here as number {fence}\n"
            return Answer(1, b"", text.encode())
        self.host.fence, self.host.timer = f"{number} {run}", ""
        for folder, _, _, text in _by(4, words):
            lines = dict(line.split("=", 1) for line in text.split("\n"))
            records = self.host.module(folder).records
            records[int(number)] = {"outcome": outcome, **lines}
        return Answer()

    def switch(self, _: str, __: str, *words: str) -> Answer:
        moves = [*_by(6, words)]
        for folder, target, previous, new, aside, _ in moves:
            now = self.host.module(folder).link
            if not aside and now not in {previous, new}:
                text = f"{target} is not {previous or 'absent'} any more but {now}\n"
                return Answer(1, b"", text.encode())
        for folder, _, _, new, _, _ in moves:
            module = self.host.module(folder)
            module.link = new
            module.served.add(module.live)
        return Answer(0, b"moved\n")

    def restore(self, _: str, __: str, run: str, *words: str) -> Answer:
        said, status, errors = "", 0, ""
        for folder, target, previous, new, _, number in _by(6, words):
            module = self.host.module(folder)
            if module.link not in {previous, new}:
                errors += f"{target} points to {module.link}: left alone\n"
                status = 1
                continue
            has = "restored" if module.link == new else "left"
            module.link = previous
            if record := module.records.get(int(number)):
                record.update(outcome="reverted", reverted_by=run)
            ours = module.live != "" and module.live in module.releases
            said += f"{has}{',post_deploy' * ours} {target}\n"
        return Answer(status, said.encode(), errors.encode())

    def prune(
        self,
        folder: str,
        _: str,
        keep: str,
        failed: str,
        mark: str,
        number: str,
        *kept: str,
    ) -> Answer:
        module = self.host.module(folder)
        if mark:
            module.fingerprints[module.live] = mark
            if record := module.records.get(int(number)):
                record["outcome"] = "live"
        lived = module.lived
        served = [r for r in lived if r in module.releases and r != module.live]
        stay = {module.live, *kept, *served[: int(keep) - 1]}
        never = sorted(module.releases - stay - {*lived}, reverse=True)
        module.releases &= stay | {*never[: int(failed)]}
        module.served &= module.releases
        return Answer()

    def start_timer(self, _: str, name: str, __: str) -> Answer:
        self.host.timer = name
        return Answer()

    def stop_timer(self, *_: str) -> Answer:
        self.host.timer = ""
        return Answer()

    def run(self, *_: str) -> Answer:
        return Answer()


def _by(count: int, words: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """Cut *words* into groups of *count*."""
    return zip(*[iter(words)] * count, strict=True)


class _Links(MutableMapping[str, str]):
    """The links of those hosts whose link was ever moved."""

    def __init__(self, fleet: FakeHosts) -> None:
        self._fleet = fleet
        self.moved: dict[str, None] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self.moved:
            raise KeyError(name)
        return self._fleet[name].link

    def __setitem__(self, name: str, link: str) -> None:
        self.moved[name] = None
        self._fleet[name].link = link

    def __delitem__(self, name: str) -> None:
        self[name] = ""
        del self.moved[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.moved)

    def __len__(self) -> int:
        return len(self.moved)


@attrs.define(eq=False)
class FakeHosts:
    """
    A fleet that exists in memory; what :class:`FakeTransport` asks.

    Every script does to a host's books what it does to a real one's disk, so that what
    a run finds is what the run before it left::

        hosts = FakeHosts()
        await deploy(plan, transport=hosts.transport)
        assert hosts.serves == {"web1": release, "web2": release}

    A host appears when it is first asked. Scripts of the app are not executed: they
    succeed, unless *breaks* says otherwise.

    Args:
        hosts: What hosts have already, by name.

        breaks: How a call goes wrong; see :data:`Break`.

        hangs: Pairs of a host and a :func:`step` that never ends.

        links: What links say, by host, for fleets that serve something already.

    Attributes:
        calls: All that was asked, in order, whatever became of it.
    """

    hosts: dict[str, FakeHost] = attrs.field(factory=dict)
    breaks: Break = lambda _: None
    hangs: set[tuple[str, str]] = attrs.field(factory=set)
    calls: list[Call] = attrs.field(factory=list)
    links: MutableMapping[str, str] = attrs.field(factory=dict)
    _links: _Links = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        given, self._links = self.links, _Links(self)
        self.links = self._links
        self.links.update(given)

    def __getitem__(self, name: str) -> FakeHost:
        """Return a host, as it is."""
        return self.hosts.setdefault(name, FakeHost())

    async def __call__(self, call: Call) -> Answer:
        """Answer for a host."""
        self.calls.append(call)
        if (call.host, step(call)) in self.hangs:
            await anyio.sleep_forever()
        broken = self.breaks(call)
        return broken if broken is not None else self.work(call)

    def work(self, call: Call) -> Answer:
        """Carry out what was asked, on the host's books; subclasses may do more."""
        host = self[call.host]
        act = SCRIPTS.get(call.name)
        answer = getattr(_Books(host), act)(*call.args) if act else Answer()
        if answer.status == 0 and act in DEEDS:
            host.ran.append(step(call))
            if act == "switch":
                self._links.moved[call.host] = None
        return answer

    @property
    def transport(self) -> FakeTransport:
        """A new transport to these hosts."""
        return FakeTransport(self)

    @property
    def serves(self) -> dict[str, str]:
        """The release that each host serves, by the first module's link."""
        return {n: host.link.rpartition("/")[2] for n, host in self.hosts.items()}

    def asked(self, name: str) -> list[str]:
        """Return the hosts that were asked for a :func:`step`, each time."""
        return [call.host for call in self.calls if step(call) == name]

    def ran(self, name: str) -> list[str]:
        """Return the hosts that carried out a :func:`step` well, each once."""
        return [host for host, books in self.hosts.items() if name in books.ran]
