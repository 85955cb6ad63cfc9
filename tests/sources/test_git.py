from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from ghostasync.errors import AmbiguousRevision, SourceError, UnknownRevision
from ghostasync.model import GitSource, Revision
from ghostasync.sources.git import Git
from tests.sources.repos import Repo

NewRepo = Callable[[str], Repo]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def git(repo: Repo, cache: Path) -> Callable[..., Git]:
    def make(rev: str = "", url: str = "", *, keep_git: bool = False) -> Git:
        source = GitSource(url or str(repo.path), rev)
        return Git("site", source, cache=cache, keep_git=keep_git)

    return make


async def tree(source: Git, into: Path, revision: Revision | None = None) -> Path:
    into.mkdir()
    await source.fetch(revision or await source.resolve(), into, lambda _: None)
    return into


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def mirror_of(cache: Path) -> Path:
    (folder,) = (path for path in (cache / "mirrors").iterdir() if path.is_dir())
    return folder


# --- What a revision is ---------------------------------------------------------


async def test_a_revision_tells_all_about_the_commit(
    repo: Repo, git: Callable[..., Git]
) -> None:
    commit = repo.commit("Subject\n\nBody\n\n\n")

    assert await git("main").resolve() == Revision(
        repo=str(repo.path),
        rev="main",
        commit=commit,
        message="Subject\n\nBody",
        epoch=1700000001,
    )


async def test_a_path_is_relative_to_the_configuration(repo: Repo, cache: Path) -> None:
    base = repo.path / "deploy"
    source = Git("site", GitSource("../../site"), cache=cache, base=base)

    assert (await source.resolve()).repo == str(repo.path)


@pytest.mark.parametrize(
    "message",
    [
        b"Use `id -un` in docs, $(touch x)",
        b'Revert "Fix login page"\n\nThis reverts it.',
        b"\n\n leading\n\tand tab",
        b"tree 123\n\nparent 456",
    ],
)
async def test_messages_arrive_byte_for_byte(
    repo: Repo, git: Callable[..., Git], message: bytes
) -> None:
    """Ghost defect 12: there, a subject with backticks ran them as root."""
    repo.commit(message)

    found = (await git("main").resolve()).message

    assert found.encode(errors="surrogateescape") == message


@pytest.mark.parametrize("header", [b"", b"encoding ISO-8859-1\n"])
async def test_bytes_that_are_not_utf_8_are_kept(
    repo: Repo, git: Callable[..., Git], header: bytes
) -> None:
    whole = repo.git("cat-file", "commit", "HEAD").encode()
    head = whole.partition(b"\n\n")[0]
    raw = head + b"\n" + header + b"\ncaf\xe9\n"
    commit = repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw)
    repo.git("update-ref", "refs/heads/main", commit)

    assert (await git("main").resolve()).message == "caf\udce9"


async def test_tags_lead_to_their_commit(repo: Repo, git: Callable[..., Git]) -> None:
    commit = repo.head()
    repo.git("tag", "light")
    repo.git("tag", "-a", "-m", "x", "annotated")
    repo.git("tag", "-a", "-m", "x", "nested", "annotated")
    repo.commit("later")

    found = [await git(rev).resolve() for rev in ("light", "annotated", "nested")]

    assert {revision.commit for revision in found} == {commit}
    assert [revision.rev for revision in found] == ["light", "annotated", "nested"]


async def test_a_name_of_different_commits_is_refused_with_their_spellings(
    repo: Repo, git: Callable[..., Git]
) -> None:
    """Git itself would take the tag."""
    first = repo.head()
    second = repo.commit("two")
    repo.git("tag", "both", first)
    repo.git("branch", "both", second)
    repo.git("branch", first[:8], second)

    for rev, spelled in (
        ("both", {"refs/heads/both": second, "refs/tags/both": first}),
        (first[:8], {f"refs/heads/{first[:8]}": second, first: first}),
    ):
        with pytest.raises(AmbiguousRevision) as caught:
            await git(rev).resolve()
        assert caught.value.commits == spelled
        for name, commit in spelled.items():
            assert f"{name} ({commit[:7]})" in str(caught.value)
            assert (await git(name).resolve()).commit == commit


