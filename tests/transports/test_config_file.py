"""The reader for where there is no ssh, compared with ssh."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostasync.transports._config_file import evaluate, files_of
from tests.transports.ssh_configs import HOSTS, asked_of_ssh, count, made_up

OPTIONS = (
    *("hostname", "port", "user", "proxyjump", "proxycommand", "hostkeyalias"),
    *("identityfile", "certificatefile", "identitiesonly", "identityagent"),
    "gssapiauthentication",
    *("addressfamily",),
)

DEFAULTS = {
    "identitiesonly": ["no"],
    "addressfamily": ["any"],
    "gssapiauthentication": ["no"],
}


def counted(options: dict[str, list[str]]) -> dict[str, list[str]]:
    found = {name: options.get(name, DEFAULTS.get(name, [])) for name in OPTIONS}
    for name in ("proxyjump", "proxycommand"):
        if found[name] == ["none"]:
            found[name] = []  # ssh prints none of them
    # ssh prints these two in a form of its own.
    home = str(Path.home())
    found["identityagent"] = [a.replace("~", home) for a in found["identityagent"]]
    found["proxyjump"] = [jump.removeprefix("ssh://") for jump in found["proxyjump"]]
    if "~/.ssh/id_rsa" in found["identityfile"]:
        found["identityfile"] = []  # its own default
    return found


@pytest.mark.parametrize("seed", range(count(100)))
def test_it_says_what_ssh_says_or_that_it_cannot_tell(
    seed: int, tmp_path: Path
) -> None:
    config = made_up(seed, tmp_path)
    host, user = HOSTS[seed % len(HOSTS)], ("", "jdoe")[seed % 2]
    said = asked_of_ssh(config, host, user=user)

    options = ours(config, host, user)

    if said is not None and options is not None:
        assert counted(options) == counted(said)


def ours(config: Path, host: str, user: str) -> dict[str, list[str]] | None:
    """Return what we say; None where we say that only ssh can tell."""
    try:
        return evaluate([config], host, user=user)
    except ValueError as exc:
        if "takes ssh itself" in str(exc):
            return None
        raise


@pytest.mark.parametrize(
    "line",
    ["Match exec true", "CanonicalizeHostname yes", "Match tagged x"],
)
def test_what_only_ssh_can_tell_is_refused_with_its_place(
    line: str, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(f"User me\n{line}\n")

    with pytest.raises(ValueError, match=f"{config} line 2: .* takes ssh itself"):
        evaluate([config], "a")


def test_a_file_that_includes_itself_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Include {tmp_path}/*\nUser me\n")

    assert [*files_of(config)] == [config]
    with pytest.raises(ValueError, match="too many files include each other"):
        evaluate([config], "a")


def test_a_quote_that_is_not_closed_is_told_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text('Host a\n User "me\n')

    with pytest.raises(ValueError, match=f"{config} line 2: a quote is not closed"):
        evaluate([config], "a")
