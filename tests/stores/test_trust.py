"""Keys of all kinds, and whose signatures count."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ghostasync.errors import PlanError, StoreError
from ghostasync.model import App, Signing, StoreSettings
from ghostasync.stores import trust as trust_module
from ghostasync.stores.trust import Trust
from tests.signing import make_key, public

STATEMENT: Final = b"ghostasync trial 1\n"
PASSPHRASE: Final = "open sesame"


def trust_of(folder: Path, signers: str = "signers", **sign: str) -> Trust:
    settings = StoreSettings(sign=Signing(**sign), signers=signers)
    return Trust(App("shop", "prod", "web"), settings, folder, dict(os.environ))


def allow(folder: Path, *lines: str) -> None:
    (folder / "signers").write_text("".join(f"{line}\n" for line in lines))


def type_in(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def openssh_takes(folder: Path, signature: bytes, principal: str) -> bool:
    (folder / "sig").write_bytes(signature)
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", principal]
    done = subprocess.run(
        [*command, "-n", "ghostasync", "-s", "sig"],
        cwd=folder,
        input=STATEMENT,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)])
    try:
        while not socket.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    "kind", [("-t", "ed25519"), ("-t", "rsa", "-b", "2048"), ("-t", "ecdsa")]
)
async def test_a_key_of_every_kind_signs_as_openssh_would(
    tmp_path: Path, kind: tuple[str, ...]
) -> None:
    key = make_key(tmp_path / "key", *kind)
    allow(tmp_path, f"ann {public(key)}")

    trust = trust_of(tmp_path, key="key")
    signature = await trust.sign(STATEMENT)

    assert openssh_takes(tmp_path, signature, "ann")
    with pytest.raises(StoreError, match=r"^it has no valid signature of anybody in "):
        trust.verify(b"another", signature, "it")


@pytest.mark.parametrize("kind", [("-t", "ed25519"), ("-t", "rsa", "-b", "2048")])
@pytest.mark.parametrize("name", ["key", "key.pub"])
@pytest.mark.usefixtures("agent")
async def test_an_agent_signs_where_the_key_has_a_passphrase(
    tmp_path: Path, kind: tuple[str, ...], name: str
) -> None:
    key = make_key(tmp_path / "key", *kind)
    type_in("ssh-add", "-q", key)
    type_in("ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", key)
    allow(tmp_path, f"ann {public(key)}")

    signature = await trust_of(tmp_path, key=name).sign(STATEMENT)

    assert openssh_takes(tmp_path, signature, "ann")


async def test_a_command_signs(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    allow(tmp_path, f"ann {public(key)}")

    command = "ssh-keygen -q -Y sign -n ghostasync -f key"
    signature = await trust_of(tmp_path, command=command).sign(STATEMENT)

    assert openssh_takes(tmp_path, signature, "ann")


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        ({"command": "echo no key >&2; exit 3"}, "exited 3: no key"),
        ({"command": "exit 3"}, "exited 3"),
        ({"command": "echo hello"}, "printed no SSH SIGNATURE"),
        ({"key": "missing"}, "missing: No such file or directory"),
        ({"key": "signers"}, "signers: Invalid private key"),
        ({"key": "other.pub"}, "only an agent could sign with it"),
        (
            {"key": "other"},
            "what store.sign signs has no valid signature of anybody in",
        ),
    ],
)
async def test_what_keeps_a_key_from_signing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: dict[str, str], text: str
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    make_key(tmp_path / "other")
    allow(tmp_path, f"ann {public(make_key(tmp_path / 'key'))}")

    with pytest.raises(StoreError) as caught:
        await trust_of(tmp_path, **sign).sign(STATEMENT)

    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("agent")
async def test_a_key_that_the_agent_lacks_is_said(tmp_path: Path) -> None:
    make_key(tmp_path / "key")

    with pytest.raises(StoreError, match="the agent does not have it: ssh-add"):
        await trust_of(tmp_path, key="key.pub").sign(STATEMENT)


async def test_a_command_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_module, "SIGN_SECONDS", 0.2)

    with pytest.raises(StoreError, match=r"^store\.sign: no signature within 0\.2 s$"):
        await trust_of(tmp_path, command="exec sleep 600").sign(STATEMENT)


@pytest.mark.parametrize(
    "line",
    [
        "# ann {key}",
        'ann namespaces="git" {key}',
        'ann valid-before="20200101" {key}',
        'ann valid-after="20900101" {key}',
        "ann {other}",
    ],
)
async def test_a_key_that_may_not_is_refused(tmp_path: Path, line: str) -> None:
    key, other = make_key(tmp_path / "key"), make_key(tmp_path / "other")
    allow(tmp_path, f"ann {public(key)}")
    signature = await trust_of(tmp_path, key="key").sign(STATEMENT)
    words = {"key": public(key), "other": public(other)}
    allow(tmp_path, f"bob {public(make_key(tmp_path / 'bob'))}", line.format(**words))

    with pytest.raises(StoreError, match=r"or its key is revoked or no longer valid$"):
        trust_of(tmp_path).verify(STATEMENT, signature, "it")


@pytest.mark.parametrize(
    "line",
    [
        "ann {key}",
        "*@example.com {key}",
        "bob,ann,!eve {key}",
        'ann namespaces="git,ghostasync" {key}',
        'ann valid-after="20200101",valid-before="20900101" {key}',
    ],
)
async def test_a_key_that_may_is_taken(tmp_path: Path, line: str) -> None:
    key = make_key(tmp_path / "key")
    allow(tmp_path, line.format(key=public(key)))

    trust = trust_of(tmp_path, key="key")

    trust.verify(STATEMENT, await trust.sign(STATEMENT), "it")


@pytest.mark.parametrize(("names", "taken"), [("ann,bob", True), ("eve", False)])
async def test_a_certificate_of_an_authority_counts(
    tmp_path: Path, names: str, taken: bool
) -> None:
    authority, key = make_key(tmp_path / "ca"), make_key(tmp_path / "key")
    certify = ("ssh-keygen", "-q", "-s", authority, "-I", "x", "-n", names)
    type_in(*certify, f"{key}.pub")
    allow(tmp_path, f'ann cert-authority,namespaces="ghostasync" {public(authority)}')

    trust = trust_of(tmp_path, key="key")
    if taken:
        signature = await trust.sign(STATEMENT)
        assert openssh_takes(tmp_path, signature, "ann")
    else:
        with pytest.raises(StoreError, match="has no valid signature"):
            await trust.sign(STATEMENT)


@pytest.mark.parametrize(
    "text", ["# nobody\n", "ann\n", "ann ssh-ed25519 xxxx\n", "\xff"]
)
async def test_a_file_of_signers_that_cannot_be_read_is_said(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "signers").write_text(text, encoding="latin-1")

    with pytest.raises(PlanError) as caught:
        trust_of(tmp_path).require_signers()

    assert str(caught.value).startswith(f"store.signers: {tmp_path}/signers: ")
    assert str(caught.value).endswith("AAAA… (ssh-keygen(1), ALLOWED SIGNERS)")


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"-----BEGIN SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\n\xff\n-----END SSH SIGNATURE-----\n",
        b"\x00" * 4096,
    ],
)
async def test_what_is_no_signature_is_refused(
    tmp_path: Path, signature: bytes
) -> None:
    allow(tmp_path, f"ann {public(make_key(tmp_path / 'key'))}")

    with pytest.raises(StoreError, match=r"^it has no valid signature"):
        trust_of(tmp_path).verify(STATEMENT, signature, "it")


async def test_a_signature_for_something_else_is_none(tmp_path: Path) -> None:
    """Also where the file of signers does not say what a key is for."""
    key = make_key(tmp_path / "key")
    allow(tmp_path, f"ann {public(key)}")
    (tmp_path / "statement").write_bytes(STATEMENT)
    type_in(
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-n",
        "file",
        "-f",
        key,
        tmp_path / "statement",
    )

    signature = (tmp_path / "statement.sig").read_bytes()

    with pytest.raises(StoreError, match="has no valid signature"):
        trust_of(tmp_path).verify(STATEMENT, signature, "it")
