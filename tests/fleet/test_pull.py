"""Hosts that fetch releases from the store by themselves."""

from __future__ import annotations

import io
import secrets
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from ghostasync._s3.client import Bucket
from ghostasync.model import Rollout, StoreSettings, Transfer
from tests.fleet.conftest import StartFleet
from tests.fleet.layout import busybox_tools, tools_but
from tests.fleet.people import Person, Town
from tests.fleet.sample_app import SECRET, SampleApp
from tests.s3_servers import BUCKET, S3Server, apart, make_bucket

if sys.version_info >= (3, 14):
    from compression.zstd import compress
else:
    from backports.zstd import compress

pytestmark = pytest.mark.fleet

CURL: Final[tuple[str, ...]] = ()
WGET: Final = ("curl",)
PYTHON: Final = ("curl", "wget")
NOTHING: Final = ("curl", "wget", "python3")
POOR: Final = ("openssl", "shasum")


@pytest.fixture(params=["ministack_server", "swift_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    apart(make_bucket(found))
    return found


@attrs.define
class Place:
    """A town whose store is in a bucket."""

    town: Town
    server: S3Server
    url: str

    def moves_in(self, name: str, transfer: Transfer, max_push: int = 50) -> Person:
        environ = {"TOKEN": SECRET, **self.server.environ}
        person = self.town.moves_in(name, secrets=environ)
        settings: StoreSettings = attrs.evolve(self.server.settings, url=self.url)
        rollout: Rollout = attrs.evolve(
            person.plan.rollout, transfer=transfer, max_push=max_push
        )
        person.change(store=settings, rollout=rollout)
        return person

    def bucket(self) -> Bucket:
        return Bucket(f"{self.url}/shop/prod/web/blue", self.server.settings)


def place(
    start: StartFleet,
    folder: Path,
    server: S3Server,
    lacks: Sequence[tuple[str, ...]],
) -> Place:
    fleet = start(len(lacks), tools=[tools_but(*names) for names in lacks])
    town = Town(SampleApp.create(folder, fleet, "site"))
    return Place(town, server, f"s3://{BUCKET}/{secrets.token_hex(4)}")


def failures(outcome: Any) -> dict[str, str]:
    return {
        row["host"]: row["reason"] for row in outcome.events if row["event"] == "Failed"
    }


def warnings(outcome: Any) -> list[tuple[str, str]]:
    return [
        (row["host"], row["text"])
        for row in outcome.events
        if row["event"] == "HostWarned"
    ]


def test_hosts_fetch_with_what_they_have_and_nothing_is_sent_from_here(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server, [CURL, WGET, PYTHON, POOR])
    ann = here.moves_in("ann", "pull")
    for version in ("1", "2"):
        outcome = ann.deploys(version)
        assert outcome.last["nbytes"] == 0
        uploaded = [row for row in outcome.events if row["event"] == "Uploaded"]
        assert {row["nbytes"] for row in uploaded} == {0}
        assert all(row["fetched"] > 0 for row in uploaded)
        assert here.town.serves() == here.town.all_on(version)
    sample = here.town.sample
    for host in ("h1", "h2", "h3", "h4"):
        assert sample.leftovers(host, "site") == set()

    # What was fetched is what would have been sent, and goes back as that does.
    assert ann("rollback").exit == 0
    assert here.town.serves() == here.town.all_on("1")
    again = here.moves_in("bob", "push")("deploy", "--package", here.town.release("2"))
    assert again.exit == 0, again.stderr
    assert again.last["nbytes"] == 0, "the hosts have it, whole"


@pytest.mark.parametrize("server", ["ministack_server"], indirect=True)
def test_a_host_that_cannot_fetch_is_refused_or_sent_to(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server, [CURL, NOTHING, ("zstd",), NOTHING])
    missing = "curl, wget and python3 are missing: install one of them"
    ann = here.moves_in("ann", "pull")
    refused = ann.tries("1")

    assert refused.exit == 1
    reasons = failures(refused)
    assert reasons["h2"] == f"cannot fetch from the store: {missing} (rollout.transfer)"
    assert reasons["h3"].startswith("cannot fetch from the store: zstd is missing")
    assert "h1" not in reasons
    checked = ann.read("check")
    assert checked.exit == 1
    assert missing in checked.stdout

    bob = here.moves_in("bob", "auto")
    taken = bob("deploy")
    assert taken.exit == 0, taken.stderr
    said = warnings(taken)
    assert ("h2", f"cannot fetch from the store: {missing}; releases are sent") in [
        (host, text.removesuffix(" from here")) for host, text in said
    ]
    sent = [text for _, text in said if text.endswith("bytes are sent from here")]
    assert len(sent) == 3
    assert taken.last["nbytes"] > 0

    few = here.moves_in("cleo", "auto", max_push=2).tries("2")
    assert few.exit == 1
    (reason,) = failures(few).values()
    assert reason.endswith("releases are sent to 2 hosts (rollout.max_push)")


@pytest.mark.parametrize("server", ["ministack_server"], indirect=True)
@pytest.mark.parametrize("change", ["another", "less", "gone", "its own proof"])
def test_what_was_put_in_the_place_of_an_archive_is_never_a_release(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server, change: str
) -> None:
    here = place(sshd_fleet, tmp_path, server, [CURL, WGET, PYTHON])
    ann = here.moves_in("ann", "pull")
    ann.deploys("1")
    ann.console.deploy("--limit", "h1")  # nothing new
    town = here.town
    built = ann.read("build")
    town.commit("2")
    packed = ann("build")
    assert (built.exit, packed.exit) == (0, 0), packed.stderr

    async def spoil() -> str:
        bucket = here.bucket()
        try:
            entries = [e.key for e in await bucket.listed("packages/")]
            newest, *older = sorted(
                (key for key in entries if key.endswith(".tar.zst")), reverse=True
            )
            data = await bucket.get(newest)
            other = await bucket.get(older[-1])
            assert data
            assert other
            if change == "gone":
                await bucket.delete([newest])
            elif change == "its own proof":
                digest = newest.split(".")[1]
                await bucket.put(newest, proving_itself(digest))
            else:
                await bucket.put(
                    newest, other.data if change == "another" else data.data[:-50]
                )
            return newest.removeprefix("packages/").split(".")[0]
        finally:
            await bucket.aclose()

    package = apart(spoil(), server)
    outcome = ann("deploy", "--package", package)

    assert outcome.exit == 1
    reasons = set(failures(outcome).values())
    if reasons:
        text = "what the store has is not what was packaged"
        assert all(text in each or "not fetched" in each for each in reasons)
    assert town.serves() == town.all_on("1")
    for host in ("h1", "h2", "h3"):
        assert not town.sample.fleet.path(host, "/ghost/evil").exists()


@pytest.mark.parametrize("server", ["ministack_server"], indirect=True)
def test_a_busybox_that_cannot_fetch_is_sent_to(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    fleet = sshd_fleet(1, tools=[busybox_tools()], shells=["/mnt/ash"])
    town = Town(SampleApp.create(tmp_path, fleet, "site"))
    here = Place(town, server, f"s3://{BUCKET}/{secrets.token_hex(4)}")

    here.moves_in("ann", "auto").deploys("1")

    assert town.serves() == town.all_on("1")


def proving_itself(digest: str) -> bytes:
    """Return an archive that brings what its proof is looked for in."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in {
            "digest": f"{digest} *-\n",
            "digest.py": f"print('{digest} *-')\n",
            "said": "",
            "ghost/seal": "touch /ghost/evil\n",
            "release/index": "evil",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return compress(file.getvalue())
