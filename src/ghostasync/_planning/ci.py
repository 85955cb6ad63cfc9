"""
CI services: how a process knows that it is part of a job, and whose job it is.

A service is a row of the variables that it sets for its jobs; what is in them is text
of others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import attrs

from ..views.text import plain

__all__ = ["FOLDERS", "SIGNS", "in_ci", "in_job"]

_LONGEST: Final = 200
"""Characters of a name or an address that records keep."""


@attrs.frozen
class _Service:
    """
    What a service calls things.

    *sign* is a variable of every job, *who* are variables with the person who started
    it, the best one first; *url* is where people find the job, made of variables;
    *folder* is the variable of its checkout.
    """

    name: str
    sign: str
    who: tuple[str, ...]
    url: str
    folder: str


_SERVICES: Final = (
    _Service(
        "GitHub Actions",
        "GITHUB_ACTIONS",
        # Somebody else may have started the job again.
        ("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"),
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        "GITHUB_WORKSPACE",
    ),
    _Service(
        "GitLab CI",
        "GITLAB_CI",
        ("GITLAB_USER_LOGIN",),
        "{CI_JOB_URL}",
        "CI_PROJECT_DIR",
    ),
    _Service(
        "Buildkite",
        "BUILDKITE",
        ("BUILDKITE_BUILD_CREATOR",),
        "{BUILDKITE_BUILD_URL}",
        "BUILDKITE_BUILD_CHECKOUT_PATH",
    ),
    _Service(
        "CircleCI",
        "CIRCLECI",
        ("CIRCLE_USERNAME",),
        "{CIRCLE_BUILD_URL}",
        "CIRCLE_WORKING_DIRECTORY",
    ),
    _Service(
        "Jenkins",
        "JENKINS_URL",
        ("BUILD_USER_ID",),
        "{BUILD_URL}",
        "WORKSPACE",
    ),
    _Service(
        "Azure Pipelines",
        "TF_BUILD",
        ("BUILD_REQUESTEDFOR",),
        "{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",
        "AGENT_WORKFOLDER",
    ),
    _Service(
        "Bitbucket Pipelines",
        "BITBUCKET_BUILD_NUMBER",
        ("BITBUCKET_STEP_TRIGGERER_UUID",),
        "https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
        "BITBUCKET_CLONE_DIR",
    ),
    _Service(
        "AWS CodeBuild",
        "CODEBUILD_BUILD_ID",
        ("CODEBUILD_INITIATOR",),
        "{CODEBUILD_BUILD_URL}",
        "CODEBUILD_SRC_DIR",
    ),
)

SIGNS: Final = ("CI", *(service.sign for service in _SERVICES))
"""Variables by which a process knows that it is part of a job."""

FOLDERS: Final = tuple(service.folder for service in _SERVICES)
"""Variables that name the folder in which a job has its checkout."""


def in_ci(environ: Mapping[str, str]) -> bool:
    """Tell whether the process with *environ* is part of a CI job."""
    return any(_set(environ, sign) for sign in SIGNS)


def in_job(user: str, environ: Mapping[str, str]) -> str:
    """
    Return *user*, or who started this CI job, and the job.

    As in ``ann in GitHub Actions, https://github.com/o/r/actions/runs/1``.
    """
    for service in _SERVICES:
        if _set(environ, service.sign):
            people = (_line(environ.get(name, "")) for name in service.who)
            who = f"{next(filter(None, people), user)[:_LONGEST]} in {service.name}"
            try:
                url = _line(service.url.format_map(environ))
            except KeyError:
                return who
            # An address is one word, and what is secret in it stays here.
            url = re.sub(r"(?<=://)[^/?#]*@", "", url.replace(" ", "%20"))
            return f"{who}, {url[:_LONGEST]}" if url else who
    return user


def _set(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() not in {"", "0", "false"}


def _line(text: str) -> str:
    return " ".join(plain(text).split())
