"""What ssh is asked, and what is made of its answer."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import threading
import time
from pathlib import Path

import anyio
import pytest

from ghostasync.errors import ConfigError, Unreachable
from ghostasync.model import Host, Ssh
from ghostasync.transports import _ssh_config
from ghostasync.transports._endpoint import Endpoint
from ghostasync.transports._login import Login
from ghostasync.transports._ssh_config import Asked, SshConfig
from ghostasync.transports.ssh import SshTransport
from tests.transports.ssh_configs import HOSTS, asked_of_ssh, count, made_up


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/sh")


COUNTING = """\
Match exec "echo %n >> {}"
Match host !gw,*
  ProxyJump gw
"""


def way(config: Path, host: Host) -> Endpoint:
    return Login(Ssh(config=str(config))).endpoint(host)


def tried(config: Path, host: Host) -> tuple[Endpoint | None, str]:
    try:
        return way(config, host), ""
    except ValueError as exc:
        return None, str(exc)


@pytest.mark.parametrize("seed", range(count(150)))
def test_the_way_to_a_host_is_that_of_ssh(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_AGENT", "/my/agent")
    config = made_up(seed, tmp_path)
    name = HOSTS[seed % len(HOSTS)]
    port, user = (0, 2300)[seed % 3 == 0], ("", "jdoe")[seed % 2]
    said = asked_of_ssh(config, name, port, user)
    host = Host(name, "", port, user)

    endpoint, why = tried(config, host)
    if endpoint is None:
        # ssh would send any byte, and have its shell read whatever a user is called.
        assert said is None or re.search("no printable UTF-8|not safe in a shell", why)
        return
    if said is None:
        # ssh refuses a host that is its own jump host, which we reach directly.
        assert (endpoint.jump, endpoint.proxy_command) == ("", ())
        return

    assert [endpoint.address] == said["hostname"]
    assert [str(endpoint.port)] == said["port"]
    assert [endpoint.user] == said["user"]
    assert [endpoint.alias] == said.get("hostkeyalias", [None])
    families = {"any": 0, "inet": socket.AF_INET, "inet6": socket.AF_INET6}
    assert endpoint.family == families[said["addressfamily"][0]]
    jump = said.get("proxyjump", [""])[0].replace("none", "")
    # The first hop may be reached through others.
    assert endpoint.jump.endswith(jump)
    assert bool(endpoint.jump) == bool(jump)
    command = said.get("proxycommand", [""])[0]
    assert bool(endpoint.proxy_command) == bool(command)
    if command:
        for token in ("%h", "%p", "%r", "%n"):
            values = {"%h": said["hostname"], "%p": said["port"], "%r": said["user"]}
            command = command.replace(token, values.get(token, [name])[0])
        assert endpoint.proxy_command == ("/bin/sh", "-c", f"exec {command}")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_ssh_is_asked_once_for_each_host_port_and_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    config = write(tmp_path / "c", COUNTING.format(asked))
    login = Login(Ssh(config=str(config)))

    for _ in range(2):
        for name in ("a", "b"):
            login.endpoint(Host(name))

    assert sorted(asked.read_text().split()) == ["a", "b", "gw"]


def test_hosts_that_come_together_ask_about_their_jump_host_once(
    tmp_path: Path,
) -> None:
    asked = tmp_path / "asked"
    config = write(tmp_path / "c", COUNTING.format(asked))
    login = Login(Ssh(config=str(config)))
    threads = [
        threading.Thread(target=login.endpoint, args=[Host(f"h{number}")])
        for number in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert asked.read_text().split().count("gw") == 1


def test_a_way_is_kept_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    config = write(tmp_path / "c", "Host *\n HostName 10.0.0.1\n User me\n")
    login = Login(Ssh(config=str(config)))
    before = login.endpoint(Host("a"))

    write(config, "Hots *\n")

    assert login.endpoint(Host("a")) == before
    with pytest.raises(ValueError, match="Bad configuration option: hots"):
        login.endpoint(Host("b"))


def test_a_jump_host_is_asked_about_as_ssh_does(tmp_path: Path) -> None:
    """With what its own words say, and nothing of what is given for the host."""
    config = write(
        tmp_path / "c",
        "Host web\n ProxyJump ssh://me@b:23 # so\n"
        "Host b\n HostName 10.0.0.2\n Port 2202\n User other\n ProxyCommand nc %h %p\n",
    )
    login = Login(Ssh(user="deploy", port=2222, config=str(config)))

    web = login.endpoint(Host("web"))
    hop = login.endpoint(Host("ssh://me@b:23", "b", 23, "me"), "")

    assert (web.user, web.port, web.jump) == ("deploy", 2222, "me@b:23")
    assert (hop.user, hop.address, hop.port) == ("me", "10.0.0.2", 23)
    assert hop.proxy_command == ("/bin/sh", "-c", "exec nc 10.0.0.2 23")


def test_a_hop_that_has_others_before_it_is_reached_through_these_alone(
    tmp_path: Path,
) -> None:
    config = write(
        tmp_path / "c",
        "Host web\n ProxyJump a,b\nHost a\n ProxyJump x\nHost b\n ProxyCommand nc b\n",
    )
    login = Login(Ssh(config=str(config)))

    assert login.endpoint(Host("web")).jump == "x,a,b"
    assert login.endpoint(Host("b"), "x,a").proxy_command == ()


def test_a_hop_of_the_plan_has_the_user_of_the_plan_and_a_port_of_its_own(
    tmp_path: Path,
) -> None:
    login = Login(Ssh("deploy", 2222, jump="gw", config=False))

    assert login.endpoint(Host("a")) == Endpoint("a", 2222, "deploy", jump="gw")
    assert login.endpoint(Host("gw"), "") == Endpoint("gw", 22, "deploy")


@pytest.mark.parametrize(
    "user", ["x;id", "$(id)", "`id`", "a b", "x'y", 'x"y', "-o", "a\nb", "x>y"]
)
def test_a_value_that_a_shell_would_understand_reaches_none(
    user: str, tmp_path: Path
) -> None:
    config = write(tmp_path / "c", "Host *\n ProxyCommand nc -l %r %h %p\n")

    with pytest.raises(ValueError, match=r"not safe in a shell|invalid characters"):
        way(config, Host("a", user=user))


def test_a_user_that_is_no_utf_8_is_told(tmp_path: Path) -> None:
    config = tmp_path / "c"
    config.write_bytes(b"Host *\n User caf\xe9\n")

    with pytest.raises(ValueError, match=r"^user 'caf.udce9' is no printable UTF-8$"):
        way(config, Host("a"))


def test_a_token_that_is_unknown_is_told(tmp_path: Path) -> None:
    config = write(tmp_path / "c", "Host *\n ProxyCommand nc %h %z\n")

    with pytest.raises(ValueError, match="%z is none of the tokens %% %h"):
        way(config, Host("a"))


def test_a_command_of_the_configuration_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ssh_config, "SECONDS", 0.3)
    pid = tmp_path / "pid"
    config = write(tmp_path / "c", f'Match exec "echo $$ > {pid}; sleep 60; true"\n')

    with pytest.raises(ValueError, match=r"^a: ssh did not answer within 0.3 s"):
        way(config, Host("a"))

    while runs(int(pid.read_text())):
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for does not."""
    with contextlib.suppress(FileNotFoundError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    return False


async def test_a_run_that_ends_waits_for_no_command_of_the_configuration(
    tmp_path: Path,
) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    config = write(tmp_path / "c", f'Match exec "echo > {started}; sleep 60"\n')
    transport = SshTransport(Ssh(config=str(config)))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.session(Host("a")).open)
            await anyio.to_thread.run_sync(started.read_text)
            tasks.cancel_scope.cancel()
        await transport.aclose()
        while transport._login._config._running:  # type: ignore[union-attr]  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_what_ssh_says_is_wrong_is_the_error_of_the_host(tmp_path: Path) -> None:
    config = write(tmp_path / "c", "Host a\n Prot 22\n")

    with pytest.raises(Unreachable, match=r"line 2: Bad configuration option: prot$"):
        await SshTransport(Ssh(config=str(config))).session(Host("b")).open()


