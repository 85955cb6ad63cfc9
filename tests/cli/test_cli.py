"""The command as people run it: a process, its output and its exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ghostasync.cli import execute
from ghostasync.config import parse_plan
from ghostasync.model import DirectorySource, GitSource
from ghostasync.testing import InProcessFleet
from tests.cli.typed import config, ghostasync
from tests.sources.repos import Repo


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[InProcessFleet]:
    async with InProcessFleet(2, tmp_path / "hosts") as fleet:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "index.html").write_text("one")
        (tree / "pre_deploy.sh").write_text("echo looking\n")
        (tmp_path / "ghostasync.toml").write_text(config(tmp_path, fleet))
        yield fleet


async def test_a_deployment_from_the_first_check_to_the_status(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    check = await ghostasync(tmp_path, "check")
    assert check.stdout.endswith(b"\n\nnothing stands in the way\n")
    assert check.returncode == 0

    preview = await ghostasync(tmp_path, "deploy", "--dry-run", "--waves", "1")
    assert b"waves 1 to 2 of 2: 1 host each, host-[1-2]" in preview.stdout

    build = await ghostasync(tmp_path, "build")
    (package,) = build.stdout.decode().split()
    assert "_site_" in package
    assert b"packaged" in build.stderr

    deploy = await ghostasync(tmp_path, "deploy", "--output", "json")
    *_, last = map(json.loads, deploy.stdout.splitlines())
    assert (last["event"], last["exit"], deploy.returncode) == ("Finished", 0, 0)
    assert deploy.stderr == b""
    assert (fleet.home("host-2") / "site/index.html").read_text() == "one"

    again = await ghostasync(tmp_path, "deploy")
    assert again.stdout.splitlines()[-1].startswith(b"2 hosts unchanged in ")

    status = await ghostasync(tmp_path, "status")
    assert status.stdout.decode() == (
        f"expected    site: {last['releases']['site']}\n"
        f"in-line     host-[1-2]  {last['releases']['site']}\n"
    )
    assert status.returncode == 0


async def test_a_failed_deploy_ends_in_few_lines_on_stderr(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    script = "echo copying\necho no space left\n[ $GHOST_HOST != host-2 ] || exit 28\n"
    (tmp_path / "tree/pre_deploy.sh").write_text(script)

    ended = await ghostasync(tmp_path, "deploy")

    lines = ended.stderr.decode().splitlines()
    assert ended.returncode == 1
    assert len(lines) <= 8
    assert lines[0].startswith("ghostasync: failed: ")
    assert lines[1].startswith("  host-2  preparing: ")
    assert lines[1].endswith(": no space left")
    assert lines[2:4] == ["    | copying", "    | no space left"]
    command, then = lines[-1].split()[1:3], lines[-1].split()[2:]
    assert command == ["ghostasync", "logs"]
    told = await ghostasync(tmp_path, *then)
    assert told.returncode == 0
    assert b"copying\nno space left\n" in told.stdout
    assert not (fleet.home("host-1") / "site").exists()


async def test_a_last_word_is_not_said_twice(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    script = "echo no space left\n[ $GHOST_HOST != host-2 ] || exit 28\n"
    (tmp_path / "tree/pre_deploy.sh").write_text(script)

    ended = await ghostasync(tmp_path, "deploy")

    assert ended.stderr.decode().count("no space left") == 1


async def test_drift_and_hosts_that_are_away_are_seen(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    await ghostasync(tmp_path, "deploy")
    (fleet.home("host-1") / "site").unlink()
    await fleet.stop("host-2")

    status = await ghostasync(tmp_path, "status", "--output", "json")
    converge = await ghostasync(tmp_path, "converge", "host-1")

    states = {n: h["state"] for n, h in json.loads(status.stdout)["hosts"].items()}
    assert states == {"host-1": "drift", "host-2": "unreachable"}
    assert status.returncode == 6
    assert converge.returncode == 0
    assert (fleet.home("host-1") / "site/index.html").read_text() == "one"


async def test_a_reader_that_goes_away_does_not_stop_the_run(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    command = f"{sys.executable} -m ghostasync deploy --output lines | head -n 1"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    with anyio.fail_after(60):
        ended = await anyio.run_process(command, cwd=tmp_path, env=environment)

    assert ended.stdout.count(b"\n") == 1
    assert ended.stderr == b""
    assert (fleet.home("host-2") / "site/index.html").read_text() == "one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["deploy", "--nope"], "Unknown option: --nope."),
        (["deplyo"], 'Unknown command "deplyo"'),
        (["deploy", "--output", "html"], 'Invalid value "html"'),
        (["deploy", "--concurrency", "0"], "--concurrency"),
        (["deploy", "--waves", "none"], "allowed"),
        (["deploy", "nosuch"], "nosuch"),
        (["redeploy"], "redeploy: name a run or packages"),
        (["redeploy", "nosuch"], "nosuch: no run has an id"),
        (["deploy", "--limit", "db*"], "no host is named db*"),
        (["--config", "none.toml", "status"], "none.toml: there is no such file"),
        (["status", "--config", "none.toml"], "none.toml: there is no such file"),
        (["init"], "is there already"),
    ],
)
def test_what_is_refused_exits_2_with_short_lines_and_an_empty_stdout(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GHOSTASYNC_CONFIG", raising=False)
    assert execute(["init"]) == 0
    text = Path("ghostasync.toml").read_text()
    Path("ghostasync.toml").write_text(
        text.replace("hosts = []", 'hosts = ["web1"]').replace(
            "[app]", f'[store]\nurl = "{tmp_path}/store"\n[app]'
        )
    )
    capsys.readouterr()

    status = execute(words)

    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert said in err
    assert all(line.startswith("ghostasync: ") for line in err.splitlines())


OPEN = [
    ("deploy", "ghostasync.toml", 0o666, ""),
    ("rollback", ".", 0o777, ""),
    ("check", "build.sh", 0o602, "modules[0].buildpack.file: "),
    ("deploy", "store", 0o777, "store.url: "),
    ("rollback", "store", 0o1777, "store.url: "),
    ("check", "store/shop/test/web", 0o702, "store.url: "),
    ("status", "store/shop/test/web/packages", 0o777, "store.url: "),
    ("deploy", "cache/ghostasync", 0o777, "XDG_CACHE_HOME: "),
    ("history", "state/ghostasync", 0o702, "XDG_STATE_HOME: "),
    ("check", "known_hosts", 0o666, "ssh.known_hosts: "),
    ("deploy", "key", 0o644, "ssh.identity: "),
]


@pytest.mark.parametrize("case", OPEN, ids=lambda case: f"{case[1]}-{case[2]:o}")
async def test_what_others_could_change_is_refused_until_its_cure_was_typed(
    tmp_path: Path,
    fleet: InProcessFleet,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, int, str],
) -> None:
    word, name, mode, key = case
    own = {"key": fleet.ssh.identity, "known_hosts": fleet.ssh.known_hosts}
    for file, there in own.items():
        (tmp_path / file).write_bytes(Path(there).read_bytes())
        (tmp_path / file).chmod(0o600)
    (tmp_path / "build.sh").write_text("true\n")
    for folder in (
        "store/shop/test/web/packages",
        "cache/ghostasync",
        "state/ghostasync",
    ):
        (tmp_path / folder).mkdir(parents=True)
    text = (tmp_path / "ghostasync.toml").read_text()
    for file, there in own.items():
        text = text.replace(there, str(tmp_path / file))
    text += 'buildpack = { file = "build.sh" }\n'
    (tmp_path / "ghostasync.toml").write_text(text)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = (tmp_path / name).resolve()
    path.chmod(mode)

    refused = await ghostasync(tmp_path, word)

    assert (refused.returncode, refused.stdout) == (2, b"")
    (line,) = refused.stderr.decode().splitlines()
    assert line.startswith(f"ghostasync: {key}{path} can be ")
    cure = line.rpartition(": ")[2]
    assert cure == f"chmod {'600' if name == 'key' else 'o-w'} {path}"
    await anyio.run_process(cure)
    mended = await ghostasync(tmp_path, "check")
    assert mended.returncode == 0, mended.stderr


def test_everything_that_is_wrong_with_a_configuration_is_said_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "shop.toml"
    path.write_text("[app]\nname = 3\n[rollout]\nsoka = 1\n")
    monkeypatch.setenv("GHOSTASYNC_CONFIG", str(path))

    status = execute(["deploy"])

    said = capsys.readouterr().err.splitlines()
    assert status == 2
    assert any("app.name" in line for line in said)
    assert any("rollout.soka" in line for line in said)


def test_init_names_the_app_after_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "My Shop!"
    folder.mkdir()

    status = execute(["init", "--config", str(folder / "a.toml")])

    assert status == 0
    assert 'name = "My-Shop"' in (folder / "a.toml").read_text()
    assert "ghostasync check" in capsys.readouterr().out


def init_in(folder: Path) -> object:
    """Return the source that ``init`` writes."""
    assert execute(["init", "--config", str(folder / "a.toml")]) == 0
    text = (folder / "a.toml").read_text().replace("hosts = []", 'hosts = ["h1"]')
    (folder / "a.toml").unlink()
    return parse_plan(text, folder).modules[0].source


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://me:token@git.example.com/a.git", "https://git.example.com/a.git"),
        ("https://token@git.example.com/a.git", "https://git.example.com/a.git"),
        ("git@git.example.com:a.git", "git@git.example.com:a.git"),
        ("ssh://git:word@git.example.com/a", "ssh://git@git.example.com/a"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("../a.git", ".."),
        ("", ".."),
    ],
)
def test_init_in_a_repository_deploys_from_it(
    tmp_path: Path, url: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    repo = Repo(tmp_path)
    repo.git("init", "--quiet", "--initial-branch=trunk")
    if url:
        repo.git("remote", "add", "origin", url)
    (tmp_path / "ops").mkdir()

    assert init_in(tmp_path / "ops") == GitSource(written, "trunk")
    # The branch that others get by default goes before the one that is checked out.
    repo.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/next")
    rev = "trunk" if written == ".." else "next"
    assert init_in(tmp_path / "ops") == GitSource(written, rev)


def test_init_at_the_top_of_a_repository_deploys_from_there(tmp_path: Path) -> None:
    Repo(tmp_path).git("init", "--quiet", "--initial-branch=main")

    assert init_in(tmp_path) == GitSource(".", "main")


@pytest.mark.parametrize("git", ["none", "not here"])
def test_init_elsewhere_deploys_the_folder(
    tmp_path: Path, git: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if git == "not here":
        Repo(tmp_path).git("init", "--quiet")
        monkeypatch.setenv("PATH", str(tmp_path))

    assert init_in(tmp_path) == DirectorySource(".")


def test_help_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["deploy", "--help"]) == 0
    assert "--max-failures" in capsys.readouterr().out
