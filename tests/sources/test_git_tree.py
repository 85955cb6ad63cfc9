"""What is in a tree: the commit's own files, and those of its submodules."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ghostasync.errors import SourceError
from ghostasync.model import GitSource, Submodules
from ghostasync.sources.git import Git
from tests.sources.repos import Repo

NewRepo = Callable[[str], Repo]
ALLOW = ("-c", "protocol.file.allow=always")


@pytest.fixture
def git(repo: Repo, tmp_path: Path) -> Callable[..., Git]:
    def make(submodules: Submodules = "all", *, keep_git: bool = False) -> Git:
        source = GitSource(str(repo.path), "main")
        cache = tmp_path / "cache"
        return Git(
            "site", source, cache=cache, keep_git=keep_git, submodules=submodules
        )

    return make


async def tree(source: Git, into: Path) -> Path:
    into.mkdir()
    await source.fetch(await source.resolve(), into, lambda _: None)
    return into


def files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.fixture
def nested(repo: Repo, new_repo: NewRepo) -> Repo:
    """Gives *repo* two submodules, one with another inside."""
    for name in ("inner", "outer", "lib"):
        new_repo(name).commit(name, **{name: name})
    outer = Repo(repo.path.parent / "outer")
    outer.git(*ALLOW, "submodule", "--quiet", "add", "../inner", "deep/inner")
    outer.commit("with inner")
    repo.git(*ALLOW, "submodule", "--quiet", "add", "../outer", "vendor/outer")
    repo.git(*ALLOW, "submodule", "--quiet", "add", "../lib", "vendor/:(top) lib")
    repo.commit("with submodules")
    return repo


LIB = "vendor/:(top) lib/lib"
OUTER = ["vendor/outer/.gitmodules", "vendor/outer/outer"]
INNER = "vendor/outer/deep/inner/inner"


# --- Submodules ----------------------------------------------------------------------


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("chosen", "there"),
    [
        ("all", [LIB, *OUTER, INNER]),
        ("none", []),
        (("vendor/:(top) lib",), [LIB]),
        (("vendor/outer",), [*OUTER, INNER]),
        (("vendor/outer/deep/inner",), [*OUTER, INNER]),
    ],
)
async def test_only_the_chosen_submodules_are_there(
    git: Callable[..., Git], tmp_path: Path, chosen: Submodules, there: list[str]
) -> None:
    into = await tree(git(chosen), tmp_path / "into")

    assert files(into) == sorted([".gitmodules", "index", *there])
    assert (into / "vendor/outer").is_dir()


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("vend", "vendor/:(top) lib, vendor/outer"),
        ("vendor/outer/deep", "vendor/outer/deep/inner"),
    ],
)
async def test_a_chosen_path_that_is_no_submodule_is_named(
    git: Callable[..., Git], tmp_path: Path, path: str, known: str
) -> None:
    with pytest.raises(SourceError) as caught:
        await tree(git(("vendor/:(top) lib", path)), tmp_path / "into")

    assert str(caught.value) == (
        f"site: {path} is no submodule (modules.submodules); known here: {known}"
    )


async def test_a_submodule_has_a_mirror_that_the_next_tree_is_made_from(
    git: Callable[..., Git], nested: Repo, tmp_path: Path
) -> None:
    await tree(git(), tmp_path / "one")
    for name in ("inner", "outer", "lib"):
        shutil.rmtree(nested.path.parent / name)

    into = await tree(git(), tmp_path / "two")

    assert INNER in files(into)


async def test_a_submodule_follows_its_commit_whatever_its_branches_do(
    git: Callable[..., Git], nested: Repo, tmp_path: Path
) -> None:
    lib = Repo(nested.path.parent / "lib")
    await tree(git(), tmp_path / "one")
    wanted = lib.commit("two", two="two")
    lib.commit("three", three="three")
    nested.git("-C", "vendor/:(top) lib", "fetch", "--quiet")
    nested.git("-C", "vendor/:(top) lib", "checkout", "--quiet", wanted)
    nested.commit("a newer lib")
    lib.git("reset", "--quiet", "--hard", "HEAD~2")

    into = await tree(git(), tmp_path / "two")

    assert files(into / "vendor/:(top) lib") == ["lib", "two"]


async def test_a_commit_that_was_not_pushed_is_named_with_its_submodule(
    git: Callable[..., Git], nested: Repo, tmp_path: Path
) -> None:
    commit = Repo(nested.path / "vendor/outer").commit("here only")
    nested.commit("outer")

    with pytest.raises(SourceError) as caught:
        await tree(git(), tmp_path / "into")

    assert str(caught.value) == (
        f"site: vendor/outer: {nested.path.parent}/outer has no commit {commit[:7]}, "
        "which the tree names: push it there"
    )


@pytest.mark.parametrize("others", [False, True])
async def test_a_submodule_without_a_url_is_named(
    git: Callable[..., Git], repo: Repo, new_repo: NewRepo, tmp_path: Path, others: bool
) -> None:
    """A repository that was added inside of another one makes such an entry."""
    lib = new_repo("lib")
    lib.commit("lib", lib="lib")
    if others:
        repo.git(*ALLOW, "submodule", "--quiet", "add", "../lib", "lib")
    entry = f"160000,{lib.head()},vendor/x"
    repo.git("update-index", "--add", "--cacheinfo", entry)
    repo.git("commit", "--quiet", "-m", "x")

    with pytest.raises(SourceError) as caught:
        await tree(git(), tmp_path / "into")

    assert str(caught.value) == (
        "site: vendor/x is a submodule without a URL in .gitmodules: add it there, or "
        "git rm --cached it, or leave it out (modules.submodules)"
    )
    chosen = await tree(git(("lib",) if others else "none"), tmp_path / "chosen")
    there = [".gitmodules", "index", "lib/lib"] if others else ["index"]
    assert files(chosen) == there


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("url =\n", "site: lib is a submodule without a URL in .gitmodules: add it"),
        (
            "<<<<<<< HEAD\n",
            "site: cannot read .gitmodules of {repo}: error: bad config line 4 in blob",
        ),
    ],
)
async def test_a_list_of_submodules_that_is_wrong_is_named(
    git: Callable[..., Git], repo: Repo, tmp_path: Path, text: str, why: str
) -> None:
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{repo.head()},lib")
    repo.write(".gitmodules", f'[submodule "lib"]\npath = lib\n\n{text}')
    repo.git("add", ".gitmodules")
    repo.git("commit", "--quiet", "-m", "x")

    with pytest.raises(SourceError) as caught:
        await tree(git(), tmp_path / "into")

    assert str(caught.value).startswith(why.format(repo=repo.path))


async def test_a_shallow_submodule_says_what_to_type(
    git: Callable[..., Git], nested: Repo, tmp_path: Path
) -> None:
    lib = Repo(nested.path.parent / "lib")
    for name in ("two", "three"):
        lib.commit(name)
    nested.git("-C", "vendor/:(top) lib", "pull", "--quiet")
    nested.git("-C", "vendor/:(top) lib", "checkout", "--quiet", "HEAD~1")
    nested.commit("a newer lib")
    whole = lib.path.with_name("whole")
    lib.path.rename(whole)
    Repo(whole).git("clone", "--quiet", "--depth=1", whole.as_uri(), str(lib.path))

    with pytest.raises(SourceError, match=r"^site: vendor/:\(top\) lib: .* shallow"):
        await tree(git(), tmp_path / "into")


@pytest.mark.usefixtures("nested")
async def test_a_kept_git_folder_knows_its_submodules(
    git: Callable[..., Git], tmp_path: Path
) -> None:
    kept = Repo(await tree(git(keep_git=True), tmp_path / "into"))
    shutil.rmtree(tmp_path / "cache")

    status = kept.git("submodule", "status", "--recursive").splitlines()

    assert len(status) == 3
    assert not [line for line in status if line.startswith(("-", "+"))]
    assert kept.git("status", "--porcelain") == ""


# --- The user's own configuration ----------------------------------------------------


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of git that changes every file it can."""
    for name in ("smudge", "hook"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho changed\n")
        program.chmod(0o755)
    attributes = tmp_path / "attributes"
    attributes.write_text("* filter=mine text eol=crlf ident\n")
    config = tmp_path / "gitconfig"
    config.write_text(
        f"""
[core]
    autocrlf = true
    eol = crlf
    safecrlf = true
    symlinks = false
    sparseCheckout = true
    attributesFile = {attributes}
    hooksPath = {tmp_path}
    quotePath = true
    fsmonitor = {tmp_path}/hook
[filter "mine"]
    smudge = {tmp_path}/smudge
    required = true
[filter "With.Dots = and more"]
    process = {tmp_path}/smudge
    required = true
[filter "lfs"]
    smudge = git-lfs smudge --skip -- %f
    process = git-lfs filter-process --skip
[lfs]
    fetchexclude = *
[submodule]
    recurse = true
    active = none
[fetch]
    recurseSubmodules = true
    prune = false
[init]
    templateDir = {tmp_path}/template
    defaultObjectFormat = sha256
    defaultBranch = odd
[color]
    ui = always
[includeIf "gitdir:{tmp_path}/"]
    path = {tmp_path}/included
"""
    )
    (tmp_path / "included").write_text(
        f'[filter "included"]\n\tsmudge = {tmp_path}/smudge\n\trequired = true\n'
    )
    info = tmp_path / "template" / "info"
    info.mkdir(parents=True)
    (info / "attributes").write_text("* filter=mine\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    return config


async def test_nothing_of_the_users_configuration_reaches_a_tree(
    git: Callable[..., Git],
    nested: Repo,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    for repo in (nested, Repo(nested.path.parent / "lib")):
        repo.write("a.txt", "a\n$Id$\n")
        repo.write("b.txt", "b\n")
        repo.write("c.txt", "c\n")
        (repo.path / "link").symlink_to("a.txt")
        names = ("mine", "With.Dots", "included")
        lines = zip(("a", "b", "c"), names, strict=True)
        text = "".join(f"{at}.txt filter={name}\n" for at, name in lines)
        repo.write(".gitattributes", text)
        repo.commit("attributes")
    nested.git("-C", "vendor/:(top) lib", "pull", "--quiet")
    nested.commit("a newer lib")
    plain = await tree(git(), tmp_path / "plain")
    shutil.rmtree(tmp_path / "cache")

    request.getfixturevalue("configured")
    into = await tree(git(), tmp_path / "into")

    assert files(into) == files(plain)
    for name in files(into):
        assert (into / name).read_bytes() == (plain / name).read_bytes()
        assert (into / name).is_symlink() == (plain / name).is_symlink()
    assert (into / LIB).with_name("b.txt").read_text() == "b\n"


@pytest.mark.skipif(not shutil.which("git-lfs"), reason="needs git-lfs")
async def test_git_lfs_works_whatever_the_user_has_set(
    git: Callable[..., Git],
    repo: Repo,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    repo.git("lfs", "install", "--local", "--skip-repo")
    repo.write("big.bin", "big " * 1000)
    repo.commit("large", **{".gitattributes": "*.bin filter=lfs -text\n"})

    request.getfixturevalue("configured")
    into = await tree(git(), tmp_path / "into")

    assert (into / "big.bin").read_text() == "big " * 1000
