"""The mirror: the namespace, folded change by change."""

from __future__ import annotations

from mpfora.cluster.changes import (
    Change,
    Changes,
    Malformed,
    MemberGone,
    MemberPut,
    NodeCommandPut,
    OwnerGone,
    OwnerPut,
    ReaderGone,
    ReaderPut,
    StateGone,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    WantsPut,
)
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import Owner, TaskView, Touched
from mpfora.model.state import Message, State
from mpfora.model.task import Member, Wants


class Folded(Mirror):
    """A mirror with revisions of its own."""

    def put(self, *changes: Change) -> Touched:
        return self.absorb(Changes(self.revision + 1, changes))


def mirror(*changes: Change) -> Folded:
    folded = Folded()
    folded.put(TaskPut("t"), *changes)
    return folded


def test_a_task_from_its_put_to_its_end() -> None:
    folded = Folded()
    assert list(folded.put(TaskPut("t"), WantsPut("t", Wants("h"))).tasks) == ["t"]
    assert folded.tasks["t"] == TaskView("t", Wants("h"), changed=1)
    folded.put(OwnerPut("t", "n1", 2))
    assert folded.tasks["t"].owner == Owner("n1", 2)
    assert list(folded.owned_by("n1")) == ["t"]
    assert list(folded.owned_by("n2")) == []
    assert list(folded.put(OwnerGone("t", clean=True), TaskGone("t")).tasks) == ["t"]
    assert folded.tasks == {}


def test_every_change_of_a_task_is_a_newer_revision_of_it() -> None:
    folded = mirror()
    command = TaskCommandPut("t", Message.kill(), 4)
    changes: list[Change] = [
        TaskPut("t"), WantsPut("t", Wants()), OwnerPut("t", "n", 9), StatePut("t", State.PAUSED), command,
        TaskCommandGone("t"), StateGone("t"), OwnerGone("t", clean=False),
    ]  # fmt: skip
    for change in changes:
        assert list(folded.put(change).tasks) == ["t"]
        assert folded.tasks["t"].changed == folded.revision


def test_an_owner_that_vanished_without_the_mark() -> None:
    folded = mirror(OwnerPut("t", "n1", 1))
    folded.put(OwnerGone("t", clean=False))
    assert folded.tasks["t"].ended_uncleanly
    folded.put(OwnerPut("t", "n2", 3))
    assert not folded.tasks["t"].ended_uncleanly
    folded.put(OwnerGone("t", clean=True))
    assert not folded.tasks["t"].ended_uncleanly


def test_which_states_rest() -> None:
    folded = mirror()
    for state in State:
        folded.put(StatePut("t", state, 5.0 if state is State.SLEEPING else None))
        assert folded.tasks["t"].resting == (state in (State.SLEEPING, State.PAUSED))
    folded.put(StatePut("t", State.SLEEPING, 5.0))
    folded.put(StateGone("t"))
    assert (folded.tasks["t"].state, folded.tasks["t"].until) == (State.RUNNABLE, None)


def test_a_state_that_cannot_be_read_rests_until_it_is_mended_or_removed() -> None:
    broken = Malformed("/ns/state/t", "no JSON", 1, state_of="t")
    for mended in (StatePut("t", State.RUNNABLE), StateGone("t")):
        folded = mirror()
        assert folded.put(broken).malformed == [broken]
        assert (folded.tasks["t"].resting, folded.tasks["t"].is_unreadable) == (True, True)
        folded.put(mended)
        assert (folded.tasks["t"].resting, folded.tasks["t"].is_unreadable) == (False, False)
    folded = Folded()
    folded.put(broken)
    folded.put(TaskPut("t"))
    assert folded.tasks["t"].is_unreadable, "it came before its task"
    folded.put(TaskGone("t"))
    folded.put(TaskPut("t"))
    assert folded.tasks["t"].is_unreadable, "and outlives it"


def test_a_new_task_that_sleeps_first_rests_until_a_state_of_it_is_kept() -> None:
    folded = mirror(WantsPut("t", Wants(not_before=5.0)))
    assert folded.tasks["t"].resting
    folded.put(StatePut("t", State.SLEEPING, 5.0))
    folded.put(StatePut("t", State.RUNNABLE))
    assert not folded.tasks["t"].resting
    folded.put(TaskGone("t"))
    folded.put(TaskPut("t"))
    assert not folded.tasks["t"].resting
    folded.put(StateGone("t"))
    assert folded.tasks["t"].resting


