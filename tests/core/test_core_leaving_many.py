"""A node that leaves with very many tasks that rest: the end of its lease gives them back, all at once and clean."""

from __future__ import annotations

import pytest
from core_story import RELEASED, Story

from mpfora.cluster import changes as ch
from mpfora.cluster.mirror import Mirror
from mpfora.model.state import State, TaskState
from mpfora.model.task import Member
from mpfora.store.keys import Layout
from mpfora.store.memory import MemoryConnection, MemoryKV
from mpfora.store.node_records import format_member, parse_member
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.store import StoreCoordinator
from mpfora.supervisor.tasks.evacuation import LEFT_TO_LEASE

MANY = LEFT_TO_LEASE + 100


def holding(count: int) -> Story:
    """A node with so many paused tasks, and one that runs."""
    story = Story(max_tasks=4)
    names = [f"p{n:04}" for n in range(count)]
    for first in range(0, count, 100):
        some = names[first : first + 100]
        story.put(*map(ch.TaskPut, some), *(ch.StatePut(name, State.PAUSED) for name in some))
        for name in some:
            story.wins(name, TaskState(State.PAUSED))
    story.hold("runs")
    return story


def stopped(story: Story) -> list[do.Action]:
    steps = story.tell(ev.ShutdownAsked("SIGTERM"))
    while story.core.claimed.has_backlog:
        steps += story.tell(ev.Tick())
    return steps


def test_what_runs_is_released_first_and_the_rest_ends_with_the_lease() -> None:
    story = holding(MANY)
    steps = stopped(story)
    assert not [step for step in steps if isinstance(step, do.Release)]
    assert next(step for step in steps if isinstance(step, do.AskStop)) in steps[:4]
    assert not [step for step in steps if isinstance(step, do.CloseSession)], "while something runs"
    (release,) = (step for step in story.exits(RELEASED, "runs") if isinstance(step, do.Release))
    assert release.claim == story.claim("runs")
    assert do.CloseSession(has_claims=True) in story.released("runs")


def test_a_few_are_released_one_by_one() -> None:
    steps = stopped(holding(LEFT_TO_LEASE // 5))
    assert len([step for step in steps if isinstance(step, do.Release)]) == LEFT_TO_LEASE // 5


def test_none_of_them_begins_anything_while_the_node_leaves() -> None:
    story = holding(MANY)
    stopped(story)
    story.put(ch.StatePut("p0001", State.RUNNABLE))
    assert not [step for step in story.wait(0.5) if isinstance(step, do.Fork)]


@pytest.mark.parametrize("has_ended", [True, False])
def test_claims_that_end_with_the_lease_of_a_node_that_has_ended_all_are_clean(has_ended: bool) -> None:
    mirror = Mirror()
    member = Member("n1", pid=1, handlers=("h",))
    mirror.absorb(ch.Changes(1, (ch.MemberPut(member), ch.TaskPut("a"), ch.OwnerPut("a", "n1", 1)), reset=True))
    mirror.absorb(ch.Changes(2, (ch.MemberPut(Member("n1", pid=1, handlers=("h",), ended=has_ended)),)))
    gone = (ch.MemberGone("n1"), ch.OwnerGone("a", clean=False))
    touched = mirror.absorb(ch.Changes(3, gone[:1], more=True))
    touched = mirror.absorb(ch.Changes(3, gone[1:]))
    assert mirror.tasks["a"].ended_uncleanly is not has_ended
    assert bool(touched.lost_owners) is not has_ended


def test_the_word_holds_for_the_revision_in_which_the_lease_goes_and_no_other() -> None:
    mirror = Mirror()
    member = Member("n1", pid=1, handlers=("h",), ended=True)
    mirror.absorb(ch.Changes(1, (ch.MemberPut(member), ch.TaskPut("a"), ch.OwnerPut("a", "n1", 1)), reset=True))
    mirror.absorb(ch.Changes(2, (ch.MemberGone("n1"),)))
    mirror.absorb(ch.Changes(3, (ch.OwnerGone("a", clean=False),)))
    assert mirror.tasks["a"].ended_uncleanly


def test_the_record_says_it_and_that_of_others_does_not() -> None:
    for ended in (True, False):
        assert parse_member("n", format_member(Member("n", ended=ended))).ended is ended
    assert "ended" not in format_member(Member("n"))


async def test_a_coordinator_says_it_before_its_lease_goes() -> None:
    store = MemoryKV()
    node = StoreCoordinator(MemoryConnection(store), "ns")
    layout = Layout("ns")
    await node.open(Member("n1", pid=1, handlers=("h",)), 10.0)
    await node.publish(Member("n1", pid=1, handlers=("h",), draining=True))
    watch = store.watch(*layout.watched, store.listing(*layout.watched).revision + 1)
    await node.close(has_claims=True)
    said, gone = await anext(watch), await anext(watch)
    record = parse_member("n1", said.events[0].value)
    assert (record.ended, record.draining) == (True, True)
    assert {event.key for event in gone.events} >= {layout.member("n1")}
    assert all(event.deleted for event in gone.events)
