"""No container of a core grows without end: after a long and random life each is as large as the live tasks need. The
test counts every container that can be reached from the core, new ones included."""

from __future__ import annotations

import random
import sys
from collections import Counter, deque
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from core_story import Story, member

from mpfora.cluster import changes as ch
from mpfora.cluster import members
from mpfora.model.outcome import Cause, Outcome
from mpfora.model.state import Message
from mpfora.model.task import Cost, NodeUsage, Wants
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Lost, Unknown
from mpfora.supervisor.tasks.claiming import BATCH

#: what may be kept beside what lives: entries that are skipped, kinds that are gone, memories of a bounded length
SLACK = 2000


def entries(root: object) -> Counter[str]:
    """How many entries the containers hold that can be reached from `root`, by the way to each."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("core", root)]
    while waiting:
        way, thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | str | bytes | int | float | random.Random):
            continue
        seen.add(id(thing))
        if isinstance(thing, dict | list | set | frozenset | deque | tuple):
            if not isinstance(thing, tuple | frozenset):
                found[way] += len(thing)
            inner = list(thing.items()) if isinstance(thing, dict) else list(thing)
            waiting += [(way, each) for each in inner]
        elif type(thing).__module__.startswith("mpfora"):
            names = {*getattr(thing, "__dict__", ()), *(n for t in type(thing).__mro__ for n in _slots(t))}
            waiting += [(f"{way}.{name}", getattr(thing, name, None)) for name in sorted(names)]
    return found


def _slots(made_by: type) -> tuple[str, ...]:
    claimed_tasks = vars(made_by).get("__slots__", ())
    return (claimed_tasks,) if isinstance(claimed_tasks, str) else tuple(claimed_tasks)


class Life:
    """A cluster around one core, drawn at random: nodes and tasks come and go, writes and claims are answered, refused,
    or not known, leases and zygotes are lost. Nothing lasts but this node."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.story = Story(max_tasks=0)
        self.ids = 0
        self.others: list[str] = []
        #: task id -> who owns it; "" nobody
        self.tasks: dict[str, str] = {}
        self.todo: deque[do.Action] = deque()

    def live(self, steps: int, *, with_nodes: bool = True) -> None:
        """with_nodes: others come and go, which makes much be reckoned anew."""
        for _ in range(steps):
            self.rng.choices(
                [self.submit, self.end, self.other, self.command, self.answer, self.child, self.time, self.fault],
                [30, 10, 20 if with_nodes else 0, 5, 60, 20, 20, 1 if with_nodes else 0],
            )[0]()

    def tell(self, event: ev.Event) -> None:
        self.todo += self.story.tell(event)

    def put(self, *changes: ch.Change) -> None:
        self.todo += self.story.put(*changes)

    def submit(self) -> None:
        self.ids += 1
        task_id = f"t{self.ids}"
        labels = {"of": str(self.ids)} if self.rng.random() < 0.3 else {}
        self.tasks[task_id] = ""
        self.put(ch.TaskPut(task_id, self.story.revision + 1), ch.WantsPut(task_id, Wants(None, labels)))

    def end(self) -> None:
        """A client or another node removes a task, whoever has it."""
        if self.tasks:
            self.remove(self.rng.choice(list(self.tasks)))

    def remove(self, task_id: str) -> None:
        owner = self.tasks.pop(task_id)
        gone = [ch.OwnerGone(task_id, clean=self.rng.random() < 0.5)] if owner else []
        self.put(ch.TaskGone(task_id), *gone, ch.WantsPut(task_id, Wants()), ch.StateGone(task_id))

    def other(self) -> None:
        """Another node comes, claims, tells what its tasks cost, or dies."""
        me = self.rng.random()
        if me < 0.3 or not self.others:
            self.ids += 1
            self.others.append(f"node{self.ids}")
            self.put(ch.MemberPut(member(self.others[-1])))
            return
        name = self.rng.choice(self.others)
        free = [task_id for task_id, owner in self.tasks.items() if not owner]
        if me < 0.6 and free:
            task_id = self.rng.choice(free)
            self.tasks[task_id] = name
            missed = self.rng.choice([None, self.story.me, *self.others])
            self.put(ch.OwnerPut(task_id, name, self.story.revision + 1, missed))
        elif me < 0.8:
            theirs = {task_id: Cost(100, 10) for task_id, owner in self.tasks.items() if owner == name}
            self.put(ch.UsagePut(name, NodeUsage(theirs, {"": (1, Cost(1, 1))})))
        else:
            self.leave(name)

    def leave(self, name: str) -> None:
        self.others.remove(name)
        theirs = [task_id for task_id, owner in self.tasks.items() if owner == name]
        for task_id in theirs:
            self.tasks[task_id] = ""
        gone = (ch.OwnerGone(task_id, False, cost=Cost(5, 5)) for task_id in theirs)
        self.put(ch.MemberGone(name), ch.UsageGone(name), *gone)

    def command(self) -> None:
        if self.tasks:
            task_id, message = self.rng.choice(list(self.tasks)), self.rng.choice([Message.pause(), Message.run()])
            self.put(ch.TaskCommandPut(task_id, message, self.story.revision + 1))
        self.put(ch.Malformed(f"/ns/tasks/x{self.rng.randrange(50)}", "no", self.story.revision + 1))

    def answer(self) -> None:
        """Answer the oldest request in one of the possible ways."""
        if not self.todo:
            return
        command, story, luck = self.todo.popleft(), self.story, self.rng.random()
        match command:
            case do.ClaimTasks(claims):
                assert len(claims) <= BATCH
                for task_id, _, _ in claims:
                    self._answer_claim(task_id, luck)
            case do.Keep(claim, update):
                if luck < 0.7:
                    self.tell(ev.WriteAnswered(claim.task_id, claim.fence, ev.WriteResult.DONE))
                    if update.state is not None and claim.task_id in self.tasks:
                        self.put(ch.StatePut(claim.task_id, update.state.state, update.state.until))
                else:
                    self._fail(claim.task_id, claim.fence, luck)
            case do.Release(claim, _) | do.Finish(claim, _) | do.Remove(claim, _):
                if luck > 0.8:
                    self._fail(claim.task_id, claim.fence, luck)
                    return
                self.tell(ev.WriteAnswered(claim.task_id, claim.fence, ev.WriteResult.DONE))
                if self.tasks.get(claim.task_id) == story.me:
                    self.tasks[claim.task_id] = ""
                    self.put(ch.OwnerGone(claim.task_id, clean=True))
                    if not isinstance(command, do.Release):
                        self.remove(claim.task_id)
            case do.AskStop(run) | do.Kill(run):
                self.tell(ev.ChildExited(run, Outcome(Cause.RELEASED)))
            case do.OpenSession():
                self.todo += story.open_session()
                self.todo += story.put(ch.MemberPut(story.record()))
            case do.StartZygote():
                self.tell(story.zygote_ready())
            case do.Publish() | do.PublishUsage() | do.Sweep():
                self.tell(ev.Attempted("something", "no" if luck < 0.3 else ""))

    def _answer_claim(self, task_id: str, luck: float) -> None:
        if self.tasks.get(task_id) != "" or luck < 0.2:
            self.tell(ev.ClaimsAnswered((Lost(task_id) if luck < 0.6 else Unknown(task_id, "no answer"),)))
            return
        self.tell(self.story.won(task_id))
        self.tasks[task_id] = self.story.me
        self.put(ch.OwnerPut(task_id, self.story.me, self.story.fences[task_id]))

    def _fail(self, task_id: str, fence: int, luck: float) -> None:
        unknown, rejected = (
            ev.WriteAnswered(task_id, fence, ev.WriteResult.UNKNOWN, "no answer"),
            ev.WriteAnswered(task_id, fence, ev.WriteResult.REJECTED, "too large"),
        )
        self.tell(unknown if luck < 0.95 else rejected)

    def child(self) -> None:
        """Let a run save, or end."""
        runs = [claimed.run for claimed in self.story.core.claimed.by_id.values() if claimed.process.value != "none"]
        if runs:
            run = self.rng.choice(runs)
            cause = self.rng.choice([Cause.COMPLETED, Cause.RAISED, Cause.EXITED])
            ends = self.rng.random() < 0.5
            self.tell(ev.ChildExited(run, Outcome(cause)) if ends else ev.ChildSaved(run, "1"))

    def time(self) -> None:
        self.todo += self.story.wait(self.rng.choice([0.01, 0.3, 1.5, 6.0]))

    def fault(self) -> None:
        story = self.story
        if self.rng.random() < 0.5:
            running = [claimed.run for claimed in story.core.claimed.by_id.values() if claimed.process.value != "none"]
            for run in running:
                self.tell(ev.ChildExited(run, Outcome(Cause.ZYGOTE_LOST, error="died")))
            self.tell(ev.ZygoteLost("it died"))
        else:
            self.tell(ev.LeaseGone())
            mine = [task_id for task_id, owner in self.tasks.items() if owner == story.me]
            for task_id in mine:
                self.tasks[task_id] = ""
            self.put(ch.MemberGone(story.me), *(ch.OwnerGone(task_id, False) for task_id in mine))

    def wind_up(self) -> None:
        """Everything but this node goes, and it comes to rest."""
        for _ in range(40):
            for task_id in list(self.tasks):
                self.remove(task_id)
            for claimed in list(self.story.core.claimed.by_id.values()):
                if claimed.process.value != "none":
                    self.tell(ev.ChildExited(claimed.run, Outcome(Cause.LOST_CLAIM)))
            for _ in range(len(self.todo)):
                self.answer()
            self.todo += self.story.wait(3.0)
        for _ in range(3):  # what is kept for a time is let go at the next news
            self.todo += self.story.wait(30.0)
            self.put(ch.StateGone("none"))


@pytest.mark.parametrize("seed", range(3))
def test_after_a_long_life_the_books_are_as_they_were(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "GONE_KEPT", 30)
    life = Life(seed)
    fresh = entries(life.story.core)
    life.live(2500)
    for name in list(life.others):
        life.leave(name)
    life.live(1500, with_nodes=False)
    assert life.ids > 400, "a life worth the name"
    life.wind_up()
    assert life.story.holds() == []
    left = entries(life.story.core)
    grown = {way: count for way, count in (left - fresh).items() if count > 70}
    assert grown == {}, "entries of what is gone"
    assert left.total() - fresh.total() < SLACK


def test_what_is_counted_is_found() -> None:
    story = Story()
    before = entries(story.core)
    story.core.claiming._passed.update({f"t{n}": n for n in range(500)})
    assert (entries(story.core) - before).total() == 500
