from __future__ import annotations

import pytest

from ghostasync import Plan, past_runs
from ghostasync._planning.ci import in_ci, in_job
from ghostasync.testing import FakeHosts
from tests.deploying import run

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_ACTOR": "ann",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_RUN_ID": "1",
}
JOB = "https://github.com/o/r/actions/runs/1"
AZURE = "https://dev.azure.com/o/My%20Shop/_build/results?buildId=6"
BITBUCKET = "https://bitbucket.org/o/r/pipelines/results/8"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (GITHUB, f"ann in GitHub Actions, {JOB}"),
        (
            {**GITHUB, "GITHUB_TRIGGERING_ACTOR": "bob"},
            f"bob in GitHub Actions, {JOB}",
        ),
        (
            {
                "GITLAB_CI": "true",
                "GITLAB_USER_LOGIN": "ann",
                "CI_JOB_URL": "https://gitlab.example/o/r/-/jobs/7",
            },
            "ann in GitLab CI, https://gitlab.example/o/r/-/jobs/7",
        ),
        (
            {
                "BUILDKITE": "true",
                "BUILDKITE_BUILD_CREATOR": "Ann Lee",
                "BUILDKITE_BUILD_URL": "https://buildkite.com/o/p/builds/3",
            },
            "Ann Lee in Buildkite, https://buildkite.com/o/p/builds/3",
        ),
        (
            {
                "CIRCLECI": "true",
                "CIRCLE_USERNAME": "ann",
                "CIRCLE_BUILD_URL": "https://circleci.com/gh/o/r/4",
            },
            "ann in CircleCI, https://circleci.com/gh/o/r/4",
        ),
        (
            {
                "JENKINS_URL": "https://ci.example/",
                "BUILD_USER_ID": "ann",
                "BUILD_URL": "https://ci.example/job/shop/5/",
            },
            "ann in Jenkins, https://ci.example/job/shop/5/",
        ),
        (
            {
                "TF_BUILD": "True",
                "BUILD_REQUESTEDFOR": "Ann Lee",
                "SYSTEM_COLLECTIONURI": "https://dev.azure.com/o/",
                "SYSTEM_TEAMPROJECT": "My Shop",
                "BUILD_BUILDID": "6",
            },
            f"Ann Lee in Azure Pipelines, {AZURE}",
        ),
        (
            {
                "BITBUCKET_BUILD_NUMBER": "8",
                "BITBUCKET_STEP_TRIGGERER_UUID": "{d301}",
                "BITBUCKET_REPO_FULL_NAME": "o/r",
            },
            f"{{d301}} in Bitbucket Pipelines, {BITBUCKET}",
        ),
        (
            {
                "CODEBUILD_BUILD_ID": "shop:9",
                "CODEBUILD_INITIATOR": "pipeline/shop",
                "CODEBUILD_BUILD_URL": "https://console.example/shop:9",
            },
            "pipeline/shop in AWS CodeBuild, https://console.example/shop:9",
        ),
    ],
)
def test_a_job_says_who_started_it_and_where_it_is(
    environ: dict[str, str], said: str
) -> None:
    assert in_ci(environ)
    assert in_job("runner", environ) == said


def test_what_a_job_does_not_say_is_left_out() -> None:
    assert in_job("jenkins", {"JENKINS_URL": "x"}) == "jenkins in Jenkins"
    empty = {"GITLAB_CI": "1", "GITLAB_USER_LOGIN": "", "CI_JOB_URL": ""}
    assert in_job("root", empty) == "root in GitLab CI"
    assert in_job("root", {"CI": "true"}) == "root"


@pytest.mark.parametrize("no", ["", "0", "false", "False"])
def test_a_person_is_in_no_job(no: str) -> None:
    environ = {"CI": no, "GITHUB_ACTIONS": no, "GITHUB_ACTOR": "bob"}

    assert not in_ci(environ)
    assert in_job("ann", environ) == "ann"


def test_what_a_job_says_is_one_short_line_without_secrets() -> None:
    environ = {
        **GITHUB,
        "GITHUB_ACTOR": "a\x1b[31mn\x00n\nrun 2 by bob" + "!" * 999,
        "GITHUB_SERVER_URL": "https://ann:s3cr@t@github.com",
        "GITHUB_RUN_ID": "1" * 999,
    }

    said = in_job("runner", environ)

    assert said.startswith("ann run 2 by bob!!!")
    assert "!! in GitHub Actions, https://github.com/o/r/actions/runs/111" in said
    assert said.isprintable()
    assert len(said) < 450


async def test_journal_and_hosts_keep_who_deployed_in_which_job(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    hosts = FakeHosts()

    await run(plan, hosts)

    said = f"ann in GitHub Actions, {JOB}"
    assert [entry.actor for entry in await past_runs(plan)] == [said]
    (module,) = hosts["h1"].modules.values()
    assert [record["actor"] for record in module.records.values()] == [said]
    (lock, *_) = [call for call in hosts.calls if call.name == "lock"]
    assert f" by {said} on " in lock.args[2]
