"""A run is described once, and whole."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from ghostasync import (
    App,
    Converge,
    Deploy,
    DirectorySource,
    Execute,
    Goal,
    Host,
    Module,
    Plan,
    PlanError,
    Resume,
    Revert,
    Rollback,
    StoreSettings,
    Verify,
    rollback,
    start,
)
from ghostasync import config as configuration
from ghostasync._engine.spec import RunSpec
from ghostasync._planning.spec import plan_look, plan_run
from ghostasync.config import check_plan, parse_plan
from ghostasync.model import InventorySettings
from ghostasync.protocols import ActiveColor, Transport
from ghostasync.stores import DirectoryStore
from ghostasync.testing import FakeHosts, FakeTransport

RUN = "20260101T000000Z-abcdef"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "tree").mkdir()
    module = Module("site", "/srv/site", DirectorySource(str(tmp_path / "tree")))
    return Plan(
        app=App("shop", "prod", "web", secrets=("TOKEN",)),
        modules=(module,),
        hosts=(Host("h1"), Host("h2")),
        store=StoreSettings(url=str(tmp_path / "store")),
        base=tmp_path,
    )


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "a-secret-of-today")


@asynccontextmanager
async def nobody(spec: RunSpec) -> AsyncIterator[Transport]:
    raise AssertionError(f"{spec.id} would contact hosts")
    yield


async def test_a_spec_cannot_be_half_filled(plan: Plan) -> None:
    spec = await plan_run(plan, Deploy(), reach=nobody)
    whole = {field.name: getattr(spec, field.name) for field in attrs.fields(RunSpec)}

    assert attrs.evolve(spec).id == RunSpec(**whole).id
    for name in whole:
        rest = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(TypeError, match=f"argument: '{name}'"):
            RunSpec(**rest)


async def test_a_spec_does_not_change(plan: Plan) -> None:
    spec = await plan_run(plan, Deploy(), reach=nobody)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        spec.id = "another"  # type: ignore[misc]


async def test_a_spec_says_what_was_asked_for(plan: Plan, tmp_path: Path) -> None:
    spec = await plan_run(
        plan,
        Deploy(["site"], force=True),
        reach=nobody,
        limit=["h2"],
        wait=3,
        break_lock=True,
        actor="ada",
        reason="because",
    )

    assert spec.goal == Deploy(["site"], force=True)
    assert [host.name for host in spec.hosts] == ["h2"]
    assert [host.name for host in spec.fleet] == ["h1", "h2"]
    assert [chosen.module.name for chosen in spec.modules] == ["site"]
    assert (spec.limited, spec.wait, spec.break_lock) == (True, 3, True)
    assert (spec.actor, spec.reason) == ("ada", "because")
    assert spec.holder.startswith(f"run {spec.id} by ada on ")
    assert spec.secrets == {"TOKEN": "a-secret-of-today"}
    assert spec.folder == tmp_path / "store/shop/prod/web/runs" / spec.id
    assert (spec.follows, spec.killed, spec.warnings) == ("", None, ())


async def test_short_secrets_are_warned_of_by_name(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"PIN": "1234", "LONG": "long enough", "NONE": "", "PAD": " 7 chars "}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    app = attrs.evolve(plan.app, secrets=tuple(values))

    spec = await plan_run(attrs.evolve(plan, app=app), Deploy(), reach=nobody)

    (told,) = spec.warnings
    assert told == (
        "app.secrets: PIN, PAD: not blotted out of what is shown and logged: under 8 "
        "characters"
    )


CONTRADICTS = (
    'app.active_color says "green", but the store says blue since 1970-01-01 00:00 UTC,'
    " by ada: a fair; the store counts, so leave the key out"
)
BLUE = ActiveColor("blue", 1, RUN, "ada", "a fair", 0.0)


async def on_record(plan: Plan) -> None:
    """Have blue be the active color in the store."""
    blue = DirectoryStore(Path(plan.store.url) / "shop/prod/web/blue")
    await blue.move_active_color(BLUE, None)


@pytest.mark.parametrize(
    ("color", "says", "counts", "told"),
    [
        ("green", "", "blue", ""),
        ("green", "blue", "blue", ""),
        ("green", "green", "blue", CONTRADICTS),
        ("", "green", "green", ""),
    ],
)
async def test_the_active_color_on_record_counts(
    plan: Plan, color: str, says: str, counts: str, told: str
) -> None:
    await on_record(plan)
    app = attrs.evolve(plan.app, color=color, active_color=says)

    spec = await plan_run(attrs.evolve(plan, app=app), Deploy(), reach=nobody)

    assert (spec.plan.app.color, spec.plan.app.active_color) == (color, counts)
    assert spec.active == (BLUE if color else None)
    assert spec.warnings == ((told,) if told else ())


async def test_the_command_of_an_inventory_sees_the_active_color_on_record(
    plan: Plan,
) -> None:
    await on_record(plan)
    command = 'echo "[{\\"name\\": \\"$GHOST_ENV_COLOR-$GHOST_ACTIVE_COLOR\\"}]"'
    app = attrs.evolve(plan.app, color="green")
    asking = InventorySettings(command=command)
    plan = attrs.evolve(plan, app=app, hosts=(), inventory=asking)

    spec = await plan_run(plan, Deploy(), reach=nobody)

    assert [host.name for host in spec.hosts] == ["green-blue"]


@pytest.mark.parametrize("limit", ["h*", "h1,h*", "!@failed"])
async def test_a_limit_that_leaves_nobody_out_is_none(plan: Plan, limit: str) -> None:
    """Else MANIFEST would stay behind a fleet that serves something newer."""
    spec = await plan_run(plan, Deploy(), reach=nobody, limit=[limit])

    assert spec.limited is (limit == "h1,h*")


async def test_only_hosts_that_get_a_module_of_the_run_can_be_left_out(
    plan: Plan,
) -> None:
    site = attrs.evolve(plan.modules[0], hosts="h1")
    api = attrs.evolve(plan.modules[0], name="api", path="/srv/api", hosts="h2")
    plan = attrs.evolve(plan, modules=(site, api))

    spec = await plan_run(plan, Deploy(["site"]), reach=nobody, limit=["h1"])

    assert [host.name for host in spec.hosts] == ["h1"]
    assert not spec.limited


async def test_the_environment_is_that_of_the_moment_and_tells_nobody(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = await plan_run(plan, Deploy(), reach=nobody)

    monkeypatch.setenv("TOKEN", "another")

    assert spec.environ == {**os.environ, "TOKEN": "a-secret-of-today"}
    assert "a-secret-of-today" not in repr(spec)


async def test_credentials_of_urls_that_scripts_are_given_are_secrets(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "redis://:in-the-secret@h")
    address = {"DATABASE": "postgres://app:in-a-variable@h/x", "SHORT": "ftp://a:b@h"}
    app = attrs.evolve(plan.app, env_vars=address)
    verify = Verify(url="http://127.0.0.1/up?access_token=in-the-check")
    module = attrs.evolve(plan.modules[0], verify=verify)

    spec = await plan_run(
        attrs.evolve(plan, app=app, modules=(module,)), Deploy(), reach=nobody
    )

    assert spec.secret_values == {
        *("redis://:in-the-secret@h", "in-the-secret"),
        *("in-a-variable", "in-the-check"),
    }
    assert "in-a-variable" not in repr(spec.redactor)
    assert spec.secrets_of({"A": "in-a-variable", "TOKEN": "", "B": "b"}) == (
        "A",
        "TOKEN",
    )


async def test_a_look_has_no_secrets_and_needs_none(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN")

    spec = await plan_look(plan, reach=nobody, limit=["h1"])

    assert spec.secrets == {}
    assert spec.goal == Converge()
    assert [host.name for host in spec.hosts] == ["h1"]


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (Converge(), "MANIFEST names no module of this app yet"),
        (Resume(RUN), f"has no journal of a run {RUN}; what its hosts have on record"),
        (Revert("typo"), "there is no run typo; `ghostasync history` names them"),
        (Deploy(["other"]), "there is no module 'other'; modules: site"),
        (Deploy(["site@v1"]), "site: its source has no revisions"),
        (Execute("set -e\r\ntrue\r\n"), "^exec: the script: line 1 ends in CR LF"),
    ],
)
async def test_what_cannot_be_reached_is_refused_before_hosts_are_contacted(
    plan: Plan, goal: Goal, message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        await plan_run(plan, goal, reach=nobody)


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (Resume(), "there is no unfinished run: nothing is left to resume"),
        (Revert(), "there is no unfinished run: nothing is left to resume"),
        (Rollback(), "no host has a run on record that could be undone"),
        (Rollback("typo"), "no host has a record of run typo"),
    ],
)
async def test_what_hosts_know_nothing_of_is_refused_once_they_were_asked(
    plan: Plan, goal: Goal, message: str
) -> None:
    hosts = FakeHosts()

    with pytest.raises(PlanError, match=message):
        async with start(plan, goal, transport=hosts.transport):
            pass

    assert {call.name for call in hosts.calls} == {"probe", "check"}


@pytest.mark.parametrize("goal", [Resume(), Revert(RUN)])
async def test_a_killed_run_is_taken_up_on_its_own_hosts(
    plan: Plan, goal: Goal
) -> None:
    with pytest.raises(PlanError, match=r"^limit: a killed run is taken up on the "):
        await plan_run(plan, goal, reach=nobody, limit=["h1"])


async def test_a_rollback_to_a_run_and_to_releases_is_refused_from_python(
    plan: Plan, tmp_path: Path
) -> None:
    transport = FakeTransport(lambda call: pytest.fail(f"{call} was made"))

    with pytest.raises(PlanError, match="say RUN or --to RELEASE, not both"):
        await rollback(plan, run=RUN, to=["1_site_0000000"], transport=transport)
    with pytest.raises(PlanError, match="say RUN or --to RELEASE, not both"):
        async with start(plan, Rollback(run=RUN, to=["1_site_0000000"])):
            pass

    assert not (tmp_path / "store").exists()


TOML = """
[app]
name = "shop"
env = "prod"
role = "web"
[inventory]
hosts = ["h1"]
[[modules]]
name = "site"
path = "/srv/site"
source = { dir = "tree" }
"""


async def test_a_plan_is_checked_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its reader, who knows the places; again only where it was changed since."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plan = parse_plan(TOML, tmp_path)
    checked: list[Plan] = []
    monkeypatch.setattr(
        configuration, "check_values", lambda plan, *_: checked.append(plan)
    )

    await plan_run(plan, Deploy(), reach=nobody)

    assert checked == []
    changed = attrs.evolve(plan, hosts=(Host("h1"), Host("h1")))
    assert not changed.checked
    assert check_plan(changed) == [
        'hosts[1]: "h1" is the name of hosts[0] too; allowed: each name once'
    ]
    assert checked == [changed]
