"""Which runs are unfinished, and which ones a store knows nothing of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import pytest

from ghostasync import Hook, Host, Plan, Rollout, State
from ghostasync._planning.unfinished import (
    Seen,
    StrangeRun,
    left_by,
    strange_run,
    unfinished_run,
)
from ghostasync._remote.activation import Activation
from ghostasync._remote.facts import Facts, ModuleState
from ghostasync.errors import HostError
from ghostasync.history.past_run import PastRun
from ghostasync.protocols import ManifestLine
from ghostasync.testing import MemoryStore
from tests._planning.trails import facts, move, trail
from tests.history.telling import HOSTS, journal, started, story
from tests.story import NEW, OLD

SILENT: Final = HostError("h2", "no answer")

A: Final = move(1, "a")
MOVED: Final = move(2, "b", run="killed", outcome="moved")
"""What the killed run had done to a host."""


def hosts(**states: ModuleState | HostError) -> dict[str, Facts | HostError]:
    """Return what hosts with one module told."""
    return {
        name: state if isinstance(state, HostError) else facts({"site": state})
        for name, state in states.items()
    }


def line(package: str, generation: int, module: str = "site") -> ManifestLine:
    return ManifestLine(module, package, f"/srv/{module}", "", generation)


# --- What a run has left ---------------------------------------------------------


KILLED: Final = PastRun(
    ids=("killed",),
    modules=("site",),
    hosts=("h1", "h2"),
    packages={"site": "b"},
    served={"h1": {"site": "a"}, "h2": {"site": "a"}},
    generation=2,
)


@attrs.frozen
class Case:
    """A fleet with a killed run, and a plan of it."""

    plan: Plan

    async def left(
        self,
        seen: Seen,
        *lines: ManifestLine,
        run: PastRun = KILLED,
        store: MemoryStore | None = None,
    ) -> Mapping[str, tuple[str, ...]]:
        return await left_by(run, store or MemoryStore(), self.plan, lines, seen)


@pytest.fixture
def case(plan: Plan) -> Case:
    return Case(attrs.evolve(plan, hosts=(Host("h1"), Host("h2"))))


async def test_what_a_run_moved_is_left_and_nothing_else(case: Case) -> None:
    seen = hosts(h1=trail(A, MOVED), h2=trail(A))

    assert await case.left(seen) == {"h1": ("site",)}


async def test_a_run_that_had_moved_nothing_has_left_all_of_its_hosts(
    case: Case,
) -> None:
    seen = hosts(h1=trail(A), h2=trail(A), h3=trail(A))

    assert await case.left(seen) == {"h1": ("site",), "h2": ("site",)}


async def test_a_run_that_another_one_took_back_has_left_nothing(case: Case) -> None:
    """Its own way back, or its timer's, leaves it to be resumed."""
    by_itself = attrs.evolve(MOVED, outcome="reverted", reverted_by=MOVED.run)
    by_another = attrs.evolve(by_itself, reverted_by="another")
    everywhere = {"h1": ("site",), "h2": ("site",)}

    assert await case.left(hosts(h1=trail(A, by_itself), h2=trail(A))) == everywhere
    assert await case.left(hosts(h1=trail(A, by_another), h2=trail(A))) == {}
    back_in_part = hosts(h1=trail(A, by_another), h2=trail(A, MOVED))
    assert await case.left(back_in_part) == {"h2": ("site",)}


async def test_a_release_that_was_found_in_line_later_was_moved_by_the_run(
    case: Case,
) -> None:
    seen = hosts(h1=trail(A, MOVED, move(3, "b")), h2=trail(A))

    assert await case.left(seen) == {}


async def test_a_host_that_a_killed_rollback_never_reached_was_not_moved_by_it(
    case: Case,
) -> None:
    """What it was to go back to it had left before, and that is no proof of a move."""
    back = move(3, "a", "rollback", run="killed", outcome="moved")
    over = move(4, "b", "converge")
    run = attrs.evolve(
        KILLED,
        generation=3,
        packages={"site": "a"},
        served={"h1": {"site": "b"}, "h2": {"site": "b"}},
    )
    moves = A, move(2, "b"), back

    seen = hosts(h1=trail(*moves, over), h2=trail(*moves, serves="b"))

    assert await case.left(seen, run=run) == {}


SINCE: Final = {
    "nothing": ([], True),
    "a deploy": ([move(3, "c")], False),
    "a deploy that was killed": ([move(3, "c", outcome="moved")], False),
    "a deploy that was taken back": ([move(3, "c", outcome="reverted")], True),
    "a resumption": ([move(3, "b", run="resumed", outcome="moved")], True),
}


