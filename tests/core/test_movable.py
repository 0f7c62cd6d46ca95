"""Which claimed tasks a balancer is shown where a great many rest."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from core_story import HANDLER, Story, member

from mpfora.cluster.changes import MemberPut, OwnerPut, StatePut, TaskPut, WantsPut
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Claim, Wants
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer, Move, OpenTask, View
from mpfora.supervisor.coordinator.interface import Won
from mpfora.supervisor.tasks import movable


class Watching(Balancer):
    def __init__(self) -> None:
        self.view: View | None = None

    def may_claim(self, view: View, task: OpenTask) -> bool:
        return True

    def choose_releases(self, view: View) -> list[str | Move]:
        self.view = view
        return []


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movable, "SHOWN", 20)
    monkeypatch.setattr(movable, "OF_A_KIND", 5)


def resting(story: Story, kind: str, count: int, wants: Wants | None = None) -> None:
    """This many tasks of this kind are held that are paused."""
    ids = [f"{kind}{n}" for n in range(count)]
    wants = wants or Wants(HANDLER, {"kind": kind})
    story.fences |= dict.fromkeys(ids, 50)
    rows = ((TaskPut(t), WantsPut(t, wants), StatePut(t, State.PAUSED), OwnerPut(t, "n1", 50)) for t in ids)
    story.put(*(change for row in rows for change in row))
    story.tell(ev.ClaimsAnswered(tuple(Won(Claim(t, 50), "{}", TaskState(State.PAUSED), None) for t in ids)))
    while story.core.claimed.has_backlog:
        story.tell(ev.Tick())


def shown(story: Story, balancer: Watching) -> Counter[str]:
    story.node_command("balance")
    assert balancer.view is not None
    return Counter(task.id.rstrip("0123456789") for task in balancer.view.mine)


def test_of_each_kind_some_are_shown_and_all_that_need_a_process() -> None:
    balancer = Watching()
    story = Story(balancer=balancer, max_tasks=0, labels={"kind": "a"})
    for n in range(30):
        story.hold(f"runs{n}")
    resting(story, "a", 200)
    resting(story, "b", 3)
    assert shown(story, balancer) == {"runs": 30, "a": 10, "b": 3}


def test_of_very_many_kinds_all_have_their_turn() -> None:
    balancer = Watching()
    story = Story(balancer=balancer, max_tasks=0)
    kinds = [chr(ord("a") + n) for n in range(12)]
    for kind in kinds:
        resting(story, kind, 6)
    seen: Counter[str] = Counter()
    for _ in range(3):
        found = shown(story, balancer)
        assert len(found) == 4
        seen += found
    assert seen == dict.fromkeys(kinds, 5)


def test_a_task_that_is_resumed_or_goes_is_shown_as_what_it_is() -> None:
    balancer = Watching()
    story = Story(balancer=balancer, max_tasks=0)
    resting(story, "a", 2)
    story.task_command("a0", Message.run())
    assert not next(c for c in story.core.claimed.capacity.movable() if c.task_id == "a0").leave
    story.core.claimed.give_back("a1", "why not")
    story.put(MemberPut(member("n2", pid=2)))
    assert [c.task_id for c in story.core.claimed.capacity.movable()] == ["a1", "a0"], "what leaves comes first"


def test_a_plan_for_many_that_rest_is_carried_out_in_rounds() -> None:
    """The other node has none: half of them go, and no more were chosen at once than were shown."""
    story = Story(max_tasks=0)
    resting(story, "a", 60, Wants(HANDLER))
    story.put(MemberPut(member("n2", capacity=None, weight=1.0)))
    moved: dict[str, None] = {}
    rounds = 0
    for _ in range(100):
        steps = deque(story.wait(1))
        rounds += bool(steps)
        while steps:
            step = steps.popleft()
            if isinstance(step, do.Release):
                task_id = step.claim.task_id
                moved[task_id] = None
                steps += story.released(task_id)
                steps += story.put(OwnerPut(task_id, "n2", story.revision + 1))
    assert len(moved) == 30
    assert rounds >= 2
