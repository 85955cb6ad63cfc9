from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, get_args, get_type_hints

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostasync import events as e
from ghostasync.errors import StoreError
from ghostasync.fold import folded
from ghostasync.journal import Journal, decode, encode, line, records, replay
from ghostasync.machine import TRANSITIONS, HostMachine, IllegalTransition
from ghostasync.model import Revision, State

RUN: Final = "20260101T000000Z-0a1b2c"
EVENTS: Final = tuple(
    kind
    for kind in vars(e).values()
    if isinstance(kind, type)
    and issubclass(kind, e.HostEvent | e.RunEvent)
    and kind not in {e.HostEvent, e.RunEvent}
)

# --- Every record there can be ---------------------------------------------------

# What os.fsdecode makes of bytes: text, and surrogates that stand for single bytes.
texts = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])
)
counts = st.integers(0, 2**53)
reals = st.floats(allow_nan=False, allow_infinity=False)
VALUES: Final[dict[object, st.SearchStrategy[object]]] = {
    str: texts,
    int: counts,
    int | None: st.none() | counts,
    float: reals,
    bool: st.booleans(),
    State: st.sampled_from(State),
    e.Cause: st.sampled_from(get_args(e.Cause)),
    Revision: st.builds(Revision, texts, texts, texts, texts, counts),
    tuple[str, ...]: st.lists(texts).map(tuple),
    Mapping[str, str]: st.dictionaries(texts, texts),
    Mapping[str, Mapping[str, str]]: st.dictionaries(
        texts, st.dictionaries(texts, texts)
    ),
    Mapping[str, tuple[str, ...]]: st.dictionaries(texts, st.lists(texts).map(tuple)),
    Mapping[str, int]: st.dictionaries(texts, counts),
    Mapping[str, float]: st.dictionaries(texts, reals),
}


def made(kind: type[e.Event]) -> st.SearchStrategy[e.Event]:
    hints = get_type_hints(kind)
    names = [field.name for field in attrs.fields(kind)]
    return st.builds(kind, **{name: VALUES[hints[name]] for name in names})


@st.composite
def every_record(draw: st.DrawFn) -> e.Record:
    event = draw(st.sampled_from(EVENTS).flatmap(made))
    return e.Record(
        seq=draw(counts),
        at=draw(st.integers(0, 4_000_000_000_000)) / 1000,
        run=draw(texts),
        event=event,
        state=draw(st.none() | st.sampled_from(State)),
        wave=getattr(event, "wave", draw(st.none() | counts)),
    )


def record(
    event: e.Event, *, seq: int = 1, state: State | None = None, wave: int | None = None
) -> e.Record:
    wave = getattr(event, "wave", wave)
    return e.Record(seq, 1767225600.25, RUN, event, state, wave)


# --- Lines -----------------------------------------------------------------------


@given(every_record())
def test_a_record_comes_back_from_its_line(told: e.Record) -> None:
    text = line(told)

    assert decode(text) == told
    assert text.isascii()
    assert "\n" not in text


@given(every_record())
def test_a_line_is_json_that_every_parser_takes(told: e.Record) -> None:
    fields = json.loads(line(told), parse_constant=pytest.fail)

    json.dumps(fields, ensure_ascii=False).encode("utf-8", "strict")


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_no_field_of_an_event_hides_the_envelope(kind: type[e.Event]) -> None:
    names = {field.name for field in attrs.fields(kind)}

    assert not names & {"v", "seq", "at", "run", "event", "state", "raw"}


def test_the_line_of_a_host_event_is_envelope_then_facts() -> None:
    told = record(
        e.Uploaded("web1", nbytes=51, seconds=1.5), seq=7, state=State.PREPARING, wave=2
    )

    assert line(told) == (
        '{"v":1,"seq":7,"at":"2026-01-01T00:00:00.250Z",'
        '"run":"20260101T000000Z-0a1b2c","event":"Uploaded","host":"web1",'
        '"state":"PREPARING","wave":2,"nbytes":51,"seconds":1.5,"fetched":0}'
    )


def test_the_last_line_has_exactly_the_keys_of_the_contract() -> None:
    last = record(
        e.Finished(
            outcome="live",
            exit=0,
            releases={"site": "1700000000_site_4f2a9c1"},
            hosts={"web1": "LIVE"},
            seconds=4.4,
            nbytes=51,
            skew_ms=1.25,
            log="/var/log/run",
        )
    )

    assert encode(last) == {
        "v": 1,
        "seq": 1,
        "at": "2026-01-01T00:00:00.250Z",
        "run": RUN,
        "event": "Finished",
        "outcome": "live",
        "exit": 0,
        "releases": {"site": "1700000000_site_4f2a9c1"},
        "hosts": {"web1": "LIVE"},
        "seconds": 4.4,
        "nbytes": 51,
        "skew_ms": 1.25,
        "log": "/var/log/run",
        "reason": "",
    }


