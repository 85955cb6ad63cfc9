from __future__ import annotations

import json
from pathlib import Path

import pytest

from ghostasync.cli import COMMANDS, execute
from ghostasync.config import load_plan
from ghostasync.manual import GROUPS, entries


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration is here, nor elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GHOSTASYNC_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def test_a_key_is_told_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["explain", "max_failures"]) == 0

    assert capsys.readouterr().out == (
        "rollout.max_failures                                      "
        "key of ghostasync.toml\n"
        "\n"
        "  Hosts, or percent of the chosen ones rounded down, that may fail.\n"
        "\n"
        "  One more, and the run stops. With several waves, any failure after the"
        " switch\n"
        "  in the first one stops it as well, and so does a wave in which every host\n"
        "  failed.\n"
        "\n"
        '  takes    a number of hosts, at least 0, or "0%" to "100%"\n'
        "  default  0\n"
    )


def test_every_word_and_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["explain"]) == 0

    words = {*capsys.readouterr().out.replace(",", " ").replace(":", " ").split()}
    keys = {e.name.rpartition(".")[2] for e in entries() if e.group == "key"}
    names = keys | {e.name for e in entries() if e.group != "key"}
    assert names - words == set()
    assert {*COMMANDS} - words == set()
    assert {f"({name})" for name in GROUPS} - words == set()


@pytest.mark.parametrize("columns", ["20", "60", "80", "200"])
@pytest.mark.parametrize("word", [[], *([name] for name in GROUPS)])
def test_lines_are_as_wide_as_they_can_be_read(
    word: list[str],
    columns: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    execute(["explain", *word])

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= max(60, min(80, int(columns)))


def test_what_has_one_name_in_several_tables_is_told_for_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["explain", "keep"]) == 0

    lines = capsys.readouterr().out.splitlines()
    heads = [line.split()[0] for line in lines if "key of" in line]
    assert heads == ["store.keep", "layout.keep"]


def test_an_exit_status_needs_no_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["explain", "exit", "6"]) == 0

    assert capsys.readouterr().out.startswith("6  ")


def test_json_is_the_same_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--output", "json", "explain", "Uploaded"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "group": "event",
        "names": ["Uploaded"],
        "text": "All packages are on the host, whole by their manifests and flushed to"
        " disk.",
        "facts": {
            "nbytes": "number",
            "fetched": "number. Bytes that the host took from the store by itself; "
            "*nbytes* were sent to it.",
            "seconds": "number",
            "takes a host from": "UPLOADING to PREPARING",
        },
    }

    assert execute(["explain", "--output", "json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(entries())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["max_failuers"], "is called max_failuers; did you mean rollout.max_failures"),
        (["qqqqqqqq"], "nothing is called qqqqqqqq. All words: ghostasync explain"),
        (["what", "is", "it"], "what is it"),
    ],
)
def test_an_unknown_word_is_one_line_with_what_is_near(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["explain", *words]) == 2

    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_command_is_told_where_its_help_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["explain", "resume"]) == 0
    assert capsys.readouterr().out == "resume is a command: ghostasync resume --help\n"

    assert execute(["explain", "rollback"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("rollout.deadlines.rollback ")
    assert out.endswith("\n\nrollback is a command: ghostasync rollback --help\n")


def test_init_writes_every_key_where_it_is_asked_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["init", "--config", "short.toml"]) == 0
    assert execute(["init", "--full", "--config", "full.toml"]) == 0

    assert load_plan("full.toml") == load_plan("short.toml")
    assert "# max_failures = 0" in Path("full.toml").read_text("utf-8")
    assert execute(["init", "--full", "--config", "full.toml"]) == 2
    assert "is there already" in capsys.readouterr().err
