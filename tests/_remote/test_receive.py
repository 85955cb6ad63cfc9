from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings

from ghostasync._packaging import Packed
from ghostasync._remote.frame import Frame
from ghostasync._remote.script import render
from ghostasync.model import Proof
from tests._packaging.trees import (
    HOSTILE,
    ROOT,
    SITE,
    Node,
    create,
    packed,
    snapshot,
    trees,
)
from tests._remote.shells import SHELLS, loader

if sys.version_info >= (3, 14):
    from compression.zstd import decompress
else:
    from backports.zstd import decompress

ID = "1_site"
NOBODY = 65534 if ROOT else os.getuid()
BUSYBOX = shutil.which("busybox") or "no busybox"
TOOLS = [
    "cat", "chmod", "chown", "cp", "dd", "find", "grep", "gzip", "head", "id", "ln",
    "ls", "mkdir", "mv", "readlink", "rm", "rmdir", "sed", "sh", "sort", "stat", "sync",
    "tar", "touch", "tr", "uniq",
]  # fmt: skip
"""What a host needs, POSIX or nearly so; a digest and zstd come where they are."""
PROOFS = ["metadata", "content"]

needs_root = pytest.mark.skipif(not ROOT, reason="becoming another user takes root")


@attrs.frozen
class Site:
    """A host: a shell, the folder with its tools, who logs in, where modules go."""

    shell: str
    tools: Path
    uid: int
    top: Path

    @property
    def decoder(self) -> str:
        """What the host's tools can decode."""
        return "zstd" if (self.tools / "zstd").exists() else "gzip"

    @property
    def module(self) -> Path:
        return self.top / "ghost" / "site"

    @property
    def release(self) -> Path:
        return self.module / ID

    @property
    def meta(self) -> Path:
        return self.module / ".ghost" / ID

    def receive(
        self,
        data: bytes,
        *shared: str,
        decoder: str = "",
        owner: str = "drop",
        proof: Proof = "metadata",
        package_id: str = ID,
        live: str = "",
    ) -> tuple[int | None, str, str]:
        """Return the status, and what it printed to stdout and stderr."""
        how = (decoder or self.decoder, owner, proof)
        done = self._run("receive", (package_id, *how), data)
        if not shared or done[0]:
            return done
        return self._run("share", (package_id, live, owner, "fresh", "mv", *shared))

    def share(
        self, *shared: str, package_id: str = ID, live: str = ""
    ) -> tuple[int | None, str, str]:
        """Have a release that is there share paths."""
        return self._run("share", (package_id, live, "drop", "", "mv", *shared))

    def _run(
        self, name: str, args: tuple[str, ...], data: bytes = b""
    ) -> tuple[int | None, str, str]:
        frame = Frame("0123456789abcdef")
        text = render(name, (str(self.module), *args), frame.nonce)
        process = subprocess.run(
            [*SHELLS[self.shell], loader(text), f"ghost-{name}"],
            input=text + data,
            capture_output=True,
            check=False,
            env={"PATH": str(self.tools)},
            cwd="/",
            timeout=60,
            user=self.uid if ROOT else None,
            group=self.uid if ROOT else None,
            extra_groups=[] if ROOT else None,
        )
        output = frame.feed(process.stdout)
        return frame.status, output.decode(), process.stderr.decode(errors="replace")


@pytest.fixture(scope="module")
def toolboxes() -> Iterator[Mapping[str, Path]]:
    """
    Folders for PATH, which everyone may use, as those of pytest are not.

    GNU tools; the same without zstd and any digest tool; busybox and nothing else.
    """
    with tempfile.TemporaryDirectory(prefix="tools-") as name:
        top = Path(name)
        top.chmod(0o755)
        for box, tools in {"gnu": [*TOOLS, "zstd", "sha256sum"], "bare": TOOLS}.items():
            (top / box).mkdir()
            for tool in tools:
                (top / box / tool).symlink_to(shutil.which(tool) or "nothing")
        (top / "busybox").mkdir()
        for tool in [*TOOLS, "sha256sum"]:
            (top / "busybox" / tool).symlink_to(BUSYBOX)
        yield {box.name: box for box in top.iterdir()}


@contextmanager
def public_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="receive-") as name:
        top = Path(name)
        top.chmod(0o1777)
        yield top
        subprocess.run(["chmod", "-R", "u+rwx", name], check=False)


@pytest.fixture
def top() -> Iterator[Path]:
    with public_folder() as top:
        yield top


@pytest.fixture(params=["dash", "bash", "busybox"])
def site(
    request: pytest.FixtureRequest, toolboxes: Mapping[str, Path], top: Path
) -> Site:
    """A host with GNU tools, or busybox throughout, and a login without privileges."""
    box = "busybox" if request.param == "busybox" else "gnu"
    return Site(request.param, toolboxes[box], NOBODY, top)


