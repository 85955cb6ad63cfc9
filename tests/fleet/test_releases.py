"""What is true of releases over several runs: unchanged, stored, converged, pruned."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import attrs
import pytest

from ghostasync import Rollout, Script, Verify
from ghostasync.model import Deadlines
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console, Outcome
from tests.fleet.sample_app import HOSTILE, SampleApp

pytestmark = pytest.mark.fleet


@attrs.define
class Scene:
    """A fleet of three with nothing on it yet."""

    sample: SampleApp
    console: Console

    def deploy(self, version: str = "", *args: str) -> str:
        """Deploy a commit and return the release id of ``site``."""
        if version:
            for repository in self.sample.repositories.values():
                repository.commit(version)
        outcome = self.console.deploy(*args)
        assert outcome.exit == 0, outcome.stderr
        release: str = outcome.last["releases"]["site"]
        return release

    def releases(self, host: str) -> set[str]:
        folder = self.sample.module_folder(host, "site")
        return {p.name for p in folder.iterdir()} - {"shared", ".ghost"}


@pytest.fixture
def scene(sshd_fleet: StartFleet, tmp_path: Path) -> Scene:
    sample = SampleApp.create(tmp_path, sshd_fleet(3), "site")
    console = Console(sample)
    console.configure(sample.plan())
    return Scene(sample, console)


# --- Visitors ------------------------------------------------------------------


def test_a_reader_never_fails_and_never_sees_two_releases_mixed(scene: Scene) -> None:
    """Ghost's link is not replaced in one step everywhere; ours is, ten times over."""
    scene.deploy("0")
    target = scene.sample.fleet.path("h1", "/srv/site")
    folder = scene.sample.module_folder("h1", "site")
    done = threading.Event()
    # Millions of reads on a busy machine: what they say is kept, and not how often.
    reads: set[tuple[bytes, bytes]] = set()
    failures: list[OSError] = []

    def read() -> None:
        while not done.is_set():
            try:
                # As a server does: resolve the link once, then open what lies there.
                release = os.open(folder / target.readlink().name, os.O_PATH)
                try:
                    pair = [_read_at(release, name) for name in ("version", "twin")]
                finally:
                    os.close(release)
                reads.add((pair[0], pair[1]))
            except OSError as exc:
                failures.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in range(1, 11):
            scene.deploy(str(version), "--limit", "h1")
    finally:
        done.set()
        reader.join()

    assert failures == []
    assert {a for a, b in reads if a != b} == set()
    assert {a for a, _ in reads} == {str(n).encode() for n in range(11)}


