"""Hosts that boot and set themselves up, with no controller and no inventory."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from http.server import (
    BaseHTTPRequestHandler,
    ThreadingHTTPServer,
)
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from ghostasync import Script, StoreSettings, Verify
from ghostasync.model import Signing
from tests.fleet.booting import assert_same, place, served_folder
from tests.fleet.conftest import StartFleet
from tests.fleet.layout import tools_but
from tests.fleet.sample_app import SECRET
from tests.s3_servers import S3Server, apart, make_bucket
from tests.signing import make_key, public

pytestmark = pytest.mark.fleet


@pytest.fixture
def server(ministack_server: S3Server) -> S3Server:
    apart(make_bucket(ministack_server))
    return ministack_server


def test_a_bare_host_boots_into_what_others_serve(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    sample = here.town.sample
    here.person.deploys("1")

    booted = here.boots()

    assert booted.returncode == 0, booted.stdout + here.log()
    assert booted.stdout.splitlines()[-1].startswith("ghostasync boot: serves ")
    assert here.town.serves() == here.town.all_on("1")
    assert [row[:2] for row in sample.trace(here.bare, "site")] == [
        ["pre_deploy", "boot"],
        ["post_deploy", "boot"],
    ]
    assert_same(sample, "h1", here.bare)
    assert sample.leftovers(here.bare, "site") == set()
    again = here.boots()
    assert again.returncode == 0
    assert "as before" in again.stdout
    assert len(sample.trace(here.bare, "site")) == 2


def test_a_host_boots_with_what_the_signers_signed_and_with_nothing_else(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    key = make_key(tmp_path / "key")
    (tmp_path / "signers").write_text(f"ann@example.com {public(key)}\n")
    signers = str(tmp_path / "signers")
    sign = Signing(key=str(key))
    here = place(sshd_fleet, tmp_path, server, sign=sign, signers=signers)
    here.person.deploys("1")

    # Somebody who can write to the store adds a variable.
    kept, evil = f"environments/{here.town.release('1')}.sh", b"export EVIL='1'\n"
    here.write(kept, lambda data: data + evil)
    refused = here.boots()
    assert refused.returncode == 1
    assert refused.stdout.splitlines()[-1] == (
        "ghostasync boot: failed: MANIFEST has no signature: it was changed, or made "
        "without store.sign"
    )
    assert here.town.sample.serves("site")[here.bare] == ""
    assert not here.town.sample.fleet.path(here.bare, "/srv/site").exists()

    here.write(kept, lambda data: data.replace(evil, b""))
    booted = here.boots()
    assert booted.returncode == 0, booted.stdout + here.log()
    assert here.town.serves() == here.town.all_on("1")


def test_a_host_waits_for_a_store_and_for_the_first_deploy(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: done.append(here.boots()))
    thread.start()
    log = here.town.sample.fleet.path(here.bare, "/ghost/shop/prod/web/blue/.ghost")
    while not (log / "boot.log").exists() or "no MANIFEST" not in here.log():
        time.sleep(0.05)

    here.person.deploys("1")
    thread.join()

    assert done[0].returncode == 0, done[0].stdout
    assert "waits: the store has no MANIFEST: deploy first" in done[0].stdout
    assert here.town.serves() == here.town.all_on("1")

    away = here.boots("--follow", wait=2, env={"http_proxy": "http://127.0.0.1:9"})
    assert away.returncode == 1
    assert away.stdout.splitlines()[-1].startswith("ghostasync boot: failed: the store")
    # What serves needs no store.
    kept = here.boots(wait=2, env={"http_proxy": "http://127.0.0.1:9"})
    assert kept.returncode == 0
    assert here.town.serves() == here.town.all_on("1")


def test_a_host_follows_only_where_it_is_told_to(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    assert here.boots().returncode == 0
    here.person.deploys("2")

    assert "as before" in here.boots().stdout
    assert here.town.serves()[here.bare] == "1"
    followed = here.boots("--follow")

    assert followed.returncode == 0, followed.stdout + here.log()
    assert here.town.serves() == here.town.all_on("2")
    assert_same(here.town.sample, "h1", here.bare)

    # A rollback knows what it had; and a host that is later than MANIFEST stays.
    everywhere = here.town.sample.fleet.hosts
    here.person.change(hosts=everywhere)
    assert here.person.status.exit == 0, here.person.status.stdout
    older = here.town.release("1")
    back = here.person("rollback", "--to", older, "--limit", here.bare)
    assert back.exit == 0, back.stderr
    assert here.town.serves()[here.bare] == "1"
    left = here.boots("--follow")
    assert left.returncode == 0
    assert "serves what came later than MANIFEST: left alone" in left.stdout
    assert here.town.serves()[here.bare] == "1"


def test_a_host_whose_post_deploy_fails_goes_back_and_says_so(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    assert here.boots().returncode == 0
    site = here.town.sample.repositories["site"]
    last = site.path / "deploy/post_deploy"
    text = last.read_text()
    site.script(
        "post_deploy", f'{text}[ "$GHOST_HOST" = h1 ] || {{ echo no disk; exit 3; }}\n'
    )
    here.person.deploys("2")

    failed = here.boots("--follow")

    assert failed.returncode == 1
    assert failed.stdout.splitlines()[-1] == (
        "ghostasync boot: failed: post_deploy of site failed: what it said is in "
        "/ghost/shop/prod/web/blue/.ghost/boot.log"
    )
    assert here.town.serves()[here.bare] == "1"
    trace = here.town.sample.trace(here.bare, "site")
    assert [row[:2] for row in trace][-1] == ["post_deploy", "rollback"]
    assert here.town.sample.leftovers(here.bare, "site") == set()


def test_a_host_that_boots_during_a_deploy_ends_where_the_fleet_does(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    site = here.town.sample.repositories["site"]
    gate = "until [ -e /ghost/gate ]; do sleep 0.1; done\n"
    text = (site.path / "deploy/post_deploy").read_text()
    site.script("post_deploy", f'{text}[ "$GHOST_ACTION" != boot ] || {gate}')
    here.person.deploys("2")
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: done.append(here.boots()))
    thread.start()
    fleet = here.town.sample.fleet
    log = fleet.path(here.bare, "/ghost/shop/prod/web/blue/.ghost")
    while not (log / "boot.log").exists() or "post_deploy of site in" not in here.log():
        time.sleep(0.05)

    here.person.deploys("3")
    fleet.path(here.bare, "/ghost/gate").touch()
    thread.join()

    assert done[0].returncode == 0, done[0].stdout + here.log()
    assert here.town.serves() == here.town.all_on("3")
    assert here.town.release("3") in done[0].stdout.splitlines()[-1]


def test_a_host_without_zstd_boots(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    lacks = tools_but("zstd", "openssl")
    here = place(sshd_fleet, tmp_path, server, [tools_but(), lacks])
    here.person.deploys("1")

    booted = here.boots(path="/mnt")

    assert booted.returncode == 0, booted.stdout + here.log()
    assert here.town.serves() == here.town.all_on("1")
    assert_same(here.town.sample, "h1", here.bare)


def test_user_data_is_short_and_takes_one_script_alone(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    text = here.person.read("boot-script", "--user-data", "--wait", "30").stdout
    assert text.startswith("#!/bin/sh\n")
    assert len(text) < 16_384
    assert SECRET not in text
    to = f"{tmp_path}/lib/boot"

    booted = here.boots(text=text, env={"GHOSTASYNC_BOOT": to})

    assert booted.returncode == 0, booted.stdout + here.log()
    assert here.town.serves() == here.town.all_on("1")

    # The name of the script is its digest, and stands in the user data.
    (digest,) = re.findall("[0-9a-f]{64}", text)
    here.write(f"boot/{digest}", lambda _: b"#!/bin/sh\ntouch /ghost/evil\n")
    refused = here.boots(text=text, env={"GHOSTASYNC_BOOT": to})
    assert refused.returncode == 1
    assert "is another script" in refused.stdout
    assert not here.town.sample.fleet.path(here.bare, "/ghost/evil").exists()

    unit = here.person.read("boot-script", "--unit").stdout
    assert "ExecStart=/bin/sh /var/lib/ghostasync/boot" in unit


def test_a_folder_that_is_served_will_do(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    """Also for a host without zstd, where others of the fleet are such, too."""
    lacks = tools_but("zstd")
    here = place(sshd_fleet, tmp_path, server, [lacks, lacks])
    store = StoreSettings(url=str(tmp_path / "store"))
    here.person.change(store=store)
    here.person.deploys("1")
    refused = here.person.read("boot-script")
    assert refused.exit == 2
    assert "--base-url" in refused.stderr

    with served_folder(tmp_path / "store") as url:
        booted = here.boots(base_url=url, path="/mnt")

    assert booted.returncode == 0, booted.stdout + here.log()
    assert here.town.serves() == here.town.all_on("1")
    assert_same(here.town.sample, "h1", here.bare)


@pytest.mark.parametrize("fails", [False, True])
def test_auto_scaling_is_told_how_it_went(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server, fails: bool
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    if fails:
        release = here.town.release("1")
        here.write(f"environments/{release}.sh", lambda _: None)
    asked: list[str] = []

    class Scaling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            assert self.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Scaling) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{served.server_port}"
        env = {"AWS_ENDPOINT_URL_AUTO_SCALING": url}
        booted = here.boots(env=env, group="web one", hook="boot", wait=5)
        served.shutdown()
        thread.join()

    assert (booted.returncode != 0) == fails, booted.stdout
    (call,) = asked
    query = dict(parse_qsl(call.partition("?")[2]))
    assert query["Action"] == "CompleteLifecycleAction"
    assert query["LifecycleActionResult"] == ("ABANDON" if fails else "CONTINUE")
    assert (query["AutoScalingGroupName"], query["LifecycleHookName"]) == (
        *("web one", "boot"),
    )
    assert query["InstanceId"].startswith("i-")


# --- What may be in the way --------------------------------------------------------


@pytest.mark.parametrize("evil", ["9", "x:123456789", "site:1_site_0000000:/x"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_line_of_manifest_without_an_end_is_none(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server, evil: str, alone: bool
) -> None:
    """The shell reads lines, and whoever signs signs bytes."""
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    here.write("MANIFEST", lambda data: (b"" if alone else data) + evil.encode())

    refused = here.boots(wait=2)

    assert refused.returncode == 1, refused.stdout
    assert "MANIFEST is damaged" in refused.stdout
    assert not here.town.sample.fleet.path(here.bare, "/srv/site").exists()


def test_an_environment_that_is_missing_is_no_page_about_it(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    release = here.town.release("1")
    here.write(f"environments/{release}.sh", lambda _: None)

    refused = here.boots(wait=2)

    assert refused.returncode == 1
    assert f"the store has no environment of {release}" in refused.stdout


def test_a_link_of_somebody_else_is_left_alone(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    target = here.town.sample.fleet.path(here.bare, "/srv/site")
    target.symlink_to("/var/www/other")

    refused = here.boots(wait=2)

    assert refused.returncode == 1
    assert "/srv/site leads to /var/www/other, which is not ours" in refused.stdout
    assert target.readlink() == Path("/var/www/other")


def test_a_host_whose_folders_others_may_change_boots_not(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    fleet = here.town.sample.fleet
    fleet.shell(here.bare, "chown nobody /srv")
    served = here.boots(wait=2)
    fleet.shell(here.bare, "chown root /srv; chown nobody /ghost/shop")
    read = here.boots(wait=2)

    assert (served.returncode, read.returncode) == (1, 1)
    assert "in the hands of others: owner nobody /srv\n" in served.stdout
    assert read.stdout == (
        "ghostasync boot: failed: in the hands of others: owner nobody /ghost/shop\n"
    )
    assert fleet.shell(here.bare, "ls /srv") == ""
    fleet.shell(here.bare, "chown root /ghost/shop")
    assert here.boots(wait=2).returncode == 0


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_a_boot_that_failed_is_tried_again_and_as_the_users_that_were_named(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server, kind: str
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    says = 'echo "post_deploy as $(id -un)"; [ -e /ghost/gate ] || [ $GHOST_HOST = h1 ]'
    here.person.module(
        pre_deploy=Script(inline="id -un"),
        post_deploy=Script(inline=says, run_as="nobody"),
    )
    if kind == "folder":
        here.person.change(store=StoreSettings(url=str(tmp_path / "store")))
        here.server = None
    here.person.deploys("1")
    with served_folder(tmp_path / "store") as url:
        base_url = url if kind == "folder" else ""
        failed = here.boots(base_url=base_url)
        assert failed.returncode == 1, failed.stdout
        assert not here.town.sample.fleet.path(here.bare, "/srv/site").exists()
        here.town.sample.fleet.path(here.bare, "/ghost/gate").touch()
        booted = here.boots(base_url=base_url)

    assert booted.returncode == 0, booted.stdout + here.log()
    assert here.town.serves() == here.town.all_on("1")
    assert "post_deploy as root" not in here.log()
    assert "post_deploy as nobody" in here.log()
    # A run that comes later finds all that it needs for its own way back.
    here.person.change(hosts=here.town.sample.fleet.hosts)
    assert here.person.status.exit == 0, here.person.status.stdout


def test_a_host_that_went_down_half_way_goes_on_when_it_is_up_again(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    """Its records have one number for all modules, and MANIFEST one for each."""
    here = place(sshd_fleet, tmp_path, server, modules=("site", "worker"))
    healthy = '[ "$GHOST_HOST" = h1 ] || [ -e /ghost/well ]'
    here.person.module(verify=Verify(command=healthy, interval=0.2))
    here.person.deploys("1")
    newer = here.town.note("1", here.person("deploy", "worker", "--force"))
    assert newer.exit == 0, newer.stderr
    fleet = here.town.sample.fleet
    thread = threading.Thread(target=here.boots)
    thread.start()
    own = fleet.path(here.bare, "/ghost/shop/prod/web/blue/.ghost")
    while not (own / "boot.log").exists() or "verify of site in" not in here.log():
        time.sleep(0.05)
    names = "[b]oot-|[g]host-"
    each = f'grep -qsE "{names}" $p/cmdline && kill -KILL ${{p#/proc/}}'
    fleet.shell(here.bare, f"for p in /proc/[0-9]*; do {each} || :; done")
    thread.join()
    fleet.path(here.bare, "/ghost/well").touch()

    booted = here.boots()

    assert booted.returncode == 0, booted.stdout + here.log()
    assert "left alone" not in booted.stdout
    for name in ("site", "worker"):
        assert here.town.serves(name) == here.town.all_on("1")
        trace = here.town.sample.trace(here.bare, name)
        assert trace[-1][0] == "post_deploy"
    assert "as before" in here.boots().stdout


def test_of_two_boots_at_once_one_waits_for_the_other(
    sshd_fleet: StartFleet, tmp_path: Path, server: S3Server
) -> None:
    here = place(sshd_fleet, tmp_path, server)
    here.person.deploys("1")
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda: done.append(here.boots())) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [each.returncode for each in done] == [0, 0], [e.stdout for e in done]
    assert here.town.serves() == here.town.all_on("1")
    trace = here.town.sample.trace(here.bare, "site")
    assert [row[0] for row in trace] == ["pre_deploy", "post_deploy"]
    assert here.town.sample.leftovers(here.bare, "site") == set()
