"""The environment of a release that served before, as a rollback makes it anew."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import attrs
import pytest

from ghostasync._build.environment import exports
from ghostasync._remote.script import quote
from tests._remote.shells import SHELLS, may_mount, run, run_on_full_disk

pytestmark = pytest.mark.parametrize("shell", SHELLS)

HEALTH = '{"command": "test -e \'it\\\\n\'", "post_deploy_as": ""}'
"""How the old release proves its health: JSON with quotes and a backslash in it."""

VALUES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"it's \"both\" '' ", id="quotes"),
    pytest.param(b"\n\none\n\n\n", id="newlines"),
    pytest.param(b"$(touch /nope) `touch /nope` ${HOME} $1", id="substitutions"),
    pytest.param(b"back\\slash \\n \\0101 \\\\ '\\''\\", id="backslashes"),
    pytest.param(b"-n % %s .", id="formats"),
    pytest.param(b"caf\xe9 \xff\xfe \xc3", id="latin1"),
    pytest.param(b"\xe9'", id="half-a-character"),
    pytest.param(bytes(range(1, 256)), id="every-byte"),
    pytest.param(b"'x\n" * 30_000, id="long"),
]


def values(**variables: str | bytes) -> dict[str, str]:
    """Return *variables* as the controller has them: bytes are surrogate escapes."""
    return {name: os.fsdecode(value) for name, value in variables.items()}


@attrs.frozen
class Old:
    """What a host has of a release that served before, and of the one that serves."""

    meta: Path
    live: Path

    def keep(self, **variables: str | bytes) -> None:
        """Have the old release have these, and its way to prove its health."""
        health = b"ghost_verify=" + quote(HEALTH) + b"\n"
        data = exports(values(**variables)) + health
        (self.meta / "environment").write_bytes(data)

    def serve(self, **variables: str | bytes) -> None:
        """Have the live release have these."""
        health = b"ghost_verify='{}'\n"
        data = exports(values(**variables)) + health
        (self.live / "environment").write_bytes(data)

    def recall(
        self, shell: str, *secrets: str, **variables: str
    ) -> tuple[int | None, str, str]:
        """Recall the environment; *variables* come over stdin."""
        data = exports(variables)
        words = (str(self.meta), str(self.live), str(len(data)), *secrets)
        return run(shell, "recall", *words, payload=data)

    @property
    def files(self) -> set[str]:
        return {file.name for file in self.meta.iterdir()}

    def seen_by_script(self, shell: str) -> dict[str, str]:
        """Return what a script sees that runs in the new environment."""
        text = 'set -eu; . "$1"; exec env -0'
        words = [*SHELLS[shell], text, "sh", str(self.meta / "environment.next")]
        env = {"PATH": os.environ["PATH"]}
        done = subprocess.run(words, env=env, capture_output=True, check=True)
        pairs = done.stdout.rstrip(b"\0").split(b"\0")
        seen = dict(os.fsdecode(pair).split("=", 1) for pair in pairs)
        return {n: v for n, v in seen.items() if n not in {"PATH", "PWD", "SHLVL", "_"}}


@pytest.fixture
def old(tmp_path: Path) -> Old:
    """An old release with an environment and a proof, and one that serves."""
    old = Old(tmp_path / "1_a_0", tmp_path / "2_b_0")
    old.meta.mkdir()
    old.live.mkdir()
    old.keep(COLOR="old", TOKEN="old")
    old.serve(COLOR="new", TOKEN="new")
    (old.meta / "fingerprint").write_text("f00d\n")
    return old


def test_variables_are_those_that_the_release_had(shell: str, old: Old) -> None:
    assert old.recall(shell)[0] == 0

    assert old.seen_by_script(shell) == {"COLOR": "old", "TOKEN": "old"}


def test_what_the_run_sends_counts_more_than_what_is_on_record(
    shell: str, old: Old
) -> None:
    sent = {"TOKEN": "sent", "GHOST_ACTION": "rollback", "COLOR": "it's\n$(x)\n"}

    assert old.recall(shell, "TOKEN", **sent)[0] == 0

    assert old.seen_by_script(shell) == sent


def test_a_secret_that_is_named_is_that_of_today_and_no_other_variable(
    shell: str, old: Old
) -> None:
    old.serve(COLOR="new", TOKEN="new", OTHER="new")

    assert old.recall(shell, "TOKEN")[0] == 0

    assert old.seen_by_script(shell) == {"COLOR": "old", "TOKEN": "new"}


@pytest.mark.parametrize("value", VALUES)
def test_a_secret_is_taken_over_byte_for_byte(
    shell: str, value: bytes, old: Old
) -> None:
    old.serve(TOKEN=value, PASSWORD=value)

    assert old.recall(shell, "TOKEN", "PASSWORD")[::2] == (0, "")

    seen = values(COLOR="old", TOKEN=value, PASSWORD=value)
    assert old.seen_by_script(shell) == seen
    assert not Path("/nope").exists()


@pytest.mark.parametrize("value", VALUES)
def test_a_variable_of_old_stays_byte_for_byte(
    shell: str, value: bytes, old: Old
) -> None:
    old.keep(COLOR=value, TOKEN=value)

    assert old.recall(shell, "OTHER")[::2] == (0, "")

    assert old.seen_by_script(shell) == values(COLOR=value, TOKEN=value)


@pytest.mark.parametrize("has", ["another", "nothing"])
def test_a_secret_that_the_live_release_lacks_stays_the_old_one(
    shell: str, has: str, old: Old
) -> None:
    if has == "another":
        old.serve(COLOR="new")
    else:
        (old.live / "environment").unlink()

    assert old.recall(shell, "TOKEN", "UNKNOWN")[::2] == (0, "")

    assert old.seen_by_script(shell) == {"COLOR": "old", "TOKEN": "old"}


def test_a_secret_of_the_login_is_not_one_of_the_live_release(
    shell: str, old: Old
) -> None:
    old.serve()
    words = (old.meta, old.live, "0", "TOKEN")

    assert run(shell, "recall", *words, env={"TOKEN": "of the login"})[0] == 0

    assert old.seen_by_script(shell) == {"COLOR": "old", "TOKEN": "old"}


NAMES = ("live", "meta", "name", "next", "value", "nbytes", "recorded", "nonce", "PATH")


def test_a_secret_may_have_any_name(shell: str, old: Old) -> None:
    """The script has variables of its own, and needs tools on its PATH."""
    old.serve(**{name: f"/{name}" for name in NAMES})

    assert old.recall(shell, *NAMES)[::2] == (0, "")

    text = os.fsdecode((old.meta / "environment.next").read_bytes())
    lines = [f"export {name}='/{name}'" for name in NAMES]
    assert text.splitlines()[-len(NAMES) :] == lines


def test_how_the_release_proves_its_health_is_printed_and_stays(
    shell: str, old: Old
) -> None:
    assert old.recall(shell, "TOKEN") == (0, f"{HEALTH}\n", "")

    last = b"ghost_verify=" + quote(HEALTH) + b"\n"
    assert last in (old.meta / "environment.next").read_bytes()


def test_a_release_of_old_may_not_say_how_it_proves_its_health(
    shell: str, old: Old
) -> None:
    (old.meta / "environment").write_bytes(exports({"COLOR": "old"}))

    assert old.recall(shell, "TOKEN") == (0, "\n", "")


def test_nobody_else_may_read_the_environment(shell: str, old: Old) -> None:
    (old.meta / "environment").chmod(0o644)

    assert old.recall(shell, "TOKEN")[0] == 0

    made = old.meta / "environment.next"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_a_release_that_is_recalled_has_to_prove_itself_again(
    shell: str, old: Old
) -> None:
    before = (old.meta / "environment").read_bytes()

    assert old.recall(shell, "TOKEN")[0] == 0

    assert old.files == {"environment", "environment.next"}
    assert (old.meta / "environment").read_bytes() == before


def test_what_arrives_cut_short_changes_nothing(shell: str, old: Old) -> None:
    (old.meta / "environment.next").write_text("of a killed run")

    done = run(shell, "recall", old.meta, old.live, "9", "TOKEN", payload=b"cut")

    assert done == (1, "", "the environment arrived cut short\n")
    assert old.files == {"environment", "environment.next", "fingerprint"}
    assert (old.meta / "environment.next").read_text() == "of a killed run"


def test_a_release_without_an_environment_is_refused_by_name(
    shell: str, old: Old
) -> None:
    (old.meta / "environment").unlink()

    assert old.recall(shell, "TOKEN") == (
        *(1, ""),
        "1_a_0 has no environment here: it never served on this host\n",
    )
    assert old.files == {"fingerprint"}


@pytest.mark.parametrize("room", range(5))
def test_a_disk_that_is_too_full_has_no_half_of_an_environment(
    shell: str, room: int, old: Old
) -> None:
    """What arrives takes 2 pages; the old one, a secret and it take 1 more each."""
    if not may_mount():
        pytest.skip("mounting a small file system takes CAP_SYS_ADMIN")
    old.serve(TOKEN="n" * 4000)
    data = exports({"SENT": "s" * 5000})
    words = (old.meta, old.live, str(len(data)), "TOKEN")

    done = run_on_full_disk(shell, old.meta, "recall", *words, room=room, payload=data)

    assert done[:2] == (1, "")
    assert "No space left on device" in done[2]
    assert old.files == {"environment", "fingerprint"}


def test_a_release_can_be_recalled_again(shell: str, old: Old) -> None:
    """A second rollback to it finds the environment that the first one made."""
    assert old.recall(shell, "TOKEN", GHOST_WAVE="1")[0] == 0
    (old.meta / "environment.next").replace(old.meta / "environment")
    old.serve(TOKEN="newer")

    assert old.recall(shell, "TOKEN", GHOST_WAVE="2") == (0, f"{HEALTH}\n", "")

    seen = {"COLOR": "old", "TOKEN": "newer", "GHOST_WAVE": "2"}
    assert old.seen_by_script(shell) == seen


def test_a_release_that_serves_can_be_recalled(shell: str, old: Old) -> None:
    """A host that a rollback left stranded proves the same release once more."""
    same = Old(old.meta, old.meta)

    assert same.recall(shell, "TOKEN", GHOST_WAVE="2")[0] == 0

    seen = {"COLOR": "old", "TOKEN": "old", "GHOST_WAVE": "2"}
    assert same.seen_by_script(shell) == seen
