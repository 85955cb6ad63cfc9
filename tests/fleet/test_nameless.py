"""Controllers in containers: a uid without a name, and nobody who has a home."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync.errors import ConfigError
from ghostasync.model import Ssh, StoreSettings
from ghostasync.transports.ssh import SshTransport
from tests.fleet.conftest import StartFleet, need
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp

pytestmark = pytest.mark.fleet

NOBODY: Final = 54321

SOURCES: Final = f"{Path(__file__).parents[2] / 'src'}"

# Python itself may lie in root's folder.
AS_NOBODY: Final = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    *("env", "-i", f"PYTHONPATH={SOURCES}", f"PATH={os.environ['PATH']}"),
)


@pytest.fixture
def sample(sshd_fleet: StartFleet) -> Iterator[SampleApp]:
    need(os.geteuid() == 0, "needs root")
    # pytest's own folders are for root alone, and git asks whether it may.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        sample = SampleApp.create(Path(folder), sshd_fleet(2), "site")
        (sample.folder / "tmp").mkdir()
        Console(sample).configure(attrs.evolve(sample.plan(), store=StoreSettings()))
        for path in (sample.folder, *sample.folder.rglob("*")):
            os.lchown(path, NOBODY, NOBODY)
        yield sample


def ghostasync(
    sample: SampleApp, *args: str, **env: str
) -> subprocess.CompletedProcess[str]:
    usual = {
        "TOKEN": "x",
        "AFTER_ALL": "/dev/null",
        "TMPDIR": str(sample.folder / "tmp"),
    }
    variables = [f"{name}={value}" for name, value in {**usual, **env}.items()]
    command = [*AS_NOBODY, *variables, sys.executable, "-m", "ghostasync", *args]
    return subprocess.run(
        command, cwd=sample.folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("env", [{}, {"HOME": "/"}, {"HOME": "ours"}])
def test_a_controller_without_a_name_deploys(
    sample: SampleApp, env: dict[str, str]
) -> None:
    if env.get("HOME") == "ours":
        env = {"HOME": str(sample.folder)}

    deployed = ghostasync(sample, "deploy", **env)
    looked = ghostasync(sample, "status", **env)
    back = ghostasync(sample, "check", **env)

    assert (deployed.returncode, deployed.stderr) == (0, ""), deployed.stdout
    assert (looked.returncode, back.returncode) == (0, 0), looked.stderr + back.stderr
    homeless = env.get("HOME") in (None, "/")
    assert (sample.folder / f"tmp/ghostasync-{NOBODY}").exists() == homeless
    assert ("set store.url" in deployed.stdout) == homeless
    history = ghostasync(sample, "history", **env).stdout
    assert f"uid {NOBODY}" in history


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"user": ""}, "set ssh.user"), ({"identity": "~no-such/key"}, "no such home")],
)
def test_what_only_a_name_or_a_home_can_tell_is_one_line(
    sample: SampleApp, changes: dict[str, str], told: str
) -> None:
    plan = sample.plan()
    ssh = attrs.evolve(plan.ssh, **changes)  # type: ignore[arg-type]  # texts
    Console(sample).configure(attrs.evolve(plan, ssh=ssh))

    done = ghostasync(sample, "deploy")

    assert done.returncode in (1, 2)
    assert told in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_home_folder_that_somebody_else_has_made_is_not_used(
    sample: SampleApp,
) -> None:
    folder = sample.folder / f"tmp/ghostasync-{NOBODY}"
    folder.mkdir()
    os.chown(folder, NOBODY + 1, NOBODY + 1)

    done = ghostasync(sample, "deploy")

    assert done.returncode == 2
    assert done.stderr.startswith("ghostasync: there is no home folder here: set HOME")
    assert done.stderr.count("\n") == 1


async def test_a_program_without_a_home_folder_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)

    with pytest.raises(ConfigError, match="no home folder here: set HOME"):
        SshTransport(Ssh(identity="", config=False))
