"""What stands on hosts by their own records, and what undoing a run means."""

from __future__ import annotations

import attrs
import pytest

from ghostasync import PastRelease, PlanError
from ghostasync._planning.ledger import Ledger, Undoing, stack
from ghostasync._remote.activation import Activation
from ghostasync._remote.facts import ModuleState
from tests._planning.trails import facts, move, trail

A, B, C = move(1, "a"), move(2, "b"), move(3, "c")
"""Three deploys, one after the other."""


def ledger(**hosts: ModuleState) -> Ledger:
    """Return the records of hosts that have one module."""
    return Ledger({host: facts({"site": state}) for host, state in hosts.items()})


def goes(undoing: Undoing) -> dict[str, str]:
    """Return where hosts go that have one module."""
    return {host: modules["site"] for host, modules in undoing.to.items()}


# --- What stands on one host ---------------------------------------------------------


STACKS = {
    "nothing": ([], ""),
    "deploys": ([A, B, C], "a b c"),
    "the same release again": ([A, B, move(3, "b")], "a b"),
    "an older release on purpose": ([A, B, move(3, "a", "redeploy")], "a b a"),
    "one that was taken back": ([A, move(2, "b", outcome="reverted"), C], "a c"),
    "one that proved nothing": ([A, move(2, "b", outcome="moved"), C], "a c"),
    "a rollback to what is below": (
        [A, B, move(3, "a", "rollback", undoes="r2")],
        "a",
    ),
    "a rollback to far below": (
        [A, B, C, move(4, "a", "rollback", undoes="r2")],
        "a",
    ),
    "a rollback to what others had": (
        [A, C, move(4, "b", "rollback", undoes="r3")],
        "a b",
    ),
    "a rollback of what came with MANIFEST": (
        [A, move(4, "c", "converge"), move(5, "b", "rollback", undoes="r3")],
        "a b",
    ),
    "a rollback of what came with the same deploy again": (
        [A, move(4, "c"), move(5, "b", "rollback", undoes="r3")],
        "a b",
    ),
    "a rollback of a rollback": (
        [
            *(A, B),
            move(3, "a", "rollback", undoes="r2"),
            move(4, "b", "rollback", undoes="r3"),
        ],
        "a b",
    ),
    "a rollback to a release by name": ([A, B, move(3, "z", "rollback")], "a b z"),
    "a rollback by name to one that it had": ([A, B, move(3, "a", "rollback")], "a"),
    "the last of several below": (
        [A, B, move(3, "a"), C, move(5, "a", "rollback", undoes="r3")],
        "a b a",
    ),
    "a rollback that was taken back": (
        [A, B, move(3, "a", "rollback", undoes="r2", outcome="reverted")],
        "a b",
    ),
    "a rollback that was killed, and deployed over": (
        [A, B, C, move(4, "b", "rollback", outcome="moved", undoes="r3"), move(5, "d")],
        "a b d",
    ),
    "a converge that was killed, and deployed over": (
        [A, C, move(4, "a", "converge", outcome="moved"), move(5, "d")],
        "a d",
    ),
    "a canary that was converged": ([A, C, move(4, "a", "converge")], "a"),
    "a canary that was booted": ([A, C, move(4, "a", "boot")], "a"),
    "a converge to what it missed": ([A, move(4, "c", "converge")], "a c"),
    "a deploy after a rollback": (
        [A, B, move(3, "a", "rollback", undoes="r2"), move(4, "d")],
        "a d",
    ),
}


@pytest.mark.parametrize(("moves", "left"), STACKS.values(), ids=STACKS)
def test_moves_stand_until_they_are_undone(moves: list[Activation], left: str) -> None:
    assert [each.release for each in stack(trail(*moves))] == left.split()


def test_a_killed_rollback_that_moved_no_link_has_left_nothing() -> None:
    killed = move(3, "a", "rollback", outcome="moved", undoes="r2")
    last, *others = trail(A, B, killed, move(4, "d")).activations
    last = attrs.evolve(last, previous="/releases/b")
    state = attrs.evolve(trail(A, B, killed, last), activations=(last, *others))

    assert [each.release for each in stack(state)] == ["a", "b", "d"]


def test_a_rollback_that_never_reached_a_host_has_left_nothing_there() -> None:
    """It went live elsewhere; what the host had served before is no proof."""
    missed = move(4, "b", "rollback", outcome="moved", undoes="r3")

    moves = stack(trail(A, B, C, missed, serves="c"), live={"r4"})

    assert [each.release for each in moves] == ["a", "b", "c"]


