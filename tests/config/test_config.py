from __future__ import annotations

import re
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync.config import (
    check_plan,
    check_secrets,
    load_plan,
    parse_plan,
    template,
)
from ghostasync.errors import ConfigError
from ghostasync.manual import complete
from ghostasync.model import (
    App,
    BalancerSettings,
    Deadlines,
    DirectorySource,
    Gate,
    GitSource,
    Hook,
    Host,
    InventorySettings,
    Layout,
    Module,
    Plan,
    Rollout,
    S3Source,
    Script,
    Verify,
)

BASE = Path("/etc/shop")
SMALLEST = """
[app]
name = "shop"
env = "prod"
role = "web"
[[modules]]
name = "site"
path = "/srv/site"
source = { dir = "." }
"""
EVERY_KEY = complete(f"""
{SMALLEST}
[inventory]
hosts = [
  "web[001-003].example.com",
  {{ name = "h1", address = "127.0.0.1", port = 2201, labels = {{ az = "a" }} }},
]
""")
PLAN = Plan(
    app=App("shop", "prod", "web"),
    modules=(Module("site", "/srv/site", DirectorySource(".")),),
    hosts=(),
    base=BASE,
)


def problems(text: str, base: Path = BASE) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_plan(text, base)
    return list(caught.value.problems)


def problems_if_any(text: str) -> tuple[str, ...]:
    try:
        parse_plan(text, BASE)
    except ConfigError as error:
        return error.problems
    return ()


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^# (?=\w+ = )", "", text)


# --- What loads ------------------------------------------------------------------


def test_the_smallest_file_means_all_defaults() -> None:
    assert parse_plan(SMALLEST, BASE) == PLAN


def test_partial_tables_merge_with_defaults() -> None:
    plan = parse_plan(
        SMALLEST + 'verify = { command = "x" }\n'
        "[rollout]\ndeadlines = { build = 10, stall = 0.5 }",
        BASE,
    )

    assert plan.rollout.deadlines == Deadlines(build=10, stall=0.5)
    assert plan.modules[0].verify == Verify(command="x")


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ('{ git = "a:b" }', GitSource("a:b")),
        ('{ git = "../a", rev = "v1" }', GitSource("../a", "v1")),
        ('{ dir = "~/a b" }', DirectorySource("~/a b")),
        ('{ s3 = "s3://bucket/a b/" }', S3Source("s3://bucket/a b/")),
        ('{ s3 = "s3://b/a.zip", version = "1.x" }', S3Source("s3://b/a.zip", "1.x")),
    ],
)
def test_a_source_is_one_of_three(
    value: str, source: GitSource | DirectorySource | S3Source
) -> None:
    plan = parse_plan(SMALLEST.replace('{ dir = "." }', value), BASE)

    assert plan.modules[0].source == source


def test_a_script_is_a_path_a_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "post.sh").touch()
    scripts = """
        buildpack = "ci/build.sh"
        pre_deploy = { inline = "true\\n" }
        post_deploy = { file = "post.sh" }
    """

    module = parse_plan(SMALLEST + scripts, tmp_path).modules[0]

    assert module.buildpack == Script(path="ci/build.sh")
    assert module.pre_deploy == Script(inline="true\n")
    assert module.post_deploy == Script(file="post.sh")
    assert not module.after_all_deploy


def test_a_script_may_name_the_user_it_runs_as() -> None:
    scripts = """
        pre_deploy = { path = "pre.sh", run_as = "www-data" }
        post_deploy = { inline = "true", run_as = "app_1" }
        verify = { command = "true", run_as = "app$" }
    """

    module = parse_plan(SMALLEST + scripts, BASE).modules[0]

    assert module.pre_deploy == Script(path="pre.sh", run_as="www-data")
    assert module.post_deploy == Script(inline="true", run_as="app_1")
    assert module.verify == Verify(command="true", run_as="app$")


def test_what_surrounds_a_switch_is_read_as_commands() -> None:
    rollout = """
        [rollout]
        min_serving = "80%"
        drain = { run = "lb drain", on = "host" }
        undrain = { run = "lb ready" }
        after_wave = { run = "smoke" }
    """

    plan = parse_plan(SMALLEST + rollout, BASE)

    assert plan.rollout == Rollout(
        min_serving="80%",
        drain=Hook("lb drain", "host"),
        undrain=Hook("lb ready", "controller"),
        after_wave=Gate("smoke"),
    )


