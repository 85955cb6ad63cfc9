"""
The rules for programs that reach out, or that install: one rule for each program.

A rule is given the words of a call and the variables that are known there, and returns
the name of the call, as in ``pip install``, or nothing where the call does no harm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

__all__ = ["INSTALLERS", "NETWORK", "Call"]

Variables = Mapping[str, str]
Call = Callable[[Sequence[str], Variables], str]

_HOST: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?(?:[^/@]*@)?(\[[^]]*]|[^/:?#]*)")
_LOCAL: Final = re.compile(
    r"localhost|.*\.localhost|ip6-localhost|127(\.\d+){3}|0\.0\.0\.0|\[?::1]?"
    r"|169\.254\.169\.254|\$\(hostname\b.*|\$\{?(HOSTNAME|GHOST_HOST)\b.*"
)
"""The host itself by any name, and the service that tells an instance about itself."""

_S3: Final = re.compile(
    r"(.*\.)?s3([.-][a-z0-9${}_-]+)*\.amazonaws\.com(\.cn)?", re.IGNORECASE
)
_REMOTE_PATH: Final = re.compile(
    r"(?:[^/:@\s]+@)?(\[[^]]+]|[^/:\s=]+):(?!:).*", re.DOTALL
)
_CARRIED: Final = frozenset(
    {"-d", "--data", "--data-raw", "--data-binary", "--data-urlencode", "--json"}
    | {"-e", "--referer", "-H", "--header", "-A", "--user-agent", "-F", "--form"}
    | {"-b", "--cookie", "-w", "--write-out", "--resolve", "--origin"}
)
"""Options of curl and wget whose values may look like addresses and are none."""


def _near(address: str) -> bool:
    """Tell whether an address is on the host itself, or in S3."""
    if re.match(r"(s3|file|unix)://", address, re.IGNORECASE):
        return True
    match = _HOST.match(address.lower() if "$" not in address else address)
    host = match[1] if match else ""
    return bool(_LOCAL.fullmatch(host) or _S3.fullmatch(host))


def _positional(words: Sequence[str]) -> list[str]:
    return [word for word in words[1:] if not word.startswith(("-", "+"))]


# --- Makers of rules ---------------------------------------------------------------


def _always(words: Sequence[str], _: Variables) -> str:
    return words[0].rpartition("/")[2]


def _verbs(
    *verbs: str,
    unless: Sequence[str] = (),
    variables: Sequence[str] = (),
    valued: Sequence[str] = (),
    bare: str = "",
) -> Call:
    """
    Make a rule for programs like ``apt-get install``.

    Args:
        verbs: The first words behind the options that the rule is about; a verb of
            several words, joined by a space, stands for all of them in a row.

        unless: Options that make the call harmless, alone or with ``=``.

        variables: Names that make the call harmless where they are set.

        valued: Options before the verb that take a value.

        bare: The verb that a call without any verb stands for.
    """
    wanted = [verb.split() for verb in verbs]

    def rule(words: Sequence[str], known: Variables) -> str:
        name, rest = words[0].rpartition("/")[2], list(words[1:])
        if any(known.get(variable) for variable in variables):
            return ""
        # An option counts wherever it stands: many programs take one behind the verb.
        if any(word == o or word.startswith(f"{o}=") for word in rest for o in unless):
            return ""
        if {"--help", "--version"} & set(rest):
            return ""
        plain: list[str] = []
        skip = False
        for word in rest:
            if not skip and not word.startswith("-"):
                plain.append(word)
            skip = word in valued
        if not plain:
            asked = {"-h", "-v", "-V"} & set(rest)
            return f"{name} {bare}" if bare and not asked else ""
        for verb in wanted:
            if plain[: len(verb)] == verb:
                return f"{name} {' '.join(verb)}"
        return ""

    return rule


# --- Rules -------------------------------------------------------------------------


def _download(words: Sequence[str], _: Variables) -> str:
    """Judge curl, wget and their like by the addresses that they are given."""
    args, name = words[1:], words[0].rpartition("/")[2]
    if not args or {"--version", "--help", "-V"} & set(args):
        return ""
    if any(re.match(r"--(abstract-)?unix-socket", word) for word in args):
        return ""
    free = [
        word
        for before, word in zip(("", *args), args, strict=False)
        if before not in _CARRIED
    ]
    full = [word.removeprefix("--url=") for word in free if "://" in word]
    targets = [word for word in full if re.match(r"[\w+.-]+://", word)]
    # An address without a scheme cannot be told from another word, unless it is near.
    # A call without any address at all is told: it may have one in a variable.
    if not targets:
        targets = [word for word in free if not word.startswith("-") and _near(word)]
    return "" if targets and all(map(_near, targets)) else name


def _git(words: Sequence[str], _: Variables) -> str:
    verbs = ("clone", "fetch", "pull", "push", "ls-remote", "submodule update",
             "submodule add", "remote update", "lfs pull", "lfs fetch")  # fmt: skip
    rule = _verbs(*verbs, valued=("-C", "-c", "--git-dir", "--work-tree"))
    call = rule(words, {})
    if not call:
        return ""
    # A repository on the host itself needs no network, and is known by its path.
    verb = call.split()[1]
    at = words.index(verb) if verb in words else 0
    source = next((word for word in words[at + 1 :] if re.search("[/:$]", word)), "")
    return "" if re.match(r"\.{0,2}/|file://", source) else call


def _copy(words: Sequence[str], _: Variables) -> str:
    """Judge rsync and scp, which need the network only where a host is named."""
    skipped = {
        "-e",
        "--rsh",
        "--chown",
        "--exclude",
        "--include",
        "--filter",
        "-f",
        "-o",
    }
    for before, word in pairwise(words):
        if word.startswith("-") or before in skipped:
            continue
        if "://" in word:
            if not _near(word):
                return words[0].rpartition("/")[2]
        elif (match := _REMOTE_PATH.fullmatch(word)) and not _LOCAL.fullmatch(match[1]):
            return words[0].rpartition("/")[2]
    return ""


def _ssh(words: Sequence[str], _: Variables) -> str:
    valued = set("bcDEeFIiJLlmOopQRSWw")
    skip = False
    for word in words[1:]:
        if skip:
            skip = False
        elif word.startswith("-"):
            if word in {"-V", "-G", "-Q"}:
                return ""
            skip = word[-1] in valued and len(word) == 2  # noqa: PLR2004  -p 22
        else:
            return "" if _near(word) else words[0].rpartition("/")[2]
    return ""


def _package_file(action: str, asking: str) -> Call:
    """
    Make a rule for ``dpkg -i`` and ``rpm -U``.

    Args:
        action: Letters of options that install.

        asking: Letters of options that only ask, whatever others say.
    """

    def rule(words: Sequence[str], _: Variables) -> str:
        # Letters of options are joined: "rpm -qip" only asks about a package file,
        # though it has the i of an installation.
        asks = re.compile(rf"-\w*[{asking}]\w*|--(root|instdir|dbpath|query)\b.*")
        if any(map(asks.fullmatch, words)):
            return ""
        for word in words[1:]:
            if word in {"--install", "--unpack", "--upgrade", "--freshen"}:
                return f"{words[0].rpartition('/')[2]} {word}"
            if re.fullmatch(rf"-\w*[{action}]\w*", word):
                return f"{words[0].rpartition('/')[2]} {word}"
        return ""

    return rule


def _pip(rule: Call) -> Call:
    """Make a rule for ``python -m pip`` of one for ``pip``."""

    def as_module(words: Sequence[str], known: Variables) -> str:
        if "-m" not in words:
            return ""
        at = words.index("-m") + 1
        if at < len(words) and words[at] in {"pip", "easy_install"}:
            folder = words[0].rpartition("/")
            return rule([f"{folder[0]}{folder[1]}{words[at]}", *words[at + 1 :]], known)
        return ""

    return as_module


def _outside_venv(rule: Call) -> Call:
    """Have *rule* pass over a program of a virtual environment, or within one."""

    def rule_outside(words: Sequence[str], known: Variables) -> str:
        # A virtual environment is known by the folder of the program, or by an
        # activation or a PATH in a line above.
        folder = words[0].rpartition("/")[0]
        system = {"", "/bin", "/usr/bin", "/usr/local/bin"}
        entered = known.get("VIRTUAL_ENV") or re.match(
            r".*(env|\$)\S*/bin[:\"]", known.get("PATH", "")
        )
        return "" if folder not in system or entered else rule(words, known)

    return rule_outside


def _make(words: Sequence[str], known: Variables) -> str:
    given = {word.partition("=")[0].lower() for word in words if "=" in word}
    if given & {"destdir", "prefix"} or known.get("DESTDIR") or known.get("PREFIX"):
        return ""
    name = words[0].rpartition("/")[2]
    return f"{name} install" if "install" in words[1:] else ""


def _npx(words: Sequence[str], _: Variables) -> str:
    stays = {"--no", "--no-install", "--offline", "--version", "--help"}
    return "npx" if len(words) > 1 and not stays & set(words) else ""


def _global_npm(words: Sequence[str], known: Variables) -> str:
    asked = {"-g", "--global", "--location=global"} & set(words)
    if not asked or known.get("npm_config_prefix") or known.get("NPM_CONFIG_PREFIX"):
        return ""
    call = _verbs("install", "i", "add", "update", unless=("--prefix",))(words, known)
    return f"{call} -g" if call else ""


_PIP_INSTALL: Final = ("install", "download", "wheel")
_RPM_VERBS: Final = (
    *("install", "reinstall", "update", "upgrade", "downgrade", "localinstall"),
    *("groupinstall", "distro-sync", "builddep"),
)
_APT_VERBS: Final = (
    *("install", "reinstall", "upgrade", "dist-upgrade", "full-upgrade", "build-dep"),
)

_pip_network = _verbs(
    *_PIP_INSTALL, unless=("--no-index",), variables=("PIP_NO_INDEX",)
)
_apt_network = _verbs(*_APT_VERBS, "update", "download", "source", valued=("-o", "-t"))
_rpm_network = _verbs(*_RPM_VERBS, "makecache", "check-update", "download")

NETWORK: Final[Mapping[str, Call]] = {
    **dict.fromkeys(("apt", "apt-get", "aptitude"), _apt_network),
    **dict.fromkeys(("yum", "dnf", "microdnf", "tdnf"), _rpm_network),
    **dict.fromkeys(("curl", "wget", "aria2c"), _download),
    **dict.fromkeys(("rsync", "scp"), _copy),
    **dict.fromkeys(("ssh", "sftp"), _ssh),
    **dict.fromkeys(("ssh-keyscan", "ssh-copy-id", "cpanm", "easy_install"), _always),
    **dict.fromkeys(("docker", "podman", "nerdctl"), _verbs("pull", "push", "login",
                    "image pull", "compose pull")),
    **dict.fromkeys(("bundle", "bundler"), _verbs("install", "update",
                    unless=("--local",), bare="install", valued=("--gemfile",))),
    **dict.fromkeys(("pnpm", "bun"), _verbs("install", "i", "add", "update", "dlx",
                    unless=("--offline",))),
    "add-apt-repository": _always,
    "apk": _verbs("add", "update", "upgrade", "fetch", unless=("--no-network",)),
    "brew": _verbs("install", "update", "upgrade"),
    "cargo": _verbs("install", "fetch", "update", unless=("--offline", "--frozen")),
    "composer": _verbs("install", "update", "require", "create-project",
                       "global require", valued=("-d",),
                       variables=("COMPOSER_DISABLE_NETWORK",)),
    "dpkg": _package_file("i", "lLsSpP"),
    "gem": _verbs("install", "update", "fetch", unless=("--local", "-l")),
    "git": _git,
    "go": _verbs("get", "mod download"),
    "hg": _verbs("clone", "pull", "push", "incoming"),
    "npm": _verbs("install", "i", "ci", "add", "update", unless=("--offline",),
                  valued=("--prefix", "-C")),
    "npx": _npx,
    "pip": _pip_network,
    "pipenv": _verbs("install", "sync", "update"),
    "pipx": _verbs("install", "run", "upgrade"),
    "poetry": _verbs("install", "add", "update"),
    "python": _pip(_pip_network),
    "rpm": _package_file("iUF", "qVe"),
    "snap": _verbs("install", "refresh"),
    "svn": _verbs("checkout", "co", "update", "up", "export", "switch", "commit"),
    "uv": _verbs("sync", "add", "lock", "pip install", "pip sync", "tool install",
                 unless=("--offline", "--no-index")),
    "yarn": _verbs("install", "add", "upgrade", "global add", unless=("--offline",),
                   bare="install"),
    "zypper": _verbs("install", "in", "update", "up", "dist-upgrade", "dup", "patch",
                     "refresh", "ref"),
}  # fmt: skip
"""Calls that pre- and post-deploy should not make, by program."""

_pip_outside = _outside_venv(
    _verbs(
        "install",
        unless=("-t", "--target", "--prefix", "--root", "--user", "--python"),
        variables=("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER"),
    )
)

INSTALLERS: Final[Mapping[str, Call]] = {
    **dict.fromkeys(("apt", "apt-get", "aptitude"), _verbs(*_APT_VERBS,
                    valued=("-o", "-t"))),
    **dict.fromkeys(("yum", "dnf", "microdnf", "tdnf"), _verbs(*_RPM_VERBS,
                    unless=("--installroot",))),
    **dict.fromkeys(("make", "gmake", "ninja"), _make),
    **dict.fromkeys(("npm", "pnpm"), _global_npm),
    "apk": _verbs("add", "upgrade", unless=("--root", "-p")),
    "brew": _verbs("install", "upgrade"),
    "cargo": _verbs("install", unless=("--root",),
                    variables=("CARGO_INSTALL_ROOT", "CARGO_HOME")),
    "composer": _verbs("global require", "global install", "global update",
                       variables=("COMPOSER_HOME",)),
    "dpkg": _package_file("i", "lLsSpP"),
    "easy_install": _outside_venv(_always),
    "gem": _verbs("install", "update", unless=("-i", "--install-dir", "--user-install"),
                  variables=("GEM_HOME",)),
    "pip": _pip_outside,
    "pipx": _verbs("install", variables=("PIPX_HOME",)),
    "python": _pip(_pip_outside),
    "rpm": _package_file("iUF", "qVe"),
    "snap": _verbs("install", "refresh"),
    "yarn": _verbs("global add", unless=("--prefix",)),
    "zypper": _verbs("install", "in", "update", "up", "dist-upgrade", "dup", "patch",
                     unless=("--root", "-R", "--installroot")),
}  # fmt: skip
"""Calls that the buildpack should not make, by program."""
