"""What a fetch leaves: just what the remote has, or an error that says what to do."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ghostasync.errors import SourceError, UnknownRevision
from ghostasync.model import GitSource
from ghostasync.sources.git import Git
from tests.sources.repos import Repo

NewRepo = Callable[[str], Repo]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def source(repo: Path, cache: Path, rev: str = "main") -> Git:
    return Git("site", GitSource(str(repo), rev), cache=cache)


def mirror_of(cache: Path) -> Path:
    (folder,) = (path for path in (cache / "mirrors").iterdir() if path.is_dir())
    return folder


async def commit_of(git: Git) -> str:
    return (await git.resolve()).commit


async def tree(git: Git, into: Path) -> Path:
    into.mkdir()
    await git.fetch(await git.resolve(), into, lambda _: None)
    return into


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes git note how it is called, before it is."""
    log, real = tmp_path / "calls", shutil.which("git")
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    log.touch()
    return log


# --- A source that cannot give what it has ------------------------------------------


def shallow(repo: Repo, into: Path, depth: int = 1) -> Repo:
    url = repo.path.as_uri()
    repo.git("clone", "--quiet", f"--depth={depth}", url, str(into))
    return Repo(into)


@pytest.mark.parametrize("rev", ["main", "", "refs/heads/main", "v1"])
@pytest.mark.parametrize("known", [False, True])
async def test_a_shallow_source_never_gives_an_older_commit(
    repo: Repo, cache: Path, tmp_path: Path, rev: str, known: bool
) -> None:
    """``git fetch`` leaves its refs as they were, warns, and exits with 0."""
    for number in range(3):
        repo.commit(f"{number}", index=f"{number}")
    repo.git("tag", "v1")
    clone = tmp_path / "clone"
    if known:  # the mirror was made while the clone was whole
        repo.git("clone", "--quiet", repo.path.as_uri(), str(clone))
        await source(clone, cache, rev).resolve()
        shutil.rmtree(clone)
    newest = repo.commit("newest", index="newest")
    repo.git("tag", "--force", "v1")
    shallow(repo, clone)

    with pytest.raises(SourceError) as caught:
        await source(clone, cache, rev).resolve()

    name = "refs/tags/v1" if rev == "v1" else "refs/heads/main"
    assert str(caught.value) == (
        f"site: cannot fetch {name} of {clone}: it is a shallow clone; type there: "
        "git fetch --unshallow"
    )
    Repo(clone).git("fetch", "--quiet", "--unshallow")
    assert await commit_of(source(clone, cache, rev)) == newest


async def test_a_commit_of_a_shallow_source_is_that_commit_by_its_id(
    repo: Repo, cache: Path, tmp_path: Path
) -> None:
    newest = repo.commit("newest", index="newest")
    clone = shallow(repo, tmp_path / "clone")

    for number, rev in enumerate((newest, newest[:8])):
        git = source(clone.path, cache, rev)
        assert await commit_of(git) == newest
        into = await tree(git, tmp_path / f"{number}")
        assert (into / "index").read_text() == "newest"


async def test_a_shallow_source_whose_history_the_mirror_has_is_right(
    repo: Repo, cache: Path, tmp_path: Path
) -> None:
    repo.commit("two")
    clone = tmp_path / "clone"
    repo.git("clone", "--quiet", repo.path.as_uri(), str(clone))
    await source(clone, cache).resolve()
    shutil.rmtree(clone)
    newest = shallow(repo, clone).commit("three")

    assert await commit_of(source(clone, cache)) == newest


async def test_a_partial_clone_that_lacks_objects_says_what_to_type(
    repo: Repo, cache: Path, tmp_path: Path
) -> None:
    repo.git("config", "uploadpack.allowFilter", "true")
    newest, clone = repo.commit("two", two="2"), tmp_path / "clone"
    url = repo.path.as_uri()
    filtered = ("clone", "--quiet", "--filter=blob:none", "--no-checkout")
    repo.git(*filtered, url, str(clone))

    with pytest.raises(SourceError) as caught:
        await source(clone, cache).resolve()

    assert str(caught.value) == (
        f"site: cannot fetch {clone}: it is a partial clone, which lacks objects; type "
        "there: git fetch --refetch --no-filter"
    )
    Repo(clone).git("fetch", "--quiet", "--refetch", "--no-filter")
    assert await commit_of(source(clone, cache)) == newest


