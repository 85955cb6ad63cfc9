"""The variables that scripts and commands see, and those that the command reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

__all__ = ["READ", "VARIABLES", "Variable"]

_ON_HOSTS: Final = ("pre_deploy", "before_switch", "post_deploy", "verify", "exec")
_HOOKS: Final = ("drain", "undrain")
_OF_RUN: Final = (
    *("buildpack", *_ON_HOSTS, "after_all_deploy"),
    *(*_HOOKS, "after_wave"),
)
_ALL: Final = (*_OF_RUN, "inventory.command")


@attrs.frozen
class Variable:
    """
    One variable.

    *seen* are the keys whose scripts and commands have it, empty where unknown.
    """

    seen: tuple[str, ...]
    text: str


VARIABLES: Final[Mapping[str, Variable]] = {
    "GHOST_APP": Variable(_ALL, "The application: app.name."),
    "GHOST_ENV": Variable(_ALL, "The environment: app.env."),
    "GHOST_ROLE": Variable(_ALL, "The role of the hosts: app.role."),
    "GHOST_ENV_COLOR": Variable(_ALL, "Which of two fleets this is: app.color."),
    "GHOST_ACTIVE_COLOR": Variable(
        _ALL,
        "Which of two fleets serves visitors: by the store, else app.active_color."
        "\n\nA deploy and a redeploy see it as it is. Scripts of releases that were"
        " deployed before (converge, rollback, boot) see it as that deploy did.",
    ),
    "GHOST_ACTION": Variable(
        _OF_RUN,
        "What the run is for: deploy, redeploy, rollback, resume, converge, boot, exec,"
        " swap."
        "\n\nrollback too for a host on its way back, and for resume --revert; swap is"
        " for drain and undrain alone.",
    ),
    "GHOST_MODULE_USER": Variable(
        _OF_RUN, "Who deploys: the login, or what a program gave as actor."
    ),
    "GHOST_MODULE_NAME": Variable(
        _OF_RUN,
        "The module's name."
        "\n\nLike all of GHOST_MODULE_… that are about a module, it is empty for"
        " commands that belong to none: drain, undrain and after_wave.",
    ),
    "GHOST_MODULE_PATH": Variable(
        _OF_RUN,
        "The link that the module is served from; on hosts with its home in full.",
    ),
    "GHOST_MODULE_REPO": Variable(
        _OF_RUN,
        "The repository, folder or s3:// URL of the source; without credentials.",
    ),
    "GHOST_MODULE_REV": Variable(
        _OF_RUN, "The revision as it was asked for; of an object in S3 its version."
    ),
    "GHOST_MODULE_COMMIT": Variable(
        _OF_RUN,
        "The commit, 40 hex digits; empty for a folder."
        "\n\nOf objects in S3 it is a digest of their names, sizes and versions.",
    ),
    "GHOST_MODULE_COMMIT_MESSAGE": Variable(
        _OF_RUN,
        "The commit's message, of at most 32,000 bytes, without newlines at its end.",
    ),
    "GHOST_MODULE_COMMIT_MESSAGE_FILE": Variable(
        _OF_RUN, "The path of a file that holds the whole message."
    ),
    "GHOST_RELEASE_ID": Variable(
        _ON_HOSTS, "The id of the release, as status and MANIFEST have it."
    ),
    "GHOST_RELEASE_PATH": Variable(_ON_HOSTS, "The folder of the release on the host."),
    "GHOST_PREVIOUS_RELEASE_PATH": Variable(
        _ON_HOSTS, "Where the link led before; empty where there was none."
    ),
    "GHOST_FAILED_RELEASE_ID": Variable(
        _ON_HOSTS,
        "The release that is left, for a post_deploy on the way back; else empty.",
    ),
    "GHOST_HOST": Variable((*_ON_HOSTS, *_HOOKS), "The host's name in the inventory."),
    "GHOST_HOST_ADDRESS": Variable(_HOOKS, "The host's address, or else its name."),
    "GHOST_HOST_LABELS": Variable(_HOOKS, 'The host\'s labels: "az=a", a line each.'),
    "GHOST_WAVE": Variable(
        (*_ON_HOSTS, *_HOOKS, "after_wave"),
        "The number of the host's wave, from 1; empty where it is in none.",
    ),
    "GHOST_WAVES": Variable((*_HOOKS, "after_wave"), "How many waves there are."),
    "GHOST_WAVE_HOSTS": Variable(
        ("after_wave",),
        "The names of the wave's hosts, with a space between them."
        "\n\nEmpty where they are too long for a variable.",
    ),
    "GHOST_WAVE_HOSTS_FILE": Variable(
        ("after_wave",),
        "The path of a file with the names of the wave's hosts, a line each.",
    ),
    "SOURCE_DATE_EPOCH": Variable(
        ("buildpack",),
        "The commit's time in seconds since 1970, for builds that can be repeated.",
    ),
}
"""Every variable that scripts get besides app.env_vars and app.secrets."""

READ: Final[Mapping[str, str]] = {
    "GHOSTASYNC_CONFIG": (
        "The path of the configuration; --config goes before it."
        "\n\nWithout either it is ghostasync.toml in the current folder."
    ),
    "XDG_STATE_HOME": (
        "The folder that the default of store.url is in; else ~/.local/state."
    ),
    "XDG_CACHE_HOME": (
        "The folder for copies of repositories and for builds; else ~/.cache."
    ),
    "NO_COLOR": "Set to anything, it takes the colors off the board.",
}
"""Every variable that the command reads itself."""