async def test_a_full_spelling_is_what_it_says_whatever_else_is_called_so(
    repo: Repo, git: Callable[..., Git]
) -> None:
    """Or anybody who may push a branch could keep a fleet from its next release."""
    first = repo.head()
    second = repo.commit("two")
    repo.git("branch", "refs/heads/main", first)
    repo.git("tag", first[:4], second)

    assert (await git().resolve()).commit == second
    assert (await git("refs/heads/main").resolve()).commit == second
    assert (await git(first[:4]).resolve()).commit == second


async def test_a_name_of_one_commit_is_not_ambiguous(
    repo: Repo, git: Callable[..., Git]
) -> None:
    first = repo.head()
    repo.git("tag", "-a", "-m", "x", "same")
    repo.git("branch", "same")
    second = repo.commit("two")
    repo.git("tag", "main", first)
    repo.git("branch", first, second)

    assert (await git("same").resolve()).commit == first
    assert (await git(first[:9]).resolve()).commit == first
    # The default branch is no name that anybody has typed.
    assert (await git().resolve()).commit == second
    assert (await git().resolve()).rev == "main"
    # A whole commit id is a commit, as it is for git.
    assert (await git(first).resolve()).commit == first
    assert (await git(first.upper()).resolve()).commit == first


async def test_an_abbreviation_of_more_than_one_commit_is_refused(
    repo: Repo, git: Callable[..., Git]
) -> None:
    commits = [repo.head()]
    while len({commit[:4] for commit in commits}) == len(commits):
        tree = f"{commits[0]}^{{tree}}"
        commits.append(repo.git("commit-tree", "-m", str(len(commits)), tree))
        repo.git("update-ref", f"refs/heads/b{len(commits)}", commits[-1])
    short = commits[-1][:4]

    with pytest.raises(AmbiguousRevision) as caught:
        await git(short).resolve()

    same = {commit for commit in commits if commit.startswith(short)}
    assert set(caught.value.commits) == same


async def test_commits_that_another_one_lacks_have_their_subjects(
    repo: Repo, git: Callable[..., Git]
) -> None:
    first = repo.head()
    commits = [repo.commit(text) for text in (b"One\n\nBody", b"Tw\x0bo", b"Three")]
    source, last = git("main"), commits[-1]
    await source.resolve()

    ids = [commit[:7] for commit in commits]
    assert await source.subjects(last, first, 2) == (
        f"{ids[2]} Three",
        f"{ids[1]} Tw\x0bo",
    )
    assert await source.subjects(last, first, 9) == (
        *(await source.subjects(last, first, 2)),
        f"{ids[0]} One",
    )
    assert await source.subjects(first, last, 9) == ()
    assert await source.subjects("f" * 40, first, 9) == ()


async def test_a_known_commit_needs_no_network(
    repo: Repo, git: Callable[..., Git], tmp_path: Path
) -> None:
    commit = repo.head()
    revision = await git().resolve()
    repo.path.rename(tmp_path / "gone")

    assert (await git(commit).resolve()).commit == commit
    assert names(await tree(git(), tmp_path / "into", revision)) == ["index"]
    with pytest.raises(SourceError):
        await git("main").resolve()


async def test_a_commit_that_no_ref_leads_to_is_fetched_by_its_id(
    repo: Repo, git: Callable[..., Git], tmp_path: Path
) -> None:
    lost = repo.commit("lost", lost="x")
    repo.git("reset", "--quiet", "--hard", "HEAD~1")

    into = await tree(git(lost), tmp_path / "into")

    assert names(into) == ["index", "lost"]


async def test_a_commit_survives_the_branch_it_was_found_on(
    repo: Repo, git: Callable[..., Git], tmp_path: Path
) -> None:
    repo.commit("on its way", wip="x")
    revision = await git("main").resolve()
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    assert (await git("main").resolve()).commit != revision.commit

    assert names(await tree(git(), tmp_path / "into", revision)) == ["index", "wip"]


