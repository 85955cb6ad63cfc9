"""Whatever a call to AWS fails of, is one line that says what to do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from botocore import exceptions as botocore

from ghostasync._aws.errors import explained

WHAT = "ec2:DescribeInstances"
WAY = "check the network and inventory.region"


def answer(code: str, message: str = "Denied.\nSee the logs.") -> Exception:
    told: Mapping[str, object] = {"Error": {"Code": code, "Message": message}}
    error: Exception = botocore.ClientError(told, "DescribeInstances")
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            answer("UnauthorizedOperation"),
            "denied: the policy of the key or role has to allow it",
        ),
        (answer("ExpiredToken"), "the session has expired; sign in again"),
        (answer("Throttling"), "AWS asks for fewer calls; try again later"),
        (answer("InvalidFilter"), "InvalidFilter: Denied. See the logs."),
        (
            botocore.NoRegionError(),
            "no region; say inventory.region, or set AWS_DEFAULT_REGION",
        ),
        (
            botocore.ReadTimeoutError(endpoint_url="https://ec2.example/?Action=x"),
            f"https://ec2.example does not answer; {WAY}",
        ),
        (
            botocore.SSOTokenLoadError(error_msg="Token is absent"),
            "Error loading SSO Token: Token is absent; sign in again",
        ),
        (TimeoutError(), f"no answer in time; {WAY}"),
        (KeyError(), "KeyError"),
    ],
)
def test_an_error_is_one_line_with_its_cure(error: Exception, reason: str) -> None:
    assert str(explained(error, WHAT, "inventory")) == f"{WHAT}: {reason}"
