"""What a host has on record of environments, for the redactor."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostasync._build.environment import exports, recorded_secrets, secret_names
from tests._remote.shells import SHELLS, run

VALUE = "it's\n'more'\nenvironment\n$(id)"


@pytest.mark.parametrize("shell", SHELLS)
def test_all_that_a_release_has_had_is_told_byte_for_byte(
    shell: str, tmp_path: Path
) -> None:
    meta, other = tmp_path / "1_a_0", tmp_path / "2_b_0"
    meta.mkdir()
    for number, name in enumerate(
        ("environment", "environment.before", "environment.next")
    ):
        data = secret_names(["TOKEN"]) + exports(
            {"TOKEN": f"{VALUE}{number}", "B": "b"}
        )
        (meta / name).write_bytes(data)

    status, said, err = run(shell, "recorded", str(other), str(meta))

    assert (status, err) == (0, "")
    assert [*recorded_secrets(said.encode(), ())] == [f"{VALUE}{n}" for n in range(3)]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_host_without_records_tells_nothing(shell: str, tmp_path: Path) -> None:
    assert run(shell, "recorded", str(tmp_path)) == (0, "", "")