@pytest.fixture
def tree(top: Path) -> Path:
    """A small tree: a folder, two files, a link."""
    tree = top / "tree"
    nodes = [
        Node(b"app", "d", 0o750, 1_700_000_001),
        Node(b"app/main.py", "f", 0o644, 1_700_000_002, b"print()\n" * 100),
        Node(b"app/key", "f", 0o100, 1_700_000_003, b"key"),
        Node(b"now", "l", 0o777, 1_700_000_004, b"app/main.py"),
    ]
    create(tree, nodes)
    return tree


def encoded(package: Packed, site: Site) -> bytes:
    data = package.archive.read_bytes()
    return data if site.decoder == "zstd" else gzip.compress(decompress(data), 1)


def left_in(module: Path) -> list[str]:
    """Return what is in a module's folder and in the one for our own things."""
    found = {str(path.relative_to(module)) for path in module.glob("*")}
    ours = {str(path.relative_to(module)) for path in module.glob(".ghost/*")}
    return sorted((found | ours) - {".ghost"})


def as_served(tree: Path) -> dict[bytes, Node]:
    found = snapshot(tree)
    return {**found, b".": attrs.evolve(found[b"."], mode=0o755)}


def replaced(site: Site, **scripts: str) -> Site:
    """Return the host with scripts in place of some tools."""
    tools = site.top / "tools"
    shutil.copytree(site.tools, tools, symlinks=True)
    for tool, text in scripts.items():
        (tools / tool).unlink(missing_ok=True)
        (tools / tool).write_text(f"#!/bin/sh\n{text}\n")
        (tools / tool).chmod(0o755)
    # busybox ash runs its own applets, whatever is in PATH.
    shell = "dash" if site.shell == "busybox" else site.shell
    return attrs.evolve(site, tools=tools, shell=shell)


@pytest.mark.parametrize("proof", PROOFS)
@pytest.mark.parametrize(
    "login",
    [
        ("dash", "gnu", 0),
        ("dash", "gnu", NOBODY),
        ("bash", "gnu", NOBODY),
        ("busybox", "busybox", 0),
        ("busybox", "busybox", NOBODY),
    ],
)
@given(nodes=trees())
@settings(max_examples=12, deadline=None)
def test_any_tree_arrives_as_it_is(
    login: tuple[str, str, int],
    proof: Proof,
    toolboxes: Mapping[str, Path],
    nodes: list[Node],
) -> None:
    shell, box, uid = login
    if uid == 0 and not ROOT:
        pytest.skip("root's part takes root")
    with public_folder() as top:
        site = Site(shell, toolboxes[box], uid, top)
        create(top / "tree", nodes)
        made = packed(top / "tree", top / "into")

        status, said, complaint = site.receive(encoded(made, site), proof=proof)

        assert (status, said, complaint) == (0, "", "")
        assert snapshot(site.release) == as_served(top / "tree")
        assert (site.meta / "manifest").read_bytes() == made.manifest.read_bytes()
        assert left_in(site.module) == [".ghost/1_site", "1_site"]


@pytest.mark.parametrize("proof", PROOFS)
def test_hostile_names_arrive(site: Site, proof: Proof) -> None:
    nodes = [Node(name, "d", 0o700, 5) for name in HOSTILE]
    nodes += [Node(b"%b/%b" % (n, n), "f", 0o640, 6, n) for n in HOSTILE]
    nodes += [Node(b"%b/link" % n, "l", 0o777, 7, n) for n in HOSTILE]
    create(site.top / "tree", nodes)

    made = packed(site.top / "tree", site.top / "p")

    status, *_ = site.receive(encoded(made, site), proof=proof)

    assert status == 0
    assert snapshot(site.release) == as_served(site.top / "tree")


def test_folders_of_ours_are_closed_and_others_open(site: Site, tree: Path) -> None:
    site.receive(encoded(packed(tree, site.top / "p", pre_deploy=b"true"), site))

    modes = {
        str(path.relative_to(site.top)): f"{stat.S_IMODE(path.stat().st_mode):o}"
        for path in [site.module.parent, site.module, site.release, site.meta.parent]
    }
    assert modes == {
        "ghost": "755",
        "ghost/site": "755",
        "ghost/site/1_site": "755",
        "ghost/site/.ghost": "700",
    }
    assert sorted(path.name for path in site.meta.iterdir()) == [
        "boot",
        "commit_message",
        "manifest",
        "pre_deploy",
        "seal",
        "settle",
    ]


def test_a_folder_that_hands_down_its_group_changes_no_mode(
    site: Site, tree: Path
) -> None:
    site.module.mkdir(parents=True)
    os.chown(site.module, site.uid, site.uid)
    site.module.chmod(0o2755)

    status, _, complaint = site.receive(encoded(packed(tree, site.top / "p"), site))

    assert (status, complaint) == (0, "")
    assert snapshot(site.release) == as_served(tree)


# --- Capabilities, ACLs, attributes ---------------------------------------------------