async def test_a_renamed_default_branch_is_followed(
    repo: Repo, git: Callable[..., Git]
) -> None:
    """Ghost defect 21: there, the name of the first clone stayed for ever."""
    assert (await git().resolve()).rev == "main"

    repo.git("branch", "--move", "main", "trunk")
    commit = repo.commit("on trunk")
    revision = await git().resolve()

    assert (revision.rev, revision.commit) == ("trunk", commit)
    with pytest.raises(UnknownRevision):
        await git("main").resolve()


async def test_head_is_the_default_branch_or_a_detached_commit(
    repo: Repo, git: Callable[..., Git]
) -> None:
    first = repo.head()
    repo.commit("two")
    repo.git("checkout", "--quiet", "--detach", first)

    found = await git("HEAD").resolve()

    assert (found.rev, found.commit) == ("HEAD", first)
    assert (await git().resolve()).rev == first


async def test_an_empty_repository_has_no_head(
    new_repo: NewRepo, git: Callable[..., Git]
) -> None:
    empty = new_repo("empty")

    with pytest.raises(UnknownRevision) as caught:
        await git(url=str(empty.path)).resolve()

    assert caught.value.rev == "HEAD"


async def test_a_branch_may_take_the_place_of_a_folder_of_branches(
    repo: Repo, git: Callable[..., Git]
) -> None:
    repo.git("branch", "a")
    await git("a").resolve()
    repo.git("branch", "--move", "a", "a/b")

    assert (await git("a/b").resolve()).rev == "a/b"
    with pytest.raises(UnknownRevision):
        await git("a").resolve()


# --- Hostile names --------------------------------------------------------------

HOSTILE = [
    "--upload-pack=touch x",
    "-h",
    "master .; touch X #",
    "$(touch x)",
    "`touch x`",
    "main\ntouch x",
    "main\0x",
    "main~1",
    "main^{tree}",
    "main@{1}",
    ":/one",
    "main..main",
    "../heads/main",
    "refs/remotes/main",
    "heads/main",
    "*",
    " ",
    "0" * 40,
    "deadbeef",
]


@pytest.mark.parametrize("rev", HOSTILE)
async def test_what_is_no_branch_tag_or_commit_is_unknown_and_runs_nothing(
    git: Callable[..., Git], repo: Repo, rev: str, tmp_path: Path
) -> None:
    """Ghost defect 13: there, ``master .; touch X #`` ran touch."""
    before = names(repo.path), sorted(Path().iterdir())

    with pytest.raises(UnknownRevision) as caught:
        await git(rev).resolve()

    assert (caught.value.module, caught.value.rev) == ("site", rev)
    assert (names(repo.path), sorted(Path().iterdir())) == before
    assert not [path for path in names(tmp_path) if path.lower().endswith("/x")]


@pytest.mark.parametrize(
    "name", ["it's", '"quoted"', "$(touch${IFS}x)", "`x`", "a;b&c", "é"]
)
async def test_any_name_that_git_takes_for_a_branch_is_one(
    git: Callable[..., Git], repo: Repo, name: str, tmp_path: Path
) -> None:
    """Ghost defect 13."""
    repo.git("branch", "--", name)

    assert names(await tree(git(name), tmp_path / "into")) == ["index"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ext::sh -c touch% x", "transport 'ext' not allowed"),
        ("fd::0", "transport 'fd' not allowed"),
        ("--upload-pack=touch x", "does not appear to be a git repository"),
        ("-oProxyCommand=touch x", "does not appear to be a git repository"),
        ("ssh://-oProxyCommand=touch%20x/y", "strange hostname"),
        ("-oProxyCommand=touch x:y", "strange hostname"),
        ("$(touch x)", "does not appear to be a git repository"),
        ("a'b\"c\nd", "does not appear to be a git repository"),
    ],
)
async def test_hostile_urls_run_nothing(
    cache: Path, url: str, why: str, tmp_path: Path
) -> None:
    """Ghost defect 13."""
    source = Git("site", GitSource(url), cache=cache, base=tmp_path)

    with pytest.raises(SourceError, match=why) as caught:
        await source.resolve()

    assert str(caught.value).startswith("site: cannot ask ")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


