from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync._local.paths import (
    HostPaths,
    PackageId,
    app_path,
    build_dir,
    cache_home,
    expand_home,
    git_url,
    is_run_id,
    local_path,
    local_runs,
    mirror_dir,
    package_id,
    parse_package_id,
    run_id,
    ssh_files,
    state_home,
    store_url,
)
from ghostasync.errors import PlanError
from ghostasync.model import NAME_PATTERN, App, Ssh, StoreSettings

SHOP = App("shop", "prod", "web")
BLUE = App("shop", "prod", "web", color="blue")
HOME = {"HOME": "/home/u"}
BASE = Path("/etc/shop")


def test_an_app_lies_under_name_env_role_and_color() -> None:
    assert app_path(SHOP) == "shop/prod/web"
    assert app_path(BLUE) == "shop/prod/web/blue"


def test_the_layout_on_a_host() -> None:
    paths = HostPaths("/ghost", BLUE)

    assert paths.app_dir == "/ghost/shop/prod/web/blue"
    assert paths.app_meta == "/ghost/shop/prod/web/blue/.ghost"
    assert paths.module("site") == f"{paths.app_dir}/site"
    assert paths.release("site", "1_site_abc") == f"{paths.app_dir}/site/1_site_abc"
    assert paths.meta("site", "1_site_abc") == f"{paths.app_dir}/site/.ghost/1_site_abc"
    assert paths.incoming("site", "1") == f"{paths.app_dir}/site/.ghost/1.incoming"
    assert paths.shared("site") == f"{paths.app_dir}/site/shared"
    assert paths.target("/srv/site") == "/srv/site"


def test_a_tilde_becomes_the_home_that_is_given() -> None:
    paths = HostPaths("~/ghost", SHOP, home="/home/deploy")

    assert paths.app_dir == "/home/deploy/ghost/shop/prod/web"
    assert paths.target("~/site") == "/home/deploy/site"


def test_without_a_home_the_tilde_stays() -> None:
    assert HostPaths("~/ghost", SHOP).app_dir == "~/ghost/shop/prod/web"


@pytest.mark.parametrize(
    ("path", "home", "expanded"),
    [
        ("~", "/root", "/root"),
        ("~/a", "/", "/a"),
        ("~/a", "/home/u/", "/home/u/a"),
        ("~other/a", "/home/u", "~other/a"),
        ("/a/~/b", "/home/u", "/a/~/b"),
    ],
)
def test_only_a_leading_tilde_of_ones_own_is_expanded(
    path: str, home: str, expanded: str
) -> None:
    assert expand_home(path, home) == expanded


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ({}, "/home/u/.local/state"),
        ({"XDG_STATE_HOME": ""}, "/home/u/.local/state"),
        ({"XDG_STATE_HOME": "relative"}, "/home/u/.local/state"),
        ({"XDG_STATE_HOME": "/var/state"}, "/var/state"),
    ],
)
def test_the_state_home(environ: dict[str, str], state: str) -> None:
    assert state_home(HOME | environ) == Path(state)


def test_the_cache_home_is_a_folder_of_our_own() -> None:
    assert cache_home(HOME) == Path("/home/u/.cache/ghostasync")
    assert cache_home({"XDG_CACHE_HOME": "/c"}) == Path("/c/ghostasync")


def test_without_a_home_the_password_database_knows_it() -> None:
    assert cache_home({}) == Path.home() / ".cache/ghostasync"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("key", "/etc/shop/key"),
        ("../key", "/etc/shop/../key"),
        ("/key", "/key"),
        ("~/key", "/home/u/key"),
        ("~", "/home/u"),
        ("~other", "/etc/shop/~other"),
    ],
)
def test_paths_are_relative_to_the_configuration(text: str, path: str) -> None:
    assert local_path(text, BASE, HOME) == Path(path)


def test_the_files_of_ssh_are_relative_to_the_configuration() -> None:
    told = Ssh(identity="key", known_hosts="../known", config="~/config")

    found = ssh_files(told, BASE, HOME)

    assert found == Ssh(
        identity="/etc/shop/key",
        known_hosts="/etc/shop/../known",
        config="/home/u/config",
    )


@pytest.mark.parametrize("config", [False, True, ""])
def test_what_names_no_file_of_ssh_stays_as_it_is(config: str | bool) -> None:
    told = Ssh(known_hosts="~other/known", config=config)

    assert ssh_files(told, BASE, HOME) == told