KEEP = attrs.evolve(SITE, attributes="keep")
ODD = "odd \\ é=\n'name"

CAPABLE = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw, permitted and effective."""


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an ACL as the kernel has it, of tags, permissions and ids."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def bob_may(bits: int, group: int, mask: int = 7, other: int = 0) -> bytes:
    none = 2**32 - 1
    return acl(
        (1, 7, none), (2, bits, 4242), (4, group, none), (16, mask, none),
        (32, other, none),
    )  # fmt: skip


def with_tools(site: Site, *tools: str) -> Site:
    """Return the host with more tools."""
    more = replaced(site)
    for tool in tools:
        # Not that of a virtual environment, which not everyone may use.
        (more.tools / tool).symlink_to(f"/usr/bin/{tool}")
    return more


def attributed(tree: Path, *, capable: bool) -> None:
    """Give a small tree some of all kinds of attributes."""
    (tree / ODD).write_text("odd")
    os.setxattr(tree / ODD, "user.a =\\b", b"\0\nvalue")
    os.setxattr(tree / "app", "system.posix_acl_default", bob_may(5, 5))
    os.setxattr(tree / "app/main.py", "system.posix_acl_access", bob_may(6, 4))
    (tree / "app/key").chmod(0o640)
    if capable:
        os.setxattr(tree / "app/key", "security.capability", CAPABLE)


def attributes_in(tree: Path) -> dict[str, dict[str, bytes]]:
    return {
        str(path.relative_to(tree)): has
        for path in [tree, *tree.rglob("*")]
        if not path.is_symlink()
        and (has := {n: os.getxattr(path, n) for n in os.listxattr(path)})
    }


@needs_root
@pytest.mark.parametrize("uid", [0, NOBODY])
@pytest.mark.parametrize("tools", [("setfattr", "getfattr"), ("python3",)])
def test_attributes_that_are_kept_arrive(
    site: Site, tree: Path, tools: tuple[str, ...], uid: int
) -> None:
    attributed(tree, capable=uid == 0)
    made = packed(tree, site.top / "into", module=KEEP)
    host = attrs.evolve(with_tools(site, *tools), uid=uid)

    done = host.receive(encoded(made, host))

    assert done == (0, "", "")
    assert attributes_in(host.release) == attributes_in(tree)
    assert len(attributes_in(host.release)) == 3 + (uid == 0)
    assert snapshot(host.release) == as_served(tree)


@needs_root
@pytest.mark.parametrize("tools", [("setfattr", "getfattr"), ("python3",)])
def test_capabilities_that_a_login_may_not_set_fail_the_host(
    site: Site, tree: Path, tools: tuple[str, ...]
) -> None:
    attributed(tree, capable=True)
    made = packed(tree, site.top / "into", module=KEEP)
    host = with_tools(site, *tools)

    status, _, said = host.receive(encoded(made, host))

    assert status == 1
    assert "capabilities take root" in said
    assert "Operation not permitted" in said
    assert left_in(host.module) == []


@needs_root
@pytest.mark.parametrize(
    "tools", [("setfattr", "getfattr"), ("python3",)], ids=["attr", "python3"]
)
def test_attributes_that_are_not_there_afterwards_fail_the_host(
    site: Site, tree: Path, tools: tuple[str, ...]
) -> None:
    # Such a disk takes attributes and forgets them.
    attributed(tree, capable=False)
    made = packed(tree, site.top / "into", module=KEEP)
    host = with_tools(site, *tools)
    forgets = "import os, sys; os.setxattr = max; exec(sys.argv[2])"
    fakes = {
        "setfattr": "",
        "python3": f"exec /usr/bin/python3 -c '{forgets}' \"$@\"",
    }
    host = replaced_in(host, **{tool: fakes[tool] for tool in fakes if tool in tools})

    status, _, said = host.receive(encoded(made, host))

    assert status == 1
    assert "attributes other than packaged:" in said
    assert left_in(host.module) == []


def replaced_in(site: Site, **scripts: str) -> Site:
    for tool, text in scripts.items():
        (site.tools / tool).unlink()
        (site.tools / tool).write_text(f"#!/bin/sh\n{text}\n")
        (site.tools / tool).chmod(0o755)
    return site


@needs_root
def test_a_host_without_any_tool_for_attributes_fails(site: Site, tree: Path) -> None:
    attributed(tree, capable=False)
    made = packed(tree, site.top / "into", module=KEEP)

    status, _, said = site.receive(encoded(made, site))

    assert status == 1
    assert "attributes not set" in said


@needs_root
@pytest.mark.parametrize("tools", [(), ("setfacl",)])
@pytest.mark.parametrize("uid", [0, NOBODY])
def test_an_acl_of_a_folder_above_opens_no_release(
    site: Site, tree: Path, tools: tuple[str, ...], uid: int
) -> None:
    host = attrs.evolve(with_tools(site, *tools) if tools else site, uid=uid)
    host.module.mkdir(parents=True)
    os.chown(host.module, uid, uid)
    os.setxattr(host.module, "system.posix_acl_default", bob_may(7, 7, other=7))
    (tree / "app" / "main.py").chmod(0o600)
    made = packed(tree, host.top / "into")

    status, _, said = host.receive(encoded(made, host))

    if not tools and site.shell == "busybox":
        # Its tar cannot, and nothing else is there.
        assert (status, "install acl" in said) == (1, True)
        assert not host.release.exists()
        return
    assert (status, said) == (0, "")
    assert attributes_in(host.release) == {}
    assert attributes_in(host.meta) == {}
    assert snapshot(host.release) == as_served(tree)


def test_without_a_digest_tool_metadata_is_proven_all_the_same(
    toolboxes: Mapping[str, Path], top: Path, tree: Path
) -> None:
    site = Site("dash", toolboxes["bare"], NOBODY, top)

    answer = site.receive(encoded(packed(tree, top / "p"), site))

    assert answer == (0, "", "")
    assert snapshot(site.release) == as_served(tree)


@pytest.mark.parametrize("nbytes", [1, 4, 9])
def test_an_archive_cut_at_its_end_leaves_nothing(
    site: Site, tree: Path, nbytes: int
) -> None:
    """All of the tree is there by then; only the checksum is not."""
    data = encoded(packed(tree, site.top / "p"), site)

    status, _, complaint = site.receive(data[:-nbytes])

    assert status == 1
    assert complaint.startswith("not extracted: ")
    assert left_in(site.module) == []


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.97])
def test_a_truncated_archive_leaves_nothing(
    site: Site, tree: Path, part: float
) -> None:
    (tree / "noise").write_bytes(os.urandom(300_000))
    data = encoded(packed(tree, site.top / "p"), site)

    status, _, complaint = site.receive(data[: int(len(data) * part)])

    assert status == 1
    assert complaint.startswith("not extracted: ")
    assert left_in(site.module) == []


def test_a_bit_flipped_in_the_checksum_leaves_nothing(site: Site, tree: Path) -> None:
    data = bytearray(encoded(packed(tree, site.top / "p"), site))
    # zstd ends with its checksum, gzip with that and four bytes of length.
    data[-1 if site.decoder == "zstd" else -5] ^= 1

    status, _, complaint = site.receive(bytes(data))

    assert status == 1
    assert complaint.startswith("not extracted: ")
    assert left_in(site.module) == []


@pytest.mark.parametrize("at", [0, 100, 150_000, -3])
def test_a_damaged_archive_leaves_nothing(site: Site, tree: Path, at: int) -> None:
    (tree / "noise").write_bytes(os.urandom(300_000))
    data = bytearray(encoded(packed(tree, site.top / "p"), site))
    data[at] ^= 0x55

    status, _, complaint = site.receive(bytes(data))

    assert status == 1
    assert complaint.startswith("not extracted: ")
    assert left_in(site.module) == []


def test_a_missing_decoder_is_named(
    toolboxes: Mapping[str, Path], top: Path, tree: Path
) -> None:
    site = Site("dash", toolboxes["bare"], NOBODY, top)

    status, _, complaint = site.receive(
        packed(tree, top / "p").archive.read_bytes(), decoder="zstd"
    )

    assert status == 1
    assert "zstd: not found" in complaint
    assert left_in(site.module) == []


def test_a_decoder_that_fails_at_the_end_is_believed(site: Site, tree: Path) -> None:
    data = encoded(packed(tree, site.top / "p"), site)
    decoder = f"{shutil.which(site.decoder)} -dc; exit 3"

    status, _, complaint = replaced(site, **{site.decoder: decoder}).receive(data)

    assert status == 1
    assert complaint.startswith("not extracted: ")


def test_a_future_time_is_no_failure(site: Site, tree: Path) -> None:
    os.utime(tree / "app" / "main.py", (4e9, 4e9))

    status, _, complaint = site.receive(encoded(packed(tree, site.top / "p"), site))

    assert (status, complaint) == (0, "")


@pytest.mark.parametrize("digs", [True, False])
def test_a_file_with_holes_has_them_again_where_the_host_can(
    site: Site, tree: Path, digs: bool
) -> None:
    for name, size in {"sparse": 64 << 20, "small": 512 << 10}.items():
        with (tree / name).open("wb") as file:
            file.write(b"begin")
            file.seek(size)
            file.write(b"end")
        os.utime(tree / name, (5, 5))
    (tree / "sparse").chmod(0o4755)
    (tree / "full").write_bytes(bytes(2 << 20))
    tool = shutil.which("fallocate") if digs else "false"
    site = replaced(site, fallocate=f'exec {tool} "$@"')

    status, _, complaint = site.receive(encoded(packed(tree, site.top / "p"), site))

    assert (status, complaint) == (0, "")
    assert snapshot(site.release) == as_served(tree)
    room = {path.name: path.stat().st_blocks * 512 for path in site.release.iterdir()}
    assert (room["sparse"] < 1 << 20) == digs
    assert room["full"] >= 2 << 20
    assert not (site.meta / "time").exists()


TAR = {"zstd": shutil.which("tar") or "no tar", "gzip": f"{BUSYBOX} tar"}
SAME_TIME = "touch -d @1700000002 release/app/main.py"
DAMAGES = {
    "overwritten": "echo XXX | dd of=release/app/main.py bs=1 count=3 conv=notrunc",
    "short": f": >release/app/main.py; {SAME_TIME}",
    "appended": f"echo >>release/app/main.py; {SAME_TIME}",
    "mode": "chmod 600 release/app/main.py",
    "time": "touch -d @5 release/app/main.py",
    "folder": "chmod 700 release/app",
    "target": "ln -sfn other release/now",
    "kind": "rm release/app/key; mkdir release/app/key; chmod 755 release/app/key",
    "missing": "rm release/app/key",
    "more": "echo >release/more",
}
FORGED = f"{DAMAGES['overwritten']}; {SAME_TIME}"


def with_damage(site: Site, damage: str, **scripts: str) -> Site:
    """Return the host with a tar that does *damage* when it has extracted."""
    # tar is called once more, for the times of folders.
    tar = f'{TAR[site.decoder]} "$@" || exit; [ -d release ] || exit 0'
    tar += f"; exec 2>/dev/null; {damage}"
    return replaced(site, tar=tar, **scripts)


@pytest.mark.parametrize("digest", ["with sha256sum", "without"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_tar_does_wrong_is_seen_and_named(
    site: Site, tree: Path, damage: str, digest: str
) -> None:
    data = encoded(packed(tree, site.top / "p"), site)
    no_digest = {} if digest == "with sha256sum" else {"sha256sum": "exit 127"}
    host = with_damage(site, DAMAGES[damage], **no_digest)

    status, _, complaint = host.receive(data)

    assert status == 1
    assert complaint.startswith("not as packaged: ")
    assert complaint.count("\n") == 1
    assert left_in(site.module) == []


def test_a_byte_with_a_forged_time_takes_proof_of_content(
    site: Site, tree: Path
) -> None:
    data = encoded(packed(tree, site.top / "p"), site)
    host = with_damage(site, FORGED)

    status, _, complaint = host.receive(data, proof="content")

    assert (status, complaint) == (1, "damaged on the way: ./app/main.py\n")
    assert left_in(site.module) == []
    assert host.receive(data)[0] == 0, "as the proof by metadata knows no better"


def test_a_decoder_that_compares_no_checksum_leads_to_proof_of_content(
    site: Site, tree: Path
) -> None:
    data = encoded(packed(tree, site.top / "p"), site)
    # A decoder of broken checksums, too: it says that all is well, whatever comes.
    decoder = f"{shutil.which(site.decoder)} -dc 2>/dev/null; exit 0"
    host = with_damage(site, FORGED, **{site.decoder: decoder})

    status, _, complaint = host.receive(data)

    assert (status, complaint) == (1, "damaged on the way: ./app/main.py\n")
    assert left_in(site.module) == []


@pytest.mark.parametrize("decoder", ["zstd", "gzip", "busybox gzip"])
def test_decoders_compare_checksums(
    decoder: str, top: Path, toolboxes: Mapping[str, Path], tree: Path
) -> None:
    """None of them takes the long way: no file is opened once more."""
    site = Site("dash", toolboxes["gnu"], NOBODY, top)
    name = decoder.rsplit(maxsplit=1)[-1]
    tool = BUSYBOX + " gzip" if "busybox" in decoder else shutil.which(name)
    host = replaced(
        site, **{name: f'exec {tool} "$@"', "openssl": f"echo asked >{top}/asked"}
    )
    data = packed(tree, top / "p").archive.read_bytes()

    status, *_ = host.receive(
        data if name == "zstd" else gzip.compress(decompress(data)), decoder=name
    )

    assert status == 0
    assert not (top / "asked").exists()


DIGESTS = {
    "openssl": 'exec {} "$@"',
    "sha256sum": 'exec {} "$@"',
    "shasum": 'exec {} "$@"',
    "busybox": 'exec {} "$@"',
    "python3": f'exec {sys.executable} "$@"',
}


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("tool", DIGESTS)
def test_any_digest_tool_will_do(
    toolboxes: Mapping[str, Path], top: Path, tool: str, damaged: bool
) -> None:
    if not (path := shutil.which(tool)):
        pytest.skip(f"no {tool} here")
    nodes = [Node(b"f", "f", 0o644, 5, b"abc"), Node(b"x\\\n", "f", 0o644, 5, b"abc")]
    create(top / "tree", nodes)
    bare = Site("dash", toolboxes["bare"], os.getuid(), top)
    data = encoded(packed(top / "tree", top / "p"), bare)
    scripts = {tool: DIGESTS[tool].format(path)}
    if damaged:
        scripts["tar"] = (
            TAR["zstd"]
            + """ "$@" && cd release