async def test_settings_that_reach_a_server_may_be_in_the_environment(
    repo: Repo, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CI job has the token of its server there."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{repo.path}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://127.0.0.1:1/x.git")
    source = Git("site", GitSource("https://127.0.0.1:1/x.git", "main"), cache=cache)

    assert (await source.resolve()).commit == repo.head()


@pytest.mark.parametrize("zone", ["+0000", "+051800", "-00"])
async def test_a_commit_has_its_time_whatever_its_zone(
    git: Callable[..., Git], repo: Repo, zone: str
) -> None:
    """Old tools wrote zones that are none, as in the history of Rails."""
    text = repo.git("cat-file", "commit", "HEAD").replace("1 +0000", f"1 {zone}")
    words = ("hash-object", "-t", "commit", "-w", "--literally", "--stdin")
    commit = repo.git(*words, stdin=text.encode())
    repo.git("update-ref", "refs/heads/main", commit)

    assert (await git("main").resolve()).epoch == 1700000001


async def test_a_leaked_git_environment_leads_nowhere(
    git: Callable[..., Git],
    repo: Repo,
    new_repo: NewRepo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = new_repo("other")
    other.commit("other", other="x")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git" / "index"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.bare")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "nonsense")

    assert names(await tree(git(), tmp_path / "into")) == ["index"]
    assert other.git("status", "--porcelain") == ""


