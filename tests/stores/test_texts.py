from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync.errors import StoreError
from ghostasync.model import Package, Revision
from ghostasync.protocols import Environment, ManifestLine
from ghostasync.stores._texts import (
    check_id,
    dump,
    dump_environment,
    file_name,
    join_manifest,
    load,
    load_environment,
    merge,
    module_of,
    outdated,
    parse_manifest,
)

SITE = ManifestLine("site", "1700000000_site_4f2a9c1", "/srv/site", "a" * 64)
API = ManifestLine("api", "1700000001_api_0000000", "~/api", "b" * 64)
JOBS = ManifestLine("jobs", "1700000002_jobs_abcdef0", "/srv/jobs", "c" * 64)


def test_manifest_is_a_line_a_module_with_a_final_newline() -> None:
    assert join_manifest([SITE, API]) == (
        f"site:1700000000_site_4f2a9c1:/srv/site:{'a' * 64}:0\n"
        f"api:1700000001_api_0000000:~/api:{'b' * 64}:0\n"
    )


@given(st.text(st.characters(exclude_characters=":\n"), min_size=1))
def test_manifest_keeps_any_path_that_has_no_colon_or_newline(path: str) -> None:
    line = ManifestLine(SITE.module, SITE.package, path, SITE.sha256)

    assert parse_manifest(join_manifest([line, API]), "MANIFEST") == (line, API)


def test_what_is_nested_without_end_is_damaged() -> None:
    with pytest.raises(StoreError, match="the environment is damaged"):
        load(b"[" * 1_000_000, Package, "the environment")


def test_an_empty_manifest_has_no_lines() -> None:
    assert parse_manifest("", "MANIFEST") == ()
    assert join_manifest([]) == ""


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "api:1700000001_api_0000000:~/api",
        f"api:1700000001_api_0000000:~/api:{'b' * 63}",
        f"api:1700000001_api_0000000::{'b' * 64}",
        f"api:1700000001_site_0000000:~/api:{'b' * 64}",
        f"api:../../etc:~/api:{'b' * 64}",
        f"site:1700000000_site_4f2a9c1:/srv/twice:{'a' * 64}",
    ],
)
def test_a_damaged_line_of_manifest_is_named(damaged: str) -> None:
    text = join_manifest([SITE]) + damaged + "\n"

    with pytest.raises(
        StoreError, match=r"^/store/MANIFEST, line 2: .* right by hand$"
    ):
        parse_manifest(text, "/store/MANIFEST")


@pytest.mark.parametrize(
    "path", ["", "/a:b", "/a\n", f"/a:{'a' * 64}\n{join_manifest([API])[:-66]}"]
)
def test_a_path_that_would_not_read_back_is_not_written(path: str) -> None:
    line = ManifestLine(SITE.module, SITE.package, path, SITE.sha256)

    with pytest.raises(StoreError, match="the new MANIFEST"):
        join_manifest([line])


def test_moved_lines_replace_their_modules_and_follow_the_order_of_the_app() -> None:
    newer = ManifestLine("site", "1700000009_site_4f2a9c2", "/srv/site", "d" * 64)

    merged = merge([JOBS, SITE], [newer, API], ["api", "site"])

    assert merged == (API, newer, JOBS)


@pytest.mark.parametrize(
    ("package_id", "module"),
    [
        ("1700000000_site_4f2a9c1", "site"),
        ("1700000000_my_site_4f2a9c1", "my_site"),
        ("1700000000_site_4f2a9c1_4f2a9c1", "site_4f2a9c1"),
        ("1700000000_a.b-c_0000000", "a.b-c"),
        ("1700000000_site", ""),
        ("site", ""),
    ],
)
def test_an_id_belongs_to_exactly_one_module(package_id: str, module: str) -> None:
    assert module_of(package_id) == module


@pytest.mark.parametrize(
    "text", ["", "..", "1700000000_../../etc_4f2a9c1", "1700000000_site_4f2a9c1\n"]
)
def test_what_is_no_id_never_becomes_a_file(text: str) -> None:
    with pytest.raises(StoreError, match="not a package id"):
        check_id(text)


@pytest.mark.parametrize(
    ("keep", "gone"),
    [(9, []), (3, []), (2, ["a"]), (1, ["a"]), (0, ["a", "c"])],
)
def test_what_is_new_or_named_is_not_outdated(keep: int, gone: list[str]) -> None:
    assert outdated(["a", "b", "c"], keep, frozenset({"b", "z"})) == gone


@given(st.text())
def test_a_file_name_is_one_segment_that_stays_in_its_folder(name: str) -> None:
    path = PurePosixPath("/runs") / file_name(name)

    assert path.parent == PurePosixPath("/runs")
    assert path.name not in {"", ".", ".."}
    assert "\0" not in path.name


@given(st.text("a%./\n0F", max_size=4), st.text("a%./\n0F", max_size=4))
def test_different_names_are_different_files(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


def test_ordinary_names_stay_as_they_are() -> None:
    name = "web-1.example.com @[::1]:22 é.log"

    assert file_name(name) == name


def test_what_is_kept_comes_back() -> None:
    message = b"caf\xe9".decode("utf-8", "surrogateescape")
    package = Package(
        id=SITE.package,
        module="site",
        revision=Revision("url", "main", "4f2a9c1" * 5, message, 1700000000),
        sha256="a" * 64,
        content="b" * 64,
        nbytes=51,
        unpacked=510,
        entries=3,
        scripts=("pre_deploy",),
    )
    environment = Environment(SITE.package, {"TOKEN": "'\n" + message})

    assert load(dump(package), Package, "x") == package
    data = dump_environment(environment)
    assert load_environment(data, SITE.package, "x") == environment


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"7", b'{"id": "x"}'])
def test_what_is_damaged_is_named_without_its_values(data: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        load(data, Package, "/store/x.json")

    assert str(caught.value) == (
        "/store/x.json is damaged; remove it and deploy the module anew"
    )


def test_a_damaged_environment_does_not_show_its_secrets() -> None:
    with pytest.raises(StoreError) as caught:
        load_environment(b"TOKEN='hunter2'\n", SITE.package, "x.sh")

    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