echo zz | dd of='x\\
' bs=1 count=2 conv=notrunc 2>/dev/null
touch -d @5 'x\\
'"""
        )

    status, said, complaint = replaced(bare, **scripts).receive(data, proof="content")

    assert (status, said) == (int(damaged), "")
    assert complaint.startswith("damaged on the way: ./x\\\n" if damaged else "")
    assert bare.release.exists() is not damaged


def test_without_a_digest_tool_it_says_so(
    toolboxes: Mapping[str, Path], top: Path, tree: Path
) -> None:
    site = Site("dash", toolboxes["bare"], NOBODY, top)

    data = encoded(packed(tree, top / "p"), site)

    status, said, complaint = site.receive(data, proof="content")

    assert (status, complaint) == (0, "")
    assert said.startswith("warning: no sha256 tool")
    assert snapshot(site.release) == as_served(tree)


def test_a_release_that_is_there_is_left_alone(site: Site, tree: Path) -> None:
    data = encoded(packed(tree, site.top / "p"), site)
    site.receive(data)
    (site.release / "made-since").touch()

    status, _, complaint = site.receive(data + bytes(1_000_000))

    assert (status, complaint) == (0, "")
    assert (site.release / "made-since").exists()


def test_what_earlier_runs_left_goes(site: Site, tree: Path) -> None:
    data = encoded(packed(tree, site.top / "p"), site)
    site.receive(data, package_id="0_site")
    stale = site.module / ".ghost" / "7_site.incoming"
    create(stale, [Node(b"a", "d", 0o555, 5), Node(b"a/f", "f", 0o444, 5)])
    for path in [stale, stale / "a", stale / "a" / "f"]:
        os.chown(path, site.uid, site.uid)
    (site.meta / "left").mkdir(parents=True)
    os.chown(site.meta, site.uid, site.uid)

    status, _, complaint = site.receive(data)

    assert (status, complaint) == (0, "")
    assert left_in(site.module) == [
        ".ghost/0_site", ".ghost/1_site", "0_site", "1_site",
    ]  # fmt: skip
    assert not (site.meta / "left").exists()