async def test_hooks_of_a_template_do_not_run(
    git: Callable[..., Git], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "template" / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(
        f"[init]\n\ttemplateDir = {hook.parent.parent}\n"
        f"[core]\n\thooksPath = {hook.parent}\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))

    await tree(git(), tmp_path / "into")

    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
async def test_a_repository_of_another_user_can_be_read(
    git: Callable[..., Git], repo: Repo, tmp_path: Path
) -> None:
    for path in (repo.path, *repo.path.rglob("*")):
        os.chown(path, 12345, 12345)

    assert names(await tree(git(), tmp_path / "into")) == ["index"]


# --- The mirror -----------------------------------------------------------------


async def test_locks_that_a_killed_git_left_are_healed(
    git: Callable[..., Git], repo: Repo, cache: Path
) -> None:
    await git().resolve()
    mirror = mirror_of(cache)
    leftovers = ["refs/heads/main.lock", "packed-refs.lock", "HEAD.lock", "config.lock"]
    for name in leftovers:
        (mirror / name).touch()
    commit = repo.commit("two")

    assert (await git().resolve()).commit == commit
    assert not [name for name in leftovers if (mirror / name).exists()]


@pytest.mark.parametrize("name", ["HEAD", "config", "packed-refs", "refs/heads/main"])
async def test_a_mirror_with_a_spoilt_file_is_made_anew(
    git: Callable[..., Git], repo: Repo, cache: Path, name: str
) -> None:
    await git().resolve()
    (mirror_of(cache) / name).write_bytes(b"\0nonsense\n")
    commit = repo.commit("two")

    assert (await git().resolve()).commit == commit
    assert [path.suffix for path in (cache / "mirrors").iterdir()].count("") == 1


async def test_a_mirror_that_lost_its_objects_is_made_anew(
    git: Callable[..., Git], cache: Path, tmp_path: Path
) -> None:
    revision = await git().resolve()
    for pack in mirror_of(cache).glob("objects/pack/*.pack"):
        pack.chmod(0o644)
        data = bytearray(pack.read_bytes())
        data[20:-20] = bytes(len(data) - 40)
        pack.write_bytes(data)

    assert names(await tree(git(), tmp_path / "into", revision)) == ["index"]


async def test_a_file_that_the_mirror_has_spoilt_is_fetched_anew(
    git: Callable[..., Git], repo: Repo, cache: Path, tmp_path: Path
) -> None:
    noise = "".join(f"{number:x}" for number in range(20000))
    repo.commit("noise", noise=noise)
    revision = await git().resolve()
    (pack,) = mirror_of(cache).glob("objects/pack/*.pack")
    data = bytearray(pack.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    pack.chmod(0o644)
    pack.write_bytes(data)

    into = await tree(git(), tmp_path / "into", revision)

    assert (into / "noise").read_text() == noise


async def test_a_mirror_outlives_a_repository_that_cannot_be_reached(
    git: Callable[..., Git], repo: Repo, cache: Path, tmp_path: Path
) -> None:
    revision = await git().resolve()
    before = mirror_of(cache).stat().st_ino
    repo.path.rename(tmp_path / "gone")

    with pytest.raises(SourceError, match=r"^site: cannot ask .*/site: fatal: "):
        await git("main").resolve()

    assert mirror_of(cache).stat().st_ino == before
    assert names(await tree(git(), tmp_path / "into", revision)) == ["index"]


async def test_runs_that_fetch_at_the_same_time_do_not_meet(
    git: Callable[..., Git], repo: Repo, tmp_path: Path
) -> None:
    """Ghost defect 11: there, one run read the mirror while another wrote to it."""
    commit = repo.commit("two", two="2")
    found: list[str] = []

    async def deploy(number: int) -> None:
        source = git("main")
        revision = await source.resolve()
        into = await tree(source, tmp_path / f"into{number}", revision)
        found.extend([revision.commit, *names(into)])

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(deploy, number)

    assert found == [commit, "index", "two"] * 4


async def test_the_cache_is_private(git: Callable[..., Git], cache: Path) -> None:
    await git().resolve()

    assert (cache / "mirrors").stat().st_mode & 0o777 == 0o700


async def test_a_cache_that_cannot_be_written_is_named(repo: Repo) -> None:
    source = Git("site", GitSource(str(repo.path)), cache=Path("/dev/null"))

    with pytest.raises(SourceError, match=r"^site: .*/dev/null"):
        await source.resolve()


@pytest.mark.parametrize("rev", ["", "0" * 40])
async def test_without_git_the_error_says_so(
    git: Callable[..., Git], monkeypatch: pytest.MonkeyPatch, rev: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(SourceError, match="git could not be started: No such file"):
        await git(rev).resolve()


async def test_a_folder_that_is_not_there_is_named(
    git: Callable[..., Git], tmp_path: Path
) -> None:
    revision = await git().resolve()

    with pytest.raises(SourceError, match=r"^site: cannot check out: .*/nowhere$"):
        await git().fetch(revision, tmp_path / "nowhere", lambda _: None)


# --- The tree -------------------------------------------------------------------


async def test_a_tree_depends_on_the_commit_alone(
    git: Callable[..., Git],
    repo: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repo.write("bin/run", "x").chmod(0o755)
    repo.write("dos.txt", "a\nb\n")
    (repo.path / "link").symlink_to("bin")
    (repo.path / "dangling").symlink_to("/nowhere/.git")
    repo.commit()
    config = tmp_path / "gitconfig"
    config.write_text("[core]\n\tautocrlf = true\n\tsymlinks = false\n")

    def facts(into: Path) -> dict[str, tuple[int, float, bytes]]:
        return {
            name: (
                path.lstat().st_mode,
                path.lstat().st_mtime,
                b"" if path.is_dir() or path.is_symlink() else path.read_bytes(),
            )
            for name in [".", *names(into)]
            for path in [into / name]
        }

    one = facts(await tree(git(), tmp_path / "one"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    umask = os.umask(0o077)
    try:
        two = facts(await tree(git(), tmp_path / "two"))
    finally:
        os.umask(umask)

    assert one == two
    assert {mtime for _, mtime, _ in one.values()} == {1700000001}
    modes = {name: mode & 0o777 for name, (mode, _, _) in one.items()}
    assert modes == {
        ".": 0o755,
        "bin": 0o755,
        "bin/run": 0o755,
        "dangling": 0o777,
        "dos.txt": 0o644,
        "index": 0o644,
        "link": 0o777,
    }
    assert one["dos.txt"][2] == b"a\nb\n"


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


async def test_a_kept_git_folder_is_whole_and_knows_its_origin(
    git: Callable[..., Git], repo: Repo, cache: Path, tmp_path: Path
) -> None:
    repo.git("tag", "-a", "-m", "x", "v1")
    repo.commit("two", two="2")

    kept = Repo(await tree(git("main", keep_git=True), tmp_path / "into"))
    again = await tree(git("main", keep_git=True), tmp_path / "again")
    shutil.rmtree(cache)

    # What differed would make each deploy of one commit a new release.
    assert contents(kept.path) == contents(again)
    assert kept.git("describe") == f"v1-1-g{repo.head()[:7]}"
    assert kept.git("status", "--porcelain") == ""
    assert kept.git("config", "remote.origin.url") == str(repo.path)
    assert kept.git("rev-parse", "origin/main") == repo.head()
    kept.git("fsck")


@pytest.fixture
def nested(repo: Repo, new_repo: NewRepo) -> Repo:
    """Makes *repo* have a submodule that has one, by relative URLs."""
    inner, outer = new_repo("inner"), new_repo("outer")
    inner.commit("inner", deep="deep")
    outer.commit("outer", mid="mid")
    allow = ("-c", "protocol.file.allow=always")
    outer.git(*allow, "submodule", "--quiet", "add", "../inner", "in side")
    outer.commit("with inner")
    repo.git(*allow, "submodule", "--quiet", "add", "../outer", "vendor/outer")
    repo.commit("with outer")
    return repo


NESTED = [
    ".gitmodules",
    "index",
    "vendor",
    "vendor/outer",
    "vendor/outer/.gitmodules",
    "vendor/outer/in side",
    "vendor/outer/in side/deep",
    "vendor/outer/mid",
]


@pytest.mark.usefixtures("nested")
async def test_submodules_of_a_local_repository_come_along(
    git: Callable[..., Git], tmp_path: Path
) -> None:
    """Ghost defect 20: there, ``.git`` was shipped."""
    into = await tree(git(), tmp_path / "into")

    assert names(into) == NESTED
    assert {path.lstat().st_mtime for path in into.rglob("*")} == {1700000001}


@pytest.mark.usefixtures("nested")
async def test_a_kept_git_folder_keeps_those_of_submodules(
    git: Callable[..., Git], tmp_path: Path
) -> None:
    into = await tree(git(keep_git=True), tmp_path / "into")

    outer = Repo(into / "vendor" / "outer")
    assert outer.git("log", "-1", "--format=%s") == "with inner"


async def test_a_submodule_that_cannot_be_had_says_which(
    git: Callable[..., Git], nested: Repo, tmp_path: Path
) -> None:
    shutil.rmtree(nested.path.parent / "inner")

    with pytest.raises(SourceError) as caught:
        await tree(git(), tmp_path / "into")

    text = str(caught.value)
    assert text.startswith("site: vendor/outer/in side: cannot fetch ")
    assert "inner' does not appear to be a git repository" in text


@pytest.fixture
def large(repo: Repo) -> Repo:
    repo.git("lfs", "install", "--local", "--skip-repo")
    repo.write("big.bin", "big " * 1000)
    repo.commit("large", **{".gitattributes": "*.bin filter=lfs -text\n"})
    assert "git-lfs" in repo.git("show", "HEAD:big.bin")
    return repo


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="needs git-lfs")
async def test_lfs_files_are_there_and_kept_for_the_next_time(
    git: Callable[..., Git], large: Repo, tmp_path: Path
) -> None:
    revision = await git().resolve()
    one = await tree(git(), tmp_path / "one", revision)
    shutil.rmtree(large.path / ".git" / "lfs")
    two = await tree(git(), tmp_path / "two", revision)

    for into in (one, two):
        assert names(into) == [".gitattributes", "big.bin", "index"]
        assert (into / "big.bin").read_text() == "big " * 1000


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="needs git-lfs")
async def test_a_missing_lfs_file_is_an_error_that_names_it(
    git: Callable[..., Git], large: Repo, tmp_path: Path
) -> None:
    shutil.rmtree(large.path / ".git" / "lfs")

    with pytest.raises(SourceError, match=r"cannot check out .*: .*big\.bin"):
        await tree(git(), tmp_path / "into")


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="the fixture needs it")
@pytest.mark.usefixtures("large")
async def test_without_git_lfs_no_pointer_is_taken_for_a_file(
    git: Callable[..., Git], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "sh"):
        (programs / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(programs))

    with pytest.raises(SourceError) as caught:
        await tree(git(), tmp_path / "into")

    assert str(caught.value) == (
        "site: the tree has files in Git LFS, and git-lfs is not here: install it"
    )
