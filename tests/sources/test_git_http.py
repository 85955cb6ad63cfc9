from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from anyio import to_thread

from ghostasync.errors import SourceError, UnknownRevision
from ghostasync.model import GitSource
from ghostasync.sources.git import Git
from tests.sources.repos import Repo
from tests.sources.server import PASSWORD, USER, GitServer

USERINFO = f"{USER}:{quote(PASSWORD, safe='')}@"

ASK = """
import anyio, pathlib, sys
from ghostasync.model import GitSource
from ghostasync.sources.git import Git
anyio.run(Git("site", GitSource(sys.argv[1]), cache=pathlib.Path(sys.argv[2])).resolve)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.stalled.clear()
        made.shutdown()
        thread.join()


@pytest.fixture
def git(server: GitServer, tmp_path: Path) -> Callable[..., Git]:
    def make(userinfo: str = USERINFO, rev: str = "", *, keep_git: bool = False) -> Git:
        source = GitSource(server.url("site", userinfo), rev)
        return Git("site", source, cache=tmp_path / "cache", keep_git=keep_git)

    return make


async def tree(source: Git, into: Path) -> Path:
    into.mkdir()
    await source.fetch(await source.resolve(), into, lambda _: None)
    return into


async def test_credentials_of_the_url_reach_the_server_and_nobody_else(
    git: Callable[..., Git], repo: Repo, server: GitServer, tmp_path: Path
) -> None:
    """Ghost defects 14 and 20: there, they were shipped in ``.git/config``."""
    source = git(keep_git=True)

    revision = await source.resolve()
    into = await tree(source, tmp_path / "into")

    assert (revision.repo, revision.commit) == (server.url("site"), repo.head())
    assert Repo(into).git("config", "remote.origin.url") == server.url("site")
    assert server.refused > 0  # git first tries without
    everything = b"\n".join(
        [*server.seen, *(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())]
    )
    assert b"remote-http" in everything
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret.encode() not in everything
    assert USERINFO not in repr(vars(source))


async def test_refused_credentials_are_not_in_the_error(
    git: Callable[..., Git], server: GitServer
) -> None:
    with pytest.raises(SourceError) as caught:
        await git("deploy:wrong-hunter2@").resolve()

    text = str(caught.value)
    assert text == (
        f"site: cannot ask {server.url('site')}: "
        f"fatal: Authentication failed for '{server.url('site')}/'"
    )


async def test_without_credentials_nobody_is_asked_for_any(
    git: Callable[..., Git],
) -> None:
    with pytest.raises(SourceError, match="could not read Username"):
        await git("").resolve()


async def test_a_user_name_alone_is_completed_by_the_users_own_helper(
    git: Callable[..., Git],
    repo: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "gitconfig"
    helper = (
        f"\"!f() {{ grep -q ^username={USER} && echo password='{PASSWORD}'; }}; f\""
    )
    config.write_text(f"[credential]\n\thelper = {helper}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))

    assert (await git(f"{USER}@").resolve()).commit == repo.head()


async def test_a_token_as_user_name_is_sent_with_an_empty_password_and_kept_secret(
    git: Callable[..., Git], server: GitServer
) -> None:
    with pytest.raises(SourceError, match="Authentication failed") as caught:
        await git("t0ken-sentinel@").resolve()

    assert server.refused > 1
    assert "sentinel" not in str(caught.value)
    assert b"sentinel" not in b"".join(server.seen)


async def test_submodules_on_the_same_server_get_the_credentials_too(
    git: Callable[..., Git],
    repo: Repo,
    new_repo: Callable[[str], Repo],
    tmp_path: Path,
) -> None:
    new_repo("lib").commit("lib", lib="lib")
    allow = ("-c", "protocol.file.allow=always")
    repo.git(*allow, "submodule", "--quiet", "add", "../lib", "lib")
    repo.commit("with lib")

    into = await tree(git(), tmp_path / "into")

    assert (into / "lib" / "lib").read_text() == "lib"


async def test_what_came_over_the_network_does_not_reach_into_this_disk(
    git: Callable[..., Git],
    repo: Repo,
    new_repo: Callable[[str], Repo],
    tmp_path: Path,
) -> None:
    secret = new_repo("secret")
    secret.commit("secret", secret="x")
    allow = ("-c", "protocol.file.allow=always")
    repo.git(*allow, "submodule", "--quiet", "add", str(secret.path), "lib")
    repo.commit("curious")

    with pytest.raises(SourceError, match="transport 'file' not allowed"):
        await tree(git(), tmp_path / "into")


@pytest.mark.usefixtures("repo")
async def test_an_unknown_commit_is_told_from_a_server_that_is_away(
    git: Callable[..., Git], server: GitServer
) -> None:
    with pytest.raises(UnknownRevision, match="no branch, tag or commit"):
        await git(rev="0" * 39 + "1").resolve()

    server.shutdown()
    server.server_close()
    with pytest.raises(SourceError, match=r"site: cannot ask .*: fatal: .*onnect"):
        await git(rev="main").resolve()


async def test_a_cancelled_fetch_ends_at_once_and_the_next_one_works(
    git: Callable[..., Git], repo: Repo, server: GitServer
) -> None:
    server.stalled.set()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(git().resolve)
            await to_thread.run_sync(server.asked.wait)
            tasks.cancel_scope.cancel()
    server.stalled.clear()

    assert (await git().resolve()).commit == repo.head()


async def test_a_controller_killed_while_it_fetched_does_no_harm(
    git: Callable[..., Git], repo: Repo, server: GitServer, tmp_path: Path
) -> None:
    """Ghost defect 11: there, the mirror stayed locked for 50 minutes."""
    await git().resolve()
    commit = repo.commit("two")
    server.stalled.set()
    argv = (sys.executable, "-c", ASK, server.url("site", USERINFO))
    with spawn(*argv, str(tmp_path / "cache")) as controller:
        await to_thread.run_sync(server.asked.wait)
        controller.kill()
    server.stalled.clear()

    with anyio.fail_after(20):
        assert (await git().resolve()).commit == commit


def spawn(*argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv)


async def test_a_token_in_the_query_reaches_the_server_and_no_text_of_ours(
    server: GitServer, tmp_path: Path
) -> None:
    """git appends to the query, so no server understands it; its complaint is shown."""
    url = f"{server.url('site')}?private_token=t0p-s3cr3t&x=1"
    source = Git("site", GitSource(url), cache=tmp_path / "cache")

    with pytest.raises(SourceError) as caught:
        await source.resolve()

    assert "?private_token=***" in str(caught.value)
    assert "t0p-s3cr3t" not in str(caught.value)
    names = "".join(str(path) for path in tmp_path.rglob("*"))
    files = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert "t0p-s3cr3t" not in names
    assert b"t0p-s3cr3t" not in files