@needs_root
def test_a_folder_that_is_not_ours_is_named(site: Site, tree: Path) -> None:
    site.module.mkdir(parents=True)

    status, _, complaint = site.receive(encoded(packed(tree, site.top / "p"), site))

    assert status != 0
    assert "ermission denied" in complaint


@needs_root
@pytest.mark.parametrize(("owner", "uid", "gid"), [("keep", 33, 44), ("drop", 0, 0)])
def test_root_gives_a_release_to_its_owner_or_keeps_it(
    site: Site, tree: Path, owner: str, uid: int, gid: int
) -> None:
    root = attrs.evolve(site, uid=0)
    made = packed(tree, site.top / "p", module=attrs.evolve(SITE, uid=33, gid=44))

    status, _, complaint = root.receive(
        encoded(made, site), "d:up/load", "f:conf", owner=owner
    )

    assert (status, complaint) == (0, "")
    for path in [".", "app/main.py", "now", "up", "up/load", "conf"]:
        there = (site.release / path).lstat()
        assert (there.st_uid, there.st_gid) == (uid, gid), path
    shared = (site.module / "shared" / "up" / "load").stat()
    assert (shared.st_uid, shared.st_gid) == (uid, gid)
    assert site.meta.stat().st_uid == (site.meta / "manifest").stat().st_uid == 0


