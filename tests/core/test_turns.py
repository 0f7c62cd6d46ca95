"""The watchdog of the event loop, and that long work of the loop is cut into turns. Work is counted and not timed;
where a turn must be long, a clock of the test's own makes it so."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator

import pytest
from core_story import Story

from mpfora.cluster import changes as ch
from mpfora.cluster import decode
from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import Touched
from mpfora.model.state import TERMINAL, State, TaskState
from mpfora.model.task import Claim, Member
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Compacted, Listing, Revision, Sparse
from mpfora.store.state_records import format_state
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor import loop as loop_module
from mpfora.supervisor import turn_watchdog as turns_module
from mpfora.supervisor.coordinator import watch
from mpfora.supervisor.coordinator.interface import Lost, Won
from mpfora.supervisor.coordinator.watch import watch_namespace
from mpfora.supervisor.loop import Loop
from mpfora.supervisor.tasks import advancing, work_queue
from mpfora.supervisor.turn_watchdog import Turns

LAYOUT = Layout("ns")


class Clock:
    def __init__(self) -> None:
        self.now, self.used = 100.0, 7.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.used


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turns_module, "time", clock)
    return clock


# -- the watchdog -----------------------------------------------------------------------------------------------------


def test_the_longest_turn_is_remembered_with_what_it_did(clock: Clock) -> None:
    turns = Turns(5.0)
    shorter, long, last = ["Tick"], ["ClusterChanged", "Tick", "ClusterChanged"], ["Renewed"]
    for took, used, did in ((1.0, 0.1, shorter), (3.0, 0.2, long), (2.0, 0.3, last)):
        turns.begin()
        for what in did:
            turns.did(what)
        clock.now += took
        clock.used += used
        turns.end()
        clock.now += 50.0  # it waits
    assert (turns.count, turns.longest_s) == (3, 3.0)
    assert str(turns) == (
        "the longest of 3 turns of the loop took 3000 ms (2 ClusterChanged, Tick),"
        " the busiest 300 ms of processor time (Renewed)"
    )
    assert turns.values() == {"longest_turn_ms": 3000}


def test_a_turn_over_the_limit_is_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns(0.5)
    for took in (0.4, 0.6):
        turns.begin()
        turns.did("ClusterChanged")
        clock.now += took
        turns.end()
    assert [record.message for record in caplog.records] == ["a turn of the node's loop took 0.60 s: ClusterChanged"]


def test_the_event_loop_tells_of_its_turns() -> None:
    turns = Turns(60.0)

    async def live() -> None:
        for _ in range(10):
            turns.did("a step")
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns.selector())) as runner:
        runner.run(live())
    assert turns.count >= 10
    assert turns.longest_did in ("a step", "work that is not noted")


def test_a_loop_that_stands_still_is_told_of_with_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    turns = Turns(0.05)
    told = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "It is here" in record.getMessage():
                told.set()

    async def stands_still() -> None:
        assert told.wait(40), "nobody has told"

    handler = Heard()
    logging.getLogger("mpfora.node").addHandler(handler)
    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns.selector())) as runner:
            runner.get_loop()
            turns.watch()
            runner.run(stands_still())
    finally:
        turns.close()
        logging.getLogger("mpfora.node").removeHandler(handler)
    assert any("stands_still" in record.getMessage() for record in caplog.records)


def test_a_loop_of_somebody_else_s_is_not_watched() -> None:
    turns = Turns(0.01)
    turns.watch()
    turns.close()
    assert str(turns) == "no turn of the loop was measured"


# -- long work is cut -------------------------------------------------------------------------------------------------


class Store:
    """Pages of keys, and revisions; nothing waits for anything."""

    def __init__(self, pages: list[list[KV]], revisions: list[Revision]) -> None:
        self._pages, self._revisions = pages, revisions
        self.compacts_at: int | None = None

    async def pages(self, start: str, end: str, sparse: Sparse | None = None) -> AsyncGenerator[Listing, None]:
        for number, page in enumerate(self._pages):
            if number == self.compacts_at:
                self.compacts_at = None
                raise Compacted("too slow")
            yield Listing(7, tuple(page))

    async def watch(self, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
        for revision in self._revisions:
            yield revision
        await asyncio.Event().wait()


class WorkCounter:
    """The most work that any turn of the loop did. Each parsed key adds its length, and 100, to the work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.most = self._now = 0
        for name in names:
            monkeypatch.setattr(watch, name, self._counted(getattr(decode, name)))
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.most, self._now = max(self.most, self._now), 0
        asyncio.get_running_loop().call_soon(self._turn)

    def _counted(self, parse):  # type: ignore[no-untyped-def]
        def counted(layout, found):  # type: ignore[no-untyped-def]
            values = [found.value] if isinstance(found, KV) else [event.value for event in found.events]
            self._now += sum(map(len, values)) + 100
            return parse(layout, found)

        return counted


