"""Nothing outside of a tree ever reaches an archive, a store or a host."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import anyio
import attrs
import pytest
from hypothesis import given, settings

from ghostasync import (
    App,
    DeployFailed,
    DirectorySource,
    GitSource,
    Module,
    Outcome,
    Plan,
    Script,
    check,
    deploy,
)
from ghostasync._local.scripts import LONGEST_SCRIPT
from ghostasync.errors import BuildError, PackageError, SourceError
from ghostasync.model import Layout, Revision, StoreSettings
from ghostasync.sources.directory import Directory
from ghostasync.sources.git import Git
from ghostasync.testing import InProcessFleet
from tests._packaging.trees import decompressed, packed
from tests.hostile_trees import (
    CANARY,
    REFUSED,
    REPOSITORIES,
    SCRIPTS,
    TRAPS,
    Private,
    flipping,
    hostile_repository,
    lay,
    leaked,
    some_traps,
)
from tests.sources.repos import Repo
from tests.sources.server import PASSWORD, USER, GitServer

pytestmark = pytest.mark.usefixtures("cache")


@contextmanager
def a_tree() -> Iterator[tuple[Path, Private]]:
    """A tree with harmless scripts, and private files beside it."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        tree = Path(name) / "tree"
        (tree / "deploy").mkdir(parents=True)
        for key in SCRIPTS:
            (tree / "deploy" / key).write_text("true\n")
        try:
            yield tree, Private.make(Path(name) / "private")
        finally:
            # Folders are deeper than Python's own removal goes.
            subprocess.run(["chmod", "-R", "u+rwx", name], check=False)
            subprocess.run(["rm", "-rf", *Path(name).iterdir()], check=True)


def test_a_leak_would_be_seen(tmp_path: Path) -> None:
    private = Private.make(tmp_path / "private")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "copy").write_bytes(b"\0" + CANARY + b"\0")
    lay(tmp_path / "tree", private, "links", "long")

    assert leaked(tmp_path / "tree") == [f"{tmp_path}/tree/copy"]
    assert in_archives(packed(tmp_path / "tree", tmp_path / "into").archive.parent)
    assert not leaked(tmp_path / "into")
    assert private.unchanged()


def in_archives(*folders: Path) -> list[str]:
    """Return the archives below *folders* that have the canary in them."""
    found = [path for folder in folders for path in folder.rglob("*.tar.zst")]
    return [str(path) for path in found if CANARY in decompressed(path)]


@given(some_traps())
@settings(max_examples=40, deadline=None)
def test_no_archive_has_what_is_outside(traps: frozenset[str]) -> None:
    with a_tree() as (tree, private):
        lay(tree, private, *traps)
        into = tree.parent / "into"
        try:
            packed(tree, into)
        except PackageError as exc:
            said = str(exc)
            assert "\n" not in said
            assert traps & {"fifo", "socket", "device", "script fifo"}
        assert in_archives(into) == leaked(into) == []
        assert private.unchanged()


@given(some_traps())
@settings(max_examples=40, deadline=None)
def test_no_copy_has_what_is_outside(traps: frozenset[str]) -> None:
    async def copy(source: Path, into: Path) -> None:
        await Directory("site", source).fetch(Revision(), into, lambda _: None)

    with a_tree() as (tree, private):
        lay(tree, private, *traps)
        into = tree.parent / "into"
        into.mkdir()
        try:
            anyio.run(copy, tree, into)
        except SourceError as exc:
            said = str(exc)
            assert "\n" not in said
            assert traps & {"fifo", "socket", "device", "script fifo", "long", "deep"}
        assert leaked(into) == []
        assert private.unchanged()


def test_a_folder_that_is_a_link_now_and_then_is_never_followed() -> None:
    said: list[str] = []
    with a_tree() as (tree, private):
        (tree / "d").mkdir()
        (tree / "d" / "key").write_text("harmless")
        with flipping(tree / "d", tree.parent / "aside", private.path / "folder"):
            for number in range(60):
                into = tree.parent / f"into-{number}"
                try:
                    packed(tree, into)
                except PackageError as exc:
                    said.append(str(exc))
                assert in_archives(into) == []

    # It changes all the time, so most of them notice.
    assert said
    assert {text.rpartition(": ")[2] for text in said} == {"changed while it was read"}


# --- Deployed -------------------------------------------------------------------------


@pytest.fixture
def private(tmp_path: Path) -> Private:
    return Private.make(tmp_path / "private")


