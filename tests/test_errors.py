from __future__ import annotations

import pytest

from ghostasync.errors import (
    ConfigError,
    GhostasyncError,
    RemoteError,
    credentials_in,
    without_credentials,
)

CASES = [
    ("https://u:p4ss@h.example/x.git", "https://h.example/x.git", {"p4ss"}),
    ("https://t0ken@h.example/x", "https://h.example/x", {"t0ken"}),
    ("HTTPS://u:p@ss@h/x", "HTTPS://h/x", {"p@ss"}),
    ("ssh://git:p4ss@h/x", "ssh://git@h/x", {"p4ss"}),
    ("ssh://git@h/x", "ssh://git@h/x", set()),
    ("git@h.example:x.git", "git@h.example:x.git", set()),
    ("https://h/x@y", "https://h/x@y", set()),
    ("https://h:8080/x@y", "https://h:8080/x@y", set()),
    ("https://[::1]:80/x@y", "https://[::1]:80/x@y", set()),
    ("https://u:p4/s?s#w@h/x", "https://h/x", {"p4/s?s#w"}),
    ("ssh://git:p4/ss@h/x", "ssh://git@h/x", {"p4/ss"}),
    ("https://h/a?private_token=s3", "https://h/a?private_token=***", {"s3"}),
    ("https://h/a?b=c&access_token=s3#d", "https://h/a?b=c&access_token=***#d", {"s3"}),
    ("https://h/a?private%5Ftoken=s%2F3", "https://h/a?private%5Ftoken=***", {"s/3"}),
    (
        "https://h/a?X-Amz-Signature=ab12&b=c",
        "https://h/a?X-Amz-Signature=***&b=c",
        {"ab12"},
    ),
    (
        "https://h/a?X-Amz-Credential=AK%2F1",
        "https://h/a?X-Amz-Credential=***",
        {"AK/1"},
    ),
    ("https://h/a?sig=ab&key=cd", "https://h/a?sig=***&key=***", {"ab", "cd"}),
    (
        "https://h/a?client_secret=x;password=y",
        "https://h/a?client_secret=***;password=***",
        {"x", "y"},
    ),
    ("git+https://t0ken@h/x", "git+https://h/x", {"t0ken"}),
    (r"https:\/\/u:p4ss@h\/x", r"https:\/\/h\/x", {"p4ss"}),
    (r"https:\/\/h\/?a=b\u0026token=x", r"https:\/\/h\/?a=b\u0026token=***", {"x"}),
    ("https://h/cb#access_token=s3", "https://h/cb#access_token=***", {"s3"}),
    ("https://h/?monkey=banana&page=2", "https://h/?monkey=banana&page=2", set()),
    ("mail me@example.com ?token=no", "mail me@example.com ?token=no", set()),
]


@pytest.mark.parametrize(("text", "shown", "secrets"), CASES)
def test_a_url_is_shown_without_what_opens_doors(
    text: str, shown: str, secrets: set[str]
) -> None:
    for before, behind in (
        ("", ""),
        ("cannot fetch '", "': it is away"),
        ("a\n", "\nb"),
    ):
        assert without_credentials(before + text + behind) == before + shown + behind
    assert without_credentials(shown) == shown
    assert {*credentials_in(text)} - {""} >= secrets
    assert bool({*credentials_in(text)} - {""}) == bool(secrets)


def test_no_error_has_credentials_of_a_url_in_its_text() -> None:
    url = "https://u:p4ss@h/x?access_token=s3"

    for error in (
        GhostasyncError(url),
        ConfigError([f"a: is {url}"]),
        RemoteError("h1", "pull", 1, f"curl: {url}"),
    ):
        assert "p4ss" not in str(error)
        assert "s3" not in str(error)
    assert ConfigError([url]).problems == ("https://h/x?access_token=***",)
