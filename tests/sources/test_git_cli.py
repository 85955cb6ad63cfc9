from __future__ import annotations

from pathlib import Path

import pytest

from ghostasync.errors import SourceError
from ghostasync.sources._git_cli import Cli, Remote


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("https://example.com/x.git", Remote("https://example.com/x.git")),
        (
            "https://me:p%40ss:w@example.com:8443/x@y",
            Remote(
                "https://example.com:8443/x@y",
                base="https://example.com:8443",
                username="me",
                password="p@ss:w",
            ),
        ),
        (
            "HTTPS://me@corp.com:pw@example.com/x",
            Remote(
                "HTTPS://example.com/x",
                base="HTTPS://example.com",
                username="me@corp.com",
                password="pw",
            ),
        ),
        (
            "https://org@dev.example.com/x",
            Remote(
                "https://dev.example.com/x",
                base="https://dev.example.com",
                username="org",
            ),
        ),
        ("ssh://git:pw@example.com:22/x", Remote("ssh://git@example.com:22/x")),
        ("git@example.com:me/x.git", Remote("git@example.com:me/x.git")),
        ("file:///srv/x.git", Remote("file:///srv/x.git", local=True)),
        ("ext::sh -c id", Remote("ext::sh -c id")),
        ("../x", Remote("/etc/x", local=True)),
        ("./a:b", Remote("/etc/conf/a:b", local=True)),
        ("/srv/x y", Remote("/srv/x y", local=True)),
        ("~/x", Remote("/home/me/x", local=True)),
    ],
)
def test_a_repository_is_known_without_its_credentials(
    text: str, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")

    assert Remote.parse(text, Path("/etc/conf")) == remote


def test_credentials_do_not_show() -> None:
    remote = Remote.parse("https://me-sentinel:pw-sentinel@example.com/x", Path("/"))

    assert "sentinel" not in repr(Cli("site", remote))


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", "git exited 128"),
        ("warning: a\nfatal: b\n\n", "fatal: b"),
        (
            (
                "git@h: Permission denied (publickey).\r\n"
                "fatal: Could not read from remote repository.\n\n"
                "Please make sure you have the correct access rights\n"
                "and the repository exists.\n"
            ),
            "git@h: Permission denied (publickey).",
        ),
        (
            (
                "fatal: write error: No space left on device\n"
                "fatal: fetch-pack: invalid index-pack output\n"
            ),
            "fatal: write error: No space left on device",
        ),
        (
            (
                "error: object 835e1ac: badEmail: invalid author/committer line\n"
                "fatal: fsck error in packed object\n"
                "fatal: fetch-pack: invalid index-pack output\n"
            ),
            "error: object 835e1ac: badEmail: invalid author/committer line",
        ),
        ("fatal: no https://me:pw@other.org/x", "fatal: no https://other.org/x"),
        ("fatal: tok and\ttok", "fatal: *** and ***"),
    ],
)
def test_the_line_that_tells_why_is_the_one_in_the_error(
    output: str, line: str
) -> None:
    git = Cli("site", Remote("https://h/x", base="https://h", username="tok"))

    error = git.failure("fetch", 128, output)

    assert str(error) == f"site: cannot fetch https://h/x: {line}"


async def test_the_users_own_ssh_is_used_and_cannot_ask_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "my ssh"
    ssh.write_text(
        "#!/bin/sh\n"
        "(: < /dev/tty) 2>/dev/null && echo a terminal >&2\n"
        'echo "$SSH_ASKPASS_REQUIRE/$DISPLAY/$*" >&2\n'
        "exit 1\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(ssh))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    monkeypatch.setenv("DISPLAY", ":0")
    git = Cli("site", Remote("git@example.com:x"))

    with pytest.raises(SourceError) as caught:
        await git.ask("ls-remote", "--", git.remote.url, doing="ask")

    assert str(caught.value) == (
        "site: cannot ask git@example.com:x: never//git@example.com git-upload-pack 'x'"
    )
