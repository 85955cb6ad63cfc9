"""
``ghostasync demo``: a fleet in this process, and two deploys of it.

Only the machines are missing: hosts are SSH servers in this process, each with a home
in a temporary folder, and run the real scripts. The second deploy fails where it is
asked to: a file in the tree says at which place and on which host.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from .. import start
from ..config import load_plan
from ..errors import PlanError
from ..model import Host, Outcome, Ssh
from ..views.folding import fold_hosts
from ._commands import closing
from ._demo_kill import kill_and_resume
from ._frontend import FrontEnd
from ._options import COMMON, Common, Flag
from ._running import conduct, run_async
from ._sink import show

__all__ = ["Place", "demo"]

Place = Literal["buildpack", "pre_deploy", "post_deploy", "verify"]
"""Place at which the second deploy of a demo can be made to fail."""

_FAULT: Final = """\
fails() { # fails PLACE: is this where, and the host on which, the demo fails?
    read -r place host <fault
    [ "$place" = "$1" ] && [ "${GHOST_HOST-here}" = "$host" ]
}
"""
_FILES: Final = {
    "page.html": "<!doctype html><title>Ghost</title><h1>Hello from @VERSION@</h1>\n",
    "buildpack.sh": f"""{_FAULT}
echo "rendering the pages of $(cat VERSION)"
sed "s/@VERSION@/$(cat VERSION)/" page.html >index.html
sleep 1
if fails buildpack; then echo "page.html: the title is too long"; exit 2; fi
echo "one page rendered"
""",
    "pre_deploy.sh": f"""{_FAULT}
echo "looking at index.html"
sleep 0.$((${{#GHOST_HOST}} + $$ % 9))
if fails pre_deploy; then echo "No space left on device"; exit 28; fi
""",
    "post_deploy.sh": f"""{_FAULT}
echo "reloading the server"
sleep 0.$((1 + $$ % 9))
if fails post_deploy; then echo "the server does not start"; exit 1; fi
""",
    "health.sh": f"""{_FAULT}
if fails verify; then echo "503 Service Unavailable"; exit 22; fi
""",
}

_CONFIG: Final = """\
[app]
name = "ghost"
env = "demo"
role = "web"
[store]
url = {store}
[ssh]
user = {user}
identity = {identity}
known_hosts = {known_hosts}
config = false
[layout]
root = "~/ghost"
[rollout]
waves = [1, "50%"]
deadlines = {{ verify = 3 }}
[inventory]
hosts = [{hosts}]
[[modules]]
name = "site"
path = "~/site"
source = {{ git = {repository}, rev = "main" }}
buildpack = "buildpack.sh"
pre_deploy = "pre_deploy.sh"
post_deploy = "post_deploy.sh"
verify = {{ command = "sh health.sh", interval = 0.2 }}
"""


def demo(
    *,
    hosts: Annotated[int, Parameter(validator=Number(gte=2, lte=64))] = 8,
    fail: Place | None = None,
    kill: Flag = False,
    options: Common = COMMON,
) -> int:
    """
    Deploy a small site twice to a fleet inside this process, and show what is served.

    Args:
        hosts: How many hosts the fleet has.

        fail: Where the second deploy fails on one host, so that the fleet goes back.

        kill: Kill the second deploy's controller in the middle of the switch, look at
            the fleet, and resume.

        options: As everywhere; a demo needs no configuration.
    """
    if fail and kill:
        raise PlanError("demo: say --fail or --kill, not both")
    with tempfile.TemporaryDirectory(prefix="ghostasync-demo-") as folder:
        root = Path(folder)
        # Mirrors and build folders are kept in the user's cache, and would outlive the
        # demo there.
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        try:
            play = partial(_play, root, hosts, fail, kill=kill, options=options)
            return run_async(play)
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before


async def _play(
    root: Path, count: int, fail: Place | None, *, kill: bool, options: Common
) -> int:
    # The SSH library takes longer to import than all the rest, so other commands do not
    # import this far. The transport is first: it imports the library without starting a
    # compiler.
    from .. import transports  # noqa: F401
    from ..testing import InProcessFleet

    repository = root / "site.git"
    _git(repository.parent, "init", "--quiet", "--initial-branch=main", "site.git")
    async with InProcessFleet(count, root / "hosts") as fleet:
        config = _configure(root, repository, fleet.hosts, fleet.ssh)
        plan = load_plan(config)
        victim = plan.hosts[len(plan.hosts) // 2].name
        expected = [Outcome.LIVE, Outcome.FAILED if fail else Outcome.LIVE]
        seen = []
        versions = [("version 1", None), ("version 2", fail)]
        for version, broken in versions[:1] if kill else versions:
            where = "here" if broken == "buildpack" else victim
            _commit(repository, version, f"{broken or 'nowhere'} {where}\n")
            with FrontEnd(options.output, sys.stdout) as front:
                begin = partial(start, plan, observe=front.observe)
                report = await conduct(front, begin)
            closing(report, front, None)
            seen.append(report.outcome)
            if report.outcome is Outcome.INTERRUPTED:
                return report.exit_status
        if kill:
            _commit(repository, "version 2", "nowhere here\n")
            live = await kill_and_resume(plan, config, options.output)
            seen.append(Outcome.LIVE if live else Outcome.FAILED)
        if options.output != "json":
            homes = {host.name: fleet.home(host.name) for host in plan.hosts}
            asked = [f"version 2 failed in its {fail}, as asked"] if fail else []
            show([*asked, *_served(homes)], sys.stdout)
    return 0 if seen == expected else 1


def _configure(root: Path, repository: Path, hosts: Sequence[Host], ssh: Ssh) -> Path:
    """Write the configuration; strings of JSON are strings of TOML."""
    listed = ", ".join(
        f'{{ name = "{host.name}", address = "{host.address}", port = {host.port} }}'
        for host in hosts
    )
    config = root / "ghostasync.toml"
    config.write_text(
        _CONFIG.format(
            store=json.dumps(str(root / "store")),
            user=json.dumps(ssh.user),
            identity=json.dumps(ssh.identity),
            known_hosts=json.dumps(ssh.known_hosts),
            hosts=listed,
            repository=json.dumps(str(repository)),
        )
    )
    return config


def _commit(repository: Path, version: str, fault: str) -> None:
    for name, text in {**_FILES, "VERSION": version, "fault": fault}.items():
        (repository / name).write_text(text)
    _git(repository, "add", ".")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@demo.example")
    _git(repository, *author, "commit", "--quiet", f"--message=This is {version}")


def _git(folder: Path, *words: str) -> None:
    command = ["git", "-C", str(folder), "-c", "commit.gpgsign=false", *words]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _served(homes: dict[str, Path]) -> Sequence[str]:
    pages: dict[str, list[str]] = defaultdict(list)
    for name, home in homes.items():
        page = home / "site" / "index.html"
        text = page.read_text() if page.exists() else "nothing"
        pages[text.split("<h1>")[-1].split("</h1>")[0]].append(name)
    return [f"{fold_hosts(names)} say: {page}" for page, names in pages.items()]
