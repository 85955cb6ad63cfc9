"""What check.sh finds in the host's own records, under every shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from ghostasync._remote import answers
from ghostasync._remote.activation import Activation, write
from ghostasync._remote.facts import Facts, ModuleState
from tests._remote.shells import SHELLS, may_mount, read, run, run_mounted, start

pytestmark = pytest.mark.parametrize("shell", SHELLS)

HOLDER = ("", "run 7 by ann", "7", "shop", "90", "0")
A, B, C = "1_site_000000a", "2_site_000000b", "3_site_000000c"
ODD = "it's $(x)\\0101 new\nline \udce9"


@attrs.frozen
class Books:
    """One module on this machine, and what its host has on record about it."""

    shell: str
    app: Path
    target: Path

    @property
    def folder(self) -> Path:
        return self.app / "site"

    @property
    def records(self) -> Path:
        return self.folder / ".ghost" / "activations"

    def release(self, name: str) -> str:
        return str(self.folder / name) if name else ""

    def serve(self, name: str) -> None:
        self.target.unlink(missing_ok=True)
        self.target.symlink_to(self.release(name))

    def record(self, number: int, release: str, **more: Any) -> Activation:
        """Have the host note a move; it refuses a number below the one before."""
        record = Activation(number, f"run-{number}", release, **more)
        words = (str(number), record.run, record.outcome)
        module = (self.folder, self.release(release), "", write(record))
        done = run(self.shell, "record_moves", self.app, *words, *module)
        assert done == (0, "", "")
        return record

    def check(self, records: int = 1) -> Facts:
        module = (self.folder, self.target)
        # In such a language a byte may be no text.
        env = {"LC_ALL": "C.UTF-8"}
        done = run(self.shell, "check", self.app, "", str(records), *module, env=env)
        assert (done[0], done[2]) == (0, "")
        return answers.facts(done[1], {str(self.folder): "site"})

    def state(self, records: int = 1) -> ModuleState:
        return self.check(records).targets["site"]


@pytest.fixture
def books(shell: str, tmp_path: Path) -> Books:
    books = Books(shell, tmp_path / "app", tmp_path / "srv" / "it's $(x)")
    books.target.parent.mkdir()
    # Where it tries how links are renamed; /tmp belongs to other tests as well.
    (books.app / ".ghost").mkdir(parents=True)
    for name in (A, B, C):
        (books.folder / ".ghost" / name).mkdir(parents=True)
        (books.folder / name).mkdir()
    return books


# --- activation records ----------------------------------------------------------


def test_a_link_has_the_record_of_its_last_move(books: Books) -> None:
    books.serve(B)
    instance = books.check().instance
    record = books.record(
        1,
        B,
        goal="deploy",
        previous=books.release(A),
        target=str(books.target),
        aside=ODD,
        fingerprint="f00d",
        store="1-2-3",
        instance=instance,
        actor=ODD,
        reason=ODD,
        at="2026-07-04T10:15:00Z",
        commit="c0ffee",
        subject=ODD,
        undoes="run-0",
        resumes="run-0",
    )

    assert books.state().activations == (record,)
    assert books.state().record == record


def test_a_switch_that_was_killed_half_way_left_its_record(books: Books) -> None:
    books.serve(B)
    first = books.record(1, B)
    second = books.record(2, C, previous=books.release(B))
    assert books.state().record == first

    books.serve(C)

    assert books.state().record == second


def test_a_link_that_somebody_else_moved_has_no_record(books: Books) -> None:
    record = books.record(1, B)
    books.serve(A)

    state = books.state()

    assert (state.record, state.live, state.activations) == (None, A, (record,))


def test_a_host_that_was_never_switched_has_no_records(books: Books) -> None:
    facts = books.check()

    state = facts.targets["site"]
    assert (state.record, state.activations, state.elsewhere) == (None, (), ())
    assert (facts.holder, facts.fence, state.aside) == ("", 0, False)


def test_records_are_told_the_newest_first(books: Books) -> None:
    known = [books.record(number, A) for number in (8, 9, 10, 100)]

    assert books.state(records=9).activations == tuple(reversed(known))


def test_no_more_records_are_told_than_wanted_and_the_one_of_what_is_live(
    books: Books,
) -> None:
    books.serve(A)
    known = {n: books.record(n, A if n in {5, 6} else B) for n in range(5, 12)}

    assert books.state(records=2).activations == (known[11], known[10], known[6])
    assert books.state(records=0).activations == (known[6],)
    assert books.state(records=0).record == known[6]

    books.target.unlink()
    assert books.state(records=2).activations == (known[11], known[10])
    assert books.state(records=0).activations == ()


def test_a_move_that_was_taken_back_is_not_the_one_to_what_is_live(
    books: Books,
) -> None:
    first = books.record(1, B, outcome="live")
    books.record(2, C)
    last = books.record(3, B, outcome="reverted")
    books.serve(B)

    assert books.state().activations == (last, first)
    assert books.state().record == first

    (books.records / "1").unlink()
    assert books.state(records=9).record is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 300,
        b"outcome=gone    \nrun=r\nrelease=1_site_000000a\n",
        b"outcome=moved   \nrun=r\nrel",
        b"outcome=live    ",
        b"run=r\nrelease=1_site_000000a",
        b"\xff\xfe=\nmodule=/nowhere\ntarget=file\n\n=\n",
    ],
)
def test_a_damaged_record_is_left_out(damage: bytes, books: Books) -> None:
    books.serve(B)
    first, last = books.record(1, B), books.record(3, B)
    (books.records / "2").write_bytes(damage)

    assert books.state(records=9).activations == (last, first)

    (books.records / "4").write_bytes(damage)
    assert books.state(records=1).record == last
    assert books.state(records=1).kind == "link"


def test_what_a_killed_script_has_left_is_no_record(books: Books) -> None:
    record = books.record(4, B)
    text = (books.records / "4").read_text()
    for name in ("5.new", "new", "6~"):
        (books.records / name).write_text(text)

    assert books.state(records=1).activations == (record,)
    assert books.state(records=9).activations == (record,)


def test_a_record_that_was_copied_from_another_machine_is_left_out(
    books: Books,
) -> None:
    books.serve(B)
    known = books.record(1, B)
    mine = books.record(2, B, instance=books.check().instance)
    books.record(3, B, instance="i-other/0123")

    state = books.state(records=9)

    assert (state.activations, state.record) == ((mine, known), mine)


def test_each_module_has_its_own_records(books: Books) -> None:
    other = attrs.evolve(
        books, app=books.app / "more", target=books.target.with_name("more")
    )
    for name in (A, B):
        (other.folder / ".ghost" / name).mkdir(parents=True)
    (other.app / ".ghost").mkdir()
    one = [books.record(number, A) for number in (1, 2, 3)]
    two = [other.record(number, B) for number in (2, 3, 4)]

    words = (books.folder, books.target, other.folder, other.target)
    said = run(books.shell, "check", books.app, "", "2", *words)[1]

    facts = answers.facts(said, {str(books.folder): "one", str(other.folder): "two"})
    assert facts.targets["one"].activations == (one[2], one[1])
    assert facts.targets["two"].activations == (two[2], two[1])


# --- links of earlier paths, and folders that were adopted -------------------------


@pytest.mark.parametrize("name", ["aside", ODD, "two  blanks"])
def test_an_adopted_folder_with_nothing_in_its_place_is_known(
    name: str, books: Books
) -> None:
    books.record(1, A)
    aside = books.target.with_name(name)
    aside.mkdir()
    record = books.record(2, B, aside=str(aside))

    state = books.state()

    assert (state.kind, state.aside, state.record) == ("absent", True, record)


def test_a_folder_that_is_not_aside_any_more_is_none(books: Books) -> None:
    aside = books.target.with_name("aside")
    aside.mkdir()
    books.record(1, B, aside=str(aside))
    books.record(2, B)
    assert books.state().aside is False

    (books.records / "2").unlink()
    assert books.state().aside is True

    aside.rmdir()
    assert (books.state().aside, books.state().record) == (False, None)


@pytest.mark.parametrize("name", ["old", ODD, "two  blanks "])
def test_an_earlier_link_that_leads_to_a_release_still_is_told(
    name: str, books: Books
) -> None:
    old = books.target.with_name(name)
    old.symlink_to(books.release(A))
    foreign = books.target.with_name("foreign")
    foreign.symlink_to(books.target.parent)
    for number, target in enumerate((old, foreign, books.target, old), start=1):
        books.record(number, B, target=str(target))
    books.serve(B)

    assert books.state(records=0).elsewhere == (str(old),)

    old.unlink()
    assert books.state(records=0).elsewhere == ()


# --- facts of the host -----------------------------------------------------------


def test_the_fence_is_the_highest_number_that_moved_a_link(books: Books) -> None:
    books.record(7, B)
    assert books.check().fence == 7

    books.record(10, B)
    assert books.check().fence == 10


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 run-12\n", 12),
        ("12\n", 12),
        ("12", 12),
        ("", None),
        ("\n", None),
        ("twelve run-12\n", None),
        ("-12 run-12\n", None),
        ("1" * 16 + " run-1\n", None),
    ],
)
def test_a_fence_that_is_no_number_is_damaged(
    text: str, number: int | None, books: Books
) -> None:
    (books.app / ".ghost" / "fence").write_text(text)

    assert books.check().fence == number


@pytest.mark.parametrize(
    ("cloud", "machine", "instance"),
    [
        ("i-0a1b\\n", "c0ffee\\n", "i-0a1b/c0ffee"),
        ("", "c0ffee\\n", "c0ffee"),
        ("i-0a1b", "c0ffee", "i-0a1b/c0ffee"),
        ("i-0a1b\\n", "", "i-0a1b/"),
        ("", "", ""),
    ],
)
def test_the_instance_is_what_the_cloud_and_the_machine_call_it(
    shell: str, cloud: str, machine: str, instance: str, tmp_path: Path
) -> None:
    if not may_mount():
        pytest.skip("mounting a small file system takes CAP_SYS_ADMIN")
    before = "mount -t tmpfs none /etc\nmount -t tmpfs none /var/lib\n"
    if cloud:
        file = "/var/lib/cloud/data/instance-id"
        before += f"mkdir -p /var/lib/cloud/data\nprintf '{cloud}' >{file}\n"
    if machine:
        before += f"printf '{machine}' >/etc/machine-id\n"

    status, said, _ = run_mounted(shell, before, "", "check", tmp_path, "", "1")

    assert status == 0
    assert answers.facts(said, {}).instance == instance


def test_who_holds_the_lock_is_told_while_it_is_held(shell: str, books: Books) -> None:
    process, frame = start(shell, "lock", str(books.app), *HOLDER)
    with process:
        while b"locked" not in frame.feed(read(process)):
            assert process.poll() is None
        try:
            assert books.check().holder == "run 7 by ann"
        finally:
            process.communicate(timeout=10)

    # The host went down, and its last holder with it.
    (books.app / ".ghost" / "holder").write_text("run 7 by ann\n4194304\n")
    assert books.check().holder == ""
