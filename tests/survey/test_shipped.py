"""``check`` looks at what a folder would ship; a deploy ships no file of its own."""

from __future__ import annotations

import os
import tarfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import (
    App,
    DirectorySource,
    Module,
    Outcome,
    Plan,
    PlanError,
    Script,
    check,
    deploy,
)
from ghostasync import events as e
from ghostasync._planning.modules import _named_files
from ghostasync.config import load_plan
from ghostasync.model import Layout, Signing, StoreSettings
from ghostasync.testing import InProcessFleet
from tests._packaging.trees import decompressed
from tests.cli.typed import config, ghostasync
from tests.sources.repos import Repo

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"


@pytest.fixture
async def plan(tmp_path: Path) -> AsyncIterator[Plan]:
    """A folder that holds its own configuration, and a host."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "index").write_text("1")
    async with InProcessFleet(1, tmp_path / "hosts") as fleet:
        yield Plan(
            app=App("shop", "test", "web"),
            modules=(Module("site", "~/site", DirectorySource(".")),),
            hosts=fleet.hosts,
            store=StoreSettings(str(tmp_path / "store")),
            ssh=fleet.ssh,
            layout=Layout(root="~/ghost"),
            base=tree,
        )


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


async def told(plan: Plan, **changes: object) -> list[tuple[bool, str]]:
    """Return what ``check`` says of the module, and whether that is only a warning."""
    module = attrs.evolve(plan.modules[0], **changes)  # type: ignore[arg-type]  # keys
    found = await check(attrs.evolve(plan, modules=(module,)))
    return [(each.warning, each.text) for each in found if each.module]


def shipped(plan: Plan) -> list[str]:
    """Return what is in the one package."""
    (archive,) = Path(plan.store.url).rglob("*.tar.zst")
    with tarfile.open(fileobj=BytesIO(decompressed(archive))) as tar:
        names = [name for name in tar.getnames() if name.startswith("release/")]
    return sorted(name.removeprefix("release/") for name in names)


# --- What runs write ------------------------------------------------------------------


@pytest.mark.parametrize("what", ["store", "cache", "state"])
@pytest.mark.parametrize("through", ["itself", "a link"])
async def test_a_folder_that_holds_what_runs_write_is_refused(
    plan: Plan, what: str, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = plan.base / "var"
    if through == "a link":
        inside.mkdir()
        (plan.base.parent / "var").symlink_to(inside)
        inside = plan.base.parent / "var"
    if what == "store":
        plan = attrs.evolve(plan, store=StoreSettings(str(inside)))
    elif what == "cache":
        monkeypatch.setenv("XDG_CACHE_HOME", str(inside))
    else:
        monkeypatch.setenv("XDG_STATE_HOME", str(inside))
        plan = attrs.evolve(plan, store=StoreSettings())
    text = rf"^modules\[0\]\.source\.dir: {plan.base} holds the (store|cache), {inside}"

    for act in (check, deploy):
        with pytest.raises(PlanError, match=text) as caught:
            await act(plan)
        assert "\n" not in str(caught.value)


async def test_the_command_refuses_it_in_one_line(tmp_path: Path) -> None:
    async with InProcessFleet(1, tmp_path / "hosts") as fleet:
        text = config(tmp_path, fleet).replace('dir = "tree"', 'dir = "."')
        (tmp_path / "ghostasync.toml").write_text(text)
        refused = [await ghostasync(tmp_path, word) for word in ("check", "deploy")]

    for done in refused:
        assert (done.returncode, done.stdout) == (2, b"")
        assert b" holds the store, " in done.stderr
        assert done.stderr.count(b"\n") == 1


async def test_a_stored_package_needs_no_folder(plan: Plan) -> None:
    await deploy(plan)
    (package,) = (p.name for p in Path(plan.store.url).rglob("*.tar.zst"))
    module = attrs.evolve(plan.modules[0], source=DirectorySource("/"))
    around = attrs.evolve(plan, modules=(module,))

    report = await deploy(around, packages=[package.removesuffix(".tar.zst")])

    assert report.outcome in {Outcome.LIVE, Outcome.UNCHANGED}


# --- What is always left out ----------------------------------------------------------


async def test_the_configuration_and_what_it_names_is_never_shipped(
    plan: Plan,
) -> None:
    for name in (
        "ops.toml",
        "post.sh",
        "signers",
        "ops/sign",
        "ops/sign.pub",
        "id",
        "known",
    ):
        (plan.base / name).parent.mkdir(exist_ok=True)
        (plan.base / name).write_text("true\n")
    (plan.base / "alias.sh").symlink_to("post.sh")
    module = attrs.evolve(
        plan.modules[0],
        pre_deploy=Script(file="alias.sh"),
        post_deploy=Script(file="./ops/../post.sh"),
    )
    mine = attrs.evolve(plan, modules=(module,), file=plan.base / "ops.toml")
    # Only for their names: nothing is signed here.
    signing = attrs.evolve(mine.store, sign=Signing("ops/sign.pub"), signers="signers")
    login = attrs.evolve(mine.ssh, identity="id", known_hosts="known", config=False)
    named = _named_files(attrs.evolve(mine, store=signing, ssh=login), os.environ)
    names = {path.name for path in named}

    await deploy(mine)

    assert names == {"ops.toml", "post.sh", "alias.sh", "signers", "sign", "sign.pub",
                     "known", "id"}  # fmt: skip
    assert shipped(plan) == [
        "id",
        "index",
        "known",
        "ops",
        "ops/sign",
        "ops/sign.pub",
        "signers",
    ]


async def test_a_plan_knows_the_file_that_it_was_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with InProcessFleet(1, tmp_path / "hosts") as fleet:
        (tmp_path / "a.toml").write_text(config(tmp_path, fleet))
    monkeypatch.chdir(tmp_path)

    plan = load_plan("a.toml")

    assert plan.file == tmp_path / "a.toml"
    assert plan.checked
    assert attrs.evolve(plan, hosts=()).file == plan.file


# --- What check warns of --------------------------------------------------------------


async def test_a_plain_folder_is_nothing_to_speak_of(plan: Plan) -> None:
    for name in (".env.example", "id_rsa.pub", "ca.pem", "monkey"):
        (plan.base / name).write_text("-----BEGIN CERTIFICATE-----\n")

    assert await told(plan) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (".env", "", ".env"),
        (".env.production", "", ".env.production"),
        (".env\n", "", None),
        ("id_ed25519", "", "id_ed25519"),
        ("site.key", "", "site.key"),
        (".netrc", "", ".netrc"),
        ("notes.txt", KEY, "notes.txt (a private key)"),
        ("rsa.pem", "-----BEGIN RSA PRIVATE KEY-----\n", "rsa.pem (a private key)"),
        ("a", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "a (a private key)"),
        ("b", "PuTTY-User-Key-File-3: ssh-rsa\n", "b (a private key)"),
        ("c", "text\n-----BEGIN PRIVATE KEY-----\n", None),
    ],
)
async def test_what_looks_secret_is_warned_of(
    plan: Plan, name: str, text: str, said: str | None
) -> None:
    (plan.base / "deep").mkdir()
    (plan.base / "deep" / name).write_text(text)

    found = await told(plan)
    excluded = await told(plan, exclude=(".git", "deep"))

    cure = "leave them out by modules.exclude"
    expected = f"would ship what looks secret: deep/{said}: {cure}"
    assert found == ([(True, expected)] if said else [])
    assert excluded == []


async def test_what_git_ignores_is_warned_of(plan: Plan) -> None:
    repo = Repo(plan.base)
    repo.git("init", "--quiet", "--initial-branch=main")
    (plan.base / ".gitignore").write_text("build/\n*.pyc\n*.log\n")
    (plan.base / "build").mkdir()
    (plan.base / "build" / "x").touch()
    (plan.base / "a.pyc").touch()
    (plan.base / "out.log").touch()
    (plan.base / "untracked").touch()
    # Somebody else's repository must start no program here.
    repo.git("config", "core.fsmonitor", f"touch {plan.base.parent}/ran; false")

    found = await told(plan, exclude=(".git", "*.log"))
    as_a_whole = await told(plan, source=DirectorySource("build"))

    cure = "leave them out by modules.exclude"
    text = f"would ship what git ignores: a.pyc, build/: {cure}"
    assert found == [(True, text)]
    assert as_a_whole == []
    assert not (plan.base.parent / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's repository takes root")
async def test_a_repository_of_another_user_is_not_asked(plan: Plan) -> None:
    """It could have git fetch an object that is missing, by a program that it names."""
    repo = Repo(plan.base)
    repo.git("init", "--quiet", "--initial-branch=main")
    (plan.base / ".gitignore").write_text("*.pyc\n")
    repo.git("add", ".gitignore")
    repo.git("update-index", "--skip-worktree", ".gitignore")
    blob = repo.git("rev-parse", ":.gitignore").strip()
    (plan.base / ".git/objects" / blob[:2] / blob[2:]).unlink()
    (plan.base / ".gitignore").unlink()
    ran = plan.base.parent / "ran"
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "evil",
        "remote.evil.promisor": "true",
        "remote.evil.url": f"file://{plan.base}",
        "remote.evil.uploadpack": f"touch {ran}; git-upload-pack",
    }.items():
        repo.git("config", key, value)
    (plan.base / "a.pyc").touch()
    for path in (plan.base / ".git", *(plan.base / ".git").rglob("*")):
        os.chown(path, 1000, 1000)
    os.chown(plan.base, 1000, 1000)

    await told(plan)

    assert not ran.exists()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            "warn",
            [(True, 'index (user.x): left behind by modules.attributes = "warn"')],
        ),
        (
            "refuse",
            [(False, 'index (user.x): refused by modules.attributes = "refuse"')],
        ),
        ("keep", []),
    ],
)
async def test_attributes_are_told(
    plan: Plan, attributes: str, expected: list[tuple[bool, str]]
) -> None:
    os.setxattr(plan.base / "index", "user.x", b"1")

    assert await told(plan, attributes=attributes) == expected


async def test_a_deploy_warns_of_what_it_leaves_behind(plan: Plan) -> None:
    os.setxattr(plan.base / "index", "user.x", b"1")
    argv = ["setfacl", "-m", "u:4242:rw", str(plan.base / "index")]
    await anyio.run_process(argv)
    seen: list[str] = []

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.Warned):
            seen.append(record.event.text)

    report = await deploy(plan, observe=observe)

    assert report.outcome is Outcome.LIVE
    (text,) = seen
    assert text.startswith("site: not in the release: index (an ACL, user.x); ")