def test_an_empty_string_is_no_command() -> None:
    rollout = """
        [rollout]
        drain = ""
        undrain = ""
        after_wave = ""
    """

    assert parse_plan(SMALLEST + rollout, BASE).rollout == Rollout()


@pytest.mark.parametrize(
    ("value", "selectors"),
    [
        ('"role=web,!h2"', ("role=web,!h2",)),
        ('["h1", "role=db"]', ("h1", "role=db")),
        ('""', ()),
    ],
)
def test_a_module_names_its_hosts(value: str, selectors: tuple[str, ...]) -> None:
    hosts = """
        [inventory]
        hosts = [
            { name = "h[1-2]", labels = { role = "web" } },
            { name = "db", labels = { role = "db" } },
        ]
    """

    plan = parse_plan(f"{SMALLEST}hosts = {value}\n{hosts}", BASE)

    assert plan.modules[0].selectors == selectors


def test_a_module_that_no_host_gets_is_refused() -> None:
    found = problems(
        SMALLEST + 'hosts = "role=web"\n[inventory]\n'
        'hosts = [{ name = "a", labels = { role = "db" } }]'
    )

    assert found == [
        "modules[0].hosts: no host has role=web; allowed: hosts of the inventory"
    ]


def test_a_build_at_its_target_needs_to_know_where_that_is() -> None:
    """A home is that of a login on each host."""
    text = SMALLEST.replace('"/srv/site"', '"~/site"\nbuild_at_target = true')

    assert problems(text) == [
        (
            "modules[0].build_at_target: is for a path that is known here; allowed:"
            " with an absolute path"
        )
    ]


def test_a_home_is_none_for_a_team_that_shares_a_user() -> None:
    text = SMALLEST.replace("/srv/site", "~/site")
    text += '[layout]\nroot = "~/ghost"\n[ssh]\nsudo = "deploy"\n'
    wrong = "is another folder for each login; allowed with ssh.sudo = a user:"
    assert problems(text) == [
        f"layout.root: {wrong} an absolute path",
        f"modules[0].path: {wrong} an absolute path",
    ]
    assert parse_plan(text.replace('"deploy"', "true"), BASE).ssh.sudo_user == "root"


def test_only_a_migration_has_no_way_back() -> None:
    migration = 'before_switch = { path = "migrate", no_return = true }'
    (module,) = parse_plan(SMALLEST + migration, BASE).modules
    assert module.before_switch == Script(path="migrate", no_return=True)

    assert problems(SMALLEST + 'pre_deploy = { inline = "x", no_return = true }') == [
        "modules[0].pre_deploy.no_return: is for migrations; allowed: in before_switch"
    ]


def test_scripts_that_run_here_run_as_nobody_else() -> None:
    assert problems(SMALLEST + 'buildpack = { inline = "x", run_as = "me" }') == [
        (
            "modules[0].buildpack.run_as: is for scripts on hosts; allowed: no run_as,"
            " this one runs here"
        )
    ]


def test_hosts_are_names_with_ranges_and_tables() -> None:
    hosts = """
        [inventory]
        hosts = [
            "web[01-02]",
            "[::1]",
            { name = "h1", address = "127.0.0.1", port = 2201, user = "x" },
            { name = "db[1-2]", labels = { az = "a" } },
        ]
    """

    assert parse_plan(SMALLEST + hosts, BASE).hosts == (
        Host("web01"),
        Host("web02"),
        Host("::1"),
        Host("h1", "127.0.0.1", 2201, "x"),
        Host("db1", labels={"az": "a"}),
        Host("db2", labels={"az": "a"}),
    )


def test_hosts_may_come_from_a_command_or_a_plug_in() -> None:
    command = parse_plan(SMALLEST + '[inventory]\ncommand = "hosts --json"', BASE)
    plugin = parse_plan(
        SMALLEST + '[inventory]\nplugin = "ec2"\ntags = { Role = "web" }\nhost = 3',
        BASE,
    )

    assert command.inventory == InventorySettings("hosts --json")
    assert plugin.inventory == InventorySettings(
        plugin="ec2", options={"tags": {"Role": "web"}, "host": 3}
    )
    assert command.hosts == plugin.hosts == ()


