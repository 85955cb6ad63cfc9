"""What git says reaches the screen at once, and the log whole; and it has its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import attrs
import pytest

from ghostasync import Deploy, GitSource, Plan, Rollout, start
from ghostasync import events as e
from ghostasync.model import Deadlines, Report
from ghostasync.sources import _git_cli
from ghostasync.testing import FakeHosts, FakeTransport
from tests.deploying import six_hosts
from tests.sources.repos import Repo
from tests.sources.server import PASSWORD, USER, GitServer

USERINFO = f"{USER}:{quote(PASSWORD, safe='')}@"


@pytest.fixture
def plan(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return at(six_hosts(tmp_path), str(repo.path))


def at(plan: Plan, url: str) -> Plan:
    module = attrs.evolve(plan.modules[0], source=GitSource(url, "main"))
    return attrs.evolve(plan, modules=(module,))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.stalled.clear()
        made.shutdown()
        thread.join()


def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have the other end of each fetch run *text* first."""
    hook = tmp_path / "pack-objects"
    hook.write_text(f'#!/bin/sh\n{text}\nexec "$@"\n')
    hook.chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[uploadpack]\n\tpackObjectsHook = {hook}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))


async def deployed(plan: Plan) -> tuple[Report, list[e.Record]]:
    seen: list[e.Record] = []
    transport = FakeTransport(FakeHosts())
    async with start(plan, observe=seen.append, transport=transport) as run:
        report = await run.report()
    return report, seen


def log_of(report: Report) -> str:
    return (Path(report.log) / "build" / "site.log").read_text()


def failed(seen: list[e.Record]) -> e.BuildFailed:
    (found,) = (r.event for r in seen if isinstance(r.event, e.BuildFailed))
    return found


async def test_a_fetch_is_seen_while_it_goes_on_and_is_in_the_log(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first fetch of a large repository takes minutes, before there is a run."""
    monkeypatch.setattr(_git_cli, "PAUSES", (0.05, 0.1))
    says(
        tmp_path,
        monkeypatch,
        "for at in 10 20 30 40; do\n"
        "  printf 'Counting objects: %s%% (%s/100)\\r' $at $at >&2; sleep .06\n"
        "done\necho >&2; echo welcome to the server >&2",
    )

    report, seen = await deployed(plan)

    first = next(n for n, r in enumerate(seen) if isinstance(r.event, e.Started))
    shown = [r.event for r in seen[:first]]
    texts = [event.text for event in shown if isinstance(event, e.BuildOutput)]
    assert len(texts) == len(shown) > 0
    assert {record.seq for record in seen[:first]} == {0}
    assert "%" in texts[0]
    assert "\r" not in texts[-1]
    assert texts[-1].endswith("remote: welcome to the server\n")
    assert "remote: welcome to the server\n" in log_of(report)


async def test_a_quick_fetch_says_nothing(plan: Plan) -> None:
    report, seen = await deployed(plan)

    assert not [r for r in seen if isinstance(r.event, e.BuildOutput)]
    assert log_of(report) == ""


async def test_a_fetch_that_fails_shows_the_lines_that_tell_why(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(tmp_path, monkeypatch, "cat >/dev/null; echo fatal: full >&2; exit 1")

    report, seen = await deployed(plan)

    assert report.exit_status == 1
    told = f"{failed(seen).reason}\n{failed(seen).tail}"
    assert "site: cannot fetch " in told
    assert "remote: fatal: full" in told
    assert "repository corruption" not in told
    log = log_of(report)
    for line in ("remote: fatal: full", "repository corruption"):
        assert line in log


def hasty(plan: Plan, seconds: float) -> Plan:
    return attrs.evolve(plan, rollout=Rollout(deadlines=Deadlines(source=seconds)))


async def test_a_repository_that_does_not_answer_has_a_deadline(
    plan: Plan, repo: Repo, server: GitServer
) -> None:
    server.stalled.set()
    slow = at(plan, server.url(repo.path.name, USERINFO))

    with anyio.fail_after(15):
        report, seen = await deployed(hasty(slow, 0.5))

    assert report.exit_status == 1
    assert failed(seen).reason == (
        "site: its source gave no revision within 0.5 s (rollout.deadlines.source)"
    )


async def test_a_submodule_that_does_not_come_has_a_deadline(
    plan: Plan, repo: Repo, new_repo: Callable[[str], Repo], server: GitServer
) -> None:
    lib = new_repo("lib")
    url = server.url("lib", USERINFO)
    repo.write(".gitmodules", f'[submodule "l"]\n\tpath = l\n\turl = {url}\n')
    repo.git("add", ".gitmodules")
    entry = f"160000,{lib.commit('lib')},l"
    repo.git("update-index", "--add", "--cacheinfo", entry)
    repo.git("commit", "--quiet", "-m", "with lib")
    server.stalled.set()

    with anyio.fail_after(20):
        report, seen = await deployed(hasty(plan, 2))

    assert report.exit_status == 1
    assert failed(seen).reason == (
        "site: not fetched within 2 s (rollout.deadlines.source)"
    )


async def test_a_repository_with_sha_256_ids_is_deployed(
    plan: Plan, tmp_path: Path
) -> None:
    other = Repo(tmp_path / "sha256")
    other.path.mkdir()
    other.git("init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    commit = other.commit("one", index="one")

    report, _ = await deployed(at(plan, str(other.path)))
    again = Deploy(packages=[commit])
    async with start(
        at(plan, str(other.path)), again, transport=FakeTransport(FakeHosts())
    ) as run:
        second = await run.report()

    assert report.exit_status == second.exit_status == 0
    assert report.releases == second.releases
    assert report.releases["site"].endswith(f"_site_{commit[:7]}")
