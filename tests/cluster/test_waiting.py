"""What waits for a node, and the window of what is assigned: costs are counted and not timed."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.kinds import Kind
from mpfora.cluster.assignment.placement import MOST_WINDOW, WINDOWS
from mpfora.cluster.assignment.waiting import SPARE, WaitingTasks
from mpfora.cluster.changes import Change, Changes, MemberGone, MemberPut, OwnerGone, OwnerPut, TaskGone, TaskPut
from mpfora.cluster.mirror import Mirror
from mpfora.model.task import Member

KINDS = [Kind(), Kind("h", names_handler=True)]


class Books:
    def __init__(self, *members: Member) -> None:
        self.mirror = Mirror()
        self.books = Assignments(self.mirror)
        self.put(*map(MemberPut, members))

    def put(self, *changes: Change) -> dict[str, None]:
        return self.books.fold(self.mirror.absorb(Changes(self.mirror.revision + 1, changes)))

    def submit(self, count: int) -> None:
        for first in range(0, count, 100):
            self.put(*(TaskPut(f"t{n:06}", n + 1) for n in range(first, min(count, first + 100))))

    def claim(self, task_id: str) -> None:
        self.put(OwnerPut(task_id, self.books.assignee[task_id], self.mirror.revision + 1))


def member(name: str, capacity: int | None = None, **fields: object) -> Member:
    return Member(name, **{"capacity": capacity, "handlers": ("h",), **fields})  # type: ignore[arg-type]


# -- the queue --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "pop"]), st.integers(0, 5), st.integers(0, 1))))
def test_it_gives_what_a_sorted_list_would(steps: list[tuple[str, int, int]]) -> None:
    waiting = WaitingTasks()
    model: dict[str, tuple[int, int]] = {}
    for what, number, kind in steps:
        task_id = f"t{number}"
        if what == "add" and task_id not in model:
            waiting.add(task_id, number % 3, KINDS[kind])
            model[task_id] = kind, number % 3
        elif what == "remove":
            waiting.remove(task_id)
            model.pop(task_id, None)
        elif what == "pop" and KINDS[kind] in waiting:
            order = waiting.pop(KINDS[kind])
            assert order == min((created, t) for t, (k, created) in model.items() if k == kind)
            del model[order[1]]
        assert sorted(waiting) == sorted(model)
        for k in (0, 1):
            expected = min(((created, t) for t, (kk, created) in model.items() if kk == k), default=None)
            assert waiting.first(KINDS[k]) == expected


def test_tasks_that_come_and_go_leave_nothing_behind() -> None:
    waiting = WaitingTasks()
    waiting.add("stays", 0, KINDS[0])
    for number in range(10_000):
        waiting.add(f"t{number % 7}", number % 3, KINDS[0])
        waiting.remove(f"t{number % 7}")
    assert len(waiting._queues[KINDS[0]].heap) <= 2 + SPARE + 1


# -- the window -------------------------------------------------------------------------------------------------------


def test_a_node_is_assigned_a_window_and_the_next_as_it_claims() -> None:
    it = Books(member("a"), member("b"))
    it.submit(3000)
    window = it.books.window()
    assert window == MOST_WINDOW
    assert Counter(it.books.assignee.values()) == {"a": window, "b": window}
    assert min(it.books.waiting()) == f"t{2 * window:06}", "the oldest are first"
    it.claim("t000000")
    assert len(it.books.assignee) == 2 * window
    assert it.books.assignee.get(f"t{2 * window:06}") is not None


def test_windows_are_bounded_in_all_and_grow_no_smaller_than_a_batch_of_claims() -> None:
    many = Books(*(member(f"n{n}") for n in range(10)))
    assert many.books.window() * 10 == WINDOWS
    assert Books(*(member(f"n{n}") for n in range(1000))).books.window() == 60


def test_what_is_given_next_does_not_depend_on_the_order_in_which_it_was_seen() -> None:
    first, second = Books(member("a", 1)), Books(member("a", 1))
    numbers = list(range(50))
    first.put(TaskPut("busy", 1))
    second.put(TaskPut("busy", 1))
    for it in (first, second):
        for n in numbers:
            it.put(TaskPut(f"t{n}", n + 2))
        random.Random(7).shuffle(numbers)
    for it in (first, second):
        it.put(OwnerPut("busy", "a", it.mirror.revision + 1))
        it.put(TaskGone("busy"), OwnerGone("busy", clean=True))
    assert first.books.assignee == second.books.assignee == {"t0": "a"}


def test_shares_stay_even_whoever_claims_faster() -> None:
    it = Books(member("fast"), member("slow"))
    it.submit(5000)
    turn = random.Random(1)
    while it.books.assignee:
        mine = {name: [t for t, node in it.books.assignee.items() if node == name] for name in ("fast", "slow")}
        name = "slow" if not mine["fast"] or (mine["slow"] and turn.random() < 0.1) else "fast"
        for task_id in mine[name][:20]:
            it.claim(task_id)
    assert abs(it.books.loads.of("fast").owned - it.books.loads.of("slow").owned) <= 1


# -- what an event costs ----------------------------------------------------------------------------------------------


def steps_of(do: Callable[[], object]) -> int:
    """How many calls of functions it takes, of Python's and of C's: work, and no time."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(None)
    return count


def work(tasks: int) -> dict[str, int]:
    """What each kind of event costs beside so many tasks that wait."""
    it = Books(*(member(f"n{n}", 4) for n in range(3)))
    it.put(TaskPut("first", 0))
    it.submit(tasks)
    for task_id in list(it.books.assignee):
        it.claim(task_id)
    owned = [task.id for task in it.mirror.tasks.values() if task.owner is not None]
    return {
        "submit": steps_of(lambda: it.put(TaskPut("new", 10**9))),
        "done": steps_of(lambda: it.put(OwnerGone(owned[1], clean=True), TaskGone(owned[1]))),
        "claimed": steps_of(lambda: it.claim(next(iter(it.books.assignee)))),
        "deleted": steps_of(lambda: it.put(TaskGone("t000009"))),
        "joined": steps_of(lambda: it.put(MemberPut(member("n9", 4)))),
        "frozen": steps_of(lambda: it.put(MemberPut(member("n9", 4, frozen=True)))),
        "left": steps_of(lambda: it.put(MemberGone("n9"))),
    }


@pytest.mark.parametrize("tasks", [2000, 20_000])
def test_what_an_event_costs_does_not_grow_with_what_waits(tasks: int) -> None:
    few, many = work(200), work(tasks)
    for what, steps in many.items():
        assert steps <= 1.5 * few[what] + 20, f"{what}: {steps} steps beside {tasks} tasks, {few[what]} beside 200"