def test_what_depends_on_hosts_waits_for_an_inventory_that_is_to_be_asked() -> None:
    text = SMALLEST + 'hosts = "role=web"\n[rollout]\nspread_by = "az"\n'

    plan = parse_plan(text + '[inventory]\ncommand = "x"', BASE)

    assert (plan.rollout.spread_by, plan.hosts) == ("az", ())


def test_a_balancer_takes_the_keys_beside_its_kind() -> None:
    text = '[rollout]\nbalancer = { kind = "haproxy", sockets = ["/a", "/b"] }'

    plan = parse_plan(SMALLEST + text, BASE)

    assert plan.rollout.balancer == BalancerSettings(
        "haproxy", {"sockets": ["/a", "/b"]}
    )


# --- What does not ---------------------------------------------------------------


def test_everything_wrong_is_said_at_once_and_in_order() -> None:
    text = """
        waves = 3
        [app]
        nmae = "shop"
        env = "a/b"
        role = 3
        keep = 2
        secrets = ["OK", 3, "UID"]
        [ssh]
        sudo = "false"
        [layout]
        keep = 2.9
        [rollout]
        deadlines = { build = 0, bild = 3 }
        [[modules]]
        name = "site"
        path = "/srv/../x"
        source = { git = "x", dir = "y" }
        [inventory]
        hosts = "web1"
    """
    name = "a string of letters, digits, dots, _ and -, with a letter or digit first"
    app = "name, env, role, color, active_color, env_vars, secrets"
    secret = (
        "letters, digits and _, no digit first, not GHOST… and not a name"
        " that shells keep readonly"
    )

    assert problems(text) == [
        f'app.env: is "a/b"; allowed: {name}',
        f"app.keep: belongs in [store] or [layout]; allowed: {app}",
        f"app.name: is missing; allowed: {name}",
        f"app.nmae: is unknown (did you mean name?); allowed: {app}",
        f"app.role: is 3; allowed: {name}",
        "app.secrets[1]: is 3; allowed: a string",
        f'app.secrets[2]: is "UID"; allowed: {secret}',
        'inventory.hosts: is "web1"; allowed: an array of hosts',
        "layout.keep: is 2.9; allowed: a whole number, at least 1",
        (
            'modules[0].path: is "/srv/../x"; allowed: an absolute path, or one in'
            ' "~/", without "..", ":", "//" or "/" at its end'
        ),
        (
            "modules[0].source: gives git and dir; allowed:"
            ' { git = "…", rev = "…" }, { dir = "…" }'
            ' or { s3 = "s3://…", version = "…" }'
        ),
        (
            "rollout.deadlines.bild: is unknown (did you mean build?); allowed: source,"
            " build, connect, check, upload, seed, pre_deploy, before_switch, drain,"
            " switch, post_deploy, verify, undrain, after_wave, rollback,"
            " after_all_deploy, stall, settle"
        ),
        "rollout.deadlines.build: is 0; allowed: seconds, above 0, at most 10^9",
        'ssh.sudo: is "false"; allowed: true, false or a user of the host',
        (
            "waves: belongs in [rollout]; allowed: app, store, ssh, layout, rollout,"
            " inventory, modules"
        ),
    ]


def test_an_empty_file_lacks_the_app_and_its_modules() -> None:
    assert problems("") == [
        "app: is missing; allowed: a table with name, env and role",
        "modules: is missing; allowed: one [[modules]] or more",
    ]


def test_modules_are_an_array_of_tables() -> None:
    assert problems(SMALLEST.replace("[[modules]]", "[modules]")) == [
        "modules: is a table; allowed: an array of tables, [[modules]]"
    ]
    assert problems(SMALLEST.replace("[[modules]]", "[[module]]")) == [
        (
            "module: is unknown (did you mean modules?); allowed: app, store, ssh,"
            " layout, rollout, inventory, modules"
        ),
        "modules: is missing; allowed: one [[modules]] or more",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "a b\n",
            "c.toml: is not TOML, line 1, column 3: Expected '=' after a key",
        ),
        ("a = 1\na = 2\n", "c.toml: is not TOML, line 2, column 6: Cannot overwrite"),
        ("a = [", "c.toml: is not TOML, end of document: Invalid value"),
        ("a = " + "9" * 5000, "c.toml: is not TOML: Exceeds the limit"),
        ("a = " + "[" * 5000, "c.toml: is nested too deeply"),
    ],
)
def test_what_is_no_toml_is_said_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_plan(text, BASE, name="c.toml")

    (line,) = caught.value.problems
    assert line.startswith(problem)
    assert "\n" not in line


