from __future__ import annotations

from pathlib import Path

import pytest

from ghostasync.cli import arrange
from ghostasync.cli._options import (
    COMMON,
    LIMITS,
    Common,
    Limits,
    Mode,
    Pick,
)
from ghostasync.errors import ConfigError, PlanError
from ghostasync.goal import Deploy
from ghostasync.model import App, DirectorySource, Host, Module, Plan, Rollout

PLAN = Plan(
    App("shop", "prod", "web"),
    (Module("site", "/srv/site", DirectorySource(".")),),
    (Host("web1"),),
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], []),
        (["deploy", "--config", "a"], ["deploy", "--config", "a"]),
        (["--config", "a", "deploy", "x"], ["deploy", "--config", "a", "x"]),
        (["--config=a", "deploy"], ["deploy", "--config=a"]),
        (
            ["--output", "json", "--config=a", "status"],
            ["status", "--output", "json", "--config=a"],
        ),
        (["--help"], ["--help"]),
        (["--config"], ["--config"]),
    ],
)
def test_common_options_may_stand_before_the_command(
    typed: list[str], meant: list[str]
) -> None:
    assert arrange(typed) == meant


def test_the_configuration_is_the_option_then_the_environment_then_the_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GHOSTASYNC_CONFIG", raising=False)
    assert COMMON.path() == Path("ghostasync.toml")
    monkeypatch.setenv("GHOSTASYNC_CONFIG", "/etc/shop.toml")
    assert COMMON.path() == Path("/etc/shop.toml")
    assert Common(config=Path("here.toml")).path() == Path("here.toml")


def test_a_missing_configuration_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ghostasync init"):
        Common(config=tmp_path / "none.toml").plan()


def test_limits_override_the_rollout_and_nothing_else() -> None:
    limits = Limits(waves="1,25%", max_failures="5%", concurrency=8)

    plan = limits.applied(PLAN)

    assert plan.rollout == Rollout(waves=(1, "25%"), max_failures="5%", concurrency=8)
    assert LIMITS.applied(PLAN) is PLAN


@pytest.mark.parametrize("limits", [Limits(waves="0"), Limits(max_failures="-1")])
def test_limits_that_make_no_sense_are_refused(limits: Limits) -> None:
    with pytest.raises(PlanError, match="allowed"):
        limits.applied(PLAN)


def test_a_goal_is_what_was_picked() -> None:
    pick = Pick(rev="v2", package=("1_site_0",))

    goal = pick.goal(["site"], Mode(force=True, back=True))

    assert goal == Deploy(["site"], "v2", ["1_site_0"], force=True, back=True)
