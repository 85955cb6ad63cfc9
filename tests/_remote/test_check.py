"""What check.sh finds in the host's own books, under every shell."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync._remote.facts import Facts, ModuleState, SwitchRecord, parse_facts
from tests._remote.shells import SHELLS, read, run, start

pytestmark = pytest.mark.parametrize("shell", SHELLS)

HOLDER = ("run 7 by ann", "7", "shop", "90", "0")
A, B, C = "1_site_000000a", "2_site_000000b", "3_site_000000c"


@attrs.frozen
class Books:
    """One module on this machine, and what its host wrote down about it."""

    app: Path
    target: Path

    @property
    def folder(self) -> Path:
        return self.app / "site"

    def release(self, name: str) -> str:
        return str(self.folder / name) if name else ""

    def serve(self, name: str) -> None:
        self.target.unlink(missing_ok=True)
        self.target.symlink_to(self.release(name))

    def arm(
        self, shell: str, name: str, previous: str, new: str, aside: str = ""
    ) -> None:
        words = (self.release(previous), self.release(new), aside, "f00d", "")
        assert run(shell, "record_moves", name, "/store", self.folder, *words)[0] == 0

    def switched(self) -> None:
        meta = self.folder / ".ghost"
        (meta / "armed").rename(meta / "switch")

    def check(self, shell: str) -> Facts:
        status, said, err = run(shell, "check", self.app, self.folder, self.target)
        assert (status, err) == (0, "")
        return parse_facts(said, {str(self.folder): "site"})

    def target_facts(self, shell: str) -> ModuleState:
        return self.check(shell).targets["site"]

    def record(
        self, name: str, previous: str, new: str, aside: str = ""
    ) -> SwitchRecord:
        return SwitchRecord(
            name, self.release(previous), self.release(new), aside, "f00d"
        )


@pytest.fixture
def books(tmp_path: Path) -> Books:
    books = Books(tmp_path / "app", tmp_path / "srv" / "it's $(x)")
    books.target.parent.mkdir()
    # Where it tries how links are renamed; /tmp belongs to other tests as well.
    (books.app / ".ghost").mkdir(parents=True)
    for name in (A, B, C):
        (books.folder / ".ghost" / name).mkdir(parents=True)
        (books.folder / name).mkdir()
    return books


def test_a_link_has_the_record_of_its_last_move(shell: str, books: Books) -> None:
    books.serve(B)
    books.arm(shell, "run-1", A, B)
    books.switched()

    assert books.target_facts(shell).record == books.record("run-1", A, B)


def test_a_switch_that_was_killed_half_way_left_its_record(
    shell: str, books: Books
) -> None:
    books.serve(B)
    books.arm(shell, "run-1", A, B)
    books.switched()
    books.arm(shell, "run-2", B, C)
    assert books.target_facts(shell).record == books.record("run-1", A, B)

    books.serve(C)

    assert books.target_facts(shell).record == books.record("run-2", B, C)


def test_a_link_that_somebody_else_moved_has_no_record(
    shell: str, books: Books
) -> None:
    books.arm(shell, "run-1", A, B)
    books.switched()
    books.serve(A)

    facts = books.target_facts(shell)

    assert (facts.record, facts.live) == (None, A)


def test_a_host_that_was_never_switched_has_no_books(shell: str, books: Books) -> None:
    facts = books.check(shell)

    assert (facts.targets["site"].record, facts.targets["site"].before) == (None, "")
    assert facts.holder == ""


def test_an_adopted_folder_with_nothing_in_its_place_is_known(
    shell: str, books: Books
) -> None:
    aside = books.target.with_name("aside")
    aside.mkdir()
    books.arm(shell, "run-1", "", B, str(aside))

    facts = books.target_facts(shell)

    assert (facts.kind, facts.record) == (
        "absent",
        books.record("run-1", "", B, str(aside)),
    )


def test_what_was_live_before_is_the_last_other_release(
    shell: str, books: Books
) -> None:
    (books.folder / ".ghost" / "history").write_text(f"{C}\n{A}\n{B}\n")
    books.serve(B)

    assert books.target_facts(shell).before == A


def test_who_holds_the_lock_is_told_while_it_is_held(shell: str, books: Books) -> None:
    process, frame = start(shell, "lock", str(books.app), *HOLDER)
    with process:
        while b"locked" not in frame.feed(read(process)):
            assert process.poll() is None
        try:
            assert books.check(shell).holder == "run 7 by ann"
        finally:
            process.communicate(timeout=10)

    # The host went down, and its last holder with it.
    (books.app / ".ghost" / "holder").write_text("run 7 by ann\n4194304\n")
    assert books.check(shell).holder == ""
