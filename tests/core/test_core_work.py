"""The cost of an event, counted in executed lines, does not grow with the number of tasks.

Each event is told to two nodes that are alike but for the number of tasks: 400 and 3,200. What is linear costs eight
times as much there; slices, heaps and hash tables cost the same or a little more.
"""

from __future__ import annotations

import gc
import itertools
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from core_story import HANDLER, Story, member

from mpfora.cluster import changes as ch
from mpfora.cluster import leftovers
from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, ReaderPut, StatePut, TaskGone, TaskPut
from mpfora.model.state import State, TaskState
from mpfora.model.task import Claim
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Won
from mpfora.supervisor.node.lease import LeasePhase
from mpfora.supervisor.tasks import movable

SMALL, LARGE = 400, 3_200
PART = 400


def lines_of(do: Callable[[], Any]) -> int:
    """How many lines of mpfora are executed."""
    count = 0

    def local(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def traced(frame: FrameType, event: str, arg: object) -> Any:
        return local if "/mpfora/" in frame.f_code.co_filename else None

    former = sys.gettrace()
    sys.settrace(traced)
    try:
        do()
    finally:
        sys.settrace(former)
    return count


def in_parts(story: Story, changes: list[ch.Change]) -> None:
    for first in range(0, len(changes), PART):
        story.put(*changes[first : first + PART])


def beside_waiting(tasks: int) -> Story:
    """A full node beside two full ones, and what waits."""
    story = Story()
    story.put(MemberPut(member("n2", pid=2)), MemberPut(member("n3", pid=3)))
    held = [f"h{n}" for n in range(8)]
    story.put(*(change for n, t in enumerate(held) for change in (TaskPut(t, 1), OwnerPut(t, f"n{2 + n % 2}", 9))))
    for n in range(4):
        story.hold(f"own{n}")
    in_parts(story, [TaskPut(f"w{n}", n + 20) for n in range(tasks)])
    return story


def beside_sleepers(tasks: int) -> Story:
    story = beside_waiting(0)
    rows = ((TaskPut(f"w{n}", n + 20), StatePut(f"w{n}", State.SLEEPING, 9e9)) for n in range(tasks))
    in_parts(story, [change for row in rows for change in row])
    return story


def holding(tasks: int) -> Story:
    """A node that holds all of them; they are paused."""
    story = Story(max_tasks=0)
    story.put(MemberPut(member("n2", pid=2)))
    for first in range(0, tasks, 100):
        some = [f"p{n}" for n in range(first, first + 100)]
        story.put(*(change for t in some for change in (TaskPut(t), StatePut(t, State.PAUSED), OwnerPut(t, "n1", 50))))
        answers = tuple(Won(Claim(t, 50), "{}", TaskState(State.PAUSED), None) for t in some)
        story.tell(ev.ClaimsAnswered(answers))
    while story.core.claimed.has_backlog:
        story.tell(ev.Tick())
    return story


EVENTS: dict[str, tuple[Callable[[int], Story], Callable[[Story], Any]]] = {
    "a task is submitted": (beside_waiting, lambda story: story.put(TaskPut("x", 9))),
    "a task ends": (beside_waiting, lambda story: story.put(OwnerGone("h0", clean=True), TaskGone("h0"))),
    "a node joins": (beside_waiting, lambda story: story.put(MemberPut(member("n4", pid=4)))),
    "a node goes": (beside_waiting, lambda story: story.put(MemberGone("n2"))),
    "a node is frozen": (beside_waiting, lambda story: story.put(MemberPut(member("n2", pid=2, frozen=True)))),
    "this node is frozen": (beside_waiting, lambda story: story.node_command("freeze")),
    "somebody looks": (beside_waiting, lambda story: (story.put(ReaderPut("r")), story.tell(ev.Tick()))),
    "nothing happens": (beside_waiting, lambda story: story.tell(ev.Tick())),
    "the node is held against the store": (beside_waiting, lambda story: story.core.reconciler._adopt(story.boot_s)),
    "one more sleeps": (beside_sleepers, lambda story: story.put(TaskPut("x", 9), StatePut("x", State.SLEEPING, 8e9))),
    "a sleeper goes": (beside_sleepers, lambda story: story.put(TaskGone("w7"))),
    "a node joins beside sleepers": (beside_sleepers, lambda story: story.put(MemberPut(member("n4", pid=4)))),
    "the wall clock is set": (beside_sleepers, lambda story: _set_clock(story)),
    "one of those held is commanded": (holding, lambda story: story.task_command("p7", ch.Message.checkpoint())),
    "somebody looks at those held": (holding, lambda story: (story.put(ReaderPut("r")), story.tell(ev.Tick()))),
    "somebody asks how the node is": (holding, lambda story: story.tell(ev.SummaryAsked())),
    "the lease is gone": (holding, lambda story: story.tell(ev.LeaseGone())),
    "SIGTERM": (holding, lambda story: story.tell(ev.ShutdownAsked("SIGTERM"))),
    "drain": (holding, lambda story: story.node_command("drain")),
    "freeze": (holding, lambda story: story.node_command("freeze")),
    "the balancer is asked": (holding, lambda story: _balance(story)),
    "the zygote is there anew": (holding, lambda story: story.tell(_ready())),
    "the lease passes into another phase": (holding, lambda story: _late(story)),
    "those held are held against the store": (holding, lambda story: story.core.reconciler._adopt(story.boot_s)),
}


def _balance(story: Story) -> None:
    """There is a node that holds nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movable, "SHOWN", 200)
        story.node_command("balance")
    assert story.core.balancing.rebalancer.in_flight


def _set_clock(story: Story) -> None:
    story.wall_s += 10e9
    story.tell(ev.Tick())


def _late(story: Story) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(story.core.session), "entered", lambda session, now_s: LeasePhase.ASKING)
        story.tell(ev.Tick())
    assert story.core.claimed.has_backlog


def _ready() -> ev.ZygoteReady:
    from mpfora.handlers import HandlerSettings

    return ev.ZygoteReady(9, ((HANDLER, HandlerSettings()),), ())


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_costs_the_same_however_many_tasks_there_are(name: str) -> None:
    make, happen = EVENTS[name]
    counts = []
    for tasks in (SMALL, LARGE):
        story = make(tasks)
        counts.append(lines_of(lambda story=story: happen(story)))
    small, large = counts
    assert large <= 1.5 * small + 500, f"{small} lines beside {SMALL} tasks, {large} beside {LARGE}"


def listing(tasks: int) -> int:
    """The most lines of a turn while all is listed anew, and what was known before is forgotten."""
    story = beside_waiting(tasks)
    rows: list[ch.Change] = [MemberPut(member("n1")), *(TaskPut(f"w{n}", n + 20) for n in range(tasks))]
    story.revision += 1
    parts = [tuple(rows[first : first + PART]) for first in range(0, len(rows), PART)]
    changes = [ch.Changes(story.revision, part, reset=True, more=part is not parts[-1]) for part in parts]
    counts = [lines_of(lambda part=part: story.tell(ev.ClusterChanged(part))) for part in changes]
    while story.core.mirror.leftovers:
        counts.append(lines_of(lambda: story.tell(ev.Tick())))
    return max(counts)


def test_what_was_known_before_is_forgotten_a_slice_at_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "SLICE", 100)
    story = beside_waiting(1000)
    known = story.core.mirror.tasks
    story.reset(MemberPut(member("n1")))
    counts = [len(known)]
    while story.core.mirror.leftovers:
        story.tell(ev.Tick())
        counts.append(len(known))
    assert counts[-1] == 0
    assert max(before - after for before, after in itertools.pairwise(counts)) <= 100


def test_a_new_listing_is_taken_over_and_the_former_one_is_forgotten_in_slices() -> None:
    assert listing(2 * LARGE) <= 1.2 * listing(4 * SMALL) + 500


@pytest.mark.parametrize(
    ("make", "most"), [(beside_waiting, 600), (beside_sleepers, 600), (holding, 2048)], ids=["waits", "sleeps", "held"]
)
def test_a_task_takes_few_bytes_of_a_node(make: Callable[[int], Story], most: int) -> None:
    make(PART)  # objects that are made once
    gc.collect()
    tracemalloc.start()
    try:
        story = make(LARGE)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(story.core.mirror.tasks) >= LARGE
    assert used / LARGE <= most
