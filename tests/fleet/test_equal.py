"""One release is the same on a host, on whatever road it came."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from ghostasync import StoreSettings
from ghostasync.model import Signing
from tests.fleet.booting import Place, assert_same, served_folder
from tests.fleet.conftest import StartFleet
from tests.fleet.people import Town
from tests.fleet.sample_app import SECRET, SampleApp
from tests.s3_servers import BUCKET, S3Server, apart, make_bucket
from tests.signing import make_key, public

pytestmark = pytest.mark.fleet


@pytest.fixture(params=["directory", "ministack_server", "swift_server"])
def server(request: pytest.FixtureRequest) -> S3Server | None:
    if request.param == "directory":
        return None
    found: S3Server = request.getfixturevalue(request.param)
    apart(make_bucket(found))
    return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address at which a store that is a folder is served."""
    with served_folder(tmp_path / "store") as url:
        yield url


def test_a_release_is_the_same_on_every_road(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server | None, served: str
) -> None:
    """Push, converge, redeploy, pull and boot, from a store that is signed."""
    fleet = sshd_fleet(5)
    town = Town(SampleApp.create(tmp_path, fleet, "site"))
    key = make_key(tmp_path / "key")
    (tmp_path / "signers").write_text(f"ann {public(key)}\n")
    signed = {"sign": Signing(key=str(key)), "signers": str(tmp_path / "signers")}
    environ = server.environ if server else {}
    ann = town.moves_in("ann", secrets={"TOKEN": SECRET, **environ})
    store: Any = StoreSettings(url=str(tmp_path / "store"))
    if server:
        url = f"s3://{BUCKET}/{secrets.token_hex(4)}"
        store = attrs.evolve(server.settings, url=url)
    h1, h2, h3, h4, h5 = fleet.hosts
    ann.change(store=attrs.evolve(store, **signed), hosts=(h1,))
    ann.deploys("1")
    release = town.release("1")

    ann.change(hosts=(h1, h2, h3, h4))
    for words in (("converge", "h2"), ("redeploy", release, "--limit", "h3")):
        outcome = ann(*words)
        assert outcome.exit == 0, outcome.stderr
    fetched = attrs.evolve(ann.plan.rollout, transfer="pull" if server else "push")
    ann.change(rollout=fetched)
    pulled = ann("deploy", "--package", release, "--limit", "h4")
    assert pulled.exit == 0, pulled.stderr
    assert (pulled.last["nbytes"] == 0) == (server is not None)
    how = {} if server else {"base_url": served}
    booted = Place(town, server, ann).boots(env=environ, **how)
    assert booted.returncode == 0, booted.stdout

    assert town.serves() == town.all_on("1")
    for host in (h2, h3, h4, h5):
        assert_same(town.sample, h1.name, host.name)
    assert ann.status.exit == 0, ann.status.stdout
