"""
The places of things: on a host as text, on this machine as :class:`~pathlib.Path`.

Pure: no function looks at a file system, and the environment is an argument.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

from ..errors import PlanError
from ..model import NAME_PATTERN, App, Ssh, StoreSettings

__all__ = [
    "HostPaths",
    "PackageId",
    "app_path",
    "build_dir",
    "build_log",
    "cache_home",
    "expand_home",
    "git_url",
    "host_log",
    "is_package_id",
    "is_run_id",
    "local_path",
    "local_runs",
    "mirror_dir",
    "package_id",
    "parse_package_id",
    "run_id",
    "run_time",
    "ssh_files",
    "state_home",
    "store_url",
]

NO_COMMIT: Final = "0000000"
"""Stands in a package id for the commit of a source that has none."""

_PACKAGE_ID: Final = re.compile(rf"([0-9]{{1,15}})_({NAME_PATTERN})_([0-9a-f]{{7}})")
_RUN_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-\w+", re.ASCII)
_RUN_TIME: Final = "%Y%m%dT%H%M%SZ"
_SAFE: Final = " @:+,[]"
"""Characters that the name of a log keeps, besides letters, digits and ``_.-~``."""

_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


def build_log(module: str) -> str:
    """Return the name, within a run, of the log of a module's scripts here."""
    return f"build/{module}.log"


def host_log(host: str) -> str:
    """Return the name, within a run, of the log of a host's scripts."""
    # "%" would be escaped once more by stores; "=" is safe in any name. A leading dot
    # would hide the file.
    name = quote(host, safe=_SAFE).replace("%", "=").removeprefix(".") or "_"
    return f"hosts/{name}.log"


def app_path(app: App) -> str:
    """Return ``<app>/<env>/<role>[/<color>]``, the same on hosts and in stores."""
    return "/".join(filter(None, (app.name, app.env, app.role, app.color)))


# --- On a host -----------------------------------------------------------------


def expand_home(path: str, home: str) -> str:
    """Replace a leading ``~`` of *path* by *home*, the login user's on the host."""
    return home.rstrip("/") + path[1:] if path == "~" or path[:2] == "~/" else path


@attrs.frozen
class HostPaths:
    """
    The layout of one app on a host; *home* stands for ``~`` where *root* has one.

    Without *home* the paths keep their ``~``.
    """

    root: str
    app: App
    home: str = "~"

    @property
    def app_dir(self) -> str:
        """Return the folder of the app in this environment, role and color."""
        return f"{expand_home(self.root, self.home)}/{app_path(self.app)}"

    @property
    def app_meta(self) -> str:
        """Return the folder that holds the app's lock."""
        return f"{self.app_dir}/.ghost"

    def module(self, name: str) -> str:
        """Return the folder that holds a module's releases."""
        return f"{self.app_dir}/{name}"

    def release(self, module: str, package: str) -> str:
        """Return the folder of one release."""
        return f"{self.module(module)}/{package}"

    def meta(self, module: str, package: str) -> str:
        """Return the folder of a release's manifest, scripts and environment."""
        return f"{self.module(module)}/.ghost/{package}"

    def incoming(self, module: str, package: str) -> str:
        """Return the folder a release is received into before it is one."""
        return f"{self.meta(module, package)}.incoming"

    def shared(self, module: str) -> str:
        """Return the folder of the paths that a module keeps across releases."""
        return f"{self.module(module)}/shared"

    def target(self, path: str) -> str:
        """Return a module's *path* with ``~`` expanded."""
        return expand_home(path, self.home)


# --- On this machine -----------------------------------------------------------


def state_home(environ: Mapping[str, str]) -> Path:
    """Return the folder for files that must last, ``~/.local/state`` by default."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state")


def cache_home(environ: Mapping[str, str]) -> Path:
    """Return ghostasync's folder for files that can be made again."""
    return _xdg(environ, "XDG_CACHE_HOME", ".cache") / "ghostasync"


def local_path(text: str, base: Path, environ: Mapping[str, str]) -> Path:
    """Return a path of the configuration: ``~`` is expanded, *base* its folder."""
    if text == "~" or text.startswith("~/"):
        return _home(environ) / text[2:]
    return base / text


def git_url(git: str, base: Path, environ: Mapping[str, str]) -> str:
    """
    Return the URL or path for git of a ``git`` in the configuration.

    A text that is neither a URL nor ``host:path`` is a path, relative to *base*.
    """
    # git takes a colon before any slash for that of host:path, so "a:b" is never a
    # file.
    if "://" in git or ":" in git.partition("/")[0]:
        return git
    return str(local_path(git, base, environ))


def store_url(settings: StoreSettings, environ: Mapping[str, str], base: Path) -> str:
    """
    Return the store's address: an ``s3://`` URL as it stands, or an absolute path.

    ``$NAME`` and ``${NAME}`` are taken from *environ*; XDG_STATE_HOME has its default.

    Raises:
        PlanError: A variable is not set.
    """
    # The default of store.url names XDG_STATE_HOME, which few machines set.
    known = {**environ, "XDG_STATE_HOME": str(state_home(environ))}

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in known:
            raise PlanError(f"store.url: ${name} is not set")
        return known[name]

    url = _VARIABLE.sub(value, settings.url)
    if url.startswith("s3://"):
        return url.rstrip("/")
    return str(local_path(url, base, environ).absolute())