@pytest.mark.parametrize(("serves", "left"), [("b", ["r1", "r2"]), ("a", ["r1"])])
def test_the_move_of_a_killed_run_counts_while_its_release_serves(
    serves: str, left: list[str]
) -> None:
    state = trail(A, move(2, "b", outcome="moved"), serves=serves)

    assert [each.run for each in stack(state)] == left


def test_the_first_move_to_a_release_is_the_one_that_stands() -> None:
    assert stack(trail(A, move(2, "a")))[-1].run == "r1"


def test_what_a_run_was_for_may_be_known_to_other_hosts_alone() -> None:
    """A host that joined after a rollback knows nothing of it."""
    again = move(5, "c", "rollback", undoes="r4")
    state = trail(A, move(4, "b", "converge", run="r6"), again)

    assert [each.release for each in stack(state, {"r4": "rollback"})] == [*"abc"]
    assert [each.release for each in stack(state, {"r4": "deploy"})] == [*"ac"]


# --- The newest run ------------------------------------------------------------------


def test_the_newest_run_is_undone_on_each_host_by_its_own_trail() -> None:
    last = move(4, "d")
    known = ledger(h1=trail(A, B, last), h2=trail(A, B, C, last))

    assert known.undo() == Undoing(
        run="r4",
        to={"h1": {"site": "b"}, "h2": {"site": "c"}},
        serves={"h1": {"site": "d"}, "h2": {"site": "d"}},
        release={"site": "d"},
        stays={},
    )
    assert known.undo().targets == {"site": {"b", "c"}}


def test_hosts_that_the_newest_run_has_not_moved_stay() -> None:
    undoing = ledger(h1=trail(A, B), h2=trail(A)).undo()

    assert goes(undoing) == {"h1": "a"}


def test_a_killed_run_is_undone_where_its_release_serves() -> None:
    killed = move(2, "b", outcome="moved")

    undoing = ledger(h1=trail(A, killed), h2=trail(A, killed, serves="a")).undo()

    assert (undoing.run, goes(undoing)) == ("r2", {"h1": "a"})


def test_a_second_rollback_goes_one_release_further() -> None:
    back = move(4, "b", "rollback", undoes="r3")

    undoing = ledger(h1=trail(A, B, C, back), h2=trail(A, B, C, back)).undo()

    assert (undoing.run, goes(undoing)) == ("r2", {"h1": "a", "h2": "a"})


CAUGHT_UP = {
    "converge": move(4, "c", "converge"),
    "boot": move(4, "c", "boot"),
    "the same deploy again": move(4, "c"),
    "the same rollback by name": move(4, "c", "rollback"),
}


@pytest.mark.parametrize("caught_up", CAUGHT_UP.values(), ids=CAUGHT_UP)
def test_a_host_that_was_caught_up_goes_where_the_others_go(
    caught_up: Activation,
) -> None:
    """The others note the run as well: it found them in line."""
    others = trail(A, B, C, caught_up)

    undoing = ledger(h1=others, h2=others, h4=trail(A, caught_up)).undo()

    assert (undoing.run, goes(undoing)) == (
        "r3",
        dict.fromkeys(["h1", "h2", "h4"], "b"),
    )


@pytest.mark.parametrize("caught_up", CAUGHT_UP.values(), ids=CAUGHT_UP)
@pytest.mark.parametrize("before", [[A], []], ids=["missed two", "joined"])
def test_a_host_that_was_caught_up_is_no_reason_to_go_forward_again(
    caught_up: Activation, before: list[Activation]
) -> None:
    """On it the first rollback took away what no run of the others had brought."""
    back = move(5, "b", "rollback", undoes="r3")
    others = trail(A, B, C, caught_up, back)

    undoing = ledger(h1=others, h4=trail(*before, caught_up, back)).undo()

    assert (undoing.run, goes(undoing)) == ("r2", {"h1": "a", "h4": "a"})


def test_a_host_that_booted_with_another_release_stays() -> None:
    undoing = ledger(h1=trail(A, B, C), h2=trail(move(2, "b", "boot"))).undo()

    assert goes(undoing) == {"h1": "b"}


def test_a_host_that_was_new_goes_where_most_others_go() -> None:
    undoing = ledger(
        h1=trail(A, C), h2=trail(A, B, C), h3=trail(A, B, C), h9=trail(C)
    ).undo()

    assert goes(undoing) == {"h1": "a", "h2": "b", "h3": "b", "h9": "b"}