@pytest.mark.parametrize(
    ("git", "url"),
    [
        ("https://example.com/a.git", "https://example.com/a.git"),
        ("file:///srv/a.git", "file:///srv/a.git"),
        ("git@example.com:a/b.git", "git@example.com:a/b.git"),
        ("example.com:a", "example.com:a"),
        ("../a.git", "/etc/shop/../a.git"),
        ("./a:b", "/etc/shop/a:b"),
        ("~/a.git", "/home/u/a.git"),
        ("/srv/a.git", "/srv/a.git"),
    ],
)
def test_what_is_no_url_is_a_path(git: str, url: str) -> None:
    assert git_url(git, BASE, HOME) == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("$XDG_STATE_HOME/ghostasync", "/home/u/.local/state/ghostasync"),
        ("${STORES}/shop", "/srv/stores/shop"),
        ("store", "/etc/shop/store"),
        ("~/store", "/home/u/store"),
        ("/srv/store", "/srv/store"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
    ],
)
def test_the_store_is_a_url_or_an_absolute_path(url: str, expected: str) -> None:
    environ = {**HOME, "STORES": "/srv/stores"}

    assert store_url(StoreSettings(url), environ, BASE) == expected


def test_a_store_in_a_variable_that_is_not_set_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        store_url(StoreSettings("$STORES/shop"), HOME, BASE)

    assert str(caught.value) == "store.url: $STORES is not set"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/shop/site.git", "site"),
        ("https://example.com/shop/site/", "site"),
        ("git@example.com:site.git", "site"),
        ("/srv/my site", "my-site"),
        ("https://example.com/.git", "repository"),
    ],
)
def test_a_mirror_has_the_name_of_its_repository(url: str, name: str) -> None:
    mirror = mirror_dir(Path("/c"), url)

    assert mirror.parent == Path("/c/mirrors")
    assert mirror.name.rpartition("-")[0] == name
    assert len(mirror.name.rpartition("-")[2]) == 12


def test_mirrors_of_different_urls_are_apart() -> None:
    cache = Path("/c")

    assert mirror_dir(cache, "a:site") != mirror_dir(cache, "b:site")
    assert mirror_dir(cache, "a:site") == mirror_dir(cache, "a:site")


def test_runs_of_different_stores_are_apart() -> None:
    urls = ["s3://shop/a", "s3://shop/b", "s3://shop-a", "memory:1"]

    folders = [local_runs(HOME, url) for url in urls]

    assert len(set(folders)) == len(urls)
    assert {path.parent for path in folders} == {
        Path("/home/u/.local/state/ghostasync/.runs")
    }
    assert folders[0].name.startswith("s3-shop-a-")


def test_a_module_is_always_built_in_the_same_folder() -> None:
    assert build_dir(Path("/c"), BLUE, "site") == Path(
        "/c/builds/shop/prod/web/blue/site"
    )


def test_a_package_id_has_seven_digits_of_the_commit() -> None:
    assert package_id(1700000000, "site", "4f2a9c1" + "0" * 33) == (
        "1700000000_site_4f2a9c1"
    )


def test_a_source_without_commits_gives_zeros() -> None:
    assert package_id(1, "site", "") == "1_site_0000000"


@given(
    st.integers(0, 2**40),
    st.from_regex(NAME_PATTERN, fullmatch=True),
    st.from_regex("[0-9a-f]{7}", fullmatch=True),
)
def test_a_package_id_says_what_it_is_made_of(
    epoch: int, module: str, commit: str
) -> None:
    text = package_id(epoch, module, commit)

    assert parse_package_id(text) == PackageId(epoch, module, commit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "site",
        "1_site",
        "1_site_4F2A9C1",
        "1__4f2a9c1",
        "1_a/b_4f2a9c1",
        "123_site_abc",
    ],
)
def test_other_texts_are_no_package_ids(text: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_package_id(text)

    assert str(caught.value) == (
        f"{text}: not a package id: 10 digits, a module and 7 hex digits, as in "
        "1763856184_site_4f2a9c1"
    )


def test_run_ids_are_in_utc_and_sort_by_time() -> None:
    here = datetime(2024, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    later = datetime(2024, 1, 1, tzinfo=UTC)

    assert run_id(here, "00ff00") == "20231231T233000Z-00ff00"
    assert is_run_id(run_id(here, "00ff00"))
    assert not is_run_id("20231231-typo")
    assert run_id(here, "ffffff") < run_id(later, "000000")


@pytest.mark.parametrize(
    ("known", "made"),
    [
        (["20240101T000000Z-ffffff"], "20240101T000500Z-00ff00"),
        (["20240101T030000Z-000000"], "20240101T030001Z-00ff00"),
        (["20240101T235959Z-zz", "20240101T000000Z-00"], "20240102T000000Z-00ff00"),
        (["20240101T000500Z-ffffff"], "20240101T000501Z-00ff00"),
        (["99991231T235959Z-000000", "lost+found"], "20240101T000500Z-00ff00"),
        (["20249999T999999Z-000000"], "20240101T000500Z-00ff00"),
    ],
)
def test_a_run_id_sorts_behind_those_of_machines_whose_clocks_are_ahead(
    known: list[str], made: str
) -> None:
    now = datetime(2024, 1, 1, 0, 5, tzinfo=UTC)

    assert run_id(now, "00ff00", known) == made
