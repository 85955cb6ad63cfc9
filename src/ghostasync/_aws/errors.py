"""
What went wrong in a call to AWS, as one line: which permission it needs, why, the cure.

The library's exceptions are told apart by their names and codes: nothing of it is
imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..errors import PlanError

__all__ = ["AwsError", "explained"]

_NO_KEY: Final = "sign in, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
_DENIED: Final = "denied: the policy of the key or role has to allow it"
_EXPIRED: Final = "the session has expired; sign in again"
_CURES: Final = {
    **dict.fromkeys(
        ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"), _DENIED
    ),
    "AuthFailure": f"AWS does not know the access key; {_NO_KEY}",
    "InvalidClientTokenId": f"AWS does not know the access key; {_NO_KEY}",
    "SignatureDoesNotMatch": "the secret does not belong to the access key",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "OptInRequired": "the account may not use this region",
    "RequestLimitExceeded": "AWS asks for fewer calls; try again later",
    "Throttling": "AWS asks for fewer calls; try again later",
}


class AwsError(PlanError):
    """A call failed; *code* is what AWS calls that, empty where it did not answer."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code

    @property
    def denied(self) -> bool:
        """Whether a permission is missing, so that nothing was done."""
        return _CURES.get(self.code) == _DENIED


def explained(exc: Exception, what: str, where: str) -> AwsError:
    """
    Return the one line of whatever went wrong in a call.

    Args:
        exc: What the library raised.

        what: The call, by the name of the permission that it needs.

        where: The table of the configuration that has the keys of the connection.
    """
    answer = getattr(exc, "response", None)
    if isinstance(answer, Mapping) and isinstance(answer.get("Error"), Mapping):
        error = answer["Error"]
        code, text = str(error.get("Code", "")), _line(error.get("Message"))
        return AwsError(f"{what}: {_CURES.get(code) or f'{code}: {text}'}", code)
    return AwsError(f"{what}: {_unanswered(exc, where)}")


def _unanswered(exc: Exception, where: str) -> str:
    kind, text = type(exc).__name__, _line(exc)
    way = f"check the network and {where}.region"
    if kind == "NoRegionError":
        text = f"no region; say {where}.region, or set AWS_DEFAULT_REGION"
    elif kind in {"NoCredentialsError", "PartialCredentialsError"}:
        text = f"no credentials; {_NO_KEY}"
    elif "Token" in kind or "SSO" in kind or "Credential" in kind:
        text = f"{text}; sign in again"
    elif url := getattr(exc, "kwargs", {}).get("endpoint_url"):
        # The library's text has the whole URL, with all that was asked.
        text = f"{'/'.join(url.split('/')[:3])} does not answer; {way}"
    elif "Timeout" in kind:
        text = f"no answer in time; {way}"
    return text or kind


def _line(text: object) -> str:
    return " ".join(str(text or "").split())