@pytest.fixture
async def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plan]:
    """A folder with a script for every key, two shared paths, and a host."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "tree" / "deploy").mkdir(parents=True)
    for key in SCRIPTS:
        (tmp_path / "tree" / "deploy" / key).write_text("true\n")
    scripts = {key: Script(path=f"deploy/{key}") for key in SCRIPTS}
    module = attrs.evolve(
        Module("site", "~/site", DirectorySource("tree"), shared_dirs=("log",)),
        shared_files=("config.ini",),
        **scripts,  # type: ignore[arg-type]  # keys
    )
    async with InProcessFleet(1, tmp_path / "hosts") as fleet:
        yield Plan(
            app=App("shop", "test", "web"),
            modules=(module,),
            hosts=fleet.hosts,
            store=StoreSettings(str(tmp_path / "store")),
            ssh=fleet.ssh,
            layout=Layout(root="~/ghost"),
            base=tmp_path,
        )
    subprocess.run(["rm", "-rf", "cache", "hosts"], cwd=tmp_path, check=True)  # noqa: ASYNC221


async def outcome(plan: Plan) -> tuple[Outcome, str]:
    try:
        report = await deploy(plan)
    except DeployFailed as exc:
        return exc.report.outcome, str(exc)
    except (BuildError, PackageError, SourceError) as exc:
        return Outcome.FAILED, str(exc)
    return report.outcome, ""


@pytest.mark.parametrize("trap", [*TRAPS])
async def test_no_host_gets_what_is_outside(
    plan: Plan, private: Private, trap: str
) -> None:
    here = plan.base
    lay(here / "tree", private, trap)

    ended, said = await outcome(plan)

    assert leaked(here / "hosts", here / "store", here / "cache", here / "state") == []
    assert in_archives(here) == []
    assert private.unchanged()
    if trap in REFUSED:
        assert ended is Outcome.FAILED
        assert REFUSED[trap] in said
        assert "\n" not in said
    else:
        assert ended is Outcome.LIVE, said


@pytest.mark.parametrize("trap", ["script links", "script folder", "script fifo"])
async def test_check_finds_scripts_that_lead_out(
    plan: Plan, private: Private, trap: str
) -> None:
    lay(plan.base / "tree", private, trap)

    found = [each.text for each in await check(plan) if each.module == "site"]

    assert any(REFUSED[trap] in text for text in found)
    assert CANARY.decode() not in str(found)


async def test_a_script_may_be_a_link_to_another_of_the_same_tree(plan: Plan) -> None:
    scripts = plan.base / "tree" / "deploy"
    (scripts / "post_deploy").unlink()
    (scripts / "post_deploy").symlink_to("../lib/./common/run")
    (plan.base / "tree" / "lib").symlink_to("library")
    (plan.base / "tree" / "library" / "common").mkdir(parents=True)
    (plan.base / "tree" / "library" / "common" / "run").write_text("echo it ran\n")

    ended, said = await outcome(plan)

    assert (ended, said) == (Outcome.LIVE, "")
    kept = (plan.base / "hosts").rglob("post_deploy")
    assert {path.read_text() for path in kept if not path.is_symlink()} == {
        "echo it ran\n"
    }


async def test_a_script_without_an_end_is_no_script(plan: Plan) -> None:
    script = plan.base / "tree" / "deploy" / "pre_deploy"
    os.truncate(script, LONGEST_SCRIPT + 1)

    assert any("has more than" in each.text for each in await check(plan))


# --- Repositories ---------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("name", [*REPOSITORIES])
async def test_a_repository_gets_nothing_of_this_machine(
    name: str,
    server: GitServer,
    private: Private,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    secret = Repo(private.path / "repository")
    secret.path.mkdir()
    secret.git("init", "--quiet", "--initial-branch=main")
    secret.commit("private", key=CANARY.decode())
    repo = Repo(tmp_path / "site")
    repo.path.mkdir()
    repo.git("init", "--quiet", "--initial-branch=main")
    repo.commit("one", index="one")
    hostile_repository(repo, name, private)
    userinfo = f"{USER}:{quote(PASSWORD, safe='')}@"
    source = Git(
        "site",
        GitSource(server.url("site", userinfo), "main"),
        cache=tmp_path / "cache",
    )
    into = tmp_path / "into"
    into.mkdir()

    said = ""
    try:
        await source.fetch(await source.resolve(), into, lambda _: None)
    except SourceError as exc:
        said = str(exc)

    assert "\n" not in said
    assert CANARY.decode() not in said
    assert leaked(into, tmp_path / "cache") == []
    assert not (tmp_path / "above").exists()
    assert not (private.path / "ran").exists()
    assert said or not name.startswith("a submodule")
    if "of this disk" in name and "submodule" not in name:
        assert said.startswith(
            "site: .lfsconfig has Git LFS take files from this machine"
        )