def _read_at(folder: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        return file.read()


# --- The same again ------------------------------------------------------------


def test_a_second_deploy_of_the_same_commit_changes_nothing(scene: Scene) -> None:
    first = scene.deploy("1")
    ran = len(scene.sample.trace("h2", "site"))

    outcome = scene.console.deploy()

    assert (outcome.exit, outcome.last["outcome"]) == (0, "unchanged")
    assert set(outcome.states.values()) == {"UNCHANGED"}
    assert outcome.last["releases"] == {"site": first}
    assert outcome.last["nbytes"] == 0
    assert len(scene.sample.trace("h2", "site")) == ran


def test_force_deploys_what_is_live_already(scene: Scene) -> None:
    first = scene.deploy("1")

    second = scene.deploy("", "--force")

    assert second != first
    assert set(scene.sample.serves("site").values()) == {second}


def test_another_environment_is_another_release(scene: Scene) -> None:
    first = scene.deploy("1")
    plan = scene.sample.plan()
    app = attrs.evolve(plan.app, env_vars={"GREETING": "changed"})
    scene.console.configure(attrs.evolve(plan, app=app))

    second = scene.deploy()

    assert second != first
    seen = scene.sample.environment("h1", "site", "post_deploy")
    assert seen["GREETING"] == "changed"


# --- From the store ------------------------------------------------------------


def test_build_stops_after_packaging_and_a_package_can_be_deployed(
    scene: Scene,
) -> None:
    built = scene.console("build")
    assert built.exit == 0, built.stderr
    package = built.stdout.strip()
    assert scene.sample.serves("site") == dict.fromkeys(("h1", "h2", "h3"), "")
    scene.sample.repositories["site"].commit("2")

    release = scene.deploy("", "--package", package)

    assert release == package
    assert scene.sample.read("h1", "site", "version") == b"1"


def test_an_old_package_can_be_deployed_again_without_sending_it(
    scene: Scene,
) -> None:
    old = scene.deploy("1")
    scene.deploy("2")

    outcome = scene.console.deploy("--package", old)

    assert (outcome.exit, outcome.last["nbytes"]) == (0, 0), outcome.stderr
    assert set(scene.sample.serves("site").values()) == {old}
    assert scene.sample.manifest()[0][1] == old


def test_what_a_run_had_released_is_deployed_again_without_a_build(
    scene: Scene,
) -> None:
    old = scene.deploy("1")
    run = scene.console("history", "--output", "json").events[0]["id"]
    scene.deploy("2")
    looked = scene.console("redeploy", run, "--dry-run")
    assert (looked.exit, "goes BACK" in looked.stdout) == (0, True)

    outcome = scene.console("redeploy", run, "--waves", "1", "--output", "json")

    assert outcome.exit == 0, outcome.stderr
    assert (outcome.event("Started")["action"], outcome.last["nbytes"]) == (
        "redeploy",
        0,
    )
    assert set(scene.sample.serves("site").values()) == {old}
    assert [line[1] for line in scene.sample.manifest()] == [old]
    seen = scene.sample.environment("h1", "site", "post_deploy")
    assert seen["GHOST_ACTION"] == "redeploy"


def test_a_package_that_is_not_there_is_refused(scene: Scene) -> None:
    """Ghost defect 8: MANIFEST was left pointing to a package that was purged."""
    first = scene.deploy("1")

    outcome = scene.console.deploy("--package", "1700000000_site_0000000")

    assert (outcome.exit, outcome.stdout) == (2, "")
    assert scene.sample.manifest()[0][1] == first


def test_a_damaged_package_never_reaches_a_host(scene: Scene) -> None:
    """Ghost defect 17: nothing checked a package between store and host."""
    package = scene.console("build").stdout.strip()
    archive = scene.sample.store / "packages" / f"{package}.tar.zst"
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.chmod(0o600)
    archive.write_bytes(data)

    outcome = scene.console.deploy("--package", package)

    assert outcome.exit == 1
    assert package in outcome.stderr
    assert scene.sample.serves("site") == dict.fromkeys(("h1", "h2", "h3"), "")


# --- Converge ------------------------------------------------------------------


def _steps(scene: Scene, host: str) -> list[list[str]]:
    return [line[:2] for line in scene.sample.trace(host, "site")]


def test_converge_brings_a_new_host_to_the_manifest_from_the_store(
    scene: Scene,
) -> None:
    plan = scene.sample.plan()
    first, second, third = plan.hosts
    scene.console.configure(attrs.evolve(plan, hosts=(first, second)))
    release = scene.deploy("1")
    module = scene.sample.module(
        "site",
        buildpack=Script(inline="exit 1"),
        after_all_deploy=Script(inline="exit 1"),
    )
    scene.sample.repositories["site"].commit("2")
    scene.console.configure(attrs.evolve(plan, modules=(module,)))
    before = _steps(scene, "h1")

    outcome = scene.console("converge", "--output", "json")

    assert outcome.exit == 0, outcome.stderr
    assert outcome.states == {"h1": "UNCHANGED", "h2": "UNCHANGED", "h3": "LIVE"}
    assert scene.sample.serves("site") == dict.fromkeys(("h1", "h2", "h3"), release)
    assert _steps(scene, "h3") == [
        ["pre_deploy", "converge"],
        ["post_deploy", "converge"],
    ]
    assert _steps(scene, "h1") == before
    seen = scene.sample.environment("h3", "site", "post_deploy")
    assert seen["GHOST_MODULE_COMMIT"][:7] == release[-7:]
    assert scene.sample.manifest()[0][1] == release
    assert third.name == "h3"


def test_converge_of_one_host_leaves_the_others_alone(scene: Scene) -> None:
    release = scene.deploy("1")
    for host in ("h2", "h3"):
        scene.sample.fleet.path(host, "/srv/site").unlink()

    outcome = scene.console("converge", "h2", "--output", "json")

    assert outcome.exit == 0, outcome.stderr
    assert scene.sample.serves("site") == {"h1": release, "h2": release, "h3": ""}


def test_converge_before_the_first_deploy_is_refused(scene: Scene) -> None:
    outcome = scene.console("converge")

    assert (outcome.exit, outcome.stdout) == (2, "")
    assert "MANIFEST" in outcome.stderr


def test_a_host_that_was_never_activated_is_not_in_line(scene: Scene) -> None:
    """A link that moved proves nothing: the controller may have died behind it."""
    release = scene.deploy("1")
    folder = scene.sample.module_folder("h2", "site")
    (folder / ".ghost" / release / "fingerprint").unlink()

    outcome = scene.console("converge", "--output", "json")

    assert outcome.states == {"h1": "UNCHANGED", "h2": "LIVE", "h3": "UNCHANGED"}
    assert _steps(scene, "h2")[-1] == ["post_deploy", "converge"]


def test_a_failed_redeploy_of_what_serves_leaves_its_environment(scene: Scene) -> None:
    release = scene.deploy("1")
    plan = scene.sample.plan(scene.sample.module("site"))
    app = attrs.evolve(plan.app, env_vars={"GREETING": "new"})
    verify = Verify(command='[ "$GREETING" != new ]', interval=0.1)
    module = attrs.evolve(plan.modules[0], verify=verify)
    rollout = Rollout(deadlines=Deadlines(verify=0.5))
    scene.console.configure(
        attrs.evolve(plan, app=app, modules=(module,), rollout=rollout)
    )

    outcome = scene.console.deploy("--package", release)

    assert outcome.exit == 1, outcome.stderr
    assert set(outcome.states.values()) == {"ROLLED_BACK"}
    for host in ("h1", "h2", "h3"):
        kept = scene.sample.module_folder(host, "site") / ".ghost" / release
        assert b"GREETING='new'" not in (kept / "environment").read_bytes()
        seen = scene.sample.environment(host, "site", "post_deploy")
        assert seen["GREETING"] == HOSTILE


def test_after_all_deploy_of_a_stored_package_runs_in_its_own_tree(
    scene: Scene, tmp_path: Path
) -> None:
    script = f"cp version {tmp_path}/after"
    module = scene.sample.module("site", after_all_deploy=Script(inline=script))
    scene.console.configure(scene.sample.plan(module))
    first = scene.deploy("1")
    scene.deploy("2")
    assert (tmp_path / "after").read_text() == "2"

    scene.deploy("", "--package", first)

    assert (tmp_path / "after").read_text() == "1"


# --- Old releases --------------------------------------------------------------


def test_hosts_keep_what_was_live_and_one_that_failed(scene: Scene) -> None:
    plan = scene.sample.plan(keep=2)
    scene.console.configure(plan)
    releases = [scene.deploy(str(version)) for version in (1, 2, 3)]
    assert scene.releases("h1") == set(releases[1:])
    scene.sample.repositories["site"].script("pre_deploy", "exit 1")
    scene.sample.repositories["site"].commit("4")
    assert scene.console.deploy().exit == 1

    assert releases[0] not in scene.releases("h1")
    assert set(releases[1:]) < scene.releases("h1")
    assert len(scene.releases("h1")) == 3


def test_failed_releases_do_not_pile_up(scene: Scene) -> None:
    """Ghost purged nothing after a failed extraction; disks filled up."""
    scene.console.configure(scene.sample.plan(keep=1))
    live = scene.deploy("0")
    scene.sample.repositories["site"].script("pre_deploy", "exit 1")

    for version in range(1, 5):
        scene.sample.repositories["site"].commit(str(version))
        assert scene.console.deploy().exit == 1

    assert live in scene.releases("h1")
    assert len(scene.releases("h1")) <= 3


# --- Looking -------------------------------------------------------------------


def _text(outcome: Outcome) -> str:
    return outcome.stdout + outcome.stderr


def test_status_tells_drift_and_line(scene: Scene) -> None:
    first = scene.deploy("1")
    assert scene.console("status").exit == 0

    scene.deploy("2")
    link = scene.sample.fleet.path("h2", "/srv/site")
    old = f"/ghost/shop/prod/web/blue/site/{first}"
    link.unlink()
    link.symlink_to(old)

    outcome = scene.console("status")
    assert outcome.exit == 6
    assert "h2" in _text(outcome)
    assert first in _text(outcome)


def test_check_is_clean_or_names_what_is_not(scene: Scene) -> None:
    assert scene.console("check").exit == 0
    scene.sample.fleet.path("h2", "/srv/site").mkdir()

    outcome = scene.console("check")

    assert outcome.exit == 1
    assert "/srv/site is a directory" in _text(outcome)
    assert "h2" in _text(outcome)
    assert not scene.sample.fleet.path("h1", "/ghost/shop").exists()


def test_a_dry_run_leaves_nothing_on_hosts(scene: Scene) -> None:
    outcome = scene.console("deploy", "--dry-run", "--waves", "1,100%")

    assert outcome.exit == 0, outcome.stderr
    assert "h[1-3]: now nothing; to be sent" in outcome.stdout
    for host in ("h1", "h2", "h3"):
        assert not scene.sample.fleet.path(host, "/ghost/shop").exists()