async def test_a_source_whose_objects_are_elsewhere_and_gone_is_an_error(
    repo: Repo, cache: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    repo.git("clone", "--quiet", "--shared", str(repo.path), str(clone))
    first = await commit_of(source(clone, cache))
    newest = repo.commit("two")
    Repo(clone).git("pull", "--quiet")
    repo.path.rename(tmp_path / "gone")

    with pytest.raises(SourceError, match=r"site: cannot fetch .*clone: ") as caught:
        await source(clone, cache).resolve()

    assert "unable to normalize alternate object path" in caught.value.tail
    (tmp_path / "gone").rename(repo.path)
    assert await commit_of(source(clone, cache)) == newest != first


async def test_a_source_that_lost_objects_is_an_error(repo: Repo, cache: Path) -> None:
    await source(repo.path, cache).resolve()
    repo.commit("two", two="2")
    blob = repo.git("rev-parse", "HEAD:two")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()

    with pytest.raises(SourceError, match=r"site: cannot fetch ") as caught:
        await source(repo.path, cache).resolve()

    assert blob in f"{caught.value}{caught.value.tail}"


# --- A source that has changed -------------------------------------------------------


async def test_any_change_of_a_source_is_followed(repo: Repo, cache: Path) -> None:
    """Forced, deleted, moved, a name where a folder of names was: as it is now."""
    chance = random.Random(11)
    names = ["a", "a/b", "a/b/c", "b", "b/a", "main2"]
    commits = [repo.head(), *(repo.commit(str(n)) for n in range(4))]
    for _ in range(12):
        kept = set(repo.git("for-each-ref", "--format=%(refname)").split())
        for ref in kept - {"refs/heads/main"}:
            if chance.random() < 0.5:
                repo.git("update-ref", "-d", ref)
        for kind in ("heads", "tags"):
            name, commit = chance.choice(names), chance.choice(commits)
            taken = repo.git("for-each-ref", "--format=%(refname)").split()
            ref = f"refs/{kind}/{name}"
            if not any(f"{one}/".startswith(f"{ref}/") or f"{ref}/".startswith(
                f"{one}/") for one in taken if one != ref):  # fmt: skip
                repo.git("update-ref", ref, commit)
        there = dict(line.split()[::-1] for line in repo.git("show-ref").splitlines())
        asked = chance.choice([*there])
        assert await commit_of(source(repo.path, cache, asked)) == there[asked]
        gone = next(f"refs/tags/{n}" for n in names if f"refs/tags/{n}" not in there)
        with pytest.raises(UnknownRevision):
            await source(repo.path, cache, gone).resolve()


async def test_the_default_branch_is_the_one_of_now(repo: Repo, cache: Path) -> None:
    await source(repo.path, cache, "").resolve()
    repo.git("checkout", "--quiet", "-b", "next")
    commit = repo.commit("next")

    found = await source(repo.path, cache, "").resolve()

    assert (found.rev, found.commit) == ("next", commit)


async def test_a_source_that_moves_while_it_is_fetched_is_asked_again(
    repo: Repo, cache: Path, calls: Path, tmp_path: Path
) -> None:
    await source(repo.path, cache).resolve()
    repo.commit("two")
    newest = repo.commit("three")
    # It is moved by the next git that fetches, before it does.
    program, real = tmp_path / "bin" / "git", shutil.which("git", path=os.defpath)
    repo.git("update-ref", "refs/heads/main", "HEAD~1")
    program.write_text(
        '#!/bin/sh\ncase "$*" in *" fetch "*)\n'
        f"{real} -C {repo.path} update-ref refs/heads/main {newest};;\nesac\n"
        f'exec {real} "$@"\n'
    )

    assert await commit_of(source(repo.path, cache)) == newest


# --- The mirror ----------------------------------------------------------------------


async def test_a_mirror_that_is_up_to_date_is_not_fetched(
    repo: Repo, cache: Path, calls: Path
) -> None:
    await source(repo.path, cache).resolve()
    before = len(calls.read_text().splitlines())
    await source(repo.path, cache).resolve()

    later = calls.read_text().splitlines()[before:]
    assert [line for line in later if " ls-remote " in line]
    assert not [line for line in later if " fetch " in line]


@pytest.mark.parametrize(
    "name",
    ["shallow.lock", "objects/info/commit-graph.lock", "objects/pack/tmp_pack_x1Y2z3"],
)
async def test_what_a_killed_git_left_keeps_nobody(
    repo: Repo, cache: Path, name: str
) -> None:
    await source(repo.path, cache).resolve()
    (mirror_of(cache) / name).touch()
    lost = repo.commit("lost")
    repo.git("reset", "--quiet", "--hard", "HEAD~1")

    assert await commit_of(source(repo.path, cache, lost)) == lost
    assert not (mirror_of(cache) / name).exists()


async def test_a_mirror_is_examined_only_where_git_points_to_damage(
    repo: Repo, cache: Path, calls: Path, tmp_path: Path
) -> None:
    """A check of a large mirror takes minutes; a server that is away is no damage."""
    await source(repo.path, cache).resolve()
    repo.commit("two")
    hook = tmp_path / "bin" / "git-upload-pack"
    hook.write_text("#!/bin/sh\nexit 1\n")
    for url in ("http://127.0.0.1:1/x", "git://127.0.0.1:1/x", str(tmp_path)):
        with pytest.raises(SourceError):
            await source(Path(url), cache).resolve()
    repo.path.rename(tmp_path / "gone")
    with pytest.raises(SourceError):
        await source(repo.path, cache, "f" * 40).resolve()
    assert " fsck " not in calls.read_text()
    (tmp_path / "gone").rename(repo.path)

    (mirror_of(cache) / "HEAD").write_bytes(b"\0")
    assert await commit_of(source(repo.path, cache)) == repo.head()
    assert " fsck " in calls.read_text()


def _cut(size: int, pattern: str) -> Callable[[Path], None]:
    def act(mirror: Path) -> None:
        for path in mirror.glob(pattern):
            path.chmod(0o600)
            with path.open("rb+") as file:
                file.truncate(size)

    return act


def _without(pattern: str) -> Callable[[Path], None]:
    def act(mirror: Path) -> None:
        for path in mirror.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    return act


def _lost(mirror: Path) -> None:
    (mirror / "refs/heads/main").write_text("1" * 40 + "\n")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "no packs": _without("objects/pack/*"),
    "no index": _without("objects/pack/*.idx"),
    "an empty pack": _cut(0, "objects/pack/*.pack"),
    "a pack cut short": _cut(40, "objects/pack/*.pack"),
    "an empty index": _cut(0, "objects/pack/*.idx"),
    "no objects": _without("objects"),
    "no refs": _without("refs"),
    "an empty config": _cut(0, "config"),
    "nothing": _without("*"),
    "an empty ref": _cut(0, "refs/heads/*"),
    "a ref to nothing": _lost,
}