def kv(key: str, value: bytes, revision: int) -> KV:
    return KV(key, value, revision, revision, 1, 0)


async def taken(store: Store, count: int) -> list[ch.Changes]:
    """The reset in its parts, and `count` batches after it."""
    found: list[ch.Changes] = []
    async for changes in watch_namespace(store, LAYOUT):  # type: ignore[arg-type]
        found.append(changes)
        if sum(not each.reset for each in found) == count and not changes.more:
            return found
    raise AssertionError


async def test_a_listing_of_kept_results_is_parsed_in_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    result = b'{"state":"paused","result":"%s"}' % (b"x" * 500_000)
    pages = [[kv(LAYOUT.state(f"t{page}-{i}"), result, 3) for i in range(4)] for page in range(25)]
    meter = WorkCounter(monkeypatch, "parse_key")
    found = await taken(Store(pages, []), 0)
    assert sum(len(each.changes) for each in found) == 100
    assert meter.most <= 1_100_000, "of 50 MB"


async def test_of_the_kept_states_of_finished_tasks_the_first_bytes_alone_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = [
        kv(LAYOUT.state(f"t{n}"), format_state(TaskState(state, result={"n": n})).encode(), 3)
        for n, state in enumerate(State)
    ]
    finished = sum(state in TERMINAL for state in State)
    parsed: list[str] = []

    def noted(layout: Layout, found: KV) -> decode.Row | None:
        parsed.append(found.key)
        return decode.parse_key(layout, found)

    monkeypatch.setattr(watch, "parse_key", noted)
    (only,) = await taken(Store([kept], []), 0)
    assert len(parsed) == len(only.changes) == len(State) - finished
    assert not {change.state for change in only.changes if isinstance(change, ch.StatePut)} & TERMINAL


async def test_a_listing_of_many_keys_is_parsed_and_passed_on_in_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [[kv(LAYOUT.task(f"t{page}-{i}"), b"", 3) for i in range(1000)] for page in range(20)]
    meter = WorkCounter(monkeypatch, "parse_key")
    found = await taken(Store(pages, []), 0)
    assert [len(each.changes) for each in found] == [watch.PART] * 40
    assert [each.more for each in found] == [True] * 39 + [False]
    assert meter.most <= 200_000, "of 2,000,000"


async def test_what_a_watch_has_missed_is_parsed_in_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [decode.Event(LAYOUT.task(f"t{i}"), b"", False, i, i) for i in range(10, 5010)]
    meter = WorkCounter(monkeypatch, "parse_revision")
    found = await taken(Store([[]], [Revision(event.mod_revision, (event,)) for event in events]), 5000)
    assert [each.revision for each in found[1:]] == list(range(10, 5010)), "in order, each once"
    assert meter.most <= 200_000, "of 500,000"


async def test_a_listing_whose_revision_is_compacted_meanwhile_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LIST_PAUSES_S", (0.0,))
    store = Store([[kv(LAYOUT.task("a"), b"", 3)], [kv(LAYOUT.task("b"), b"", 4)]], [])
    store.compacts_at = 1
    found = await taken(store, 0)
    assert found == [ch.Changes(7, (ch.TaskPut("a"), ch.TaskPut("b")), reset=True)]


# -- a reset in parts -------------------------------------------------------------------------------------------------