def test_shared_paths_start_with_what_the_first_package_has(
    site: Site, tree: Path
) -> None:
    create(
        tree,
        [
            Node(b"up/load/a", "f", 0o600, 50, b"seed"),
            Node(b"conf", "f", 0o640, 51, b"x=1"),
        ],
    )
    first = packed(tree, site.top / "p1", package_id="1_site")
    (tree / "up" / "load" / "a").write_bytes(b"newer seed")
    second = packed(tree, site.top / "p2", package_id="2_site")
    shared = site.module / "shared"

    for made in [first, second]:
        status, _, complaint = site.receive(
            encoded(made, site), "d:up/load", "f:conf", package_id=made.package.id
        )
        assert (status, complaint) == (0, "")
        went_live(site, made.package.id)

    assert snapshot(shared / "up" / "load")[b"a"] == Node(b"a", "f", 0o600, 50, b"seed")
    assert (shared / "conf").read_bytes() == b"x=1"
    for release in [site.module / "1_site", site.module / "2_site"]:
        assert (release / "up" / "load").readlink() == shared / "up" / "load"
        assert (release / "conf").readlink() == shared / "conf"


def went_live(site: Site, release: str) -> None:
    records = site.module / ".ghost" / "activations"
    records.mkdir(exist_ok=True)
    number = len(list(records.iterdir())) + 1
    (records / f"{number}").write_text(f"outcome=live    \nrelease={release}\n")
    records.chmod(0o755)
    site.module.joinpath(".ghost").chmod(0o755)


