"""The ``ghostasync.toml`` that ``ghostasync init`` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

__all__ = ["quoted", "template"]

_TEMPLATE: Final = """\
# What ghostasync deploys, and where. All keys with their defaults and meanings:
# `ghostasync init --full` writes them, `ghostasync explain KEY` tells of one.

[app]
name = {name}
env = "prod"
role = "web"

[ssh]
# user = "deploy"
# sudo = true

[rollout]
# A canary, then a quarter of the fleet at a time; 5% of it may fail.
# waves = [1, "25%"]
# max_failures = "5%"

[inventory]
# "web[001-300].example.com" counts. Tables work too:
# {{ name = "web1", address = "192.0.2.1", port = 22 }}
hosts = {hosts}

[[modules]]
name = {module}
# Becomes a symlink to the release that is served.
path = {path}
source = {source}
# Scripts in the source tree: once here, on each host before the switch, and after it.
# buildpack = "build.sh"
# pre_deploy = "pre_deploy.sh"
# post_deploy = "post_deploy.sh"
# verify = {{ url = "http://localhost/health" }}
"""


def template(
    name: str,
    *,
    module: str = "site",
    path: str = "/srv/site",
    git: str = "",
    rev: str = "main",
    hosts: Sequence[str] = (),
) -> str:
    """
    Return a short, commented configuration that loads.

    An empty *git* means the folder of the configuration. Values are quoted, not
    checked: what ``parse_plan`` would refuse is refused when the text is read.
    """
    source = (
        f"{{ git = {quoted(git)}, rev = {quoted(rev)} }}" if git else '{ dir = "." }'
    )
    return _TEMPLATE.format(
        name=quoted(name),
        module=quoted(module),
        path=quoted(path),
        source=source,
        hosts=f"[{', '.join(map(quoted, hosts))}]",
    )


def quoted(text: str) -> str:
    """Return *text* as a string of TOML."""
    # JSON and TOML escape alike, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
