"""Where a script for hosts that boot says the store is, and what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest

from ghostasync import Plan, PlanError, StoreSettings, boot_script
from ghostasync._planning.boot import boot_facts
from ghostasync.model import Signing
from tests._remote.shells import SHELLS


def facts(plan: Plan, base_url: str = "", **store: Any) -> dict[str, str]:
    settings = StoreSettings(**store)
    return boot_facts(attrs.evolve(plan, store=settings), {}, base_url=base_url)


@pytest.mark.parametrize(
    ("store", "origin", "folder"),
    [
        ({"url": "s3://b/p"}, "", "/p/shop/prod/web"),
        ({"url": "s3://b"}, "", "/shop/prod/web"),
        ({"url": "s3://b/a+b/ü/"}, "", "/a%2Bb/%C3%BC/shop/prod/web"),
        (
            {"url": "s3://b.c/p", "region": "eu-west-1"},
            "https://s3.eu-west-1.amazonaws.com",
            "/b.c/p/shop/prod/web",
        ),
        (
            {"url": "s3://b.c/p", "region": "cn-north-1"},
            "https://s3.cn-north-1.amazonaws.com.cn",
            "/b.c/p/shop/prod/web",
        ),
        (
            {"url": "s3://b/p", "endpoint_url": "https://s3.example.com:443/"},
            "https://b.s3.example.com",
            "/p/shop/prod/web",
        ),
        (
            {
                "url": "s3://b/p",
                "endpoint_url": "http://[::1]:9000",
                "path_style": True,
            },
            "http://[::1]:9000",
            "/b/p/shop/prod/web",
        ),
    ],
)
def test_a_bucket_is_where_its_settings_say(
    plan: Plan, store: dict[str, Any], origin: str, folder: str
) -> None:
    found = facts(plan, **store)

    assert (found["origin"], found["folder"]) == (origin, folder)
    assert found["bucket"]


@pytest.mark.parametrize(
    ("base_url", "origin", "folder"),
    [
        ("https://d.example.com/store/", "https://d.example.com", "/store"),
        ("http://d.example.com:80", "http://d.example.com", ""),
        ("http://d.example.com:8080/a b", "http://d.example.com:8080", "/a%20b"),
    ],
)
def test_a_folder_is_where_it_is_served(
    plan: Plan, base_url: str, origin: str, folder: str
) -> None:
    found = facts(plan, base_url, url="store")

    assert (found["origin"], found["folder"]) == (origin, f"{folder}/shop/prod/web")
    assert found["bucket"] == ""


@pytest.mark.parametrize(
    ("base_url", "store", "said"),
    [
        ("", {"url": "store"}, "hosts reach no folder"),
        ("ftp://x/y", {"url": "store"}, "--base-url: hosts need"),
        ("https://user:pw@x/y", {"url": "store"}, "--base-url: hosts need"),
        ("https://x/y?z=1", {"url": "store"}, "--base-url: hosts need"),
        ("https://x:99999/", {"url": "store"}, "--base-url: hosts need"),
        ("http://[::1", {"url": "store"}, "--base-url: hosts need"),
        ('http://h"x/', {"url": "store"}, "--base-url: hosts need"),
        ("http://a b/", {"url": "store"}, "--base-url: hosts need"),
        ("", {"url": "s3://b.c/p"}, "store.region"),
        (
            "",
            {"url": "s3://b", "endpoint_url": "https://x/y"},
            "store.endpoint_url: hosts that boot need one without a path",
        ),
    ],
)
def test_what_hosts_could_not_reach_is_refused(
    plan: Plan, base_url: str, store: dict[str, Any], said: str
) -> None:
    with pytest.raises(PlanError) as refused:
        facts(plan, base_url, **store)

    assert said in str(refused.value)


def test_a_group_goes_with_a_hook(plan: Plan) -> None:
    plan = attrs.evolve(plan, store=StoreSettings("s3://b"))

    with pytest.raises(PlanError, match="name both"):
        boot_script(plan, group="web")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_can_read_the_script(
    plan: Plan, tmp_path: Path, shell: str
) -> None:
    (plan.base / "signers").write_text("ann@example.com ssh-ed25519 AAAA it's $(id)\n")
    settings = StoreSettings("s3://b", sign=Signing("key"), signers="signers")
    file = tmp_path / "boot"
    file.write_text(boot_script(attrs.evolve(plan, store=settings)))

    program = SHELLS[shell][:-1]
    subprocess.run([*program, "-n", file], check=True)
