"""Paths that become shared, on real hosts: nothing that users wrote is lost."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import Module
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

HOSTS = ("h1", "h2")


@attrs.define
class Site:
    """One module on two hosts, and what is shared of it."""

    sample: SampleApp
    console: Console

    def configure(self, **changes: object) -> None:
        none: dict[str, object] = {"shared_dirs": (), "shared_files": ()}
        module: Module = self.sample.module("site", **{**none, **changes})
        self.console.configure(self.sample.plan(module))

    def deploy(self, version: str, *args: str, exit_status: int = 0) -> str:
        self.sample.repositories["site"].commit(version)
        outcome = self.console.deploy(*args)
        assert outcome.exit == exit_status, outcome.stderr
        return str(outcome.last["releases"].get("site", ""))

    def served(self, host: str) -> Path:
        release = self.sample.link(host, "site").rpartition("/")[2]
        return self.sample.module_folder(host, "site") / release


@pytest.fixture
def site(sshd_fleet: StartFleet, tmp_path: Path) -> Site:
    sample = SampleApp.create(tmp_path, sshd_fleet(len(HOSTS)), "site")
    repository = sample.repositories["site"]
    (repository.path / "uploads").mkdir()
    (repository.path / "uploads" / "readme").write_text("photos go here")
    for key in ("pre_deploy", "post_deploy"):
        repository.script(key, "#!/bin/sh\n")
    return Site(sample, Console(sample))


def test_photos_of_the_live_release_are_there_when_their_folder_is_shared(
    site: Site,
) -> None:
    site.configure()
    site.deploy("1")
    for host in HOSTS:
        (site.served(host) / "uploads" / "photo").write_text("mine")

    # A photo comes while the new release is on its way.
    line = 'echo late >"$GHOST_PREVIOUS_RELEASE_PATH/uploads/late"'
    site.sample.repositories["site"].script("pre_deploy", f"#!/bin/sh\n{line}\n")
    site.configure(shared_dirs=("uploads",))
    for version in ("2", "3", "4", "5"):
        site.deploy(version)

    for host in HOSTS:
        uploads = site.served(host) / "uploads"
        assert uploads.is_symlink()
        shared = site.sample.shared(host, "site", "uploads")
        assert {path.name for path in shared.iterdir()} == {"readme", "photo", "late"}
        assert (shared / "photo").read_text() == "mine"


def test_an_adopted_folder_gives_what_is_shared(site: Site) -> None:
    site.configure(adopt=True, shared_files=(".env",))
    for host in HOSTS:
        old = site.sample.fleet.path(host, "/srv/site")
        old.mkdir()
        (old / ".env").write_text("KEY=1")

    site.deploy("1")

    for host in HOSTS:
        assert (site.served(host) / ".env").is_symlink()
        assert site.sample.shared(host, "site", ".env").read_text() == "KEY=1"


def test_an_adopted_folder_is_back_where_its_link_is_removed(site: Site) -> None:
    site.configure(adopt=True)
    folders = [site.sample.fleet.path(host, "/srv/site") for host in HOSTS]
    for folder in folders:
        folder.mkdir()
        (folder / "precious").touch()
    site.deploy("1")

    outcome = site.console("rollback", "--remove")

    assert outcome.exit == 0, outcome.stderr
    for folder in folders:
        assert not folder.is_symlink()
        assert (folder / "precious").exists()
        assert [path.name for path in folder.parent.iterdir()] == ["site"]


def test_a_first_deploy_that_failed_leaves_no_broken_file(site: Site) -> None:
    site.configure(shared_files=("config.ini",))
    config = site.sample.repositories["site"].path / "config.ini"
    config.write_text("broken")
    site.sample.repositories["site"].script("post_deploy", "#!/bin/sh\nexit 3\n")
    site.deploy("1", exit_status=1)
    config.write_text("good")
    site.sample.repositories["site"].script("post_deploy", "#!/bin/sh\n")

    site.deploy("2")

    for host in HOSTS:
        shared = site.sample.shared(host, "site", "config.ini")
        assert shared.read_text() == "good"


def test_a_folder_that_is_called_a_file_is_refused_and_stays(site: Site) -> None:
    site.configure()
    live = site.deploy("1")
    site.configure(shared_files=("uploads",))
    site.sample.repositories["site"].commit("2")

    outcome = site.console.deploy()

    assert outcome.exit == 1
    assert (
        "site: shared_files: uploads is a folder in the tree: say shared_dirs"
        in outcome.stderr
    )
    assert set(site.sample.serves("site").values()) == {live}


def test_an_older_release_shares_what_has_become_shared_since(site: Site) -> None:
    site.configure()
    first = site.deploy("1")
    site.configure(shared_dirs=("uploads",))
    site.deploy("2")

    site.deploy("2", "--package", first)

    for host in HOSTS:
        assert (site.served(host) / "uploads").is_symlink()
    assert set(site.sample.serves("site").values()) == {first}
