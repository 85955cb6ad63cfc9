"""Hosts that lack a tool, each alone, and one that has nothing but busybox."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from ghostasync import DeployFailed, Outcome, State, Verify, converge, deploy
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.layout import busybox_tools, tools_but
from tests.fleet.sample_app import HOSTILE, SECRET, SampleApp

pytestmark = pytest.mark.fleet

MISSING: Final = (
    (),
    ("zstd",),
    ("gzip",),
    ("flock",),
    ("setsid",),
    ("sha256sum",),
    ("openssl", "shasum", "sha256sum"),
    ("curl",),
    ("curl", "wget"),
    ("python3", "perl"),
    ("awk",),
)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)


async def test_a_host_without_one_tool_takes_a_deploy_and_a_rollback(
    secrets: None, sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(len(MISSING), tools=[tools_but(*names) for names in MISSING])
    sample = SampleApp.create(tmp_path, fleet)
    async with await asyncio.start_server(_all_well, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        health = Verify(url=f"http://127.0.0.1:{port}/", interval=0.2)
        plan = sample.plan(
            sample.module("site", verify=health), sample.module("worker")
        )

        first = await deploy(plan)

        wrong = {name: row.reason for name, row in first.hosts.items() if row.reason}
        assert (first.outcome, wrong) == (Outcome.LIVE, {})
        _assert_whole(sample)
        sample.repositories["worker"].script("post_deploy", "exit 5")
        sample.repositories["worker"].commit("2")
        with pytest.raises(DeployFailed) as caught:
            await deploy(plan)

    rows = caught.value.report.hosts.values()
    assert {row.state for row in rows} == {State.ROLLED_BACK}
    assert set(sample.serves("worker").values()) == {first.releases["worker"]}
    _assert_whole(sample)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (("tar",), "tar is missing: install it"),
        (("zstd", "gzip"), "zstd and gzip are missing: install one of them"),
    ],
)
def test_a_host_without_what_it_needs_is_refused_before_a_byte_is_sent(
    missing: tuple[str, ...], reason: str, sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    sample = SampleApp.create(
        tmp_path, sshd_fleet(1, tools=[tools_but(*missing)]), "site"
    )
    console = Console(sample)
    console.configure(sample.plan())

    outcome = console.deploy()

    failed = outcome.event("Failed", "h1")
    assert (outcome.exit, failed["stage"]) == (1, "CHECKING")
    assert reason in failed["reason"]
    assert outcome.last["nbytes"] == 0


async def test_a_host_that_has_nothing_but_busybox_lives_like_any_other(
    secrets: None, sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, tools=[busybox_tools()], shells=["/mnt/ash"])
    sample = SampleApp.create(tmp_path, fleet)
    plan = sample.plan(keep=1)
    old = (await deploy(plan)).releases["site"]
    _assert_whole(sample)
    sample.repositories["site"].commit("2")

    await deploy(plan)

    _assert_whole(sample)
    assert not (sample.module_folder("h1", "site") / old).exists()
    kept = sample.serves("site")

    sample.repositories["site"].script("post_deploy", "exit 5")
    sample.repositories["site"].commit("3")
    with pytest.raises(DeployFailed):
        await deploy(plan)
    assert sample.serves("site") == kept
    _assert_whole(sample)

    fleet.shell("h1", "rm -rf /ghost/* /srv/*")
    assert (await converge(plan)).outcome is Outcome.LIVE
    assert sample.serves("site") == kept
    _assert_whole(sample)


def _assert_whole(sample: SampleApp) -> None:
    for host in sample.fleet.hosts:
        for name, repository in sample.repositories.items():
            assert sample.leftovers(host.name, name) == set(), host.name
            odd = "näme with 'quotes' $(x)\nand newline"
            assert sample.read(host.name, name, odd) == b"hostile\n"
            run = sample.module_folder(host.name, name) / sample.serves(name)[host.name]
            assert (run / "bin" / "run").stat().st_mode & 0o777 == 0o755
            assert str((run / "link").readlink()) == "bin/run"
            assert repository.path.name == name
            seen = sample.environment(host.name, name, "post_deploy")
            assert (seen["GREETING"], seen["TOKEN"]) == (HOSTILE, SECRET)


async def _all_well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()
