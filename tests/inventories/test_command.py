"""A command that prints hosts, in the words in which a person reads what is wrong."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from ghostasync import App, Host, PlanError
from ghostasync.inventories.command import CommandInventory

SHOP = App("shop", "prod", "web", env_vars={"REGION": "eu"}, secrets=("TOKEN",))


def command(text: str, cwd: Path) -> CommandInventory:
    environ = {"PATH": os.environ["PATH"], "TOKEN": "hunter2-hunter2"}
    return CommandInventory(text, SHOP, cwd, environ)


async def refusal(text: str, cwd: Path) -> str:
    with pytest.raises(PlanError) as caught:
        await command(text, cwd).hosts()
    return str(caught.value)


async def test_the_hosts_are_what_it_prints(tmp_path: Path) -> None:
    rows = ["web[01-02]", {"name": "db", "labels": {"az": "ä"}}]
    (tmp_path / "hosts.json").write_text(json.dumps(rows))

    hosts = await command("echo not JSON >&2; cat hosts.json", tmp_path).hosts()

    assert hosts == (Host("web01"), Host("web02"), Host("db", labels={"az": "ä"}))


async def test_it_sees_for_which_app_it_is_asked(tmp_path: Path) -> None:
    text = 'echo "[\\"$GHOST_APP-$GHOST_ENV-$GHOST_ROLE-$REGION-${#TOKEN}\\"]"'

    assert await command(text, tmp_path).hosts() == (Host("shop-prod-web-eu-15"),)


async def test_it_may_be_a_script_in_any_language(tmp_path: Path) -> None:
    text = f'#!{sys.executable}\nprint(["web1"].__str__().replace("\'", chr(34)))'

    assert await command(text, tmp_path).hosts() == (Host("web1"),)


async def test_it_is_asked_anew_each_time(tmp_path: Path) -> None:
    inventory = command("cat hosts.json", tmp_path)
    (tmp_path / "hosts.json").write_text('["a"]')
    first = await inventory.hosts()
    (tmp_path / "hosts.json").write_text('["a", "b"]')

    assert (first, await inventory.hosts()) == (
        (Host("a"),),
        (Host("a"), Host("b")),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo one >&2; echo no cloud >&2; exit 3", "exited 3: no cloud"),
        ("exit 3", "exited 3"),
        ('echo "with $TOKEN" >&2; exit 1', "exited 1: with ***"),
        ("kill -9 $$", "exited -9"),
        ("", "printed no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("echo '{}'", "printed no JSON array of hosts"),
        ("printf '[\"\\377\"]'", "printed no JSON: 'utf-8' codec can't decode"),
        (
            'echo \'[{"name": "a", "name": "b"}]\'',
            'printed no JSON: the key "name" stands twice in one table',
        ),
        (
            f"{shlex.quote(sys.executable)} -c 'print(\"[\" * 200000)'",
            "printed JSON that is nested too deeply",
        ),
    ],
)
async def test_what_goes_wrong_is_one_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    said = await refusal(text, tmp_path)

    assert said.startswith(f"inventory.command: {reason}")
    assert "\n" not in said


async def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    said = [
        await refusal("#!/no/such/thing\n", tmp_path),
        await refusal("echo '[]'", tmp_path / "nowhere"),
    ]

    assert said == [
        "inventory.command: its interpreter is not here: '#!/no/such/thing'",
        (
            "inventory.command could not be started: No such file or directory:"
            f" {tmp_path}/nowhere"
        ),
    ]


async def test_rows_are_judged_as_strictly_as_those_of_the_file(tmp_path: Path) -> None:
    rows = [{"name": "a", "port": 22.0}, "b", {"name": "b", "zone": "x"}]
    (tmp_path / "hosts.json").write_text(json.dumps(rows))

    assert (await refusal("cat hosts.json", tmp_path)).splitlines() == [
        "inventory.command[0].port: is 22.0; allowed: a whole number, 0 to 65535",
        (
            'inventory.command[2]: "b" is the name of inventory.command[1] too;'
            " allowed: each name once"
        ),
        (
            "inventory.command[2].zone: is unknown; allowed: name, address, port, user,"
            " labels, host_key_alias, host_keys"
        ),
    ]


async def test_one_that_is_called_off_leaves_nothing_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    inventory = command("echo $$ >pid; exec sleep 600", tmp_path)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inventory.hosts)
        pid = int(await to_thread.run_sync((tmp_path / "pid").read_text))
        tasks.cancel_scope.cancel()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