def test_an_included_file_that_others_can_change_is_refused(tmp_path: Path) -> None:
    more = write(tmp_path / "more", "User x\n")
    more.chmod(more.stat().st_mode | stat.S_IWOTH)
    config = write(tmp_path / "c", f"Host nowhere\n Include {tmp_path}/mor*\n")

    with pytest.raises(ConfigError, match=rf"^ssh\.config: {more} can be changed by"):
        Login(Ssh(config=str(config)))


def test_a_file_that_includes_itself_is_one_line(tmp_path: Path) -> None:
    config = write(tmp_path / "c", f"Include {tmp_path}/c\n")

    with pytest.raises(ValueError, match=r"^Too many recursive .* includes$"):
        way(config, Host("a"))


@pytest.fixture
def no_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_ssh_the_file_is_read_here(no_ssh: None, tmp_path: Path) -> None:
    config = write(tmp_path / "c", "Host a\n HostName b # c\n User me\n Port 23\n")

    assert way(config, Host("a")) == Endpoint("b", 23, "me")
    write(config, "Match exec true\n")
    with pytest.raises(ValueError, match="line 1: match exec takes ssh itself"):
        way(config, Host("a"))


def test_where_ssh_is_that_of_dropbear_the_file_is_read_here(
    no_ssh: None, tmp_path: Path
) -> None:
    """As on Alpine and OpenWrt."""
    client = write(tmp_path / "dbclient", "#!/bin/sh\nexit 0\n")
    client.chmod(0o755)
    (tmp_path / "ssh").symlink_to(client)
    config = write(tmp_path / "c", "Host a\n HostName b\n User me\n")

    assert way(config, Host("a")) == Endpoint("b", 22, "me")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_for_a_user_without_a_name_ssh_does_nothing_and_the_file_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers, whose user no password database knows."""
    config = write(tmp_path / "c", "Host a\n HostName b\n User me\n")
    real = shutil.which("ssh")
    nameless = "exec setpriv --reuid=4711 --clear-groups"
    ssh = write(tmp_path / "ssh", f'#!/bin/sh\n{nameless} {real} "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert way(config, Host("a")) == Endpoint("b", 22, "me")


def test_the_systems_file_counts_with_the_users_own_as_for_ssh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is named stands alone, as with ``ssh -F``."""
    system = write(tmp_path / "system", "SendEnv LANG\n")
    monkeypatch.setattr(_ssh_config, "SYSTEM", system)
    monkeypatch.setattr(_ssh_config, "home", lambda: tmp_path)
    own = tmp_path / ".ssh/config"
    assert SshConfig.found("~/.ssh/config") is None
    assert SshConfig.found(True) is None

    write(system, "Host *\n ProxyJump gw\n")

    # As where a runner of jobs sets it, and ssh does not look.
    monkeypatch.setenv("HOME", "/nowhere")
    for setting in ("~/.ssh/config", True):
        found = SshConfig.found(setting)
        assert found is not None
        assert found._options == ()
    own.parent.mkdir()
    write(own, "User me\n")
    named = SshConfig.found(str(write(tmp_path / "c", "User me\n")))
    assert named is not None
    assert named._options == ("-F", str(tmp_path / "c"))
    assert named.ask(Asked("a")).jump == ""
