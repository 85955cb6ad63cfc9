from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ghostasync
from ghostasync import events
from ghostasync._run.report import EXIT_STATUS
from ghostasync.config import _selection
from ghostasync.machine import TRANSITIONS
from ghostasync.manual import GROUPS, Entry, entries, find, near
from ghostasync.model import ExitStatus, Outcome, State

SOURCE = Path(ghostasync.__file__).parent


def named(group: str) -> list[str]:
    return [entry.name for entry in entries() if entry.group == group]


def happening() -> set[str]:
    """Return the names of all events."""
    kinds = [*events.HostEvent.__subclasses__(), *events.RunEvent.__subclasses__()]
    return {kind.__name__ for kind in kinds}


def test_every_group_is_told() -> None:
    assert {entry.group for entry in entries()} == GROUPS.keys()


def test_what_there_is_has_one_entry_each() -> None:
    assert named("state") == [state.name for state in State]
    assert named("outcome") == [outcome.value for outcome in Outcome]
    assert named("exit") == [str(status.value) for status in ExitStatus]
    assert sorted(named("event")) == sorted(happening())
    assert named("choice") == ["limit", *_selection._EMPTY]


def test_no_two_entries_have_the_same_name() -> None:
    names = [name for entry in entries() for name in entry.names]
    # The number 3 and the state STRANDED, which is a reason for it, share a word.
    shared = {status.name for status in ExitStatus} & {state.name for state in State}

    assert {name for name in names if names.count(name) > 1} == shared


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_an_entry_says_something(entry: Entry) -> None:
    assert entry.text, f"{entry.name} has no words"
    for sentence in entry.text.split("\n\n"):
        assert sentence.endswith((".", ":", "@failed")), sentence
        assert len(sentence.split()) > 2
        assert "`:" not in sentence.replace("::", ":")
        assert "``" not in sentence


def test_exit_statuses_stand_in_the_order_in_which_they_count() -> None:
    assert [*map(int, ExitStatus)] == [3, 5, 130, 4, 2, 6, 7, 0, 1]


def test_the_command_returns_no_number_that_is_not_in_the_manual() -> None:
    assert {*EXIT_STATUS.values()} <= {*ExitStatus}
    files = ("__init__", "_commands", "_demo", "_explain", "_init")
    returned = [
        (file, node.lineno)
        for file in (
            "_run/report.py",
            "survey/status.py",
            *(f"cli/{name}.py" for name in files),
        )
        for node in ast.walk(ast.parse((SOURCE / file).read_text()))
        if isinstance(node, ast.Return)
        and isinstance(node.value, ast.Constant)
        and type(node.value.value) is int
        and node.value.value > 0
    ]
    assert returned == []


def test_a_state_tells_where_it_leads() -> None:
    facts = {entry.name: entry.facts["leads to"] for entry in find("state")}

    assert facts["READY"] == (
        "DRAINING by Admitted, FAILED by Failed, HALTED by Halted or Gone,"
        " ROLLING_BACK by RollbackRequested"
    )
    assert facts["STRANDED"] == "nothing"


def test_an_event_tells_its_keys_and_where_it_takes_a_host() -> None:
    (uploaded,) = find("Uploaded")
    (started,) = find("Started")
    (failed,) = find("Failed")

    assert uploaded.facts == {
        "nbytes": "number",
        "fetched": "number. Bytes that the host took from the store by itself; "
        "*nbytes* were sent to it.",
        "seconds": "number",
        "takes a host from": "UPLOADING to PREPARING",
    }
    assert started.facts["hosts"] == "array of strings"
    assert failed.facts["exit_status"] == "number, or null"
    assert failed.facts["stage"] == "string, a state"
    told = {e.name for e in find("event") if "takes a host from" in e.facts}
    assert told == {kind.__name__ for ways in TRANSITIONS.values() for kind in ways}


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("rollout.max_failures", ["rollout.max_failures"]),
        ("max_failures", ["rollout.max_failures"]),
        ("deadlines.verify", ["rollout.deadlines.verify"]),
        ("modules[0].path", ["modules.path"]),
        ("[[modules]]", ["modules"]),
        ("[rollout.deadlines]", ["rollout.deadlines"]),
        ("rollout.undrain.run", ["rollout.drain.run"]),
        ("keep", ["store.keep", "layout.keep"]),
        ("HALTED", ["HALTED"]),
        ("halted", ["HALTED", "Halted"]),
        ("failed", ["FAILED", "failed", "1", "Failed"]),
        ("6", ["6"]),
        ("exit 6", ["6"]),
        ("drift", ["6"]),
        ("ghost_wave", ["GHOST_WAVE"]),
        ("$GHOST_WAVE", ["GHOST_WAVE"]),
        ("Uploaded", ["Uploaded"]),
        ("@behind", ["@behind"]),
        ("Max_Failures", ["rollout.max_failures"]),
        ("ailures", []),
        ("", []),
    ],
)
def test_a_word_finds_what_it_may_mean(word: str, names: list[str]) -> None:
    found = [entry.name for entry in find(word)]

    assert [name for name in found if "modules.buildpack" not in name] == names


def test_a_group_is_found_by_its_name() -> None:
    assert [entry.name for entry in find("exit")] == named("exit")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("max_failuers", "rollout.max_failures"),
        ("HALTD", "HALTED"),
        ("GHOST_WAV", "GHOST_WAVE"),
        ("Uplaoded", "Uploaded"),
    ],
)
def test_a_typing_mistake_is_near_what_was_meant(word: str, name: str) -> None:
    assert near(word)[0] == name


def test_nothing_is_near_nonsense() -> None:
    assert near("qqqqqqqq") == []