def test_the_last_command_is_the_one_that_counts() -> None:
    folded = mirror(TaskCommandPut("t", Message.pause(), 1))
    folded.put(TaskCommandPut("t", Message.kill(), 2))
    assert folded.tasks["t"].command == TaskCommandPut("t", Message.kill(), 2)
    folded.put(TaskCommandGone("t"))
    assert folded.tasks["t"].command is None


def test_in_one_revision_a_task_comes_before_what_is_known_of_it() -> None:
    folded = Folded()
    folded.put(WantsPut("t", Wants("h")), StatePut("t", State.PAUSED), TaskPut("t"))
    assert folded.tasks["t"] == TaskView("t", Wants("h"), state=State.PAUSED, changed=1, is_new=False)


def test_a_state_that_came_before_its_task_is_not_forgotten() -> None:
    folded = Folded()
    folded.put(StatePut("t", State.PAUSED))
    folded.put(StatePut("u", State.COMPLETED))
    folded.put(TaskPut("t"), TaskPut("u"))
    assert folded.tasks["t"].state is State.PAUSED
    assert folded.tasks["u"].state is State.RUNNABLE, "of a former life"


def test_a_state_outlives_its_task() -> None:
    folded = mirror(StatePut("t", State.PAUSED))
    folded.put(TaskGone("t"))
    folded.put(TaskPut("t"))
    assert folded.tasks["t"].resting
    folded.put(TaskGone("t"))
    folded.put(StateGone("t"))
    folded.put(TaskPut("t"))
    assert not folded.tasks["t"].resting


def test_what_is_said_of_no_task_changes_nothing() -> None:
    folded = Folded()
    touched = folded.put(
        OwnerPut("t", "n", 1), OwnerGone("t", clean=True), TaskCommandPut("t", Message.kill(), 1), TaskCommandGone("t"),
        StateGone("t"), TaskGone("t"), WantsPut("t", Wants()), MemberGone("n"), ReaderGone("r"),
    )  # fmt: skip
    assert (folded.tasks, folded.members, folded.readers) == ({}, {}, {})
    assert (touched.tasks, touched.members, touched.owners) == ({}, False, [])


def test_members_come_change_and_go() -> None:
    folded = Folded()
    assert folded.put(MemberPut(Member("n1"))).touched_members == ["n1"]
    touched = folded.put(MemberPut(Member("n1", frozen=True)))
    assert touched.members
    assert folded.members == {"n1": Member("n1", frozen=True)}
    assert folded.put(MemberGone("n1")).members
    assert folded.members == {}


def test_readers_come_and_go() -> None:
    folded = Folded()
    assert folded.put(ReaderPut("r")).readers
    assert list(folded.readers) == ["r"]
    assert folded.put(ReaderGone("r")).readers
    assert not folded.readers


def test_commands_and_what_cannot_be_read_are_passed_on() -> None:
    command, bad = NodeCommandPut("n1", "c", "freeze", {}, 1), Malformed("k", "no JSON", 1)
    touched = Folded().put(command, bad)
    assert (touched.node_commands, touched.malformed) == ([command], [bad])


def test_a_reset_voids_what_was_known_and_touches_it() -> None:
    folded = mirror(MemberPut(Member("n1")), ReaderPut("r"), StatePut("orphan", State.PAUSED))
    touched = folded.absorb(Changes(9, (TaskPut("u"), TaskPut("orphan")), reset=True))
    assert list(touched.tasks) == ["u", "orphan"]
    assert touched.reset
    assert touched.members
    assert touched.readers
    assert list(folded.tasks) == ["u", "orphan"]
    assert folded.tasks["orphan"].state is State.RUNNABLE
    assert (folded.members, folded.readers, folded.revision) == ({}, {}, 9)


def test_props_that_are_put_before_their_task_are_kept_for_it() -> None:
    """In whatever revisions a client writes: whoever reads the whole content at the end must see the same."""
    folded = Folded()
    folded.put(WantsPut("t", Wants("h")))
    assert folded.put(TaskPut("t")).tasks == {"t": None}
    assert folded.tasks["t"].wants == Wants("h")


def test_props_outlive_a_task_only_until_they_are_deleted() -> None:
    folded = Folded()
    folded.put(TaskPut("t"), WantsPut("t", Wants("h")))
    folded.put(TaskGone("t"))
    folded.put(TaskPut("t"))
    assert folded.tasks["t"].wants == Wants("h")
    folded.put(TaskGone("t"), WantsPut("t", Wants()))
    folded.put(TaskPut("t"))
    assert folded.tasks["t"].wants == Wants()
    folded.put(WantsPut("t", Wants("h")))
    folded.put(WantsPut("t", Wants()))
    assert folded.tasks["t"].wants == Wants()