@pytest.mark.parametrize(("moves", "left"), SINCE.values(), ids=SINCE)
async def test_what_moved_a_host_later_has_made_up_for_the_run(
    moves: list[Activation], *, left: bool, case: Case
) -> None:
    run = attrs.evolve(KILLED, ids=("again", "resumed", "killed"))
    seen = hosts(h1=trail(A, MOVED, *moves))

    assert await case.left(seen, run=run) == ({"h1": ("site",)} if left else {})


async def test_the_same_release_again_on_all_hosts_has_made_up_for_the_run(
    case: Case,
) -> None:
    again = move(3, "b")

    assert await case.left(hosts(h1=trail(A, MOVED, again), h2=trail(A, again))) == {}


async def test_a_later_move_that_proved_nothing_and_is_gone_made_up_for_nothing(
    case: Case,
) -> None:
    later = move(3, "c", outcome="moved")

    left = await case.left(hosts(h1=trail(A, MOVED, later, serves="b")))

    assert left == {"h1": ("site",)}


@pytest.mark.parametrize(
    ("manifest", "left"),
    [(line("c", 3), False), (line("b", 3), True), (line("a", 1), True)],
)
async def test_a_run_is_made_up_for_once_manifest_has_moved_on(
    manifest: ManifestLine, *, left: bool, case: Case
) -> None:
    """Then the fleet serves something later, whatever became of a host."""
    found = await case.left(hosts(h1=trail(A, MOVED)), manifest)

    assert found == ({"h1": ("site",)} if left else {})


async def test_modules_are_judged_one_by_one(case: Case) -> None:
    run = attrs.evolve(KILLED, modules=("site", "api", "new"), served={})
    site, api = trail(A, MOVED), trail(move(1, "x"), move(3, "z"))
    seen: Seen = {"h1": facts({"site": site, "api": api})}

    assert await case.left(seen, run=run) == {"h1": ("site", "new")}


@pytest.mark.parametrize("state", State)
async def test_of_a_silent_host_the_journal_tells_whether_it_may_have_moved(
    state: State, case: Case
) -> None:
    run = attrs.evolve(KILLED, states={"h2": state})

    found = await case.left(hosts(h1=trail(A, MOVED), h2=SILENT), run=run)

    moved = state in {
        *(State.SWITCHING, State.ACTIVATING, State.VERIFYING, State.UNDRAINING),
        *(State.LIVE, State.ROLLING_BACK, State.STRANDED),
    }
    assert set(found) == {"h1", *["h2"][:moved]}


@pytest.mark.parametrize(
    ("rollout", "left"),
    [(Rollout(), {"h1"}), (Rollout(drain=Hook("out")), {"h1", "h2"})],
)
async def test_a_host_that_may_be_drained_is_left_as_well(
    rollout: Rollout, left: set[str], case: Case
) -> None:
    run = attrs.evolve(KILLED, states={"h2": State.DRAINING})
    case = Case(attrs.evolve(case.plan, rollout=rollout))

    found = await case.left(hosts(h1=trail(A, MOVED), h2=trail(A)), run=run)

    assert set(found) == left


async def test_what_another_store_brought_has_made_up_for_the_run(case: Case) -> None:
    """Its numbers say nothing here, so what the host serves decides."""
    strange = move(2, "z", run="strange", store="theirs")
    seen = hosts(h1=trail(A, MOVED, strange), h2=trail(A, MOVED))

    assert await case.left(seen) == {"h2": ("site",)}


@pytest.mark.parametrize(("whose", "left"), [("ours", True), ("theirs", False)])
async def test_where_nobody_knows_what_served_the_store_of_the_record_decides(
    whose: str, *, left: bool, case: Case
) -> None:
    store = MemoryStore()
    word = await store.identity(make=True)
    first = move(1, "a", store=word if whose == "ours" else whose)
    run = attrs.evolve(KILLED, served={})

    found = await case.left(hosts(h1=trail(first)), run=run, store=store)

    assert ("h1" in found) == left


# --- The newest one of a store ---------------------------------------------------


