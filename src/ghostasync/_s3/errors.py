"""
What went wrong in a call to S3, as one line: what was asked, why, what to do.

The library's exceptions are told apart by their names and codes: nothing of it is
imported here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ..errors import StoreError

__all__ = [
    "BodyLost",
    "Conflict",
    "Missing",
    "Unsupported",
    "explained",
    "refused",
    "store_time",
]

_MISSING: Final = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_NO_VERSION: Final = {"InvalidArgument", "InvalidRequest"}
_EXISTS: Final = {"PreconditionFailed", "412"}
_BUSY: Final = {"ConditionalRequestConflict", "409", "OperationAborted", "UnknownError"}
"""Codes of stores where two write one object: one of them may have won."""

_WAY: Final = "check the network, store.endpoint_url and store.region"
_NO_KEY: Final = "sign in, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
_CURES: Final = {
    "NoSuchBucket": "there is no such bucket: make it, or mend its name",
    "AccessDenied": "access denied: the key's policy has to allow it",
    "AllAccessDisabled": "access to it is disabled",
    "403": "access denied: the key's policy has to allow it",
    "Forbidden": "access denied: the key's policy has to allow it",
    "InvalidAccessKeyId": f"the store does not know the access key; {_NO_KEY}",
    "SignatureDoesNotMatch": "the secret does not belong to the access key",
    "ExpiredToken": "the session has expired; sign in again",
    "ExpiredTokenException": "the session has expired; sign in again",
    "InvalidToken": "the session token is wrong; sign in again",
    "KMS.DisabledException": "the key of store.sse_key is disabled",
    "KMS.NotFoundException": "there is no key store.sse_key",
    "SlowDown": "the store asks for fewer calls; try again later",
    "InvalidObjectState": "it is in an archive of the store's: restore it first",
    "EntityTooLarge": "the store takes no object of this size",
    "QuotaExceeded": "the quota of the bucket is used up",
    "InsufficientStorage": "the store is full",
    "507": "the store is full",
}
_ELSEWHERE: Final = {
    "PermanentRedirect",
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}


class Conflict(StoreError):
    """Another write of the same object has come first, or has come in between."""


class Missing(StoreError):
    """There is no such object."""


class Unsupported(StoreError):
    """The server does not know a call, or one of its conditions."""


class BodyLost(StoreError):
    """An answer ended before its end."""


def explained(exc: Exception, what: str) -> StoreError:
    """Return the one line of whatever went wrong in a call."""
    answer = getattr(exc, "response", None)
    if isinstance(answer, dict) and isinstance(answer.get("Error"), dict):
        return refused(answer, what)
    kind, text = type(exc).__name__, " ".join(str(exc).split())
    if kind in {"NoCredentialsError", "PartialCredentialsError"}:
        return StoreError(f"{what}: no credentials; {_NO_KEY}")
    if "Token" in kind or "SSO" in kind or "Credential" in kind:
        return StoreError(f"{what}: {text}; sign in again")
    if url := getattr(exc, "kwargs", {}).get("endpoint_url"):
        # The library's text has the whole URL, with all that was asked.
        origin = "/".join(url.split("/")[:3])
        return StoreError(f"{what}: {origin} does not answer; {_WAY}")
    if "Timeout" in kind:
        return StoreError(f"{what}: no answer in time; {_WAY}")
    return StoreError(f"{what}: {text or kind}")


def refused(answer: Mapping[str, Any], what: str) -> StoreError:
    error, meta = answer["Error"], answer.get("ResponseMetadata", {})
    code, headers = str(error.get("Code", "")), meta.get("HTTPHeaders", {})
    # A version that none can be is refused with words about it; a version that says
    # that the object was deleted cannot be read.
    spoilt = code in _NO_VERSION and "version" in str(error.get("Message")).lower()
    deleted = code == "MethodNotAllowed" and "x-amz-delete-marker" in headers
    if code in _MISSING or spoilt or deleted:
        return Missing(f"{what}: there is no such object")
    if code in _EXISTS | _BUSY:
        return Conflict(f"{what}: {error.get('Message') or code}")
    if code == "NotImplemented":
        return Unsupported(f"{what}: the server does not know this call")
    if code == "RequestTimeTooSkewed":
        ahead = round(time.time() - store_time(headers))
        way = "ahead of" if ahead > 0 else "behind"
        return StoreError(
            f"{what}: this machine's clock is {abs(ahead)} s {way} the store's; set it"
        )
    if code in _ELSEWHERE:
        region = error.get("Region") or headers.get("x-amz-bucket-region", "another")
        return StoreError(f"{what}: the bucket is in region {region}; say store.region")
    text = " ".join(str(error.get("Message") or "").split())
    return StoreError(f"{what}: {_CURES.get(code) or f'{code}: {text}'}")


def store_time(headers: Mapping[str, str]) -> float:
    """Return the store's own time of an answer; ours where it says none."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()
