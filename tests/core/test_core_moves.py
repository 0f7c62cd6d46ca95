"""Rebalancing: when the balancer is asked, and what becomes of its answer."""

from __future__ import annotations

import random
from collections.abc import Sequence

from core_story import HUNG, RELEASED, Story, claims, kinds, member

from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, TaskPut
from mpfora.model.state import Message, State, TaskState
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer, FairBalancer, NoBalancer, View
from mpfora.supervisor.balance.rebalancer import MAX_IN_FLIGHT, SETTLE_S, Rebalancer


class Recorder(NoBalancer):
    """Keeps every view it is asked about, and answers what it is told to."""

    def __init__(self, *releases: str) -> None:
        self.views: list[View] = []
        self.releases = releases
        self.is_on = False

    def choose_releases(self, view: View) -> Sequence[str]:
        self.views.append(view)
        return self.releases if self.is_on else ()


def holding(balancer: NoBalancer | FairBalancer, *task_ids: str, **settings: object) -> Story:
    """A node with these tasks, at rest."""
    story = Story(balancer=balancer, max_tasks=0, **settings)  # type: ignore[arg-type]
    for task_id in task_ids:
        story.hold(task_id)
    story.wait(5)
    if isinstance(balancer, Recorder):
        balancer.views.clear()
        balancer.is_on = True
    return story


def test_the_balancer_is_asked_two_to_four_seconds_after_the_last_change_of_membership() -> None:
    balancer = Recorder()
    story = holding(balancer, "t")
    story.put(MemberPut(member("n2")))
    story.wait(1.9)
    story.put(MemberPut(member("n3")))
    story.wait(1.9)
    assert balancer.views == []
    story.wait(2.1)
    assert len(balancer.views) == 1
    story.wait(60)
    assert len(balancer.views) == 1, "by event, no timer"


def test_not_all_nodes_ask_at_one_instant() -> None:
    times = set()
    for seed in range(20):
        moves = Rebalancer()
        moves.membership_changed(["n1"], 100.0, random.Random(seed))
        assert moves.at_s is not None
        assert 100.0 + SETTLE_S[0] <= moves.at_s <= 100.0 + SETTLE_S[1]
        times.add(moves.at_s)
    assert len(times) == 20


def test_the_balance_command_asks_at_once() -> None:
    balancer = Recorder()
    story = holding(balancer)
    assert story.node_command("balance") == [story.takes()]
    assert len(balancer.views) == 1


def test_the_balancer_sees_nodes_loads_and_how_long_its_own_tasks_have_run_unsaved() -> None:
    balancer = Recorder()
    story = holding(balancer, "t")
    story.put(MemberPut(member("n2", frozen=True, labels={"a": "b"})), TaskPut("u"))
    story.wait(1)
    story.tell(ev.ChildSaved(story.runs["t"], "1"))
    story.tell(ev.ClaimsAnswered(()))
    story.wait(2)
    story.node_command("balance")
    view = balancer.views[-1]
    assert view.me == "n1"
    assert [(task.id, task.run_s) for task in view.mine] == [("t", 2.0)]
    assert view.nodes["n1"].tasks == 2, "what it is to claim counts"
    assert view.nodes["n1"].live
    assert not view.nodes["n2"].live
    assert view.nodes["n2"].labels == {"a": "b"}


def test_what_is_chosen_is_stopped_released_and_left_to_its_assignee() -> None:
    story = holding(FairBalancer(), "a", "b")
    assert story.put(MemberPut(member("n2", capacity=None, weight=1.0))) == []
    (asked,) = story.wait(4)
    assert isinstance(asked, do.AskStop)
    assert (asked.message, asked.reason) == (Message.release(), "rebalance")
    moved = next(task_id for task_id, run in story.runs.items() if run == asked.run)
    (let_go,) = story.exits(RELEASED, moved)
    assert isinstance(let_go, do.Release)
    assert let_go.update.to == "n2"
    assert story.released(moved) == []
    assert story.core.assignments.assignee == {moved: "n2"}
    assert story.heard("moves to n2: n1 holds more than its share, n2 less")
    assert story.put(OwnerPut(moved, "n2", story.revision + 1)) == []
    assert story.wait(60) == []


