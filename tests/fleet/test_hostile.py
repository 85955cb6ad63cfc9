"""Names and words that a shell, git or tar could take for something else are data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ghostasync import GitSource, Script
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SECRET, Repository, SampleApp, variables

pytestmark = pytest.mark.fleet

TRAP = "$(touch /ghost/trap)`touch /ghost/trap`;touch /ghost/trap"
NAMES = [
    b"-rf",
    b"--checkpoint-action=exec=sh",
    b"two words",
    b'it\'s "quoted"',
    b"$(touch trap)",
    b"`touch trap`",
    b"new\nline",
    b"back\\slash",
    b"tab\there",
    b"latin-1 \xe9",
    b"*",
    b"~",
    "ünïcödé".encode(),
    b"x" * 200,
]


class Hostile(Repository):
    """A repository whose every name is a trap."""

    def fill(self, branch: str) -> None:
        self.git("checkout", "-q", "-b", branch)
        folder = os.fsencode(self.path / "names")
        os.mkdir(folder)
        for name in NAMES:
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(name)
            os.symlink(name, path + b".link")
        (self.path / "message").write_bytes(b'Revert "x"\n\ncaf\xe9 ' + TRAP.encode())
        self.git("add", "-A")
        self.git("reset", "-q", "message")
        self.git("-c", "i18n.commitEncoding=iso-8859-1", "commit", "-qF", "message")


@pytest.fixture
def sample(sshd_fleet: StartFleet, tmp_path: Path) -> SampleApp:
    """Ghost defect 13: revisions and URLs went through a shell."""
    path = tmp_path / f'it\'s a "repo" {TRAP.replace("/", "_")}'
    repository = Hostile(path)
    return SampleApp(tmp_path, sshd_fleet(2), {"site": repository})


def test_hostile_names_arrive_byte_for_byte_and_run_nothing(sample: SampleApp) -> None:
    """Ghost defect 12: a commit message ran as root on every host."""
    repository = sample.repositories["site"]
    assert isinstance(repository, Hostile)
    branch = 'it\'s-$(touch${IFS}trap)-`x`-"q"'
    repository.fill(branch)
    source = GitSource(str(repository.path), branch)
    console = Console(sample)
    console.configure(sample.plan(sample.module("site", source=source)))

    outcome = console.deploy()

    assert outcome.exit == 0, outcome.stderr
    release = sample.module_folder("h2", "site") / outcome.last["releases"]["site"]
    folder = os.fsencode(release / "names")
    assert sorted(os.listdir(folder)) == sorted(
        [*NAMES, *(name + b".link" for name in NAMES)]
    )
    for name in NAMES:
        path = os.path.join(folder, name)
        assert Path(os.fsdecode(path)).read_bytes() == name
        assert os.readlink(path + b".link") == name
    for script in ("pre_deploy", "post_deploy"):
        seen = sample.environment("h2", "site", script)
        assert seen["GHOST_MODULE_REV"] == branch
        assert seen["GHOST_MODULE_REPO"] == str(repository.path)
        message = os.fsencode(seen["GHOST_MODULE_COMMIT_MESSAGE"])
        assert message == b'Revert "x"\n\ncaf\xe9 ' + TRAP.encode()
    for host in ("h1", "h2"):
        assert not list(sample.fleet.path(host, "/ghost").rglob("trap"))
    assert not list(sample.folder.rglob("trap"))


def test_a_commit_message_of_any_length_arrives_whole(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    """A variable can hold less than what some tools write into merge commits."""
    sample = SampleApp.create(tmp_path, sshd_fleet(1), "site")
    repository = sample.repositories["site"]
    keep = 'cp "$GHOST_MODULE_COMMIT_MESSAGE_FILE" {}; env -0 >{}.env'
    repository.script("pre_deploy", keep.format("/srv/pre", "/srv/pre"))
    repository.script("post_deploy", keep.format("/srv/post", "/srv/post"))
    repository.script("buildpack", keep.format("built", "built"))
    after = keep.format(tmp_path / "after", tmp_path / "after")
    repository.commit("2")
    message = "Merge all\n\n" + "é" * 70_000
    (tmp_path / "message").write_text(message)
    repository.git("commit", "--amend", "-qF", str(tmp_path / "message"))
    module = sample.module("site", after_all_deploy=Script(inline=after))
    console = Console(sample)
    console.configure(sample.plan(module))

    outcome = console.deploy()

    assert outcome.exit == 0, outcome.stderr
    release = sample.link("h1", "site")
    files = [
        *(sample.fleet.path("h1", path) for path in ("/srv/pre", "/srv/post")),
        sample.fleet.path("h1", f"{release}/built"),
        tmp_path / "after",
    ]
    for file in files:
        assert file.read_text() == message
        seen = variables(file.with_name(f"{file.name}.env").read_bytes())
        short = seen["GHOST_MODULE_COMMIT_MESSAGE"]
        assert message.startswith(short)
        assert len(short.encode()) in {31_999, 32_000}


@pytest.mark.parametrize(
    "rev", ["--upload-pack=touch trap", "master .; touch trap #", "-b", "a..b", "@{-1}"]
)
def test_a_revision_that_looks_like_an_option_is_just_unknown(
    sample: SampleApp, rev: str
) -> None:
    """Ghost defect 13."""
    console = Console(sample)
    plan = sample.plan(sample.module("site"))
    console.configure(plan)

    outcome = console.deploy(f"site@{rev}")

    assert (outcome.exit, outcome.stdout) == (2, "")
    assert not list(sample.folder.rglob("trap"))


def test_no_secret_is_in_an_argument_list_or_in_output(sample: SampleApp) -> None:
    """Ghost defect 14: secrets were traced into the job's log."""
    spy = (
        "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' >log/cmdlines; "
        'echo "the token is $TOKEN"; set -x; : "$TOKEN"'
    )
    console = Console(sample)
    module = sample.module(
        "site", pre_deploy=Script(inline=spy), buildpack=Script(inline='echo "$TOKEN"')
    )
    console.configure(sample.plan(module))

    outcome = console.deploy()

    assert outcome.exit == 0, outcome.stderr
    seen = sample.shared("h1", "site", "log/cmdlines").read_text()
    assert "ghost-run" in seen
    assert SECRET not in seen
    logs = Path(outcome.last["log"])
    text = "".join(p.read_text() for p in logs.rglob("*") if p.is_file())
    assert "the token is ***" in text
    assert SECRET not in text + outcome.stdout + outcome.stderr


def test_git_metadata_is_not_served(sample: SampleApp) -> None:
    """Ghost defect 20: .git, with the URL's credentials, was in the web root."""
    console = Console(sample)
    console.configure(sample.plan(sample.module("site")))

    outcome = console.deploy()

    assert outcome.exit == 0, outcome.stderr
    release = sample.module_folder("h1", "site") / outcome.last["releases"]["site"]
    assert not list(release.rglob(".git"))


def test_a_foreign_folder_beside_the_modules_is_left_alone(sample: SampleApp) -> None:
    """Ghost defect 24: every folder that was no module was removed."""
    console = Console(sample)
    plan = sample.plan(sample.module("site"))
    console.configure(plan)
    assert console.deploy().exit == 0
    mine = sample.module_folder("h1", "site").parent / "mine"
    mine.mkdir()
    sample.repositories["site"].commit("2")

    assert console.deploy().exit == 0

    assert mine.is_dir()
