from __future__ import annotations

import json
from pathlib import Path

import attrs

import ghostasync
from ghostasync import (
    App,
    Hook,
    Module,
    Plan,
    Rollout,
    Script,
    StoreSettings,
    Verify,
    execute,
)
from ghostasync import deploy as deploy_plan
from ghostasync.manual._variables import READ, VARIABLES
from ghostasync.model import DirectorySource, Gate, InventorySettings, Layout
from ghostasync.testing import InProcessFleet

NAMES = r"s/^\(GHOST_[A-Z_]*\|SOURCE_DATE_EPOCH\)=.*/\1/p"


def plan(folder: Path, fleet: InProcessFleet) -> Plan:
    """Return a plan all of whose scripts and commands note the names that they see."""

    def noting(key: str) -> str:
        return f"env | sed -n '{NAMES}' | sort >{folder}/seen/{key}\n"

    (folder / "tree").mkdir()
    (folder / "seen").mkdir()
    rows = json.dumps([attrs.asdict(host) for host in fleet.hosts])
    module = Module(
        "site",
        "~/site",
        DirectorySource("tree"),
        buildpack=Script(inline=noting("buildpack") + "echo one >index.html"),
        pre_deploy=Script(inline=noting("pre_deploy")),
        before_switch=Script(inline=noting("before_switch")),
        post_deploy=Script(inline=noting("post_deploy")),
        after_all_deploy=Script(inline=noting("after_all_deploy")),
        verify=Verify(noting("verify")),
    )
    return Plan(
        App("shop", "test", "web"),
        (module,),
        inventory=InventorySettings(noting("inventory.command") + f"echo '{rows}'"),
        store=StoreSettings("store"),
        ssh=fleet.ssh,
        layout=Layout("~/ghost"),
        rollout=Rollout(
            drain=Hook(noting("drain")),
            undrain=Hook(noting("undrain"), on="host"),
            after_wave=Gate(noting("after_wave")),
        ),
        base=folder,
    )


async def test_every_script_sees_the_variables_that_the_manual_says_it_sees(
    tmp_path: Path,
) -> None:
    async with InProcessFleet(1, tmp_path / "hosts") as fleet:
        deployed = plan(tmp_path, fleet)
        await deploy_plan(deployed)
        await execute(deployed, f"env | sed -n '{NAMES}' | sort >{tmp_path}/seen/exec")

    seen = {
        file.name: {*file.read_text().split()} for file in (tmp_path / "seen").iterdir()
    }
    told = {
        key: {name for name, variable in VARIABLES.items() if key in variable.seen}
        for variable in VARIABLES.values()
        for key in variable.seen
    }
    assert seen == told
    assert len(told) == 11


def test_what_the_command_reads_is_in_the_code() -> None:
    files = Path(ghostasync.__file__).parent.rglob("*.py")
    code = "".join(file.read_text() for file in files if "manual" not in file.parts)

    assert [name for name in READ if name not in code] == ["NO_COLOR"]  # rich reads it