def test_a_missing_file_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plan(tmp_path / "c.toml")

    assert caught.value.problems == (
        f"{tmp_path}/c.toml: there is no such file; `ghostasync init` writes one",
    )


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'a = "\xe9"')

    reasons: dict[Path | str, str] = {
        tmp_path: "cannot be read: Is a directory",
        tmp_path / "latin": "is not UTF-8",
        "\0": "cannot be read: embedded null byte",
    }

    for path, reason in reasons.items():
        with pytest.raises(ConfigError) as caught:
            load_plan(path)
        assert caught.value.problems == (f"{path}: {reason}",)


def test_a_scripts_file_must_be_there(tmp_path: Path) -> None:
    text = SMALLEST + 'buildpack = { file = "build.sh" }'

    assert problems(text, tmp_path) == [
        (
            f"modules[0].buildpack.file: there is no file {tmp_path}/build.sh;"
            " allowed: a script's file"
        )
    ]


@given(st.data())
def test_a_broken_file_is_never_anything_but_a_config_error(
    data: st.DataObject,
) -> None:
    text = uncommented(EVERY_KEY)
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 30))
    junk = data.draw(
        st.text(max_size=5)
        | st.sampled_from(
            ["-1", "0", "true", "nan", "[]", "{}", '""', "1.5", "[[1]]", "2024-01-01"]
        )
    )

    found = problems_if_any(text[:start] + junk + text[start + length :])

    assert all(problem and "\n" not in problem for problem in found)


JSON = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.just("name"), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data())
def test_no_value_of_any_type_breaks_the_reading(data: st.DataObject) -> None:
    raw = tomllib.loads(uncommented(EVERY_KEY))
    tables = [raw, *(value for value in raw.values() if isinstance(value, dict))]
    tables += [raw["modules"][0], raw["rollout"]["deadlines"]]
    table = data.draw(st.sampled_from(tables))
    table[data.draw(st.sampled_from(sorted(table)))] = data.draw(JSON)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", lambda text: raw)
        found = problems_if_any("")

    assert all(problem and "\n" not in problem for problem in found)


# --- What is asked of a plan later -----------------------------------------------


def test_secrets_that_are_not_set_are_named() -> None:
    plan = attrs.evolve(PLAN, app=attrs.evolve(PLAN.app, secrets=("KEY", "TOKEN")))

    assert check_secrets(plan, {"KEY": ""}) == [
        "app.secrets[1]: TOKEN is not set in the environment"
    ]


def test_a_plan_built_in_python_obeys_the_same_rules() -> None:
    bad = attrs.evolve(
        PLAN, hosts=(Host("a"), Host("b", port=-1)), layout=Layout(root="/srv/site")
    )

    assert check_plan(PLAN) == []
    assert check_plan(bad) == [
        "hosts[1].port: is -1; allowed: a whole number, 0 to 65535",
        'modules[0].path: "/srv/site" is the same as layout.root; allowed: paths apart',
    ]


# --- The template -----------------------------------------------------------------


def test_the_template_loads_with_and_without_its_comments() -> None:
    text = template("shop", hosts=["web1"])

    assert parse_plan(text, BASE) == attrs.evolve(PLAN, hosts=(Host("web1"),))
    assert parse_plan(uncommented(text), BASE).rollout.waves == (1, "25%")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_template_quotes_what_it_is_given(text: str) -> None:
    written = template("shop", git="a:b", path=text, hosts=[text])

    raw = tomllib.loads(written)

    assert raw["modules"][0]["path"] == text
    assert raw["inventory"]["hosts"] == [text]
    assert raw["modules"][0]["source"] == {"git": "a:b", "rev": "main"}