def test_values_within_values_are_plain() -> None:
    resolved = record(e.Resolved("site", Revision("url", "main", "4f2a", "Fix")))
    failed = record(e.Failed("web1", "exited 7", State.VERIFYING), state=State.LIVE)

    assert encode(resolved)["revision"] == {
        "repo": "url",
        "rev": "main",
        "commit": "4f2a",
        "message": "Fix",
        "epoch": 0,
    }
    assert encode(failed)["stage"] == "VERIFYING"


def test_bytes_that_are_no_utf_8_are_shown_replaced_and_come_back() -> None:
    message = b"caf\xe9 \xf0\x9f\x91\xbb".decode("utf-8", "surrogateescape")
    told = record(e.Warned(message))

    text = line(told)

    assert json.loads(text)["text"] == "caf\ufffd \N{GHOST}"
    assert decode(text) == told


def test_text_that_only_looks_like_a_surrogate_stays_plain() -> None:
    told = record(e.Warned(r"C:\udce9 \N{GHOST}" + "\N{GHOST}"))

    assert "raw" not in json.loads(line(told))
    assert decode(line(told)) == told


def test_times_are_cut_to_the_nearest_millisecond() -> None:
    told = e.Record(1, 1767225599.9996, RUN, e.Warned("late"))

    assert encode(told)["at"] == "2026-01-01T00:00:00.000Z"


def test_keys_from_the_future_are_passed_over() -> None:
    told = record(e.Warned("hello"))

    assert decode(line(told)[:-1] + ',"mood":"good"}') == told


AT = "2026-01-01T00:00:00.250Z"


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        "null",
        "7",
        '{"v":1}',
        '{"raw":7}',
        "[" * 1_000_000,
        '{"raw":' + "[" * 1_000_000,
        '{"raw":"' + "[" * 1_000_000 + '"}',
        line(record(e.Warned("x"))).replace('"x"', "[" * 1_000_000),
        line(record(e.Warned("x"))).replace('"seq":1', '"seq":' + "1" * 5000),
        line(record(e.Warned("x"))).replace('"v":1', '"v":2'),
        line(record(e.Warned("x"))).replace("Warned", "Wondered"),
        line(record(e.Warned("x"))).replace('"x"', "7"),
        line(record(e.Warned("x"))).replace('"text"', '"texts"'),
        line(record(e.Warned("x"), state=State.LIVE)).replace("LIVE", "ALIVE"),
        line(record(e.Warned("x"))).replace("2026-01", "2026-13"),
        line(record(e.Warned("x"))).replace(AT, "0001-01-01T00:00:00+14:00"),
        line(record(e.Warned("x"))).replace(AT, "9999-12-31T23:59:59-14:00"),
        line(record(e.Started("deploy", "a", (), ()))).replace("[]", "7"),
        line(record(e.ManifestMoved({}))).replace("{}", "7"),
    ],
)
def test_what_is_no_line_of_ours_is_refused(damaged: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(damaged)


@settings(max_examples=200)
@given(st.data())
def test_any_text_is_a_record_or_a_value_error(data: st.DataObject) -> None:
    told = line(record(e.Started("deploy", "a", ("site",), ("h1",), manifest={})))
    odd = st.one_of(
        st.text(max_size=20),
        st.sampled_from(("null", "[]", "{}", "1e999", "-1", "[[[")),
    )
    for _ in range(data.draw(st.integers(0, 3))):
        at, to = sorted(data.draw(st.integers(0, len(told))) for _ in range(2))
        told = told[:at] + data.draw(odd) + told[to:]

    with suppress(ValueError):
        decode(told)


@given(st.text())
def test_a_line_is_printable_ascii(text: str) -> None:
    told = line(record(e.Warned(f"\x7f\u2028\u202e{text}")))

    assert told.isascii()
    assert told.isprintable()
    assert decode(told) == record(e.Warned(f"\x7f\u2028\u202e{text}"))


# --- Files -----------------------------------------------------------------------


def story() -> list[e.Record]:
    """What a run of three hosts leaves, in which the second host fails its verify."""
    machines = {name: HostMachine() for name in ("web1", "web2", "web3")}
    told: list[e.Record] = []

    def note(event: e.Event) -> None:
        state = None
        if isinstance(event, e.HostEvent):
            machine = machines[event.host]
            state = machine.state
            if type(event) in TRANSITIONS[state]:
                state = machine.apply(event)
        told.append(record(event, seq=len(told) + 1, state=state))

    note(e.Started("deploy", "shop/prod/web", ("site",), tuple(machines)))
    for host in ("web1", "web2"):
        note(e.Connected(host, 0.1))
        note(e.Checked(host, {"site": "1600000000_site_aaaaaaa"}))
        note(e.Uploaded(host, 51, 1.0))
        note(e.Output(host, "site", "pre_deploy", "migrating"))
        note(e.Prepared(host, {"site": "/ghost/old"}))
        note(e.Admitted(host, 1))
        note(e.Drained(host))
        note(e.Switched(host))
        note(e.Activated(host))
    note(e.Verified("web1"))
    note(e.HostWarned("web1", "old releases were not removed"))
    note(e.Undrained("web1"))
    note(e.Failed("web2", "verify exited 7", State.VERIFYING, 7, "503"))
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def write(path: Path, told: list[e.Record]) -> None:
    with Journal(path) as journal:
        for each in told:
            journal.append(each)


def test_a_journal_replays(path: Path) -> None:
    write(path, story())

    assert list(replay(path)) == story()
    hosts = folded(replay(path)).hosts
    assert {name: host.state for name, host in hosts.items()} == {
        "web1": State.LIVE,
        "web2": State.ROLLING_BACK,
        "web3": State.CONNECTING,
    }


@given(cut=st.integers(1, 150))
def test_a_journal_replays_up_to_a_torn_last_line(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"
    write(path, story())
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]

    path.write_bytes(whole[: -min(cut, len(last))])

    assert list(replay(path)) == story()[:-1]


def test_a_torn_line_is_cut_off_before_the_next_is_written(path: Path) -> None:
    write(path, story()[:2])
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":3,"at"')

    write(path, story()[2:])

    assert list(replay(path)) == story()


def test_a_journal_that_is_one_torn_line_starts_anew(path: Path) -> None:
    path.write_bytes(b'{"v":1')

    write(path, story())

    assert list(replay(path)) == story()


def test_lines_of_a_killed_controller_are_there(path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from ghostasync import events as e; from ghostasync.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for seq in (1, 2, 3): journal.append(e.Record(seq, 0.0, 'r', e.Warned('x')))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    ended = subprocess.run([sys.executable, "-c", script, path], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert [each.seq for each in replay(path)] == [1, 2, 3]


def test_damage_is_named_by_its_line(path: Path) -> None:
    write(path, story())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"\0\0\n", *lines[5:]]))

    replayed = replay(path)

    assert [next(replayed) for _ in range(4)] == story()[:4]
    with pytest.raises(StoreError, match=r"journal\.jsonl, line 5 is damaged"):
        next(replayed)


