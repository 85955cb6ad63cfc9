from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NoReturn

import asyncssh
import pytest

from ghostasync.errors import ConfigError
from ghostasync.model import Host, Ssh
from ghostasync.transports._endpoint import Endpoint, Keys
from ghostasync.transports._login import Login, hop
from ghostasync.transports._trust import Trust


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/sh")


def configured(tmp_path: Path, text: str) -> str:
    config = tmp_path / "config"
    config.write_text(text)
    return str(config)


def keep(key: asyncssh.SSHKey, path: Path, mode: int = 0o600) -> None:
    path.touch()
    path.chmod(mode)
    path.write_bytes(key.export_private_key())


def test_the_host_overrides_the_settings() -> None:
    login = Login(Ssh(user="all", port=2200, config=False))

    assert login.endpoint(Host("a")) == Endpoint("a", 2200, "all")
    assert login.endpoint(Host("a", "10.0.0.1", 22, "me")) == Endpoint(
        "10.0.0.1", 22, "me"
    )


def test_without_a_user_it_is_the_one_who_runs_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("LOGNAME", "somebody")

    assert Login(Ssh(config=False)).endpoint(Host("a")).user == me

    def nobody(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert Login(Ssh(config=False)).endpoint(Host("a")).user == "somebody"


def test_the_configuration_fills_in_what_the_plan_leaves_open(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        "Host a\n HostName 10.0.0.1\n Port 2201\n User b\n HostKeyAlias c\n"
        " ProxyJump d@e:2202\n",
    )

    endpoint = Login(Ssh(config=config)).endpoint(Host("a"))

    assert endpoint == Endpoint("10.0.0.1", 2201, "b", jump="d@e:2202", alias="c")


def test_the_plan_overrides_the_configuration(tmp_path: Path) -> None:
    config = configured(
        tmp_path, "Host *\n Port 2201\n User b\n ProxyJump none\n IdentityFile /no\n"
    )
    key = asyncssh.generate_private_key("ssh-ed25519")
    keep(key, tmp_path / "key")
    login = Login(Ssh("me", 2300, "~/key", config=config))

    assert login.endpoint(Host("a")) == Endpoint(
        "a", 2300, "me", keys=Keys((key,)), identity=str(tmp_path / "key")
    )


def test_a_jump_host_is_reached_directly(tmp_path: Path) -> None:
    config = configured(tmp_path, "Host *\n ProxyJump e\n User b\n")

    assert Login(Ssh(config=config)).endpoint(Host("e"), "") == Endpoint("e", 22, "b")


def test_a_proxy_command_has_its_tokens_filled_in() -> None:
    login = Login(Ssh("me", proxy_command="relay %% %h %p %r", config=False))

    words = ("relay", "%", "a", "22", "me")
    assert login.endpoint(Host("a")).proxy_command == words


def test_a_value_makes_no_word_of_a_proxy_command() -> None:
    command = "ssh -l %r -W %h:%p 'the gate'"
    login = Login(Ssh(proxy_command=command, config=False))
    host = Host("a", "b 'c", user="x -oProxyCommand=touch%p")

    assert login.endpoint(host).proxy_command == (
        *("ssh", "-l", "x -oProxyCommand=touch%p"),
        *("-W", "b 'c:22", "the gate"),
    )


def test_a_scope_is_no_token_of_a_command_in_the_configuration(tmp_path: Path) -> None:
    config = configured(tmp_path, "Host *\n User b\n ProxyCommand nc %h %p\n")
    words = ("/bin/sh", "-c", "exec nc fe80::1%pan0 22")

    assert Login(Ssh(config=config)).endpoint(Host("fe80::1%pan0")).proxy_command == (
        words
    )


def test_a_proxy_command_of_the_configuration_is_the_shells_as_for_ssh(
    tmp_path: Path,
) -> None:
    config = configured(tmp_path, "Host a\n User b\n ProxyCommand relay 'x y' %h %p\n")

    words = ("/bin/sh", "-c", "exec relay 'x y' a 22")
    assert Login(Ssh(config=config)).endpoint(Host("a")).proxy_command == words


def test_default_keys_are_offered_and_locked_ones_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".ssh"
    folder.mkdir()
    key = asyncssh.generate_private_key("ssh-ed25519")
    keep(key, folder / "id_ed25519")
    locked = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    (folder / "id_ecdsa").write_bytes(locked.export_private_key("pkcs8-pem", "secret"))

    endpoint = Login(Ssh(config=False)).endpoint(Host("a"))

    assert endpoint.keys == Keys((key,))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_is_left_out_and_named(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / ".ssh" / "id_ed25519"
    path.parent.mkdir()
    keep(asyncssh.generate_private_key("ssh-ed25519"), path, mode)
    config = configured(tmp_path, f"Host *\n IdentityFile {path}\n")
    why = f"{path} can be read by others, so ssh would not use it: chmod 600 {path}"

    for settings in (Ssh("me", config=False), Ssh("me", config=config)):
        assert Login(settings).endpoint(Host("a")).keys == Keys(loose=(why,))
    with pytest.raises(ConfigError) as caught:
        Login(Ssh(identity=str(path), config=False))

    assert str(caught.value) == f"ssh.identity: {why}"


def test_files_that_others_can_change_are_refused(tmp_path: Path) -> None:
    config, known = tmp_path / "config", tmp_path / "known"
    for path in (config, known):
        path.touch()
        path.chmod(0o666)

    with pytest.raises(ConfigError, match=r"^ssh\.config: .*: chmod o-w .*/config$"):
        Login(Ssh(config=str(config)))
    with pytest.raises(ConfigError, match=r"^ssh\.known_hosts: .*: chmod o-w .*/k"):
        Trust(Ssh(known_hosts=str(known)))


def test_the_agent_is_asked_only_without_an_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    key = tmp_path / "key"
    keep(asyncssh.generate_private_key("ssh-ed25519"), key)

    assert Login(Ssh(config=False)).endpoint(Host("a")).keys.agent == "/agent"
    assert (
        Login(Ssh(identity=str(key), config=False)).endpoint(Host("a")).keys.agent == ""
    )


@pytest.mark.parametrize(
    ("said", "agent"),
    [("none", ""), ("SSH_AUTH_SOCK", "/agent"), ("/other", "/other")],
)
def test_the_configuration_chooses_the_agent(
    said: str, agent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    config = configured(tmp_path, f"Host *\n User me\n IdentityAgent {said}\n")

    assert Login(Ssh(config=config)).endpoint(Host("a")).keys.agent == agent


def test_a_key_that_cannot_be_written_down_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Ssh(known_hosts=str(tmp_path / "file/known"), host_keys="accept-new")
    trust, endpoint = Trust(settings), Endpoint("a", 22, "me")
    trust.accept(endpoint, asyncssh.generate_private_key("ssh-ed25519"))

    with pytest.raises(ValueError, match=rf"ssh\.known_hosts: {tmp_path}/file"):
        trust.save(endpoint)

    assert not trust.knows(endpoint)


def test_an_endpoint_is_known_by_its_alias_or_by_address_and_port() -> None:
    assert Endpoint("A", 22, "me").known_as == "a"
    assert Endpoint("A", 2201, "me").known_as == "[a]:2201"
    assert Endpoint("a", 2201, "me", alias="b").known_as == "b"


def test_hosts_that_may_log_in_to_one_server_share_its_handshakes() -> None:
    relay = Endpoint("a", 22, "me", proxy_command=("ssh", "-W", "a:22", "gate"))
    other = Endpoint("b", 2201, "me", proxy_command=("ssh", "-W", "b:2201", "gate"))

    assert relay.limit_key == other.limit_key == "through ssh -W *:* gate"
    assert Endpoint("a", 22, "me").limit_key == "a:22"
    assert Endpoint("a", 22, "me", jump="gate").limit_key == "a:22 through gate"


@pytest.mark.parametrize(
    ("text", "address", "port", "user"),
    [
        ("gate", "gate", 0, ""),
        ("me@gate:2201", "gate", 2201, "me"),
        ("me@::1", "::1", 0, "me"),
        ("[::1]", "::1", 0, ""),
        ("me@[fe80::1]:22", "fe80::1", 22, "me"),
    ],
)
def test_a_jump_host_is_written_as_for_ssh(
    text: str, address: str, port: int, user: str
) -> None:
    assert hop(text) == Host(text, address, port, user)


def test_a_jump_host_of_all_hosts_does_not_lead_through_itself(tmp_path: Path) -> None:
    config = configured(tmp_path, "Host *\n ProxyJump me@gate\n User me\n")

    assert Login(Ssh(config=config)).endpoint(Host("a")).jump == "me@gate"


def test_jump_hosts_that_lead_through_each_other_end(tmp_path: Path) -> None:
    config = configured(
        tmp_path, "Host a\n ProxyJump b\nHost b\n ProxyJump c\nHost c\n ProxyJump b\n"
    )

    assert Login(Ssh(user="me", config=config)).endpoint(Host("a")).jump == "c,b"


def test_a_named_key_that_is_missing_is_passed_over_as_ssh_does(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    keep(key, tmp_path / "key")
    config = configured(
        tmp_path, f"Host *\n IdentityFile /no\n IdentityFile {tmp_path}/key\n"
    )

    assert Login(Ssh("me", config=config)).endpoint(Host("a")).keys.own == (key,)


def test_a_key_is_accepted_only_where_none_is_known(tmp_path: Path) -> None:
    trust = Trust(Ssh(known_hosts=str(tmp_path / "new"), host_keys="accept-new"))
    endpoint = Endpoint("a", 22, "me")
    first, second = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))

    assert trust.accept(endpoint, first)
    assert trust.accept(endpoint, first)
    assert not trust.accept(endpoint, second)


def test_a_key_that_is_revoked_while_it_is_learned_is_not_written_down(
    tmp_path: Path,
) -> None:
    known, endpoint = tmp_path / "known", Endpoint("a", 2201, "me")
    trust = Trust(Ssh(known_hosts=str(known), host_keys="accept-new"))
    key = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
    assert trust.accept(endpoint, key)
    known.write_text(f"@revoked A {key.export_public_key().decode()}")

    with pytest.raises(asyncssh.HostKeyNotVerifiable, match="key is revoked"):
        trust.save(endpoint)

    assert known.read_text().count("\n") == 1
    assert not trust.knows(endpoint)


def test_strict_accepts_no_new_key(tmp_path: Path) -> None:
    trust = Trust(Ssh(known_hosts=str(tmp_path / "none")))

    key = asyncssh.generate_private_key("ssh-ed25519")

    assert not trust.accept(Endpoint("a", 22, "me"), key)
