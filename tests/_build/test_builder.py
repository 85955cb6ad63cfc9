"""What a build leaves behind: processes, and folders that the next build finds."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import Module, Outcome, Plan, Script
from ghostasync import events as e
from ghostasync._build.at_target import at_target
from ghostasync.testing import FakeHosts
from tests._local.started import running
from tests._packaging.trees import ROOT
from tests.deploying import run

needs_namespaces = pytest.mark.skipif(
    not ROOT or subprocess.call(["unshare", "--mount", "true"]) != 0,
    reason="mounting takes CAP_SYS_ADMIN",
)


def built_by(plan: Plan, script: str) -> Plan:
    """Return *plan* with a buildpack; its sources lie beside what it makes there."""
    module: Module = attrs.evolve(plan.modules[0], buildpack=Script(inline=script))
    return attrs.evolve(plan, modules=(module,))


async def test_a_process_that_a_buildpack_leaves_is_ended_and_named(plan: Plan) -> None:
    note = plan.base / "pids"
    # One of them in a session of its own, as a daemon is, and deaf.
    script = (
        f"sleep 60 & echo $! >{note}\n"
        f"setsid sh -c 'trap \"\" TERM; echo $$ >>{note}; sleep 60 & wait; wait' &\n"
        f"while [ $(wc -l <{note}) -lt 2 ]; do sleep 0.05; done"
    )

    report, events = await run(built_by(plan, script), FakeHosts())

    first, deaf = map(int, note.read_text().split())
    assert report.outcome is Outcome.LIVE
    [said] = [event.text for event in events if isinstance(event, e.Warned)]
    begin = "buildpack of site left processes behind, which were ended: "
    assert said.startswith(begin)
    assert {f"sleep ({first})", f"sh ({deaf})"} < {*said[len(begin) :].split(", ")}
    assert not running(first)
    assert not running(deaf)


async def test_a_process_elsewhere_is_its_own_affair(plan: Plan) -> None:
    note = plan.base / "pid"
    script = f"cd / && {{ sleep 60 & }}; echo $! >{note}"

    _, events = await run(built_by(plan, script), FakeHosts())

    pid = int(note.read_text())
    assert running(pid)
    assert not [event for event in events if isinstance(event, e.Warned)]
    os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(not ROOT, reason="such a file takes root")
async def test_a_build_folder_that_cannot_be_emptied_says_what_to_type(
    plan: Plan,
) -> None:
    plan = built_by(plan, "mkdir made; touch made/it; chattr +i made/it")
    first, _ = await run(plan, FakeHosts())
    assert first.outcome is Outcome.LIVE

    second, _ = await run(plan, FakeHosts())

    assert second.outcome is Outcome.FAILED
    said, _, cure = second.hosts["h1"].reason.rpartition(": ")
    assert "the last build cannot be removed: rm: cannot remove" in said
    await anyio.run_process(cure.split())
    third, _ = await run(plan, FakeHosts())
    assert third.outcome is Outcome.LIVE
    await anyio.run_process(cure.split())


async def test_half_an_archive_of_a_killed_run_goes_with_the_next(plan: Plan) -> None:
    await run(plan, FakeHosts())
    [tree] = (plan.base / "cache").glob("**/builds/**/tree")
    before = {*tree.parent.iterdir()}
    for name in ("1763856184_site_4f2a9c1.tar.zst", "1763856184_site_4f2a9c1.manifest"):
        (tree.parent / name).touch()

    await run(plan, FakeHosts())

    assert {*tree.parent.iterdir()} == before


VENV = """
python3 -m venv --without-pip venv
printf '#!%s/venv/bin/python3\\nprint("it runs")\\n' "$PWD" >venv/bin/tool
chmod +x venv/bin/tool
"""


def at(plan: Plan, target: Path, script: str) -> Plan:
    plan = built_by(plan, script)
    module = attrs.evolve(plan.modules[0], path=str(target), build_at_target=True)
    return attrs.evolve(plan, modules=(module,))


@needs_namespaces
@pytest.mark.parametrize("there", ["nothing", "a folder", "a link", "no parent"])
async def test_a_build_at_its_target_leads_there(
    plan: Plan, tmp_path: Path, there: str
) -> None:
    """What stands at that path here is not touched, nor what stands beside it."""
    site, other = tmp_path / "srv/site", tmp_path / "srv/other"
    other.mkdir(parents=True)
    (other / "file").write_text("theirs\n")
    if there == "a folder":
        site.mkdir()
        (site / "mine").touch()
    elif there == "a link":
        site.symlink_to("other")
    elif there == "no parent":
        site /= "deep/below"
    before = sorted((tmp_path / "srv").rglob("*"))
    said = tmp_path / "said"
    note = f"(pwd; id -u; venv/bin/tool; cat {other}/file; ls -A) >{said}"

    report, events = await run(at(plan, site, VENV + note), FakeHosts())

    assert report.outcome is Outcome.LIVE
    assert not [event for event in events if isinstance(event, e.Warned)]
    lines = [str(site), str(os.getuid()), "it runs", "theirs", "index", "venv"]
    assert said.read_text().split("\n") == [*lines, ""]
    assert sorted((tmp_path / "srv").rglob("*")) == before


def test_a_plain_user_builds_at_the_target_as_himself(
    monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> None:
    """Root of a namespace of his own mounts; tar and npm would chown as root."""
    user = 65534 if ROOT else os.getuid()
    probe = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if subprocess.call(probe, user=user if ROOT else None) != 0:
        pytest.skip("users may have no namespaces here")
    module = at(plan, Path("/srv/of/site"), "").modules[0]
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(os, "getgid", lambda: user)
    with tempfile.TemporaryDirectory(prefix="tree-") as tree:
        os.chown(tree, user, user)
        command = [*at_target(module), "sh", "-c", "touch made; pwd; id -u; ls -A /srv"]

        done = subprocess.run(
            command,
            cwd=tree,
            user=user if ROOT else None,
            group=user if ROOT else None,
            check=False,
            capture_output=True,
            text=True,
        )

        beside = sorted([*os.listdir("/srv"), "of"])
        assert (done.stderr, done.returncode) == ("", 0)
        assert done.stdout.split() == ["/srv/of/site", f"{user}", *beside]
        assert Path(tree, "made").stat().st_uid == user
        assert not Path("/srv/of").exists()


@needs_namespaces
async def test_a_target_that_cannot_be_made_says_what_to_do(plan: Plan) -> None:
    plan = at(plan, Path("/none-such/site"), "true")

    report, events = await run(plan, FakeHosts())

    assert report.hosts["h1"].reason == "buildpack of site exited 1"
    assert [text for event in events if (text := getattr(event, "tail", ""))] == [
        "modules.build_at_target: no build at /none-such/site here: "
        "make the folder /none-such, which stays empty\n"
    ]


async def test_what_stands_for_another_file_is_told_before_it_goes(plan: Plan) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    script = f"printf %s '{pointer}' >logo.png"

    _, events = await run(built_by(plan, script), FakeHosts())

    [said] = [event.text for event in events if isinstance(event, e.Warned)]
    assert said.startswith("site: logo.png: not the files that are meant, but pointers")
