"""Every rule of every key: what it takes, and what it refuses with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import attrs
import pytest

from ghostasync.config import parse_plan
from ghostasync.config._rules import RULES
from ghostasync.errors import ConfigError

BASE = Path("/etc/shop")

TABLES = {
    "[app]": {"name": '"shop"', "env": '"prod"', "role": '"web"'},
    "[store]": {},
    "[ssh]": {},
    "[layout]": {},
    "[inventory]": {},
    "[rollout]": {},
    "[[modules]]": {
        "name": '"site"',
        "path": '"/srv/site"',
        "source": '{ dir = "." }',
    },
}


def problems(table: str, line: str, *, more: str = "") -> list[str]:
    """Return what is wrong with a good file when *line* is put into its *table*."""
    key, _, value = line.partition(" = ")
    text = ""
    for header, keys in TABLES.items():
        lines = {**keys, key: value} if table == header.strip("[]") else keys
        # A line may bring a table of its own along.
        if header in line:
            continue
        text += "\n".join([header, *(f"{k} = {v}" for k, v in lines.items()), ""])
    try:
        parse_plan(text + more, BASE)
    except ConfigError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("app", 'color = "blue"'),
        ("app", 'active_color = "green"'),
        ("app", 'env_vars = { A = "it\'s\\n`$x`", _b1 = "" }'),
        ("app", 'secrets = ["TOKEN", "ghost_1"]'),
        ("store", 'url = "../store"'),
        ("store", 'url = "s3://bucket"'),
        ("store", 'endpoint_url = "http://127.0.0.1:9000"'),
        ("ssh", "port = 65535"),
        ("ssh", 'host_keys = "accept-new"'),
        ("ssh", "config = false"),
        ("ssh", 'config = "ssh_config"'),
        ("ssh", 'jump = "u@bastion:2222"'),
        ("ssh", 'proxy_command = "nc %h %p"'),
        ("layout", 'root = "~/ghost"'),
        ("layout", 'proof = "content"'),
        ("layout", "keep = 1"),
        ("rollout", 'waves = [1, "25%"]'),
        ("rollout", 'waves = "25%"'),
        ("rollout", 'waves = "1by1"'),
        ("rollout", "soak = 0.5"),
        ("rollout", 'max_failures = "5%"'),
        ("rollout", "max_unreachable = 0"),
        ("rollout", 'on_failure = "rollback-host"'),
        ("rollout", "deadlines = { build = 1.5 }"),
        ("inventory", 'hosts = ["web1", "h_2.example.com", "fe80::1%eth0"]'),
        ("inventory", 'hosts = [{ name = "a", labels = { "aws:az" = "x" } }]'),
        ("modules", 'path = "~/site"'),
        ("modules", 'path = "/srv/..site/a b"'),
        ("modules", "uid = 0"),
        ("modules", 'exclude = [".git", "*.pyc", "a/b"]'),
        ("modules", 'shared_dirs = ["var/log", "var/run"]'),
        ("modules", 'shared_files = [".env"]'),
        ("modules", 'verify = { url = "https://localhost/health?x=1" }'),
        ("modules", 'verify = { command = "a\\nb", url = "http://x" }'),
        ("modules", 'pre_deploy = { inline = "#!/bin/sh\\ntrue" }'),
    ],
)
def test_accepted(table: str, line: str) -> None:
    assert problems(table, line) == []


NAME = "a string of letters, digits, dots, _ and -, with a letter or digit first"
COLOR = '"", "blue" or "green"'
VARIABLE = (
    "letters, digits and _, no digit first, not GHOST… and not a name"
    " that shells keep readonly"
)
LOGIN = "the name of a user: letters, digits and . _ @ + \\ -, no - first"
STORE = 'a path or "s3://bucket/prefix"'
PORT = "a whole number, 0 to 65535"
TARGET = 'an absolute path, or one in "~/", without "..", ":", "//" or "/" at its end'
WAVES = (
    'sizes in hosts or percent, like [1, "25%"], or one of "1by1", "1/3", "25%", "50%"'
)
SELECTION = (
    'an expression like those of --limit ("role=web,!web3", but no @failed), or an'
    " array of them"
)
BUDGET = 'a number of hosts, at least 0, or "0%" to "100%"'
TIMER = "seconds, above 0, at most 10^9"
WAIT = "seconds, 0 to 10^9"
LONG = "0, or seconds from 10 to 10^9"
HOST = (
    "host names, addresses and ranges like web[001-300];"
    " user and port have keys of their own"
)
ID = "a whole number, -1 to 4294967294"
INSIDE = 'a path in the source tree without "..", "//" or "/" at its end'
HTTP = '"http://…" or "https://…"'
SOURCE = '{ git = "…", rev = "…" }, { dir = "…" } or { s3 = "s3://…", version = "…" }'
REPOSITORY = "a URL or a path; in a password %2F for /, %3F for ?, %23 for #"
OBJECTS = '"s3://bucket/object" or "s3://bucket/prefix/"'
SCRIPT = 'a path in the source tree, { inline = "…" } or { file = "…" }'


@pytest.mark.parametrize(
    ("table", "line", "problem"),
    [
        ("app", 'name = "-x"', f'app.name: is "-x"; allowed: {NAME}'),
        ("app", 'role = "a b"', f'app.role: is "a b"; allowed: {NAME}'),
        ("app", 'env = "p\\n"', f'app.env: is "p\\n"; allowed: {NAME}'),
        ("app", 'color = "red"', f'app.color: is "red"; allowed: {COLOR}'),
        (
            "app",
            'env_vars = { GHOST_A = "1" }',
            f"app.env_vars.GHOST_A: is no name for it; allowed: {VARIABLE}",
        ),
        (
            "app",
            'env_vars = { "1\\n" = "1" }',
            f'app.env_vars."1\\n": is no name for it; allowed: {VARIABLE}',
        ),
        (
            "app",
            f'env_vars = {{ A = "{"x" * 140_000}" }}',
            (
                "app.env_vars.A: has 140,003 bytes; allowed: 131,000, for Linux starts "
                "no script with more in one variable"
            ),
        ),
        (
            "app",
            "env_vars = { "
            + ", ".join(f'A{n} = "{"x" * (120_000 + n)}"' for n in range(9))
            + " }",
            (
                "app.env_vars.A8: is the largest of variables that have 1,080,072 "
                "bytes in all; allowed: 1,000,000"
            ),
        ),
        ("app", "env_vars = { A = 1 }", "app.env_vars.A: is 1; allowed: a string"),
        (
            "app",
            "env_vars = []",
            "app.env_vars: is an array; allowed: a table of strings",
        ),
        (
            "app",
            'env_vars = { A = "\\u0000" }',
            "app.env_vars.A: has a NUL in it; allowed: any other text",
        ),
        (
            "app",
            'secrets = "TOKEN"',
            'app.secrets: is "TOKEN"; allowed: an array of strings',
        ),
        *(
            (
                "app",
                f'secrets = ["{n}"]',
                f'app.secrets[0]: is "{n}"; allowed: {VARIABLE}',
            )
            for n in (
                "UID",
                "EUID",
                "PPID",
                "SHELLOPTS",
                "BASHOPTS",
                "GHOST",
                "A-B",
                "",
            )
        ),
        (
            "app",
            'env_vars = { A = "1" }\nsecrets = ["A"]',
            'app.secrets[0]: "A" is in app.env_vars too; allowed: one place',
        ),
        ("store", 'url = ""', f'store.url: is ""; allowed: {STORE}'),
        ("store", 'url = "gs://x"', f'store.url: is "gs://x"; allowed: {STORE}'),
        ("store", 'url = "s3://"', f'store.url: is "s3://"; allowed: {STORE}'),
        ("store", "keep = 0", "store.keep: is 0; allowed: a whole number, at least 1"),
        (
            "store",
            "keep = true",
            "store.keep: is true; allowed: a whole number, at least 1",
        ),
        (
            "store",
            'endpoint_url = "x"',
            f'store.endpoint_url: is "x"; allowed: {HTTP}',
        ),
        *(
            (
                "ssh",
                f"sudo = {wrong}",
                f"ssh.sudo: is {wrong}; allowed: true, false or a user of the host",
            )
            for wrong in ("1", '"False"', '""', '"a b"', '"-u"', '"$(id)"')
        ),
        ("ssh", 'port = "22"', f'ssh.port: is "22"; allowed: {PORT}'),
        ("ssh", "port = 65536", f"ssh.port: is 65536; allowed: {PORT}"),
        (
            "ssh",
            f"port = 0x{'f' * 5000}",
            f"ssh.port: is a number beyond 64 bits; allowed: {PORT}",
        ),
        (
            "ssh",
            'user = "-l"',
            f'ssh.user: is "-l"; allowed: {LOGIN}',
        ),
        (
            "ssh",
            'identity = "a\\nb"',
            'ssh.identity: is "a\\nb"; allowed: a string of one line',
        ),
        (
            "ssh",
            'host_keys = "no"',
            'ssh.host_keys: is "no"; allowed: "strict", "accept-new" or "insecure"',
        ),
        ("ssh", "config = true", "ssh.config: is true; allowed: a path or false"),
        ("ssh", "config = 1", "ssh.config: is 1; allowed: a path or false"),
        (
            "ssh",
            "connects = -1",
            "ssh.connects: is -1; allowed: a whole number, at least 0",
        ),
        (
            "ssh",
            'jump = "a"\nproxy_command = "b"',
            "ssh.proxy_command: is set beside ssh.jump; allowed: one of them",
        ),
        *(
            (
                "layout",
                f'root = "{root}"',
                f'layout.root: is "{root}"; allowed: {TARGET}',
            )
            for root in (
                "",
                "/",
                "~",
                "ghost",
                "~u/g",
                "/a/../b",
                "/a/.",
                "/a:b",
                "/a/",
            )
        ),
        (
            "layout",
            'proof = "none"',
            'layout.proof: is "none"; allowed: "metadata" or "content"',
        ),
        (
            "layout",
            "proof = true",
            'layout.proof: is true; allowed: "metadata" or "content"',
        ),
        (
            "layout",
            "keep = 2.9",
            "layout.keep: is 2.9; allowed: a whole number, at least 1",
        ),
        ("rollout", "waves = []", f"rollout.waves: is []; allowed: {WAVES}"),
        ("rollout", "waves = [0]", f"rollout.waves: is [0]; allowed: {WAVES}"),
        ("rollout", 'waves = ["0%"]', f'rollout.waves: is ["0%"]; allowed: {WAVES}'),
        ("rollout", 'waves = ["1/3"]', f'rollout.waves: is ["1/3"]; allowed: {WAVES}'),
        ("rollout", 'waves = "100%"', f'rollout.waves: is "100%"; allowed: {WAVES}'),
        ("rollout", "waves = 1", f"rollout.waves: is 1; allowed: {WAVES}"),
        (
            "rollout",
            "waves = [1, true]",
            "rollout.waves[1]: is true; allowed: a whole number or a string",
        ),
        (
            "rollout",
            'drain = { run = "#!" }',
            "rollout.drain.run: line 1 is #! without an interpreter: write #!/bin/sh",
        ),
        (
            "rollout",
            r'after_wave = { run = "a\r\nb" }',
            (
                "rollout.after_wave.run: line 1 ends in CR LF, and the CR becomes a"
                r" part of its last word: sed -i 's/\r$//' FILE; in git, `* text"
                " eol=lf` in .gitattributes"
            ),
        ),
        ("rollout", "soak = -1", f"rollout.soak: is -1; allowed: {WAIT}"),
        ("rollout", "soak = nan", f"rollout.soak: is NaN; allowed: {WAIT}"),
        ("rollout", "confirm = inf", f"rollout.confirm: is Infinity; allowed: {LONG}"),
        ("rollout", "confirm = 9", f"rollout.confirm: is 9; allowed: {LONG}"),
        (
            "rollout",
            "max_failures = -1",
            f"rollout.max_failures: is -1; allowed: {BUDGET}",
        ),
        (
            "rollout",
            'max_failures = "5"',
            f'rollout.max_failures: is "5"; allowed: {BUDGET}',
        ),
        (
            "rollout",
            'max_unreachable = "x"',
            f'rollout.max_unreachable: is "x"; allowed: {BUDGET}, or ""',
        ),
        (
            "rollout",
            'on_failure = "rollback"',
            (
                'rollout.on_failure: is "rollback";'
                ' allowed: "rollback-fleet" or "rollback-host"'
            ),
        ),
        (
            "rollout",
            'min_serving = "80"',
            f'rollout.min_serving: is "80"; allowed: {BUDGET}',
        ),
        (
            "rollout",
            'drain = { run = "x", on = "here" }',
            'rollout.drain.on: is "here"; allowed: "controller" or "host"',
        ),
        (
            "rollout",
            'undrain = "lb ready"',
            'rollout.undrain: is "lb ready"; allowed: a table',
        ),
        (
            "rollout",
            'after_wave = { run = "x", on = "host" }',
            (
                "rollout.after_wave.on: belongs in rollout.drain or rollout.undrain;"
                " allowed: run"
            ),
        ),
        (
            "rollout",
            'balancer = "haproxy"',
            'rollout.balancer: is "haproxy"; allowed: a table with kind = "…"',
        ),
        (
            "rollout",
            'balancer = { socket = "x" }',
            "rollout.balancer.kind: is missing; allowed: a plug-in's name",
        ),
        (
            "rollout",
            'balancer = { kind = "a b" }',
            'rollout.balancer.kind: is "a b"; allowed: the name of a plug-in',
        ),
        (
            "rollout",
            'balancer = { kind = "x" }\ndrain = { run = "y" }',
            "rollout.balancer: is set beside rollout.drain; allowed: one of them",
        ),
        (
            "rollout",
            'balancer = { kind = "x" }\nundrain = { run = "y" }',
            "rollout.balancer: is set beside rollout.undrain; allowed: one of them",
        ),
        (
            "inventory",
            'command = "x"\nhosts = ["a"]',
            "inventory.command: is set beside inventory.hosts; allowed: one of them",
        ),
        (
            "inventory",
            'command = "x"\nplugin = "y"',
            "inventory.plugin: is set beside inventory.command; allowed: one of them",
        ),
        (
            "inventory",
            'plugin = "../x"',
            'inventory.plugin: is "../x"; allowed: the name of a plug-in',
        ),
        (
            "inventory",
            'comand = "x"',
            (
                "inventory.comand: is unknown (did you mean command?);"
                " allowed: command, plugin, hosts"
            ),
        ),
        (
            "inventory",
            'hosts = [{ name = "a", labels = { az = "x\\ny" } }]',
            ('inventory.hosts[0].labels.az: is "x\\ny"; allowed: a string of one line'),
        ),
        (
            "modules",
            'hosts = "@failed"',
            f'modules[0].hosts: is "@failed"; allowed: {SELECTION}',
        ),
        ("modules", "hosts = []", f"modules[0].hosts: is []; allowed: {SELECTION}"),
        (
            "modules",
            'pre_deploy = { path = "x", run_as = "a b" }',
            'modules[0].pre_deploy.run_as: is "a b"; allowed: a user of the host',
        ),
        (
            "rollout",
            "concurrency = 0",
            "rollout.concurrency: is 0; allowed: a whole number, at least 1",
        ),
        (
            "rollout",
            "deadlines = { stall = 0 }",
            f"rollout.deadlines.stall: is 0; allowed: {TIMER}",
        ),
        (
            "rollout",
            "deadlines = 3",
            "rollout.deadlines: is 3; allowed: a table",
        ),
        (
            "inventory",
            'hosts = [{ name = "a", port = -1 }]',
            f"inventory.hosts[0].port: is -1; allowed: {PORT}",
        ),
        (
            "inventory",
            'hosts = ["u@h"]',
            f'inventory.hosts[0]: is "u@h"; allowed: {HOST}',
        ),
        ("inventory", 'hosts = [""]', f'inventory.hosts[0]: is ""; allowed: {HOST}'),
        (
            "inventory",
            'hosts = ["../a"]',
            f'inventory.hosts[0]: is "../a"; allowed: {HOST}',
        ),
        (
            "inventory",
            "hosts = [{ port = 1 }]",
            f"inventory.hosts[0].name: is missing; allowed: {HOST}",
        ),
        (
            "inventory",
            "hosts = [3]",
            (
                'inventory.hosts[0]: is 3; allowed: a string like "web[001-300]",'
                " or a table with name"
            ),
        ),
        (
            "inventory",
            'hosts = ["web[3-1]"]',
            'inventory.hosts[0]: "web[3-1]": the range 3-1 does not count upwards',
        ),
        (
            "inventory",
            'hosts = ["web[1-3]", "web2"]',
            (
                'inventory.hosts[1]: "web2" is the name of inventory.hosts[0] too;'
                " allowed: each name once"
            ),
        ),
        (
            "inventory",
            'hosts = [{ name = "web[1-2]", address = "h" }]',
            (
                'inventory.hosts[0]: gives one address to all of "web[1-2]";'
                " allowed: one each"
            ),
        ),
        (
            "inventory",
            'hosts = [{ name = "a", labels = { "a=b" = "x" } }]',
            (
                'inventory.hosts[0].labels."a=b": is no name for it;'
                " allowed: names without spaces, comma, = ! @ in them, no - first"
            ),
        ),
        ("modules", 'path = "/a/"', f'modules[0].path: is "/a/"; allowed: {TARGET}'),
        ("modules", 'name = "../x"', f'modules[0].name: is "../x"; allowed: {NAME}'),
        (
            "modules",
            'path = "/ghost/site"',
            (
                'modules[0].path: "/ghost/site" lies inside layout.root;'
                " allowed: paths apart"
            ),
        ),
        (
            "modules",
            'source = "."',
            f'modules[0].source: is "."; allowed: {SOURCE}',
        ),
        (
            "modules",
            'source = { rev = "x" }',
            f"modules[0].source: gives neither git, dir nor s3; allowed: {SOURCE}",
        ),
        (
            "modules",
            'source = { dir = ".", rev = "x" }',
            "modules[0].source.rev: goes with git only; allowed: dir",
        ),
        (
            "modules",
            'source = { git = "--upload-pack=x" }',
            f'modules[0].source.git: is "--upload-pack=x"; allowed: {REPOSITORY}',
        ),
        (
            "modules",
            f'source = {{ git = "https://u:p4/ss@h/x{"y" * 80}" }}',
            (
                f'modules[0].source.git: is "https://h/x{"y" * 48}…; allowed: '
                f"{REPOSITORY}"
            ),
        ),
        (
            "modules",
            'source = { git = "x", rev = "-x" }',
            'modules[0].source.rev: is "-x"; allowed: a branch, tag or commit',
        ),
        (
            "modules",
            'source = { s3 = "bucket" }',
            f'modules[0].source.s3: is "bucket"; allowed: {OBJECTS}',
        ),
        (
            "modules",
            'source = { s3 = "s3://b/a.zip", version = "a b" }',
            'modules[0].source.version: is "a b"; allowed: a version id',
        ),
        (
            "modules",
            'source = { dir = ".", version = "x" }',
            "modules[0].source.version: goes with s3 only; allowed: dir",
        ),
        (
            "modules",
            'source = { s3 = "s3://b/site/", version = "x" }',
            (
                'modules[0].source.version: is of one object, and "s3://b/site/" is a'
                " prefix; allowed: none"
            ),
        ),
        (
            "modules",
            'buildpack = "../x"',
            f'modules[0].buildpack: is "../x"; allowed: {INSIDE}',
        ),
        (
            "modules",
            'buildpack = "/x"',
            f'modules[0].buildpack: is "/x"; allowed: {INSIDE}',
        ),
        ("modules", "buildpack = 3", f"modules[0].buildpack: is 3; allowed: {SCRIPT}"),
        (
            "modules",
            "buildpack = {}",
            f"modules[0].buildpack: gives nothing; allowed: {SCRIPT}",
        ),
        (
            "modules",
            'buildpack = { inline = "a", file = "b" }',
            f"modules[0].buildpack: gives inline and file; allowed: {SCRIPT}",
        ),
        (
            "modules",
            'buildpack = { inlin = "a" }',
            (
                "modules[0].buildpack.inlin: is unknown (did you mean inline?);"
                " allowed: path, inline, file, run_as, no_return"
            ),
        ),
        ("modules", "uid = -2", f"modules[0].uid: is -2; allowed: {ID}"),
        ("modules", "gid = 1.0", f"modules[0].gid: is 1.0; allowed: {ID}"),
        (
            "modules",
            'exclude = ["../x"]',
            f'modules[0].exclude[0]: is "../x"; allowed: {INSIDE}',
        ),
        (
            "modules",
            'shared_dirs = ["/var"]',
            f'modules[0].shared_dirs[0]: is "/var"; allowed: {INSIDE}',
        ),
        (
            "modules",
            'shared_dirs = ["var"]\nshared_files = ["var/x"]',
            (
                'modules[0].shared_files[0]: "var/x" lies inside'
                " modules[0].shared_dirs[0]; allowed: paths apart"
            ),
        ),
        (
            "modules",
            "verify = { interval = 0 }",
            f"modules[0].verify.interval: is 0; allowed: {TIMER}",
        ),
        (
            "modules",
            'verify = { url = "localhost" }',
            f'modules[0].verify.url: is "localhost"; allowed: {HTTP}',
        ),
        (
            "modules",
            'rev = "x"',
            (
                "modules[0].rev: belongs in modules.source; allowed: name, path,"
                " source, buildpack, pre_deploy, before_switch, post_deploy,"
                " after_all_deploy, build_at_target, uid, gid, submodules, exclude,"
                " shared_dirs, shared_files, allow_empty, attributes, adopt, hosts,"
                " verify"
            ),
        ),
    ],
)
def test_refused(table: str, line: str, problem: str) -> None:
    assert problems(table, line) == [problem]


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("/srv/site", "is the same as"),
        ("/srv/site/a", "lies inside"),
        ("/srv", "lies around"),
    ],
)
def test_no_path_is_inside_another(path: str, how: str) -> None:
    second = f'[[modules]]\nname = "b"\npath = "{path}"\nsource = {{ dir = "." }}'

    assert problems("modules", "uid = -1", more=second) == [
        f'modules[1].path: "{path}" {how} modules[0].path; allowed: paths apart'
    ]


def test_a_module_has_a_name_a_path_and_a_source() -> None:
    assert problems("modules", "uid = -1", more="[[modules]]") == [
        f"modules[1].name: is missing; allowed: {NAME}",
        f"modules[1].path: is missing; allowed: {TARGET}",
        f"modules[1].source: is missing; allowed: {SOURCE}",
    ]


def test_module_names_are_unique() -> None:
    second = '[[modules]]\nname = "site"\npath = "/srv/b"\nsource = { dir = "." }'

    assert problems("modules", "uid = -1", more=second) == [
        (
            'modules[1].name: "site" is the name of modules[0].name too;'
            " allowed: each name once"
        )
    ]


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        ("{ az = '1' }", ["az"]),
        ("{}", ["none, no host has labels"]),
        ("{ zone = '1' }", []),
    ],
)
def test_waves_are_spread_by_a_label_that_hosts_have(
    labels: str, allowed: list[str]
) -> None:
    hosts = f'hosts = [{{ name = "a", labels = {labels} }}]'

    found = problems("inventory", f'{hosts}\n[rollout]\nspread_by = "zone"')

    assert found == [
        f'rollout.spread_by: is "zone"; allowed: {words}' for words in allowed
    ]


def test_every_key_that_is_not_true_or_false_has_a_rule() -> None:
    for cls, rules in RULES.items():
        kinds = {"bool", "Source", "Script", "Verify", "Deadlines", "Hook", "Gate"}
        kinds.add("Signing")
        # A plug-in alone knows its own keys.
        kinds |= {"BalancerSettings", "Mapping[str, object]"}
        fields = attrs.fields_dict(cls)
        assert set(rules) == {n for n, f in fields.items() if str(f.type) not in kinds}


LITERALS = [
    (cls, name, get_args(kind))
    for cls in RULES
    for name, kind in get_type_hints(cls).items()
    if get_origin(kind) is Literal
]


def test_the_words_that_a_literal_has_are_those_that_its_key_takes() -> None:
    assert {name for _, name, _ in LITERALS} == {
        *("host_keys", "proof", "on", "on_failure", "checksums", "transfer"),
        "attributes",
    }
    for cls, name, words in LITERALS:
        rule = RULES[cls][name]

        assert all(map(rule.accepts, words))
        assert not rule.accepts("")
        assert all(f'"{word}"' in rule.allowed for word in words)


@pytest.mark.parametrize(
    ("table", "line", "problem"),
    [
        ("ssh", "host_keys = true", 'ssh.host_keys: is true; allowed: "strict", '),
        ("ssh", "host_keys = []", 'ssh.host_keys: is an array; allowed: "strict", '),
        (
            "rollout",
            'drain = { run = "x", on = 1 }',
            'rollout.drain.on: is 1; allowed: "controller" or "host"',
        ),
        (
            "rollout",
            "on_failure = {}",
            'rollout.on_failure: is a table; allowed: "rollback-fleet" or ',
        ),
    ],
)
def test_what_is_no_word_at_all_is_told_the_words(
    table: str, line: str, problem: str
) -> None:
    (found,) = problems(table, line)

    assert found.startswith(problem)