def deliver(site: Site, tree: Path, release: str, conf: str, live: str = "") -> None:
    """Bring a release with a file that is shared, and a folder."""
    (tree / "up").mkdir(exist_ok=True)
    (tree / "conf").write_text(conf)
    (tree / "up" / "seed").write_text(conf)
    made = packed(tree, site.top / release, package_id=release)
    status, _, complaint = site.receive(
        encoded(made, site), "f:conf", "d:up", package_id=release, live=live
    )
    assert (status, complaint) == (0, "")


def test_what_never_went_live_leaves_no_seeds(site: Site, tree: Path) -> None:
    deliver(site, tree, "1_site", "broken")
    deliver(site, tree, "2_site", "good")

    shared = site.module / "shared"
    assert (shared / "conf").read_text() == "good"
    assert (shared / "up" / "seed").read_text() == "good"


def test_a_seed_that_somebody_wrote_to_stays(site: Site, tree: Path) -> None:
    deliver(site, tree, "1_site", "first")
    shared = site.module / "shared"
    later = time.time() + 5
    (shared / "up" / "photo").write_text("mine")
    for path in (shared / "up" / "photo", shared / "up"):
        os.utime(path, (later, later))

    deliver(site, tree, "2_site", "second")

    assert (shared / "conf").read_text() == "second"
    assert (shared / "up" / "photo").read_text() == "mine"
    assert (shared / "up" / "seed").read_text() == "first"


def test_what_users_wrote_in_the_live_release_is_copied(site: Site, tree: Path) -> None:
    (tree / "up").mkdir()
    (tree / "up" / "seed").write_text("1")
    made = packed(tree, site.top / "p1", package_id="1_site")
    site.receive(encoded(made, site), package_id="1_site")
    went_live(site, "1_site")
    live = site.module / "1_site"
    (live / "up" / "photo").write_text("mine")
    if ROOT:
        os.chown(live / "up" / "photo", site.uid, site.uid)
    os.utime(live / "up" / "photo", (50, 50))

    deliver(site, tree, "2_site", "x", live=str(live))

    shared = site.module / "shared"
    assert (shared / "up" / "photo").read_text() == "mine"
    assert (shared / "up" / "photo").stat().st_mtime == 50
    # It serves on, and loses nothing.
    assert (live / "up" / "photo").read_text() == "mine"
    copied = site.module / ".ghost" / "2_site" / "copied"
    assert copied.read_text() == "up\n"


def test_what_is_shared_already_gets_what_is_newer_or_missing(
    site: Site, tree: Path
) -> None:
    live, shared = site.module / "1_site", site.module / "shared" / "up"
    for folder, text in ((live / "up", "live"), (shared, "shared")):
        folder.mkdir(parents=True)
        for name in ("both", text):
            (folder / name).write_text(text)
    os.utime(shared / "both", (50, 50))
    for path in (site.module, *site.module.rglob("*")) if ROOT else ():
        os.chown(path, site.uid, site.uid)
    (tree / "up").mkdir()
    made = packed(tree, site.top / "p2", package_id="2_site")

    status, said, _ = site.receive(
        encoded(made, site), "d:up", package_id="2_site", live=str(live)
    )

    assert status == 0
    assert "warning: shared up was there: what is newer or missing came from" in said
    assert {p.name: p.read_text() for p in shared.iterdir()} == {
        "both": "live",
        "live": "live",
        "shared": "shared",
    }


def test_a_release_that_is_there_is_made_to_share(site: Site, tree: Path) -> None:
    (tree / "up").mkdir()
    (tree / "up" / "old").write_text("its own")
    made = packed(tree, site.top / "p1", package_id="1_site")
    site.receive(encoded(made, site), package_id="1_site")
    went_live(site, "1_site")
    (site.module / "shared" / "up").mkdir(parents=True)
    for path in site.module.glob("shared/**") if ROOT else ():
        os.chown(path, site.uid, site.uid)

    done = [site.share("d:up", package_id="1_site") for _ in range(2)]

    assert [status for status, *_ in done] == [0, 0]
    release = site.module / "1_site"
    assert (release / "up").readlink() == site.module / "shared" / "up"
    kept = site.module / ".ghost" / "1_site" / "unshared" / "up" / "up"
    assert (kept / "old").read_text() == "its own"


def test_the_release_that_serves_is_left_as_it_is(site: Site, tree: Path) -> None:
    (tree / "up").mkdir()
    made = packed(tree, site.top / "p1", package_id="1_site")
    site.receive(encoded(made, site), package_id="1_site")
    live = site.module / "1_site"

    status, said, _ = site.share("d:up", package_id="1_site", live=str(live))

    assert status == 0
    assert said == "warning: up is shared from the next release on: this one serves\n"
    assert not (live / "up").is_symlink()