def test_a_task_that_does_not_stop_does_not_hold_up_the_others() -> None:
    story = holding(Recorder("a", "b"), "a", "b")
    asked = story.node_command("balance")
    assert kinds(asked) == ["TakeNodeCommand", "AskStop", "AskStop"]
    assert kinds(story.exits(RELEASED, "b")) == ["Release"]
    assert kinds(story.wait(10)) == ["Kill"]
    assert kinds(story.exits(HUNG, "a")) == ["Release"]


def test_few_move_at_once_and_the_next_goes_when_one_is_gone() -> None:
    names = [f"t{n:02}" for n in range(MAX_IN_FLIGHT + 2)]
    story = holding(Recorder(*names), *names)
    asked = story.node_command("balance")
    first = [story.runs[name] for name in names[:MAX_IN_FLIGHT]]
    assert [step.run for step in asked if isinstance(step, do.AskStop)] == first
    story.exits(RELEASED, names[0])
    steps = story.settled(names[0])
    steps += story.tell(ev.Tick())
    assert [step.run for step in steps if isinstance(step, do.AskStop)] == [story.runs[names[MAX_IN_FLIGHT]]]


def test_a_new_plan_replaces_what_was_still_queued() -> None:
    names = [f"t{n:02}" for n in range(MAX_IN_FLIGHT + 2)]
    balancer = Recorder(*names)
    story = holding(balancer, *names)
    story.node_command("balance")
    balancer.releases = ()
    story.node_command("balance")
    story.exits(RELEASED, names[0])
    story.settled(names[0])
    assert story.tell(ev.Tick()) == []


def test_ids_that_are_not_this_node_s_are_ignored() -> None:
    story = holding(Recorder("elsewhere", "t"), "t")
    assert kinds(story.node_command("balance")) == ["TakeNodeCommand", "AskStop"]


def test_a_balanced_node_gives_nothing_up() -> None:
    story = holding(FairBalancer(), "a", "b")
    assert story.node_command("balance") == [story.takes()]
    story.put(MemberPut(member("n2", frozen=True)))
    assert story.wait(10) == [], "a node that takes nothing has no share"


def test_resting_tasks_beyond_the_capacity_are_no_reason_to_move() -> None:
    story = Story(max_tasks=1)
    for n in range(5):
        story.hold(f"p{n}", TaskState(State.PAUSED))
    assert story.wait(10) == []
    assert story.node_command("balance") == [story.takes()]


def test_a_node_that_leaves_makes_the_others_look_again() -> None:
    balancer = Recorder()
    story = holding(balancer)
    story.put(MemberPut(member("n2")))
    story.wait(10)
    balancer.views.clear()
    story.put(MemberGone("n2"))
    story.wait(10)
    assert len(balancer.views) == 1
    assert list(balancer.views[0].nodes) == ["n1"]


def test_tasks_of_a_node_that_died_go_where_there_is_least() -> None:
    story = holding(NoBalancer(), "a", "b", "c")
    story.put(MemberPut(member("n2", capacity=None, weight=1.0)), TaskPut("x"))
    assert story.core.assignments.assignee == {"x": "n2"}
    assert story.put(MemberGone("n2")) == [claims("x")]


def test_a_task_that_came_lately_stays_unless_it_is_commanded() -> None:
    story = holding(Recorder("t"), "t")
    story.core.balancing.rebalancer.arrived("t", story.boot_s)
    story.put(MemberPut(member("n2")))
    assert story.wait(10) == []
    assert kinds(story.node_command("balance")) == ["TakeNodeCommand", "AskStop"]


def test_a_task_that_came_lately_may_go_when_its_rest_is_over() -> None:
    story = holding(Recorder("t"), "t")
    story.core.balancing.rebalancer.arrived("t", story.boot_s)
    story.put(MemberPut(member("n2")))
    assert story.wait(Balancer.cooldown_s - 1) == []
    assert kinds(story.wait(2)) == ["AskStop"]


