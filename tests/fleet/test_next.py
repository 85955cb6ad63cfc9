"""The last line of a run that failed: a command that can be typed as it stands."""

from __future__ import annotations

import re
import shlex
import signal

import attrs
import pytest

from ghostasync import Rollout, Script
from ghostasync.model import Gate
from tests.fleet.console import Outcome
from tests.fleet.locked import end_of, until
from tests.fleet.staged import HOSTS, ON_H3, Stage

pytestmark = pytest.mark.fleet

ONE_MAY_FAIL = Rollout(max_failures=1)


def advised(outcome: Outcome) -> str:
    """Return what the last line says to type."""
    label, command = outcome.stderr.splitlines()[-1].split(maxsplit=1)
    assert (label, command.split()[0]) == ("next:", "ghostasync"), outcome.stderr
    return command


def types(stage: Stage, command: str) -> Outcome:
    """Type it in a shell that does not know comments, as zsh does not."""
    _, name, *words = shlex.split(command)
    return stage.console(name, "--output", "json", *words)


def new(outcome: Outcome) -> str:
    release: str = outcome.last["releases"]["site"]
    return release


# --- What would fail again ---------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["buildpack", "pre_deploy", "before_switch", "post_deploy", "verify"]
)
def test_after_a_script_has_failed_its_output_comes_first(
    stage: Stage, key: str
) -> None:
    said = f"{key} says why"
    if key == "verify":
        command = f"echo {said}; exit 3"
        verify = attrs.evolve(stage.plan.modules[0].verify, command=command)
        stage.module(verify=verify)
        deadlines = attrs.evolve(stage.plan.rollout.deadlines, verify=1)
        stage.change(rollout=Rollout(deadlines=deadlines))
    elif key == "before_switch":
        stage.module(before_switch=Script(inline=f"echo {said}; exit 3"))
    else:
        stage.script(
            key, f'[ "$GHOST_ACTION" = rollback ] || {{ echo {said}; exit 3; }}'
        )
    failed = stage.fail()
    assert failed.exit == 1, failed.stderr

    shown = types(stage, advised(failed))

    assert shown.exit == 0, shown.stderr
    assert said in shown.stdout


def test_after_a_gate_has_closed_its_output_comes_first(stage: Stage) -> None:
    stage.change(rollout=Rollout(after_wave=Gate("echo the gate says why; exit 3")))
    failed = stage.fail()
    assert failed.exit == 1, failed.stderr

    assert "the gate says why" in types(stage, advised(failed)).stdout


def test_after_all_deploy_that_failed_shows_its_output(stage: Stage) -> None:
    stage.module(after_all_deploy=Script(inline="echo the end says why; exit 3"))
    failed = stage.fail()
    assert failed.exit == 7, failed.stderr

    assert "the end says why" in types(stage, advised(failed)).stdout


def test_after_a_host_was_refused_it_is_looked_at(stage: Stage) -> None:
    target = stage.sample.fleet.path("h3", "/srv/site")
    target.unlink()
    target.mkdir()
    failed = stage.fail()
    assert failed.exit == 1, failed.stderr

    looked = types(stage, advised(failed))

    assert advised(failed) == "ghostasync check"
    assert looked.exit == 1
    assert [e["host"] for e in looked.events if "host" in e] == ["h3"]


def test_an_older_commit_that_was_refused_is_not_deployed_again(stage: Stage) -> None:
    older = stage.sample.repositories["site"].commit("2")
    stage.commit()
    assert stage.console.deploy().exit == 0

    refused = stage.console.deploy(f"site@{older}")

    assert refused.exit == 2, refused.stderr
    assert types(stage, advised(refused)).exit == 0
    assert advised(refused) == "ghostasync status"


# --- Hosts that do not answer ------------------------------------------------------


@pytest.mark.parametrize("typed", [(), ("--limit", "h[1-3]", "--limit=h3")])
def test_a_fleet_goes_on_without_a_dead_host(
    stage: Stage, typed: tuple[str, ...]
) -> None:
    stage.sample.fleet.kill("h3")
    failed = stage.fail(*typed)
    assert failed.exit == 1, failed.stderr

    goes_on = types(stage, advised(failed))

    assert goes_on.exit == 0, goes_on.stderr
    others = ("h1", "h2") if typed else ("h1", "h2", "h4")
    assert goes_on.states == dict.fromkeys(others, "LIVE")
    # And that was said.
    assert advised(failed).endswith("   # goes on without it and MANIFEST stays")
    assert [line[1] for line in stage.sample.manifest()] == [stage.old]


def test_many_dead_hosts_are_left_out_by_a_group(stage: Stage) -> None:
    hosts = [
        attrs.evolve(host, name=f"{host.name}.{'long-' * 8}name.example.com")
        for host in stage.sample.fleet.hosts
    ]
    stage.change(hosts=tuple(hosts))
    for host in ("h2", "h3"):
        stage.sample.fleet.kill(host)
    failed = stage.fail()
    assert "--limit '!@failed'" in advised(failed)

    goes_on = types(stage, advised(failed))

    assert goes_on.exit == 0, goes_on.stderr
    assert set(goes_on.states.values()) == {"LIVE"}
    assert len(goes_on.states) == 2