def ssh_files(settings: Ssh, base: Path, environ: Mapping[str, str]) -> Ssh:
    """Return *settings* with the paths of their files absolute."""

    def absolute(text: str) -> str:
        # "~name" takes the password database, which only the opening of the file may
        # ask: this module touches nothing.
        named = text.startswith("~") and text.partition("/")[0] != "~"
        if not text or named:
            return text
        return str(local_path(text, base, environ).absolute())

    config = settings.config
    return attrs.evolve(
        settings,
        identity=absolute(settings.identity),
        known_hosts=absolute(settings.known_hosts),
        config=absolute(config) if isinstance(config, str) else config,
    )


def mirror_dir(cache: Path, url: str) -> Path:
    """Return the folder of a repository's mirror, with a name that people know."""
    # Repositories of one name lie on many servers; the digest of the whole URL tells
    # them apart.
    last = url.rstrip("/").replace(":", "/").rpartition("/")[2].removesuffix(".git")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", last).lstrip(".-") or "repository"
    digest = hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()
    return cache / "mirrors" / f"{name}-{digest[:12]}"


def local_runs(environ: Mapping[str, str], url: str) -> Path:
    """
    Return the folder for runs whose store, at *url*, is no folder of this machine.

    The name ends in a digest of *url*, so that runs of different stores never meet.
    """
    # An app's name cannot begin with a dot, so ".runs" may lie in the folder that is
    # the default store, beside the apps.
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", url).strip(".-")[-64:]
    digest = hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()
    return state_home(environ) / "ghostasync" / ".runs" / f"{name}-{digest[:12]}"


def build_dir(cache: Path, app: App, module: str) -> Path:
    """Return the folder that a module is built in, the same for every run."""
    # Virtual environments and .pyc files hold the path that they were built at. One
    # that changed from run to run would make every release differ from the one before.
    return cache / "builds" / app_path(app) / module


def _home(environ: Mapping[str, str]) -> Path:
    # systemd units and cron jobs may have no HOME; the password database knows it too.
    try:
        return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    except RuntimeError as exc:
        raise PlanError("there is no home folder here: set HOME") from exc


def _xdg(environ: Mapping[str, str], name: str, default: str) -> Path:
    # The XDG Base Directory Specification has relative paths ignored.
    folder = Path(environ.get(name, ""))
    return folder if folder.is_absolute() else _home(environ) / default


# --- Ids -----------------------------------------------------------------------


@attrs.frozen
class PackageId:
    """The parts of a package id; *epoch* is in seconds, *commit* has 7 hex digits."""

    epoch: int
    module: str
    commit: str

    def __str__(self) -> str:
        return f"{self.epoch}_{self.module}_{self.commit}"


def package_id(epoch: int, module: str, commit: str) -> str:
    """Return ``<epoch>_<module>_<commit7>``; an empty *commit* becomes zeros."""
    return str(PackageId(epoch, module, (commit or NO_COMMIT)[:7]))


def parse_package_id(text: str) -> PackageId:
    """
    Read a package id.

    Raises:
        PlanError: The text is no package id.
    """
    match = _PACKAGE_ID.fullmatch(text)
    if match is None:
        raise PlanError(
            f"{text}: not a package id: 10 digits, a module and 7 hex digits, as in "
            "1763856184_site_4f2a9c1"
        )
    return PackageId(int(match[1]), match[2], match[3])


def is_package_id(text: str) -> bool:
    """Tell whether *text* looks like what :func:`package_id` makes."""
    return _PACKAGE_ID.fullmatch(text) is not None


def is_run_id(text: str) -> bool:
    """Tell whether *text* looks like what :func:`run_id` makes."""
    return _RUN_ID.fullmatch(text) is not None


def run_time(run: str) -> float:
    """Return when a run began by its id, in POSIX seconds; 0 where it has no time."""
    try:
        return datetime.strptime(run[:16], _RUN_TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def run_id(now: datetime, token: str, known: Iterable[str] = ()) -> str:
    """
    Return ``<yyyymmddThhmmssZ>-<token>`` for an aware *now*; sorts behind *known* ids.

    Where a clock was ahead that made one of these, the time is a second after it; ids
    of another century are not believed.
    """
    now = now.astimezone(UTC)
    century = f"{now.year // 100}"
    newest = max((k for k in known if is_run_id(k) and k[:2] == century), default="")
    made = f"{now:{_RUN_TIME}}-{token}"
    if made > newest:
        return made
    try:
        ahead = datetime.strptime(newest[:16], _RUN_TIME).replace(tzinfo=UTC)
    except ValueError:
        return made  # no time of any clock
    return f"{ahead + timedelta(seconds=1):{_RUN_TIME}}-{token}"
