"""Scripts that reach out, or install where it does not belong, are found by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync._lint.offline import ShellLine, complaint, findings, warning


def on_hosts(text: str) -> list[str]:
    return [line.command for line in findings(text, "pre_deploy")]


def here(text: str) -> list[str]:
    return [line.command for line in findings(text, "buildpack")]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("apt-get -y install nginx", "apt-get install"),
        ("apt update", "apt update"),
        ("aptitude -o A::B=c install x", "aptitude install"),
        ("dpkg -i *.deb", "dpkg -i"),
        ("rpm -Uvh x.rpm", "rpm -Uvh"),
        ("yum -q -y install x", "yum install"),
        ("dnf upgrade", "dnf upgrade"),
        ("zypper in x", "zypper in"),
        ("apk add --no-cache x", "apk add"),
        ("pip install -r requirements.txt", "pip install"),
        ("pip3 install .", "pip3 install"),
        (".venv/bin/pip3.11 install x", "pip3.11 install"),
        ("python3 -m pip install x", "pip install"),
        ("$HOME/venv/bin/python -m pip install x", "pip install"),
        ("uv pip install x", "uv pip install"),
        ("poetry install", "poetry install"),
        ("npm ci", "npm ci"),
        ("npm --prefix web install", "npm install"),
        ("npx tsc", "npx"),
        ("yarn", "yarn install"),
        ("yarn --frozen-lockfile", "yarn install"),
        ("pnpm i", "pnpm i"),
        ("gem install x", "gem install"),
        ("bundle", "bundle install"),
        ("bundle install --jobs 4", "bundle install"),
        ("composer install --no-dev", "composer install"),
        ("curl -fsSL https://example.com/x | sh", "curl"),
        ('curl "$URL"', "curl"),
        ("curl -X POST example.com", "curl"),
        ("curl http://localhost.example.com", "curl"),
        ("curl http://localhost http://example.com", "curl"),
        ("curl -H 'Origin: http://localhost' https://example.com", "curl"),
        ("wget -q https://example.com/x", "wget"),
        ("git clone https://example.com/x.git", "git clone"),
        ("git clone git@example.com:x.git /srv/x", "git clone"),
        ("git -C /srv/x pull --ff-only", "git pull"),
        ("git fetch origin", "git fetch"),
        ("git submodule update --init", "git submodule update"),
        ("svn up", "svn up"),
        ("rsync -a build/ web2:/srv/", "rsync"),
        ("scp x deploy@10.0.0.1:", "scp"),
        ("ssh -p 22 db1 true", "ssh"),
        ("go get example.com/x", "go get"),
        ("cargo install x", "cargo install"),
        ("docker pull x", "docker pull"),
        ("cpanm X", "cpanm"),
    ],
)
def test_what_needs_the_network_or_installs_is_found(text: str, command: str) -> None:
    assert on_hosts(text) == [command]


@pytest.mark.parametrize(
    "text",
    [
        *("echo 'run curl later'", "command -v curl", "type curl", "which git"),
        *("curl --version", "pip --version", "git status", "git log", "git rev-parse"),
        *(
            "apt-get clean",
            "apt-cache policy x",
            "dpkg -l",
            "dpkg-query -W",
            "dpkg -i --root=x y",
            "rpm -qi x",
            "rpm -q -i -p x",
        ),
        *("pip freeze", "pip check", "npm run build", "npm start", "yarn build"),
        *("bundle exec rake db:migrate", "composer dump-autoload", "gem list"),
        *("cargo run", "go build ./...", "docker restart x", "svn info"),
        *("rsync -a --delete build/ /srv/x/", "rsync --chown www:www a b", "cp a b:c"),
        *(
            "systemctl restart curl",
            "rm -rf pip install",
            "grep -r curl .",
            "alias git=x",
        ),
        *("printf 'curl\n'", "x=curl", "ssh -V", "mkdir wget"),
    ],
)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert on_hosts(text) == []


@pytest.mark.parametrize(
    "text",
    [
        *("curl -f http://localhost:8080/health", "curl -s localhost/x"),
        *("curl 'http://127.0.0.1:80/?a=b'", "curl -g 'http://[::1]:80/'"),
        *(
            'curl "http://127.0.0.1:${PORT:-80}/"',
            'curl "http://$(hostname -f)/health"',
        ),
        *(
            'curl -H "Host: example.com" http://localhost',
            "curl http://$GHOST_HOST:80/",
        ),
        *(
            "curl --unix-socket /run/docker.sock http://docker/info",
            "wget http://0.0.0.0",
        ),
        *(
            "URL=http://localhost:1\ncurl $URL/x",
            "export H=127.0.0.1; curl http://${H}/",
        ),
        *(
            "aws s3 cp s3://b/k .",
            "curl https://b.s3.eu-west-1.amazonaws.com/k?X-Amz=1",
        ),
        *("wget https://s3.amazonaws.com/b/k", "curl https://$B.s3.$R.amazonaws.com/k"),
        *("curl http://169.254.169.254/latest/meta-data/",),
        *(
            "git clone /srv/mirror.git x",
            "git fetch ../other main",
            "ssh localhost true",
        ),
        *("git clone file:///srv/x.git", "scp x localhost:/y"),
        *(
            "pip install --no-index --find-links wheels x",
            "PIP_NO_INDEX=1 pip install x",
        ),
        *("export PIP_NO_INDEX=1\npip install x", "npm ci --offline", "yarn --offline"),
        *(
            "bundle install --local",
            "gem install --local x.gem",
            "npx --no-install tsc",
        ),
        *("cargo install --offline x", "uv sync --offline"),
    ],
)
def test_this_host_s3_and_offline_modes_are_no_network(text: str) -> None:
    assert on_hosts(text) == []


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "sudo",
            "sudo -n -u www",
            "sudo -E A=b",
            "env A=b C=d",
            "env -i",
            "A=b",
            "exec",
        ),
        *(
            "exec -a x",
            "time",
            "time -p",
            "nohup",
            "nice -n 5",
            "ionice -c 3",
            "command",
        ),
        *(
            "timeout -k 5 60",
            "stdbuf -oL",
            "xargs -n 1 -P 4",
            "setsid -w",
            "!",
            "if",
            "/usr/bin/",
        ),
        *("flock -w 5 /tmp/lock", "chroot /srv/x", "find . -exec", "sudo env A=b nice"),
        *("busybox", "a |", "a &&", "x=$(", 'echo "$(', "case a in b)", "sudo \\\n  "),
    ],
)
def test_a_command_is_found_behind_what_runs_it(prefix: str) -> None:
    gap = "" if prefix.endswith("/") else " "
    assert on_hosts(f"{prefix}{gap}curl example.com") == ["curl"]


@pytest.mark.parametrize(
    "text",
    [
        *("sh -c 'curl x'", "sudo bash -lc 'curl x'", "eval 'curl x'", "eval curl x"),
        *(
            "trap 'curl x' EXIT",
            "su -c 'curl x' www",
            "find . -exec sh -c 'curl $1' \\;",
        ),
        *("sh <<E\ncurl x\nE", "cat <<E | sudo bash -s\ncurl x\nE"),
        *("sh -c 'sh -c \"curl x\"'", "cat <<E\n$(curl x)\nE"),
    ],
)
def test_scripts_within_scripts_are_looked_at(text: str) -> None:
    assert on_hosts(text) == ["curl"]


@pytest.mark.parametrize(
    "text",
    [
        "curl x # ghostasync: allow",
        "# ghostasync: allow\ncurl x",
        "# ghostasync: allow, the CDN is purged\ncurl x",
        "curl \\\n  x # ghostasync: allow",
        "a | \\\n  curl x # ghostasync:allow",
    ],
)
def test_what_is_meant_is_marked(text: str) -> None:
    assert on_hosts(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "echo '# ghostasync: allow'\ncurl x",
        "# ghostasync: allow\n\ncurl x",
        "true # ghostasync: allow\ncurl x",
        "curl x\n# ghostasync: allow",
        "# ghostasync: allowed\ncurl x",
    ],
)
def test_a_mark_is_for_its_own_line_or_the_next(text: str) -> None:
    assert on_hosts(text) == ["curl"]


@pytest.mark.parametrize(
    ("first", "looked_at"),
    [
        ("", True),
        ("#!/bin/sh", True),
        ("#!/bin/bash -eu", True),
        ("#! /usr/bin/env bash", True),
        ("#!/usr/bin/env -S bash -e", True),
        ("#!/bin/busybox sh", True),
        ("#!/bin/sh\r", True),
        ("#!/usr/bin/env python3", False),
        ("#!/usr/bin/php", False),
        ("#!", False),
        ("\x7fELF\0", False),
    ],
)
def test_only_shell_scripts_are_looked_at(first: str, looked_at: bool) -> None:
    assert bool(on_hosts(f"{first}\ncurl x\n")) is looked_at


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("apt-get install -y gcc", "apt-get install"),
        ("yum install x", "yum install"),
        ("apk add gcc", "apk add"),
        ("pip install -r requirements.txt", "pip install"),
        ("python3 -m pip install x", "pip install"),
        ("sudo pip install x", "pip install"),
        ("npm install -g gulp", "npm install -g"),
        ("yarn global add gulp", "yarn global add"),
        ("gem install x", "gem install"),
        ("make install", "make install"),
        ("make -C src install", "make install"),
        ("cargo install x", "cargo install"),
        ("dpkg -i x.deb", "dpkg -i"),
    ],
)
def test_a_buildpack_that_installs_outside_the_tree_is_found(
    text: str, command: str
) -> None:
    assert here(text) == [command]


@pytest.mark.parametrize(
    "text",
    [
        *("curl -O https://example.com/x", "git clone https://example.com/x", "npm ci"),
        *(
            "npm install",
            "yarn",
            "composer install",
            "bundle install",
            "apt-get update",
        ),
        *("pip install -t lib x", "pip install --target=lib x", "pip install --user x"),
        *(".venv/bin/pip install x", '"$VENV/bin/python" -m pip install x'),
        *("python3 -m venv .venv\n. .venv/bin/activate\npip install x",),
        *("source env/bin/activate && pip install x", "pip download x", "pip wheel x"),
        *('PATH="$PWD/.venv/bin:$PATH"\npip install x', "PIP_TARGET=lib pip install x"),
        *("npm install -g --prefix .npm x", "gem install --install-dir vendor x"),
        *("GEM_HOME=$PWD/gems gem install x", "make", "make DESTDIR=$PWD/out install"),
        *(
            "./configure --prefix=$PWD/out\nmake install",
            "make install PREFIX=$PWD/out",
        ),
        *("cargo install --root . x", "yum --installroot=$PWD/root install x"),
    ],
)
def test_a_buildpack_may_use_the_network_and_install_in_the_tree(text: str) -> None:
    assert here(text) == []


def test_lines_are_those_of_the_script() -> None:
    text = "#!/bin/sh\nset -e\ncurl x\n\nsudo \\\n  npm ci\nsh <<E\n\nwget y\nE\n"

    assert findings(text, "post_deploy") == (
        ShellLine(3, "curl"), ShellLine(5, "npm ci"), ShellLine(9, "wget"),
    )  # fmt: skip


def test_a_complaint_names_some_lines_and_counts_the_rest() -> None:
    found = [ShellLine(number, "curl") for number in range(1, 9)]

    said = complaint("pre_deploy", found)

    assert said.startswith("pre_deploy calls curl (line 1), curl (line 2), ")
    assert "curl (line 5) and 3 more: hosts may have no network" in said
    assert said.endswith("# ghostasync: allow")


def test_a_warning_is_about_bytes_and_empty_where_all_is_well() -> None:
    assert warning("pre_deploy", b"echo \xff\n") == ""
    assert warning("after_all_deploy", b"curl x\n") == ""
    assert warning("buildpack", b"\xff; pip install x\n").startswith(
        "buildpack calls pip install (line 1): "
    )


PIECES = st.sampled_from(
    (
        *("curl ", "pip ", "install ", "git ", "clone ", "sudo ", "env ", "-c ", "-m "),
        *(
            "sh ",
            "eval ",
            "trap ",
            "find ",
            "-exec ",
            "rsync ",
            "ssh ",
            "a=",
            "$a",
            "${a}",
        ),
        *(
            "export ",
            "make ",
            ". ",
            "/activate ",
            "python ",
            "rpm ",
            "npx ",
            "timeout ",
        ),
        *"'\"\n;|&()<>$`\\ -:/[]",
    )
)


@given(
    st.lists(PIECES).map("".join) | st.text(),
    st.sampled_from(["buildpack", "pre_deploy", "post_deploy"]),
)
def test_no_script_makes_it_raise(text: str, key: str) -> None:
    for line in findings(text, key):
        assert 1 <= line.number <= text.count("\n") + 1