@pytest.mark.parametrize("shared", ["f:up", "d:conf"])
def test_a_path_of_another_kind_is_refused_and_nothing_is_lost(
    site: Site, tree: Path, shared: str
) -> None:
    (tree / "up").mkdir()
    (tree / "up" / "a").write_text("a")
    (tree / "conf").write_text("x")
    made = packed(tree, site.top / "p1", package_id="1_site")

    status, _, complaint = site.receive(
        encoded(made, site), shared, package_id="1_site"
    )

    assert status == 1
    assert "is of another kind: shared_dirs are folders" in complaint
    assert (site.module / "1_site" / "up" / "a").read_text() == "a"
    assert (site.module / "1_site" / "conf").read_text() == "x"


def test_shared_paths_that_no_package_has_are_made(site: Site, tree: Path) -> None:
    made = packed(tree, site.top / "p")

    status, _, complaint = site.receive(encoded(made, site), "d:log", "f:var/state")

    assert (status, complaint) == (0, "")
    assert list((site.release / "log").iterdir()) == []
    assert (site.release / "var" / "state").readlink().parent.is_dir()
    assert not (site.release / "var" / "state").exists()


def test_a_link_in_the_tree_is_no_seed(site: Site, tree: Path) -> None:
    (tree / "log").symlink_to("app")

    site.receive(encoded(packed(tree, site.top / "p"), site), "d:log")

    assert list((site.module / "shared" / "log").iterdir()) == []


def test_sharing_changes_nothing_else(site: Site, tree: Path) -> None:
    nodes = [
        Node(b"shut", "d", 0o555, 60),
        Node(b"shut/log", "d", 0o555, 61),
        Node(b"shut/log/a", "f", 0o644, 62, b"a"),
    ]
    create(tree, nodes)

    status, _, complaint = site.receive(
        encoded(packed(tree, site.top / "p"), site), "d:shut/log"
    )

    assert (status, complaint) == (0, "")
    served, wanted = snapshot(site.release), as_served(tree)
    assert served.pop(b"shut/log").kind == "l"
    assert served == {
        path: node for path, node in wanted.items() if not path.startswith(b"shut/log")
    }


@pytest.mark.parametrize("shared", [["d:a/b"], ["d:real", "d:real/b"]])
def test_nothing_is_shared_through_a_link(
    site: Site, tree: Path, shared: list[str]
) -> None:
    outside = site.top / "outside"
    create(outside, [Node(b"b", "d", 0o777, 5), Node(b"b/precious", "f", 0o666, 5)])
    (tree / "a").symlink_to(outside)
    (tree / "real").mkdir()

    status, _, complaint = site.receive(
        encoded(packed(tree, site.top / "p"), site), *shared
    )

    assert status == 1
    assert "is a link" in complaint
    assert (outside / "b" / "precious").exists()
    # The release came whole; nothing leads to it.
    assert (site.release / "a").is_symlink()


def may_mount() -> bool:
    probe = ["unshare", "-m", "true"]
    return not subprocess.run(probe, check=False, capture_output=True).returncode


@pytest.mark.parametrize(("shell", "box"), [("dash", "gnu"), ("busybox", "busybox")])
@pytest.mark.parametrize("room", ["size=1m", "nr_inodes=20"])
def test_a_full_disk_is_named_and_nothing_is_left(
    shell: str, box: str, room: str, toolboxes: Mapping[str, Path], top: Path
) -> None:
    if not may_mount():
        pytest.skip("mounting a small file system takes CAP_SYS_ADMIN")
    site = Site(shell, toolboxes[box], 0, top)
    nodes = [Node(b"%d" % n, "f", 0o644, 5, os.urandom(60_000)) for n in range(50)]
    create(top / "tree", nodes)
    data = encoded(packed(top / "tree", top / "p"), site)
    site.module.mkdir(parents=True)
    text = render(
        "receive", (str(site.module), ID, site.decoder, "drop", "metadata"), "00ff"
    )
    mounted = (
        f"mount -t tmpfs -o {room} none {site.module}; export PATH={site.tools}; "
        f'"$@"; find {site.module} -mindepth 1 >&2'
    )
    command = [*SHELLS[shell], loader(text), "ghost-receive"]

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted, "sh", *command],
        input=text + data,
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert b"00ff end 1\n" in done.stdout
    complaint, *left = done.stderr.decode().splitlines()
    assert complaint.startswith("not extracted: ")
    assert "No space left on device" in complaint
    assert left == [f"{site.module}/.ghost"]


def test_the_text_is_short_enough_to_be_read_byte_by_byte() -> None:
    args = ("/ghost/shop/prod/web/site", ID, "zstd", "drop", "metadata")
    text = render("receive", args, "n" * 16)

    assert len(text) < 4096