def test_a_host_that_was_caught_up_goes_to_its_own_where_no_other_says_more() -> None:
    undoing = ledger(h1=trail(C), h4=trail(A, move(4, "c", "converge"))).undo()

    assert goes(undoing) == {"h4": "a"}
    assert undoing.stays == {"site": ("h1",)}


def test_a_canary_that_was_converged_is_not_the_newest_run() -> None:
    canary = trail(A, B, C, move(4, "b", "converge"))

    undoing = ledger(h1=canary, h2=trail(A, B)).undo()

    assert (undoing.run, goes(undoing)) == ("r2", {"h1": "a", "h2": "a"})


def test_a_host_that_was_caught_up_after_a_roll_forward_goes_where_others_go() -> None:
    """A rollback by name had brought to the others what the deploy found in line."""
    again = move(5, "c")
    others = trail(A, B, move(4, "c", "rollback"), again)

    undoing = ledger(h1=others, h4=trail(A, again)).undo()

    assert (undoing.run, goes(undoing)) == ("r4", {"h1": "b", "h4": "b"})


def test_a_converge_is_not_what_brought_a_release_first() -> None:
    """The hosts that had it first are not among those that are asked."""
    undoing = ledger(
        h1=trail(A, move(3, "c", "converge")), h2=trail(A, B, move(4, "c"))
    ).undo()

    assert (undoing.run, goes(undoing)) == ("r4", {"h1": "b", "h2": "b"})


def test_a_release_that_was_left_in_between_came_with_the_later_run() -> None:
    undoing = ledger(h1=trail(move(1, "b"), move(2, "a"), move(3, "b"))).undo()

    assert (undoing.run, goes(undoing)) == ("r3", {"h1": "a"})


def test_runs_with_the_same_number_are_refused_by_name() -> None:
    """Their stores knew nothing of each other, so neither is the later one."""
    one, other = move(2, "b", run="one"), move(2, "c", run="other")
    known = ledger(h1=trail(A, one), h2=trail(A, other))

    with pytest.raises(PlanError, match="runs one and other knew nothing of each"):
        known.undo()
    assert goes(known.undo("other")) == {"h2": "a"}


@pytest.mark.parametrize(
    "state", [trail(), trail(move(1, "a", "boot"), move(2, "b", "converge"))]
)
def test_a_fleet_that_no_run_has_deployed_to_has_none_to_undo(
    state: ModuleState,
) -> None:
    with pytest.raises(PlanError, match="no host has a run on record that could be"):
        ledger(h1=state).undo()


# --- Modules -------------------------------------------------------------------------


NEW = {"site": trail(A, B), "api": trail(move(2, "x"))}
"""A host to which its second run brought a module that it had not had."""


def test_a_module_that_the_run_brought_stays() -> None:
    undoing = Ledger({"h1": facts(NEW), "h2": facts(NEW)}).undo()

    assert undoing.to == {"h1": {"site": "a"}, "h2": {"site": "a"}}
    assert undoing.stays == {"api": ("h1", "h2")}
    assert undoing.release == {"site": "b", "api": "x"}


def test_the_link_of_a_module_that_the_run_brought_goes_if_asked() -> None:
    undoing = Ledger({"h1": facts(NEW)}).undo(remove=True)

    assert undoing.to == {"h1": {"site": "a", "api": ""}}
    assert undoing.serves == {"h1": {"site": "b", "api": "x"}}
    assert undoing.stays == {}


@pytest.mark.parametrize("remove", [False, True])
def test_a_module_that_stayed_keeps_no_rollback_from_going_further(
    remove: bool,
) -> None:
    site = trail(A, B, C, move(4, "b", "rollback", undoes="r3"))
    host = facts({"site": site, "api": trail(move(3, "x"))})

    undoing = Ledger({"h1": host}).undo(remove=remove)

    way = ("r3", {"api": ""}) if remove else ("r2", {"site": "a"})
    assert (undoing.run, undoing.to["h1"]) == way


def test_a_run_that_brought_a_module_alone_is_not_passed_over() -> None:
    host = facts({"site": trail(A, B), "api": trail(move(3, "x"))})

    undoing = Ledger({"h1": host}).undo()

    assert (undoing.run, undoing.to, undoing.stays) == ("r3", {}, {"api": ("h1",)})


