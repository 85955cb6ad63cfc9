"""Plug-ins by name: another distribution on the path is all that it takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ghostasync import Plan, PlanError, adapters, dry_run, start
from ghostasync.config import parse_plan
from ghostasync.testing import Answer, Call, FakeTransport

EXAMPLES = Path(__file__).parents[1] / "examples"

CODE = """\
log = []

class Balancer:
    def __init__(self, options, plan):
        self.pool = options["pool"]
    async def drain(self, access):
        log.append(f"{self.pool} without {access.host.name}")
    async def undrain(self, access):
        log.append(f"{self.pool} with {access.host.name}")

class Notifier:
    async def notify(self, report):
        log.append(report.outcome.value)

def notifier(options, plan):
    log.append(plan.app.name)
    return Notifier()

def broken(options, plan):
    raise RuntimeError("no key")

def nothing(options, plan):
    return None
"""

ENTRY_POINTS = """\
[ghostasync.inventories]
csv = custom_inventory:plugin
broken = {module}:broken
nothing = {module}:nothing
gone = {module}:gone
twice = {module}:one
[ghostasync.balancers]
pool = {module}:Balancer
nothing = {module}:nothing
[ghostasync.notifiers]
chat = {module}:notifier
nothing = {module}:nothing
"""

INSTALLED = "broken, csv, ec2, gone, nothing, twice"

CONFIG = """\
[app]
name = "shop"
env = "prod"
role = "web"
[store]
url = "store"
[inventory]
{inventory}
[rollout]
{rollout}
[[modules]]
name = "site"
path = "/srv/site"
source = {{ dir = "tree" }}
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a distribution for this test; return the name of its module."""
    module = f"plugins_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(CODE)
    _install(tmp_path, "mine", ENTRY_POINTS.format(module=module))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    return module


def _install(folder: Path, name: str, entry_points: str) -> None:
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(entry_points)


def plan(base: Path, *, inventory: str = "", rollout: str = "") -> Plan:
    (base / "tree").mkdir(exist_ok=True)
    (base / "tree" / "index.html").touch()
    return parse_plan(CONFIG.format(inventory=inventory, rollout=rollout), base)


@pytest.mark.usefixtures("installed")
async def test_an_inventory_is_given_its_keys_and_the_plan(tmp_path: Path) -> None:
    (tmp_path / "hosts.csv").write_text("name,address,zone\na,192.0.2.1,z1\n")
    mine = plan(tmp_path, inventory='plugin = "csv"\nfile = "hosts.csv"')

    preview = await dry_run(mine, transport=FakeTransport(answer))

    assert preview.waves == (("a",),)


async def test_balancers_and_notifiers_are_used_by_name(
    installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    balancer = 'balancer = { kind = "pool", pool = "blue" }'
    mine = plan(tmp_path, inventory='hosts = ["h1"]', rollout=balancer)

    async with start(mine, transport=FakeTransport(answer), notifiers=["chat"]):
        pass

    assert sys.modules[installed].log == [
        "shop",
        "blue without h1",
        "blue with h1",
        "live",
    ]


async def answer(call: Call) -> Answer:
    """Answer for a host that has nothing yet and can do everything."""
    facts = (
        "uid=0\ngid=0\ntool=tar\ntool=zstd\nrename=mv\n"
        "blocks=tmpfs 1000000 1 999999 1% /\ninodes=tmpfs 1000000 1 999999 1% /\n"
    )
    if call.name == "check":
        facts += f"module={call.args[3]}\ntarget=absent\n"
    said = {
        "probe": b"home=/root\nuid=0\nuser=root\n",
        "check": facts.encode(),
        "switch": b"moved\n",
        "lock": b"locked\n",
    }
    return Answer(None if call.name == "lock" else 0, said.get(call.name, b""))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ec3", f'there is no plug-in "ec3"; installed: {INSTALLED}'),
        ("broken", "\"broken\" cannot be used: RuntimeError('no key')"),
        ("csv", "\"csv\" cannot be used: KeyError('file')"),
        ("gone", '"gone" cannot be used: AttributeError('),
        ("nothing", '"nothing" made something without hosts'),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_name_that_leads_nowhere_is_one_line(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(PlanError) as caught:
        adapters.inventory(name, {}, plan(tmp_path))

    assert str(caught.value).startswith(f"inventory.plugin: {reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_what_a_plug_in_must_be_able_to_do_is_named(tmp_path: Path) -> None:
    said = []
    for make in (
        lambda: adapters.balancer("nothing", {}, plan(tmp_path)),
        lambda: adapters.notifier("nothing", plan(tmp_path)),
    ):
        with pytest.raises(PlanError) as caught:
            make()
        said.append(str(caught.value))

    assert said == [
        'rollout.balancer.kind: "nothing" made something without drain and undrain',
        'notifiers: "nothing" made something without notify',
    ]


@pytest.mark.usefixtures("installed")
def test_a_name_that_two_distributions_have_is_refused(tmp_path: Path) -> None:
    _install(tmp_path, "other", "[ghostasync.inventories]\ntwice = other:two\n")

    with pytest.raises(PlanError, match=r'"twice" is registered twice: other:two and '):
        adapters.inventory("twice", {}, plan(tmp_path))


def test_without_any_plug_in_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r'no plug-in "chat"; installed: none$'):
        adapters.notifier("chat", plan(tmp_path))
