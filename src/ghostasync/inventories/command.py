"""The inventory that a command on this machine prints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from .._build.environment import app_variables
from .._local.redact import Redactor
from .._local.scripts import Tail, script
from ..config.hosts import hosts_of
from ..errors import BuildError, ConfigError, PlanError
from ..model import App, Host

__all__ = ["CommandInventory"]

_KEY: Final = "inventory.command"
_MOST_BYTES: Final = 64 << 20
"""Bytes of output that are read: 100,000 hosts take a third of it."""


@attrs.frozen
class CommandInventory:
    """
    An inventory that a shell command, or a script with ``#!``, prints as JSON.

    The output is an array of rows as ``inventory.hosts`` has them. The command is run
    again whenever the inventory is asked, in the folder *cwd*, with *environ* and the
    variables of *app*.
    """

    text: str
    app: App
    cwd: Path
    environ: Mapping[str, str] = attrs.field(repr=False)

    async def hosts(self) -> tuple[Host, ...]:
        """
        Return the hosts in the order they are printed.

        Raises:
            PlanError: The command failed, or printed no JSON.
            ConfigError: A row is one that ``inventory.hosts`` may not have.
        """
        printed = await self._output()
        try:
            rows = json.loads(printed.decode(), object_pairs_hook=_table)
        except RecursionError:
            # The parser follows nested brackets by calling itself, and a thousand of
            # them are no ValueError.
            raise PlanError(f"{_KEY}: printed JSON that is nested too deeply") from None
        except ValueError as error:
            raise PlanError(f"{_KEY}: printed no JSON: {error}") from None
        if not isinstance(rows, list):
            raise ConfigError([f"{_KEY}: printed no JSON array of hosts"])
        return hosts_of(rows, _KEY)

    async def _output(self) -> bytes:
        kept, errors = bytearray(), Tail()

        # The command is read to its end, lest it wait for a reader; output past the
        # limit is dropped, and one chunk beyond it shows that there was more.
        def keep(data: bytes) -> None:
            if len(kept) <= _MOST_BYTES:
                kept.extend(data)

        try:
            status = await script(
                os.fsencode(self.text),
                cwd=self.cwd,
                env={**self.environ, **app_variables(self.app)},
                output=keep,
                errors=errors.feed,
                what=_KEY,
            )
        except BuildError as error:
            raise PlanError(str(error)) from error
        if status:
            # The command gets the app's secrets, and may print one in its complaint.
            secrets = (self.environ.get(name, "") for name in self.app.secrets)
            last = Redactor(secrets).text(errors.text()).strip().rpartition("\n")[2]
            raise PlanError(f"{_KEY}: exited {status}" + (f": {last}" if last else ""))
        if len(kept) > _MOST_BYTES:
            raise PlanError(f"{_KEY}: printed more than {_MOST_BYTES >> 20} MiB")
        return bytes(kept)


def _table(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object as a table of TOML: each key once."""
    # Python's parser keeps the last of two equal keys; TOML, which the other hosts are
    # read from, refuses them.
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {json.dumps(twice)} stands twice in one table")
    return table