def test_modules_that_a_run_only_caught_up_are_left() -> None:
    """The run brought a new site, and the api's second release to one more host."""
    x, y = move(1, "x"), move(2, "y")
    first = facts({"site": trail(A, C), "api": trail(x, y, move(3, "y"))})
    missed = facts({"site": trail(A, C), "api": trail(x, move(3, "y"))})

    undoing = Ledger({"h1": first, "h2": missed}).undo()

    assert undoing.to == {"h1": {"site": "a"}, "h2": {"site": "a"}}
    assert undoing.release == {"site": "c"}


def test_a_run_that_only_caught_hosts_up_is_undone_with_the_one_that_it_repeated() -> (
    None
):
    undoing = ledger(h1=trail(A, B, move(3, "b")), h2=trail(A, move(3, "b"))).undo()

    assert (undoing.run, goes(undoing)) == ("r2", {"h1": "a", "h2": "a"})


def test_runs_that_are_undone_together_have_the_name_of_the_first() -> None:
    """The last run brought two modules to a host that had missed them."""
    x, last = move(1, "x"), [move(4, "b"), move(4, "y")]
    had = facts({"site": trail(A, B, last[0]), "api": trail(x, move(3, "y"), last[1])})
    missed = facts({"site": trail(A, last[0]), "api": trail(x, last[1])})

    undoing = Ledger({"h1": had, "h2": missed}).undo()

    assert undoing.run == "r2"
    both = {"site": "a", "api": "x"}
    assert undoing.to == {"h1": both, "h2": both}


# --- A run by name -------------------------------------------------------------------


@pytest.fixture
def known() -> Ledger:
    """Three deploys to two hosts, of which one missed the second."""
    third = move(3, "c", run="r30")
    return ledger(h1=trail(A, B, third), h2=trail(A, third))


def test_a_run_is_known_by_the_beginning_of_its_id(known: Ledger) -> None:
    undoing = known.undo("r3")

    assert (undoing.run, goes(undoing)) == ("r30", {"h1": "b", "h2": "a"})


def test_only_hosts_that_the_run_has_moved_go_back(known: Ledger) -> None:
    undoing = known.undo("r2")

    assert (undoing.run, goes(undoing)) == ("r2", {"h1": "a"})
    assert undoing.serves == {"h1": {"site": "c"}}


def test_a_run_that_no_host_knows_is_refused(known: Ledger) -> None:
    with pytest.raises(PlanError, match=r"no host has a record of run r9; .* --to"):
        known.undo("r9")


def test_a_beginning_of_several_ids_is_refused(known: Ledger) -> None:
    with pytest.raises(PlanError, match="3 runs begin with r: r1, r2, r30"):
        known.undo("r")


def test_a_whole_id_is_not_the_beginning_of_another() -> None:
    undoing = ledger(h1=trail(A, B, move(3, "c", run="r20"))).undo("r2")

    assert (undoing.run, goes(undoing)) == ("r2", {"h1": "a"})


GONE = {
    "taken back": [A, move(2, "b", outcome="reverted")],
    "rolled away from": [A, B, move(3, "a", "rollback", undoes="r2")],
    "found all in line": [move(1, "b"), move(2, "b")],
}


@pytest.mark.parametrize("moves", GONE.values(), ids=GONE)
def test_a_run_of_which_nothing_stands_is_refused(moves: list[Activation]) -> None:
    with pytest.raises(PlanError, match="nothing of run r2 stands"):
        ledger(h1=trail(*moves)).undo("r2")


def test_a_link_that_somebody_has_moved_by_hand_is_no_run_s_work() -> None:
    state = trail(A, move(2, "b", outcome="reverted"), serves="b")

    with pytest.raises(PlanError, match="nothing of run r2 stands"):
        ledger(h1=state).undo("r2")


def test_a_rollback_that_is_undone_goes_to_what_it_left() -> None:
    back = move(4, "b", "rollback", undoes="r3")
    known = ledger(h1=trail(A, B, C, back), h2=trail(A, B, back), h3=trail(A, B))

    undoing = known.undo("r4")

    assert (undoing.run, goes(undoing)) == ("r4", {"h1": "c"})
    assert undoing.release == {"site": "b"}


def test_a_rollback_is_not_undone_once_something_else_has_moved_the_link() -> None:
    first = move(3, "a", "rollback", undoes="r2")
    again = move(5, "a", "rollback", undoes="r4")

    with pytest.raises(PlanError, match="nothing of run r3 stands"):
        ledger(h1=trail(A, B, first, move(4, "d"), again)).undo("r3")