def content() -> tuple[ch.Change, ...]:
    tasks = tuple(ch.TaskPut(f"t{i}") for i in range(7))
    members = tuple(ch.MemberPut(Member(name, handlers=("h",))) for name in ("n1", "n2"))
    marks = (ch.StatePut("t1", ch.State.PAUSED), ch.OwnerGone("t3", True), ch.OwnerPut("t2", "n1", 5))
    return (*members, ch.ReaderPut("r"), *tasks, *marks)


class Books:
    """A mirror and what is made of it."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.assignments = Assignments(self.mirror)

    def see(self, changes: ch.Changes) -> Touched:
        touched = self.mirror.absorb(changes)
        self.assignments.fold(touched)
        return touched

    def all(self) -> tuple[object, ...]:
        it, books = self.mirror, self.assignments
        places = books.assignee, sorted(books.waiting()), books.loads.by_node
        return it.revision, it.tasks, it.members, it.readers, places


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11])
@pytest.mark.parametrize("order", ["as it is", "as keys are"])
def test_a_reset_in_parts_comes_to_the_same_as_a_whole_one_and_not_before_its_last_part(size: int, order: str) -> None:
    before = (ch.TaskPut("old"), ch.TaskPut("t1"))
    whole, by_parts = Books(), Books()
    for books in (whole, by_parts):
        books.see(ch.Changes(3, before, reset=True))
    changes = content()
    expected = whole.see(ch.Changes(9, changes, reset=True))
    if order == "as keys are":  # what is known of a task comes before it
        changes = tuple(sorted(changes, key=lambda change: isinstance(change, ch.TaskPut | ch.OwnerPut)))
    for start in range(0, len(changes), size):
        is_last = start + size >= len(changes)
        touched = by_parts.see(ch.Changes(9, changes[start : start + size], reset=True, more=not is_last))
        assert (touched.reset, touched.more) == (True, not is_last)
        if not is_last:
            assert (by_parts.mirror.revision, list(by_parts.mirror.tasks)) == (3, ["old", "t1"]), (
                "that holds until then"
            )
    assert by_parts.all() == whole.all()
    assert touched.touched_members == expected.touched_members
    assert not by_parts.mirror.tasks["t3"].ended_uncleanly
    assert by_parts.mirror.tasks["t4"].ended_uncleanly


def test_a_revision_in_parts_comes_to_the_same_as_a_whole_one() -> None:
    """The end of a lease with many claims: nothing is assigned before all of it is known."""
    members = [ch.MemberPut(Member(name, handlers=("h",))) for name in ("n1", "n2", "n3")]
    tasks = [ch.TaskPut(f"t{i:02}", i + 1) for i in range(40)]
    owned = [ch.OwnerPut(f"t{i:02}", "n1" if i % 2 else "n2", 3) for i in range(40)]
    gone = [
        decode.Event(LAYOUT.member("n1"), b"", True, 0, 4),
        *(decode.Event(LAYOUT.owner(f"t{i:02}"), b"", True, 0, 4) for i in range(1, 40, 2)),
        decode.Event(LAYOUT.state("t01"), b'{"state":"completed"}', False, 4, 4),
        decode.Event(LAYOUT.task("t01"), b"", True, 0, 4),
    ]
    revision = Revision(4, tuple(gone))
    whole, by_parts = Books(), Books()
    for books in (whole, by_parts):
        books.see(ch.Changes(2, (*members, *tasks), reset=True))
        books.see(ch.Changes(3, tuple(owned)))
    whole.see(decode.parse_revision(LAYOUT, revision))
    parts = [part for part in decode.parse_in_parts(LAYOUT, revision, 3) if part is not None]
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(len(part.changes) <= 3 for part in parts)
    for part in parts:
        assert not by_parts.assignments.assignee
        by_parts.see(part)
    assert by_parts.all() == whole.all()
    assert len(by_parts.assignments.assignee) == 19


async def test_a_revision_of_very_many_events_is_passed_on_in_parts() -> None:
    events = tuple(decode.Event(LAYOUT.task(f"t{i}"), b"", False, 9, 9) for i in range(5 * watch.PART + 1))
    found = await taken(Store([[]], [Revision(9, events)]), 6)
    assert [len(part.changes) for part in found[1:]] == [watch.PART] * 5 + [1]
    assert [part.more for part in found[1:]] == [True] * 5 + [False]


def test_what_concerns_all_that_a_node_holds_is_done_in_slices() -> None:
    story = Story(max_tasks=0)
    held = [f"t{i:04}" for i in range(1000)]
    for first in range(0, 1000, 100):
        some = held[first : first + 100]
        story.put(*map(ch.TaskPut, some), *(ch.StatePut(t, State.PAUSED) for t in some))
        for task_id in some:
            story.wins(task_id, state=TaskState(State.PAUSED))
    most = 0
    advance = advancing.advance_safely

    def counted(claimed, site):  # type: ignore[no-untyped-def]
        nonlocal done
        done += 1
        return advance(claimed, site)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advancing, "advance_safely", counted)
        story.core.claimed.touch_all()
        total = 0
        while story.core.claimed.has_backlog:
            done = 0
            story.tell(ev.Tick())
            most, total = max(most, done), total + done
    assert (most, total) == (work_queue.SLICE, 1000)


def test_parts_of_a_reset_that_never_ended_are_forgotten() -> None:
    mirror = Mirror()
    mirror.absorb(ch.Changes(5, (ch.TaskPut("a"),), reset=True, more=True))
    mirror.absorb(ch.Changes(8, (ch.TaskPut("b"),), reset=True))
    assert list(mirror.tasks) == ["b"]


def test_many_won_tasks_are_taken_in_by_several_events() -> None:
    props = "x" * 200_000
    answers = tuple(Won(Claim(f"t{i}", i), props, None, None) if i % 2 else Lost(f"t{i}") for i in range(20))
    some = list(ev.slices(ev.ClaimsAnswered(answers)))
    assert len(some) == 5
    assert tuple(answer for event in some for answer in event.answers) == answers  # type: ignore[union-attr]
    assert list(ev.slices(ev.Tick())) == [ev.Tick()]


# -- the loop ---------------------------------------------------------------------------------------------------------


class SlowCore:
    """Handles events, each as long as it is told by the clock; leaves after `last` of them."""

    def __init__(self, last: int, clock: Clock, took_s: float) -> None:
        self.handled, self._last, self._clock, self._took_s = 0, last, clock, took_s
        self.most_waiting = 0
        self.loop: Loop | None = None

    def handle(self, event: ev.Event, now: ev.Now) -> list[do.Action]:
        self.handled += 1
        self._clock.now += self._took_s
        assert self.loop is not None
        self.most_waiting = max(self.most_waiting, len(self.loop._inbox))
        return [do.Exit(0)] if self.handled >= self._last else []

    def wake_at(self, now: ev.Now) -> float | None:
        return None


class Flood:
    """A coordinator whose watch has no end of news."""

    async def watch(self) -> AsyncGenerator[ch.Changes, None]:
        revision = 0
        while True:
            revision += 1
            yield ch.Changes(revision, (ch.TaskGone("t"),))


def loop_of(core: SlowCore) -> Loop:
    core.loop = Loop(core, None, Flood(), Turns(60.0))  # type: ignore[arg-type]
    return core.loop


async def test_news_waits_at_its_source_while_the_inbox_is_full() -> None:
    core = SlowCore(5000, Clock(), 0.0)
    loop = loop_of(core)
    loop.put(ev.SessionOpened(0.0, 15.0))
    await loop.run()
    assert loop_module.BURST < core.most_waiting <= loop_module.INBOX + 1


async def test_a_burst_ends_when_it_has_taken_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two bursts others have their turn."""
    clock = Clock()
    monkeypatch.setattr(loop_module.time, "monotonic", clock.monotonic)
    core = SlowCore(200, clock, loop_module.BURST_S / 4)
    loop = loop_of(core)
    for _ in range(200):
        loop.put(ev.Tick())
    most = 0

    async def others() -> None:
        nonlocal most
        seen = 0
        while True:
            most, seen = max(most, core.handled - seen), core.handled
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await loop.run()
    task.cancel()
    assert most <= 5
