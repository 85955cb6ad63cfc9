"""The main job: a commit goes from git to live on every host, twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs
import pytest

from ghostasync import Action, Outcome, Plan, Report, Rollout, Script, State, deploy
from ghostasync.fold import folded
from ghostasync.journal import replay
from tests.fleet.conftest import StartFleet
from tests.fleet.sample_app import HOSTILE, SECRET, SampleApp, variables

pytestmark = pytest.mark.fleet

HOSTS = 12


@attrs.frozen
class Setting:
    """Who logs in to what kind of host, and who owns the releases."""

    user: str = "root"
    poor: bool = False
    sudo: bool = False
    uid: int = -1


SETTINGS = {
    "non-root": Setting(user="ghostuser"),
    "root-for-33": Setting(uid=33),
    "sudo": Setting(user="ghostuser", sudo=True, uid=33),
    "poor": Setting(poor=True),
}


def _expected(
    sample: SampleApp, plan: Plan, report: Report, name: str
) -> dict[str, str]:
    """Return what every script must see, wherever it runs."""
    commit = sample.repositories[name].git("rev-parse", "HEAD")
    return {
        "GREETING": HOSTILE,
        "TOKEN": SECRET,
        "GHOST_APP": "shop",
        "GHOST_ENV": "prod",
        "GHOST_ROLE": "web",
        "GHOST_ENV_COLOR": "blue",
        "GHOST_ACTIVE_COLOR": "green",
        "GHOST_MODULE_NAME": name,
        "GHOST_MODULE_PATH": f"/srv/{name}",
        "GHOST_MODULE_USER": "ann",
        "GHOST_MODULE_REPO": str(sample.repositories[name].path),
        "GHOST_MODULE_REV": "main",
        "GHOST_MODULE_COMMIT": commit,
        "GHOST_MODULE_COMMIT_MESSAGE": HOSTILE,
        "GHOST_ACTION": Action.DEPLOY.value,
    }


def _on_host(
    sample: SampleApp, report: Report, host: str, name: str, previous: str
) -> dict[str, str]:
    """Return what scripts on a host must see besides."""
    release = report.releases[name]
    folder = f"/ghost/shop/prod/web/blue/{name}"
    return {
        "GHOST_MODULE_COMMIT_MESSAGE_FILE": f"{folder}/.ghost/{release}/commit_message",
        "GHOST_RELEASE_ID": release,
        "GHOST_RELEASE_PATH": f"{folder}/{release}",
        "GHOST_PREVIOUS_RELEASE_PATH": previous,
        "GHOST_FAILED_RELEASE_ID": "",
        "GHOST_HOST": host,
        "GHOST_WAVE": "1" if host == "h1" else "2",
    }


def _mine(seen: dict[str, str]) -> dict[str, str]:
    """Return the variables that are a contract; a shell adds some of its own."""
    ours = {"GREETING", "TOKEN", "SOURCE_DATE_EPOCH"}
    return {k: v for k, v in seen.items() if k.startswith("GHOST_") or k in ours}


def _assert_live(
    sample: SampleApp, plan: Plan, report: Report, before: dict[str, dict[str, str]]
) -> None:
    for name in sample.repositories:
        release = report.releases[name]
        expected = _expected(sample, plan, report, name)
        for host in plan.hosts:
            previous = before.get(name, {}).get(host.name, "")
            full = expected | _on_host(sample, report, host.name, name, previous)
            assert sample.link(host.name, name) == full["GHOST_RELEASE_PATH"]
            assert sample.leftovers(host.name, name) == set()
            for script in ("pre_deploy", "post_deploy"):
                assert _mine(sample.environment(host.name, name, script)) == full
            ran = [line[:3] for line in sample.trace(host.name, name)][-2:]
            assert ran == [
                ["pre_deploy", "deploy", release],
                ["post_deploy", "deploy", release],
            ]
            folders = {line[3] for line in sample.trace(host.name, name)[-2:]}
            assert folders == {full["GHOST_RELEASE_PATH"]}
            built = variables(sample.read(host.name, name, "built.env"))
            repository = sample.repositories[name]
            epoch = repository.git("log", "-1", "--format=%ct")
            message = built["GHOST_MODULE_COMMIT_MESSAGE_FILE"]
            assert message.endswith(f"/{name}/commit_message")
            assert _mine(built) == expected | {
                "SOURCE_DATE_EPOCH": epoch,
                "GHOST_MODULE_COMMIT_MESSAGE_FILE": message,
            }


def _assert_same_tree(sample: SampleApp, host: str, name: str, uid: int) -> None:
    """Compare what a host serves with the repository, shared things aside."""
    source = sample.repositories[name].path
    release = sample.module_folder(host, name) / sample.link(host, name).split("/")[-1]
    for path in source.rglob("*"):
        inner = path.relative_to(source)
        if inner.parts[0] in {".git", "log"} or inner.name == "config.ini":
            continue
        there = release / inner
        assert there.is_symlink() == path.is_symlink()
        if path.is_symlink():
            assert there.readlink() == path.readlink()
        elif path.is_file():
            assert there.read_bytes() == path.read_bytes()
            assert there.stat().st_mode == path.stat().st_mode
            assert uid < 0 or there.lstat().st_uid == uid
    assert not (release / ".git").exists()
    assert release.stat().st_mode & 0o777 == 0o755
    shared = f"/ghost/shop/prod/web/blue/{name}/shared"
    assert str((release / "log").readlink()) == f"{shared}/log"
    assert str((release / "config.ini").readlink()) == f"{shared}/config.ini"


@pytest.mark.parametrize("setting", SETTINGS)
async def test_two_deploys_of_two_modules_go_live_on_twelve_hosts(
    setting: str,
    sshd_fleet: StartFleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("AFTER_ALL", str(tmp_path / "after_all.env"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    case = SETTINGS[setting]
    uid = case.uid
    fleet = sshd_fleet(HOSTS, user=case.user, poor=case.poor)
    sample = SampleApp.create(tmp_path, fleet)
    modules = [
        sample.module("site", uid=uid, gid=uid),
        sample.module(
            "worker",
            uid=uid,
            gid=uid,
            after_all_deploy=Script(path="deploy/after_all_deploy"),
        ),
    ]
    plan = sample.plan(
        *modules,
        ssh=attrs.evolve(fleet.ssh, sudo=case.sudo),
        rollout=Rollout(waves=(1, "100%")),
    )

    first = await deploy(plan, actor="ann")

    assert first.outcome is Outcome.LIVE
    assert {h.state for h in first.hosts.values()} == {State.LIVE}
    _assert_live(sample, plan, first, {})
    for name in sample.repositories:
        _assert_same_tree(sample, "h7", name, uid)
        assert sample.shared("h7", name, "log/seed").read_text() == "first"
        sample.shared("h7", name, "log/kept").write_text("kept")
        sample.repositories[name].commit("2")

    second = await deploy(plan, actor="ann")

    before = {
        name: {
            host.name: f"/ghost/shop/prod/web/blue/{name}/{first.releases[name]}"
            for host in plan.hosts
        }
        for name in sample.repositories
    }
    _assert_live(sample, plan, second, before)
    assert second.waves == (("h1",), tuple(f"h{n}" for n in range(2, HOSTS + 1)))
    for name in sample.repositories:
        _assert_same_tree(sample, "h7", name, uid)
        assert sample.read("h7", name, "version") == b"2"
        assert sample.shared("h7", name, "log/kept").read_text() == "kept"
    after_all = _mine(variables((tmp_path / "after_all.env").read_bytes()))
    message = after_all.pop("GHOST_MODULE_COMMIT_MESSAGE_FILE")
    assert message.endswith("/worker/commit_message")
    assert after_all == _expected(sample, plan, second, "worker")
    _assert_store(sample, second)
    _assert_no_secret_in_the_open(sample, fleet.hosts[0].name)


def _assert_store(sample: SampleApp, report: Report) -> None:
    lines = sample.manifest()
    assert [line[:3] for line in lines] == [
        [name, report.releases[name], f"/srv/{name}"] for name in sample.repositories
    ]
    for _, package, _, sha256, _ in lines:
        archive = sample.store / "packages" / f"{package}.tar.zst"
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == sha256
    journal = Path(report.log) / "journal.jsonl"
    machines = folded(replay(journal)).hosts
    assert {m.state for m in machines.values()} == {State.LIVE}
    assert (sample.store / "runs" / report.run / "report.json").exists()


def _assert_no_secret_in_the_open(sample: SampleApp, host: str) -> None:
    """Only files for their owner alone may hold a secret, and logs never."""
    secret = SECRET.encode()
    for path in (sample.folder / "store").rglob("*"):
        if path.is_file() and secret in path.read_bytes():
            assert path.parent.name == "environments"
            assert path.stat().st_mode & 0o077 == 0
    for path in sample.fleet.path(host, "/ghost").rglob("*"):
        if path.is_file() and not path.is_symlink() and secret in path.read_bytes():
            inside = path.name == "environment" and path.stat().st_mode & 0o077 == 0
            # What the test's own scripts wrote down.
            assert inside or path.name.endswith(".env")