# --- Resumptions ---------------------------------------------------------------------


@pytest.mark.parametrize("run", ["", "r2", "r3", "r4"])
def test_a_killed_run_counts_as_one_with_those_that_resumed_it(run: str) -> None:
    known = ledger(
        h1=trail(A, B),
        h2=trail(A, move(3, "b", resumes="r2")),
        h3=trail(A, move(4, "b", resumes="r3")),
    )

    undoing = known.undo(run)

    assert (undoing.run, goes(undoing)) == (
        run or "r2",
        {"h1": "a", "h2": "a", "h3": "a"},
    )


def test_modules_that_a_run_and_its_resumption_brought_go_together() -> None:
    """The controller died between the links of two modules."""
    rest = move(3, "b", resumes="r2")
    host = {"site": trail(A, rest), "api": trail(move(1, "x"), move(2, "y"))}

    undoing = Ledger({"h1": facts(host)}).undo()

    assert undoing.run == "r2"
    assert undoing.to == {"h1": {"site": "a", "api": "x"}}


def test_a_resumption_by_name_stands_for_the_killed_run_below_another_one() -> None:
    rest, later = move(3, "b", resumes="r2"), move(4, "d")

    undoing = ledger(h1=trail(A, B, later), h2=trail(A, rest, later)).undo("r3")

    assert goes(undoing) == {"h1": "a", "h2": "a"}


def test_a_rollback_that_was_resumed_is_one_to_the_next() -> None:
    """One host went back before the controller died, the other one after it."""
    killed = move(4, "b", "rollback", undoes="r3")
    rest = move(5, "b", "rollback", undoes="r3", resumes="r4")
    known = ledger(h1=trail(A, B, C, killed, rest), h2=trail(A, B, C, rest))

    assert goes(known.undo()) == {"h1": "a", "h2": "a"}
    assert goes(known.undo("r4")) == {"h1": "c", "h2": "c"}
    assert goes(known.undo("r5")) == {"h1": "c", "h2": "c"}


# --- The releases that there were ----------------------------------------------------


def at(number: int, release: str, hour: int, goal: str = "deploy") -> Activation:
    """Return a record with a time, and with what people know a release by."""
    return attrs.evolve(
        move(number, release, goal),
        at=f"2026-01-01T{hour:02}:00:00Z",
        actor="ann",
        commit=release * 40,
        subject=f"Version {release}",
    )


def past(release: str, hour: int | None, *hosts: str) -> PastRelease:
    seconds = 0.0 if hour is None else 1767225600.0 + 3600 * hour
    subject, commit = f"Version {release}", release * 40
    return PastRelease(release, commit, subject, "ann", seconds, hosts)


def test_releases_are_told_once_the_newest_first_with_who_serves_them() -> None:
    a, b, c = at(1, "a", 1), at(2, "b", 2), at(3, "c", 3)
    failed = attrs.evolve(at(4, "d", 4), outcome="reverted")
    known = ledger(h1=trail(a, b, c), h2=trail(a, b, failed), h3=trail(a, b))

    assert known.releases() == {
        "site": (past("c", 3, "h1"), past("b", 2, "h2", "h3"), past("a", 1)),
    }


@pytest.mark.parametrize("goal", ["converge", "boot", "rollback"])
def test_a_release_that_hosts_were_taken_to_again_is_no_newer(goal: str) -> None:
    a, b, again = at(1, "a", 1), at(2, "b", 2), at(3, "a", 3, goal)

    known = ledger(h1=trail(a, b, again)).releases()

    assert known["site"] == (past("b", 2), past("a", 1, "h1"))


def test_a_release_that_was_deployed_again_is_as_new_as_that() -> None:
    known = ledger(h1=trail(at(1, "a", 1), at(2, "b", 2), at(3, "a", 3))).releases()

    assert known["site"] == (past("a", 3, "h1"), past("b", 2))


def test_clocks_that_contradict_the_order_tell_no_time() -> None:
    a, b, c = at(1, "a", 1), at(2, "b", 5), at(3, "c", 3)
    none = attrs.evolve(at(4, "d", 6), at="yesterday")

    known = ledger(h1=trail(a, b, c)).releases()
    broken = ledger(h1=trail(none)).releases()

    assert known["site"] == (past("c", None, "h1"), past("b", None), past("a", 1))
    assert broken["site"] == (past("d", None, "h1"),)
