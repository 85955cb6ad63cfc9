"""Whatever two controllers do, hosts serve what a small model says."""

from __future__ import annotations

import anyio
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from tests._planning.two_people import HOSTS, world

hosts = st.sampled_from(HOSTS)
people = st.sampled_from("ab")
deeds = st.one_of(
    st.tuples(st.just("deploy"), people),
    st.tuples(st.just("deploy"), people, hosts),
    st.tuples(st.just("deploy"), people, st.just(""), hosts),
    st.tuples(st.just("fail"), people, hosts),
    st.tuples(st.just("kill"), people, st.integers(0, 2)),
    st.tuples(st.just("rollback"), people),
    st.tuples(st.just("resume"), people),
    st.tuples(st.just("revert"), people),
    st.tuples(st.just("converge"), people),
    st.tuples(st.just("join")),
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@example(shared=False, hours=0, told=[("kill", "a", 0), ("join",), ("resume", "a")])
@given(
    shared=st.booleans(),
    hours=st.sampled_from([-3, 0, 3]),
    told=st.lists(deeds, min_size=3, max_size=9),
)
def test_hosts_serve_what_the_model_says(
    *, shared: bool, hours: int, told: list[tuple[str, ...]]
) -> None:
    async def act() -> None:
        with world(shared=shared, hours=hours) as here:
            for deed, *words in told:
                note(f"{deed} {words}")
                here.sit_at(words[0] if words else "a")
                await getattr(here, deed)(*words)
                await here.check()

    anyio.run(act)
