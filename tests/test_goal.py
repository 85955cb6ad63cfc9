"""Goals: what they answer, and what cannot be said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

import pytest

from ghostasync import (
    Action,
    App,
    Converge,
    Deploy,
    Execute,
    Goal,
    Plan,
    PlanError,
    Redeploy,
    Resume,
    Revert,
    Rollback,
    Swap,
)
from ghostasync.goal import _Questions

QUESTIONS: Final = (
    "action",
    "builds",
    "migrates",
    "moves_manifest",
    "only_back",
    "callers_environment",
    "recalls",
    "recorded_secrets",
    "force",
    "script",
    "active_color",
)
PLAN: Final = Plan(App("shop", "prod", "web", "blue"), ())

ANSWERS: Final[list[tuple[Goal, Action, str]]] = [
    (Deploy(), Action.DEPLOY, "builds migrates moves_manifest callers_environment"),
    (
        Deploy(["site"], force=True),
        Action.DEPLOY,
        "builds migrates moves_manifest callers_environment force",
    ),
    (
        Redeploy(["1_site_0"]),
        Action.REDEPLOY,
        "migrates moves_manifest callers_environment",
    ),
    (
        Redeploy(["1_site_0"], force=True),
        Action.REDEPLOY,
        "migrates moves_manifest callers_environment force",
    ),
    (Converge(), Action.CONVERGE, ""),
    (Execute("true"), Action.EXEC, "script"),
    (Swap(PLAN), Action.SWAP, ""),
    (Swap(PLAN, "green"), Action.SWAP, "active_color"),
    (Rollback(), Action.ROLLBACK, "moves_manifest recalls"),
    (Revert(), Action.ROLLBACK, "moves_manifest only_back"),
    (Resume(), Action.RESUME, "builds migrates moves_manifest"),
    (
        Resume(of=Deploy(force=True)),
        Action.RESUME,
        "builds migrates moves_manifest force",
    ),
    (Resume(of=Redeploy(["1_site_0"])), Action.RESUME, "migrates moves_manifest"),
    (Resume(of=Rollback()), Action.RESUME, "moves_manifest recalls"),
    (Resume(of=Converge()), Action.RESUME, ""),
]


@pytest.mark.parametrize(("goal", "action", "yes"), ANSWERS)
def test_every_goal_answers_every_question(
    goal: Goal, action: Action, yes: str
) -> None:
    answers = {question: getattr(goal, question) for question in QUESTIONS}
    answers |= {key: bool(answers[key]) for key in ("script", "active_color")}

    affirmed = set(yes.split())
    assert answers == {
        question: action if question == "action" else question in affirmed
        for question in QUESTIONS
    }


def test_the_table_has_every_goal_and_every_question() -> None:
    assert {type(goal) for goal, *_ in ANSWERS} == set(get_args(Goal))
    assert _Questions.__abstractmethods__ == set(QUESTIONS)


def test_a_goal_that_leaves_a_question_open_cannot_be_made() -> None:
    class Half(_Questions):
        action = Action.BOOT

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]  # that is it


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (
            lambda: Rollback("20260101T000000Z-abcdef", ["1_site_0"]),
            "rollback: say RUN or --to RELEASE, not both",
        ),
        (
            lambda: Rollback(to=["1_site_0"], remove=True),
            "rollback: --remove is for undoing a run, not with --to",
        ),
        (lambda: Execute(" "), "exec: there is no script: say --script FILE, or "),
        (lambda: Execute("a\0"), "exec: the script has a NUL byte: it is no text"),
        (lambda: Swap(PLAN, "red"), "swap --to red: allowed: blue or green"),
        (lambda: Redeploy([]), "redeploy: name a run or packages"),
        (lambda: Deploy("site"), "'site' is one string; allowed: a list of strings"),
        (lambda: Rollback(to="1_site_0"), "'1_site_0' is one string; allowed: a list "),
        (lambda: Deploy([""]), "deploy: '' is no MODULE and no MODULE@REV"),
        (lambda: Deploy(["@v1"]), "deploy: '@v1' is no MODULE and no MODULE@REV"),
        (lambda: Deploy(["site@"]), "deploy: 'site@' is no MODULE and no MODULE@REV"),
        (
            lambda: Deploy(["site@v1", "site@v2"]),
            "deploy: site is named twice, at different revisions",
        ),
    ],
)
def test_nonsense_cannot_be_said(say: Callable[[], Goal], message: str) -> None:
    with pytest.raises(PlanError) as caught:
        say()

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_hosts_stay_on_their_releases_where_something_else_is_to_be_done() -> None:
    stays = [goal for goal, *_ in ANSWERS if goal.stays]

    assert stays == [Execute("true"), Swap(PLAN, "green")]


def test_goals_are_values() -> None:
    assert Deploy(["site"]) == Deploy(("site",))
    assert hash(Rollback(to=["1_site_0"])) == hash(Rollback(to=("1_site_0",)))