def test_a_line_that_is_nested_without_end_is_damage_of_that_line(path: Path) -> None:
    write(path, story())
    lines = path.read_bytes().splitlines(keepends=True)
    nested = lines[4].replace(b'"seq":5', b'"seq":' + b"[" * 1_000_000)
    path.write_bytes(b"".join([*lines[:4], nested, *lines[5:]]))

    with pytest.raises(StoreError, match=r"line 5 is damaged") as caught:
        list(replay(path))

    assert len(str(caught.value)) < len(str(path)) + 300


def test_a_missing_line_is_damage(path: Path) -> None:
    write(path, [*story()[:3], *story()[4:]])

    with pytest.raises(StoreError, match=r"line 4 is damaged \(5 follows 3\)"):
        list(replay(path))


def test_records_are_read_from_lines_wherever_they_come_from(path: Path) -> None:
    write(path, story())

    lines = path.read_bytes().splitlines(keepends=True)

    assert list(records(lines, "s3://bucket/journal.jsonl")) == story()


def test_a_journal_that_is_not_there_is_a_store_error(path: Path) -> None:
    with pytest.raises(StoreError, match=r"journal\.jsonl: No such file"):
        list(replay(path))


def test_records_that_cannot_follow_each_other_are_a_bug() -> None:
    with pytest.raises(IllegalTransition):
        folded([record(e.Switched("web1"))])


def test_progress_is_not_written(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(record(e.Progressed(51, {"web1": 51})), sync=True)

    assert path.read_bytes() == b""


def test_whole_lines_are_read_from_where_a_copy_ends(path: Path) -> None:
    first, second, third, *_ = story()
    with Journal(path) as journal:
        journal.append(first)
        copied = journal.nbytes
        journal.append(second)
        with path.open("ab") as file:
            file.write(line(third).encode()[:20])

        assert journal.read(copied) == line(second).encode() + b"\n"
        assert journal.read(journal.nbytes) == b""


def test_a_journal_is_private(path: Path) -> None:
    write(path, story())

    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sync", [False, True])
def test_a_line_is_flushed_when_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    with Journal(path) as journal:
        flushed: list[int] = []
        monkeypatch.setattr(os, "fsync", lambda _: flushed.append(path.stat().st_size))

        journal.append(story()[0], sync=sync)

        assert flushed == ([path.stat().st_size] if sync else [])


def test_a_disk_that_fails_to_flush_is_a_store_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Journal(path) as journal:
        monkeypatch.setattr(os, "fsync", fail)

        with pytest.raises(StoreError, match=r"journal\.jsonl: Input/output error"):
            journal.append(story()[0], sync=True)


@contextmanager
def file_size_limit(nbytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond *nbytes*: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_line_that_does_not_fit_leaves_nothing(path: Path) -> None:
    first, second, *_ = story()
    with Journal(path) as journal:
        journal.append(first)
        with (
            file_size_limit(path.stat().st_size + 10),
            pytest.raises(StoreError, match=r"File too large; a run needs"),
        ):
            journal.append(second)
        assert list(replay(path)) == [first]

        journal.append(second)

    assert list(replay(path)) == [first, second]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path),
    ],
)
def test_a_journal_that_cannot_be_opened_is_a_store_error(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)

    with pytest.raises(
        StoreError, match=r"journal\.jsonl: .*; a run needs its journal"
    ):
        Journal(path)
