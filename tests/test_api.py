"""The functions that people call say the same words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import get_type_hints

import pytest

import ghostasync
from ghostasync import RunOptions, start

OF_DEPLOY = {"modules", "rev", "packages", "force", "back", "why"}


def words(function: Callable[..., object]) -> set[str]:
    """Return the keywords that a function takes; those of every run spelled out."""
    parameters = inspect.signature(function).parameters
    named = {name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    return named | (
        set(get_type_hints(RunOptions)) if "options" in parameters else set()
    )


def test_the_options_of_a_run_are_the_keywords_of_start() -> None:
    assert set(get_type_hints(RunOptions)) == words(start)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("deploy", OF_DEPLOY),
        ("redeploy", {"force"}),
        ("converge", set()),
        ("resume", {"run"}),
        ("revert", {"run"}),
        ("rollback", {"run", "to", "remove", "recorded_secrets", "force"}),
    ],
)
def test_every_function_that_runs_takes_these(name: str, own: set[str]) -> None:
    assert words(getattr(ghostasync, name)) == own | words(start)


@pytest.mark.parametrize("name", ["build", "check", "dry_run", "overview", "status"])
def test_the_others_have_no_words_of_their_own(name: str) -> None:
    own = {"redeploy"} if name == "dry_run" else set()
    assert words(getattr(ghostasync, name)) <= own | OF_DEPLOY | words(start)
