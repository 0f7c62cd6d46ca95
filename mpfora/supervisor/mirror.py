"""The mirror: what the cluster looks like, folded from the watch in revision order. Pure.

Every node folds the same changes in the same order and so has the same mirror at the same revision; whatever is
decided from it alone is decided alike everywhere. Nothing of this node's own doing is in here: see core.py for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpfora.model import Member, Wants
from mpfora.states import TERMINAL, State
from mpfora.supervisor import changes as c
from mpfora.supervisor.prices import Prices

NO_WANTS = Wants()


@dataclass(frozen=True, slots=True)
class Owner:
    node: str
    fence: int


#: an owner that was gone before this node looked
UNSEEN = Owner("", 0)


class Kept(NamedTuple):
    """What stands at a task's state key. is_readable: False: nobody can tell what state that is."""

    state: State
    until: float | None = None
    is_readable: bool = True


@dataclass(slots=True)
class TaskView:
    """One task that exists. Written by Mirror only.

    state, until   of its kept state; runnable where there is none, or it cannot be read
    is_new         no state of it is kept
    is_unreadable  one is kept, and cannot be read: it is held and not run until that is mended
    command        the command that waits for its owner
    spoiled        revision of what stands in a command's place and cannot be understood; 0: nothing does
    changed        revision of the last change to it
    unclean        its last owner vanished without the mark that its process is dead
    vanished       that owner; it stays until an owner lets go cleanly. UNSEEN: whoever had the task before this node
                   looked has left no mark, if anybody had it
    promised       the node to which its last owner gave it
    """

    id: str
    wants: Wants = NO_WANTS
    owner: Owner | None = None
    state: State = State.RUNNABLE
    until: float | None = None
    command: c.TaskCommandPut | None = None
    spoiled: int = 0
    changed: int = 0
    unclean: bool = False
    vanished: Owner | None = None
    promised: str | None = None
    is_new: bool = True
    is_unreadable: bool = False

    @property
    def resting(self) -> bool:
        """It needs no process now, so it takes none of its node's capacity. A new one with a time before which it is
        not to run sleeps first, whatever the time is: only its owner looks at a clock."""
        rests = self.state in (State.SLEEPING, State.PAUSED) or self.is_unreadable
        return rests or (self.is_new and self.wants.sleeps_first)


@dataclass(slots=True)
class Touched:
    """What one batch of changes touched, in order: task ids (gone ones too), and the rest as it came."""

    tasks: dict[str, None] = field(default_factory=dict)
    members: bool = False
    readers: bool = False
    usages: bool = False
    node_commands: list[c.NodeCommandPut] = field(default_factory=list)
    owners: list[c.OwnerPut] = field(default_factory=list)
    touched_members: list[str] = field(default_factory=list)
    malformed: list[c.Malformed] = field(default_factory=list)
    reset: bool = False