@pytest.mark.parametrize("damage", [*DAMAGES])
@pytest.mark.parametrize("moved", [False, True])
async def test_a_damaged_mirror_heals(
    repo: Repo, cache: Path, tmp_path: Path, damage: str, moved: bool
) -> None:
    await source(repo.path, cache).resolve()
    DAMAGES[damage](mirror_of(cache))
    commit = repo.commit("two", index="two") if moved else repo.head()

    into = await tree(source(repo.path, cache), tmp_path / "into")

    assert (into / "index").read_text() == ("two" if moved else "one")
    assert await commit_of(source(repo.path, cache)) == commit


@pytest.mark.parametrize("damage", ["no packs", "spoilt", "an empty pack", "no index"])
@pytest.mark.parametrize("keep_git", [False, True])
async def test_a_mirror_that_is_damaged_once_it_was_asked_heals(
    repo: Repo, cache: Path, tmp_path: Path, keep_git: bool, damage: str
) -> None:
    noise = random.Random(1).randbytes(40_000).hex()
    repo.commit("noise", noise=noise)
    git = Git("site", GitSource(str(repo.path)), cache=cache, keep_git=keep_git)
    revision = await git.resolve()
    (pack,) = mirror_of(cache).glob("objects/pack/*.pack")
    if damage == "spoilt":
        data = bytearray(pack.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
        pack.chmod(0o600)
        pack.write_bytes(data)
    else:
        DAMAGES[damage](mirror_of(cache))

    into = tmp_path / "into"
    into.mkdir()
    await git.fetch(revision, into, lambda _: None)

    assert (into / "noise").read_text() == noise


# --- SHA-256 -------------------------------------------------------------------------


@pytest.fixture
def sha256(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "sha256")
    repo.path.mkdir()
    repo.git("init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    repo.commit("one", index="one")
    return repo


async def test_a_repository_with_sha_256_ids_works(
    sha256: Repo, cache: Path, tmp_path: Path
) -> None:
    lost = sha256.commit("lost", index="lost")
    sha256.git("reset", "--quiet", "--hard", "HEAD~1")
    commit = sha256.commit("two", index="two")

    for rev in ("main", "", commit, commit[:9], commit[:50]):
        assert await commit_of(source(sha256.path, cache, rev)) == commit
    assert await commit_of(source(sha256.path, cache, lost)) == lost
    into = await tree(source(sha256.path, cache), tmp_path / "into")
    assert (into / "index").read_text() == "two"
    kept = Git("site", GitSource(str(sha256.path)), cache=cache, keep_git=True)
    assert Repo(await tree(kept, tmp_path / "kept")).head() == commit


async def test_a_repository_that_is_made_anew_with_other_ids_is_followed(
    repo: Repo, sha256: Repo, cache: Path
) -> None:
    await source(repo.path, cache).resolve()
    shutil.rmtree(repo.path)
    sha256.path.rename(repo.path)

    assert await commit_of(source(repo.path, cache)) == repo.head()