def test_a_dead_host_is_brought_in_line_once_it_answers(stage: Stage) -> None:
    stage.change(rollout=ONE_MAY_FAIL)
    stage.sample.fleet.kill("h3")
    partial = stage.fail()
    assert (partial.exit, partial.last["outcome"]) == (0, "partial"), partial.stderr
    stage.sample.fleet.start("h3")

    along = types(stage, advised(partial))

    assert advised(partial) == "ghostasync converge h3   # once it answers"
    assert along.exit == 0, along.stderr
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, new(partial))


def test_under_a_limit_the_same_command_brings_it_along(stage: Stage) -> None:
    stage.change(rollout=ONE_MAY_FAIL)
    stage.sample.fleet.kill("h3")
    partial = stage.fail("--limit", "h[2-4]")
    assert (partial.exit, partial.last["outcome"]) == (0, "partial"), partial.stderr
    stage.sample.fleet.start("h3")

    along = types(stage, advised(partial))

    assert along.exit == 0, along.stderr
    serves = dict.fromkeys(HOSTS[1:], new(along))
    assert stage.sample.serves("site") == {**serves, "h1": stage.old}


def test_a_stranded_host_that_is_gone_is_taken_back_once_it_answers(
    stage: Stage,
) -> None:
    deadlines = attrs.evolve(stage.plan.rollout.deadlines, connect=3, rollback=3)
    stage.change(rollout=Rollout(deadlines=deadlines))
    stage.script("post_deploy", ON_H3 + "touch /ghost/switched; sleep 60")
    stage.commit()
    with stage.console.running("deploy", "--output", "json") as running:
        until(stage.sample.fleet.path("h3", "/ghost/switched").exists)
        stage.sample.fleet.kill("h3")
        stranded = end_of(running)
    assert stranded.exit == 3, stranded.stderr
    assert re.search("# once it answers converge takes it back$", advised(stranded))
    assert types(stage, advised(stranded)).exit == 3
    stage.sample.fleet.start("h3")

    back = stage.console("converge", "h3")

    assert back.exit == 0, back.stderr
    assert stage.sample.serves("site") == dict.fromkeys(HOSTS, stage.old)


# --- Other runs, and people ----------------------------------------------------------


def test_a_run_that_met_another_waits_for_it(stage: Stage) -> None:
    stage.script(
        "pre_deploy", "touch /ghost/waits; until [ -e /ghost/go ]; do sleep 0.1; done"
    )
    stage.commit()
    paths = [stage.sample.fleet.path(host, "/ghost") for host in HOSTS]
    with stage.console.running("deploy", "--output", "json") as first:
        until(lambda: all((path / "waits").exists() for path in paths))
        locked = stage.console("deploy", "--output", "lines")
        assert locked.exit == 4, locked.stderr
        # One line says who, whatever name each host has for it.
        assert locked.stderr.count("another run holds the lock") == 1
        assert locked.stdout.count("another run holds the lock") == 1
        words = shlex.split(advised(locked))[1:]
        with stage.console.running(*words, "--output", "lines") as second:
            until(lambda: "wait" in second.stdout.readline())
            for path in paths:
                (path / "go").touch()
            assert end_of(first).exit == 0
            waited = end_of(second)

    assert waited.exit == 0, waited.stderr
    assert not re.search("FAILED|interrupted|halted", waited.stdout)


def test_what_was_interrupted_can_be_typed_again(stage: Stage) -> None:
    stage.script("pre_deploy", "touch /ghost/waits; [ -e /ghost/go ] || sleep 30")
    stage.commit()
    paths = [stage.sample.fleet.path(host, "/ghost") for host in HOSTS]
    with stage.console.running("deploy", "--output", "json") as running:
        until(lambda: all((path / "waits").exists() for path in paths))
        running.send_signal(signal.SIGINT)
        stopped = end_of(running)
    assert stopped.exit == 130, stopped.stderr
    for path in paths:
        (path / "go").touch()

    assert types(stage, advised(stopped)).exit == 0


def test_a_way_back_that_fails_shows_its_output_and_is_cured_by_converge(
    stage: Stage,
) -> None:
    mended = '[ "$GHOST_ACTION" = deploy ] || [ -e /ghost/mended ]'
    broken = f"{mended} || {{ echo no way; exit 9; }}"
    stage.script("post_deploy", ON_H3 + broken)
    assert stage.fail().exit == 0
    stage.script("post_deploy", ON_H3 + "exit 5")
    stranded = stage.fail()
    assert stranded.exit == 3, stranded.stderr

    shown = types(stage, advised(stranded))

    assert (shown.exit, "no way" in shown.stdout) == (0, True), shown.stderr
    assert advised(stranded).endswith("# once mended converge takes it back")
    stage.sample.fleet.path("h3", "/ghost/mended").touch()
    back = stage.console("converge", "h3")
    assert back.exit == 0, back.stderr
    assert len(set(stage.sample.serves("site").values())) == 1