class Mirror:
    """The folded namespace. `tasks` and `members` are read by all of the supervisor and written here only."""

    def __init__(self) -> None:
        self.revision = 0
        self._new_are_unclean = False
        self.tasks: dict[str, TaskView] = {}
        self.members: dict[str, Member] = {}
        self.readers: dict[str, None] = {}
        self.prices = Prices(self.handler_of)
        #: states whose task is not known (yet); not those of finished ones
        self._orphan_states: dict[str, Kept] = {}
        #: what props ask whose task is not known (yet): a client may put them in a revision of their own
        self._orphan_wants: dict[str, Wants] = {}
        self._absorbers: dict[type, Callable[[Any, Touched], None]] = {
            c.TaskPut: self._task_put,
            c.TaskGone: self._task_gone,
            c.WantsPut: self._wants_put,
            c.OwnerPut: self._owner_put,
            c.OwnerGone: self._owner_gone,
            c.StatePut: self._state_put,
            c.StateGone: self._state_gone,
            c.TaskCommandPut: self._command_put,
            c.TaskCommandGone: self._command_gone,
            c.MemberPut: self._member_put,
            c.MemberGone: self._member_gone,
            c.NodeCommandPut: lambda change, touched: touched.node_commands.append(change),
            c.ReaderPut: self._reader_put,
            c.ReaderGone: self._reader_gone,
            c.UsagePut: self._usage_put,
            c.UsageGone: self._usage_gone,
            c.Malformed: self._malformed,
        }

    def absorb(self, batch: c.Changes) -> Touched:
        """Fold one batch; says what it touched. After a reset that is every task known before or after."""
        touched = Touched(reset=batch.reset)
        if batch.reset:
            touched.tasks.update(dict.fromkeys(self.tasks))
            self.tasks, self.members, self.readers, self._orphan_states, self._orphan_wants = {}, {}, {}, {}, {}
            touched.members = touched.readers = touched.usages = True
            self.prices.forget_all()
        # whoever reads the whole content did not see how a task lost its owner: without the mark, it may be dying
        self._new_are_unclean = batch.reset
        self.revision = batch.revision
        for change in sorted(batch.changes, key=_place):
            self._absorbers[type(change)](change, touched)
        return touched

    def owned_by(self, node: str) -> Iterable[TaskView]:
        """Every task whose owner key names `node`. Walks all tasks: for the reconcile pass and for listings."""
        return (task for task in self.tasks.values() if task.owner is not None and task.owner.node == node)

    def handler_of(self, task_id: str) -> str | None:
        """The name under which a task asks for its handler, "" for none; None: there is no such task."""
        task = self.tasks.get(task_id)
        return None if task is None else task.wants.handler or ""

    def _touch(self, task_id: str, touched: Touched) -> TaskView | None:
        task = self.tasks.get(task_id)
        if task is not None:
            task.changed = self.revision
            touched.tasks[task_id] = None
        return task

    def _task_put(self, change: c.TaskPut, touched: Touched) -> None:
        if change.task_id not in self.tasks:
            unseen = UNSEEN if self._new_are_unclean else None
            task = TaskView(change.task_id, unclean=self._new_are_unclean, vanished=unseen)
            self.tasks[change.task_id] = task
            task.wants = self._orphan_wants.pop(change.task_id, NO_WANTS)
            if (kept := self._orphan_states.pop(change.task_id, None)) is not None:
                _set_state(task, kept)
        self._touch(change.task_id, touched)

    def _task_gone(self, change: c.TaskGone, touched: Touched) -> None:
        self._touch(change.task_id, touched)
        task = self.tasks.pop(change.task_id, None)
        self.prices.forget(change.task_id)
        if task is not None and task.wants != NO_WANTS:
            self._orphan_wants[task.id] = task.wants
        if task is not None and not task.is_new and task.state not in TERMINAL:
            self._orphan_states[task.id] = Kept(task.state, task.until, not task.is_unreadable)

    def _wants_put(self, change: c.WantsPut, touched: Touched) -> None:
        if (task := self._touch(change.task_id, touched)) is not None:
            task.wants = change.wants
        elif change.wants != NO_WANTS:
            self._orphan_wants[change.task_id] = change.wants
        else:
            self._orphan_wants.pop(change.task_id, None)

    def _owner_put(self, change: c.OwnerPut, touched: Touched) -> None:
        if (task := self._touch(change.task_id, touched)) is not None:
            task.owner = Owner(change.node, change.fence)
            task.unclean, task.promised = False, None
            if self._new_are_unclean:
                task.vanished = None  # it was found with its owner
            touched.owners.append(change)

    def _owner_gone(self, change: c.OwnerGone, touched: Touched) -> None:
        if (task := self._touch(change.task_id, touched)) is not None:
            before = task.owner
            task.vanished = None if change.clean else before or task.vanished
            task.owner = None
            task.unclean, task.promised = not change.clean, change.to
            if change.cost is not None:
                self.prices.told(change.task_id, change.cost)
            elif not change.clean and before is not None:
                self.prices.orphaned(change.task_id, before.node, task.wants.handler or "")

    def _state_put(self, change: c.StatePut, touched: Touched) -> None:
        self._put_state(change.task_id, Kept(change.state, change.until), touched)

    def _put_state(self, task_id: str, kept: Kept, touched: Touched) -> None:
        if (task := self._touch(task_id, touched)) is not None:
            _set_state(task, kept)
        elif kept.state not in TERMINAL:
            self._orphan_states[task_id] = kept

    def _state_gone(self, change: c.StateGone, touched: Touched) -> None:
        self._orphan_states.pop(change.task_id, None)
        if (task := self._touch(change.task_id, touched)) is not None:
            task.state, task.until, task.is_new, task.is_unreadable = State.RUNNABLE, None, True, False

    def _command_put(self, change: c.TaskCommandPut, touched: Touched) -> None:
        if (task := self._touch(change.task_id, touched)) is not None:
            task.command, task.spoiled = change, 0

    def _command_gone(self, change: c.TaskCommandGone, touched: Touched) -> None:
        if (task := self._touch(change.task_id, touched)) is not None:
            task.command, task.spoiled = None, 0

    def _malformed(self, change: c.Malformed, touched: Touched) -> None:
        touched.malformed.append(change)
        if change.task_id is not None and (task := self._touch(change.task_id, touched)) is not None:
            task.command, task.spoiled = None, change.revision
        if change.state_of is not None:
            self._put_state(change.state_of, Kept(State.RUNNABLE, is_readable=False), touched)

    def _member_put(self, change: c.MemberPut, touched: Touched) -> None:
        self.members[change.member.name] = change.member
        touched.members = True
        touched.touched_members.append(change.member.name)

    def _member_gone(self, change: c.MemberGone, touched: Touched) -> None:
        touched.members = self.members.pop(change.name, None) is not None or touched.members

    def _reader_put(self, change: c.ReaderPut, touched: Touched) -> None:
        self.readers[change.reader_id] = None
        touched.readers = True

    def _usage_put(self, change: c.UsagePut, touched: Touched) -> None:
        owners = ((task_id, self.tasks[task_id].owner) for task_id in self.prices.costs)
        owned = [task_id for task_id, owner in owners if owner is not None and owner.node == change.node]
        self.prices.put(change.node, change.usage, owned)
        touched.usages = True

    def _usage_gone(self, change: c.UsageGone, touched: Touched) -> None:
        self.prices.gone(change.node)

    def _reader_gone(self, change: c.ReaderGone, touched: Touched) -> None:
        self.readers.pop(change.reader_id, None)
        touched.readers = True


def _set_state(task: TaskView, kept: Kept) -> None:
    task.state, task.until, task.is_new, task.is_unreadable = kept.state, kept.until, False, not kept.is_readable


def _place(change: c.Change) -> int:
    """A task comes before what is known of it: a Go client puts the props first. What a node says of its tasks goes
    after them."""
    return 0 if type(change) is c.TaskPut else 2 if type(change) is c.UsageGone else 1
