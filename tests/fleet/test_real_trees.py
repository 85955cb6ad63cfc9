"""Trees of others, from the registries: every file is the same on the host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ghostasync import DirectorySource, Script, Verify
from tests._packaging.trees import Node, snapshot
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet


def wheel(name: str, tree: Path) -> None:
    """Install a package of PyPI as a buildpack would; bytecode takes minutes here."""
    words = ["install", "--quiet", "--no-deps", "--no-compile"]
    words += ["--target", str(tree), name]
    subprocess.check_call([sys.executable, "-m", "pip", *words])


def npm(name: str, tree: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    words = ["npm", "pack", "--silent", name]
    said = subprocess.check_output(words, cwd=tree, text=True)
    archive = tree / said.split()[-1]
    with tarfile.open(archive) as tar:
        tar.extractall(tree, filter="tar")
    archive.unlink()


def deb(name: str, tree: Path) -> None:
    """Unpack a package of Debian: links, hard links, setuid programs, empty folders."""
    with TemporaryDirectory() as folder:
        subprocess.check_call(["apt-get", "download", "-qq", name], cwd=folder)
        [file] = Path(folder).iterdir()
        subprocess.check_call(["dpkg-deb", "-x", file, tree])


@pytest.mark.parametrize(
    ("fetch", "name", "files"),
    [
        (wheel, "django==5.2", 3_600),
        pytest.param(
            *(npm, "@mui/icons-material@6.1.7", 30_000),
            marks=pytest.mark.skipif(
                not os.environ.get("GHOSTASYNC_TREES"),
                reason="takes minutes: GHOSTASYNC_TREES=1",
            ),
        ),
        (npm, "date-fns@4.1.0", 5_000),
        (deb, "git", 400),
        (deb, "sudo", 50),
        (deb, "ruby-rails", 5),
    ],
)
def test_every_file_of_a_real_tree_is_the_same_on_the_host(
    fetch: Callable[[str, Path], None],
    name: str,
    files: int,
    sshd_fleet: StartFleet,
    tmp_path: Path,
) -> None:
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        fetch(name, Path(folder))
        sample = SampleApp.create(tmp_path, sshd_fleet(1), "site")
        plain = {"shared_dirs": (), "shared_files": (), "buildpack": Script()}
        module = sample.module(
            "site",
            source=DirectorySource(folder),
            pre_deploy=Script(),
            post_deploy=Script(),
            verify=Verify(command="test -d ."),
            **plain,
        )
        console = Console(sample)
        console.configure(sample.plan(module))

        outcome = console.deploy()

        assert outcome.exit == 0, outcome.stderr
        wanted = snapshot(Path(folder))
        assert len(wanted) > files
        wanted[b"."] = Node(b".", "d", 0o755, wanted[b"."].mtime)
        release = sample.link("h1", "site").rpartition("/")[2]
        assert snapshot(sample.module_folder("h1", "site") / release) == wanted