def test_a_change_of_membership_is_looked_at_soon_although_a_task_that_came_lately_waits_for_its_rest() -> None:
    balancer = Recorder("t")
    story = holding(balancer, "t")
    story.core.balancing.rebalancer.arrived("t", story.boot_s)
    for asked, name in enumerate(("n2", "n3"), 1):
        story.put(MemberPut(member(name)))
        assert story.wait(5) == []
        assert len(balancer.views) == asked
    assert kinds(story.wait(Balancer.cooldown_s - 5)) == ["AskStop"]


def test_what_another_node_gave_to_this_one_came_lately() -> None:
    balancer = Recorder()
    story = holding(balancer)
    story.put(MemberPut(member("n2")), TaskPut("t"), OwnerPut("t", "n2", story.revision + 1))
    story.put(OwnerGone("t", clean=True, to="n1"))
    story.wins("t")
    story.node_command("balance")
    assert [task.settled for task in balancer.views[-1].mine] == [False]
    story.wait(Balancer.cooldown_s)
    story.node_command("balance")
    assert [task.settled for task in balancer.views[-1].mine] == [True]


def test_moves_a_minute_are_limited() -> None:
    names = ["a", "b", "c"]
    story = holding(Recorder(*names), *names, moves_per_minute=2)
    assert kinds(story.node_command("balance")) == ["TakeNodeCommand", "AskStop", "AskStop"]
    for name in "ab":
        story.exits(RELEASED, name)
        story.settled(name)
    assert "AskStop" not in kinds(story.wait(59))
    assert "AskStop" in kinds(story.wait(2))


def test_after_the_last_move_of_a_round_the_balancer_is_asked_once_more() -> None:
    balancer = Recorder("a")
    story = holding(balancer, "a", "b")
    story.node_command("balance")
    story.exits(RELEASED, "a")
    story.settled("a")
    balancer.views.clear()
    balancer.releases = ()
    story.wait(60)
    assert len(balancer.views) == 1


def test_a_node_that_comes_back_is_waited_for_with_the_next_one() -> None:
    balancer = Recorder()
    story = holding(balancer, rejoin_grace_s=20)
    for name in ("n2", "n3"):
        story.put(MemberPut(member(name)))
    story.wait(10)
    balancer.views.clear()
    for name in ("n2", "n3"):
        story.put(MemberGone(name))
        story.wait(5)
        story.put(MemberPut(member(name)))
        balancer.views.clear()
        story.wait(10)
        assert balancer.views == []
    story.wait(11)
    assert len(balancer.views) == 1, "once, when all are back"


def test_what_leaves_already_counts_as_gone_to_where_it_goes() -> None:
    """A second plan while the first is under way moves no more than was needed."""
    story = holding(FairBalancer(), *"abcd")
    story.put(MemberPut(member("n2", capacity=None, weight=1.0)))
    asked = [step for step in story.wait(4) if isinstance(step, do.AskStop)]
    assert len(asked) == 2
    assert kinds(story.node_command("balance")) == ["TakeNodeCommand"]


class Broken(NoBalancer):
    def may_claim(self, view: View, task: object) -> bool:
        raise ValueError("no idea")

    def choose_releases(self, view: View) -> Sequence[str]:
        raise KeyError("nowhere")


def test_a_balancer_that_fails_takes_no_node_down() -> None:
    story = holding(Broken(), "a")
    story.node_command("balance")
    assert story.heard("the balancer's may_claim failed: ValueError: no idea")
    assert story.heard("the balancer's choose_releases failed: KeyError: 'nowhere'")
    assert story.holds() == ["a"]


def test_what_was_done_for_the_balance_is_told_at_the_end() -> None:
    story = holding(Recorder("a"), "a", "b")
    story.node_command("balance")
    story.exits(RELEASED, "a")
    story.released("a")
    story.tell(ev.SessionClosed())
    assert story.heard("in all: 3 claims tried (0 late), 2 won, 0 lost; missed 0 times; 1 tasks moved")