@attrs.define
class Journals:
    """A store in which one run after the other was killed."""

    plan: Plan
    store: MemoryStore = attrs.field(factory=MemoryStore)

    async def kill(self, number: int) -> str:
        """Add a run that was killed once it had switched its hosts; return its id."""
        run = f"2026010{number}T000000Z-000000"
        told = journal(story(started()), run)[:-4]
        await self.store.runs.save(run, "journal.jsonl", b"".join(told))
        await self.store.runs.reserve(run, number)
        return run

    async def newest(
        self, *moves: Activation, lines: Iterable[ManifestLine] = ()
    ) -> str:
        """Return the run that is unfinished where hosts have made *moves*."""
        seen = hosts(**dict.fromkeys(HOSTS, trail(move(1, OLD), *moves)))
        found = await unfinished_run(self.store, self.plan, [*lines], seen)
        return found.id if found else ""


@pytest.fixture
def journals(plan: Plan) -> Journals:
    return Journals(plan)


async def test_the_newest_run_that_nothing_made_up_for_is_the_unfinished_one(
    journals: Journals,
) -> None:
    first, second = await journals.kill(2), await journals.kill(4)

    assert await journals.newest() == second
    assert await journals.newest(move(3, NEW, run=first)) == second
    assert await journals.newest(move(5, "1763899999_site_9999999")) == ""


async def test_a_run_below_all_numbers_of_manifest_is_not_unfinished(
    journals: Journals,
) -> None:
    """Every module has gone live since, though one line names the run's package."""
    run = await journals.kill(2)
    api = line("x", 4, "api")

    assert await journals.newest(lines=[line(OLD, 1), api]) == run
    assert await journals.newest(lines=[line(NEW, 3), api]) == ""


async def test_an_older_run_is_unfinished_where_the_newer_one_is_not(
    journals: Journals,
) -> None:
    """A later run has gone over the hosts of the newer one alone."""
    first, second = await journals.kill(2), await journals.kill(4)
    mine, late = move(2, NEW, run=first), move(4, NEW, run=second)
    seen = hosts(
        h1=trail(move(1, OLD), mine),
        h2=trail(move(1, OLD), mine, late, move(5, "1763899999_site_9999999")),
        h3=trail(move(1, OLD)),
    )

    found = await unfinished_run(journals.store, journals.plan, [], seen)

    assert found is not None
    assert found.id == first


# --- Runs that the store does not know -------------------------------------------


STRANGE: Final = move(3, "z", run="strange", store="theirs")


def found(seen: Seen, *known: str) -> StrangeRun | None:
    return strange_run(seen, known, "ours")


def test_a_run_of_another_store_is_strange_with_the_hosts_that_it_moved() -> None:
    seen = hosts(h1=trail(A, STRANGE), h2=SILENT, h3=trail(A), h4=trail(STRANGE))

    strange = found(seen, "r1")

    assert strange is not None
    assert (strange.last.run, strange.hosts) == ("strange", ("h1", "h4"))
    assert strange.ended


UNSUSPICIOUS: Final = {
    "a run that the store knows": [A],
    "a run whose journal is lost": [move(3, "z", run="lost")],
    "a run that something later replaced": [STRANGE, move(4, "c")],
    "a run that was taken back": [A, attrs.evolve(STRANGE, outcome="reverted")],
    "no run": [],
}


@pytest.mark.parametrize("moves", UNSUSPICIOUS.values(), ids=UNSUSPICIOUS)
def test_a_run_that_is_not_strange(moves: list[Activation]) -> None:
    assert found(hosts(h1=trail(*moves)), "r1", "r4") is None


def test_a_run_that_the_store_knows_under_its_id_is_not_strange() -> None:
    """A store that was copied has another word and the same runs."""
    assert found(hosts(h1=trail(A, STRANGE)), "strange") is None


@pytest.mark.parametrize(("number", "told"), [(2, True), (3, True), (4, False)])
def test_a_strange_run_is_told_unless_another_one_is_later(
    number: int, *, told: bool
) -> None:
    seen = hosts(h1=trail(A, STRANGE), h2=trail(move(number, "c")))

    assert (found(seen) is not None) == told


def test_the_newest_of_several_strange_runs_is_told() -> None:
    newer = move(4, "y", run="newer", store="elsewhere")

    strange = found(hosts(h1=trail(STRANGE), h2=trail(newer), h3=trail(STRANGE)))

    assert strange is not None
    assert (strange.last.run, strange.hosts) == ("newer", ("h2",))


def test_a_strange_run_has_not_ended_while_one_host_has_not_proven_it() -> None:
    moved = attrs.evolve(STRANGE, outcome="moved")

    strange = found(hosts(h1=trail(STRANGE), h2=trail(moved), h3=trail(STRANGE)))

    assert strange is not None
    assert not strange.ended
    assert strange.hosts == ("h1", "h2", "h3")
