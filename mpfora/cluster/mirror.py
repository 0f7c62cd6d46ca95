"""The mirror: what the cluster looks like, folded from the watch in revision order. Pure.

Every node folds the same changes in the same order and so has the same mirror at the same revision; whatever is
decided from it alone is decided alike everywhere. Nothing of this node's own doing is in here: see core.py for that.

    cluster/tasks.py    the tasks, with what their keys say
    cluster/owners.py   who owns which, and how a task lost its owner
    cluster/members.py  the nodes
    cluster/prices.py   what nodes say that their tasks cost
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from mpfora.cluster import changes as c
from mpfora.cluster.leftovers import Leftovers
from mpfora.cluster.members import Members
from mpfora.cluster.owners import Owners
from mpfora.cluster.prices import Prices
from mpfora.cluster.task_view import Touched
from mpfora.cluster.tasks import Tasks


class Mirror:
    """The folded namespace. `tasks` and `members` are read by all of the supervisor and written here only."""

    def __init__(self, tasks: Tasks | None = None) -> None:
        self.revision = 0
        #: how many resets have begun
        self.resets = 0
        #: what was known before the last reset
        self.leftovers = Leftovers()
        self.readers: dict[str, None] = {}
        self._tasks = Tasks() if tasks is None else tasks
        self._members = Members()
        self.prices = Prices(self.handler_of)
        self._owners = Owners(self._tasks, self._members, self.prices)
        self.tasks, self.members = self._tasks.by_id, self._members.by_name
        #: the parts of a reset that have come
        self._aside: _Listing | None = None
        self._absorbers = self._table()

    def _table(self) -> dict[type, Callable[[Any, Touched], None]]:
        """Which method folds which kind of change."""
        return {
            c.TaskPut: self._put_task,
            c.TaskGone: self._task_gone,
            c.WantsPut: self._tasks.put_wants,
            c.OwnerPut: self._owners.put,
            c.OwnerGone: self._owners.gone,
            c.RemovalPut: self._tasks.put_removal,
            c.RemovalGone: self._tasks.removal_gone,
            c.StatePut: self._tasks.put_state,
            c.StateGone: self._tasks.state_gone,
            c.TaskCommandPut: self._tasks.put_command,
            c.TaskCommandGone: self._tasks.command_gone,
            c.MemberPut: self._put_member,
            c.MemberGone: self._member_gone,
            c.NodeCommandPut: lambda change, touched: touched.node_commands.append(change),
            c.ReaderPut: self._put_reader,
            c.ReaderGone: self._reader_gone,
            c.UsagePut: self._put_usage,
            c.UsageGone: lambda change, touched: self.prices.gone(change.node),
            c.Malformed: self._put_malformed,
        }

    @property
    def aside(self) -> Mirror | None:
        """The mirror of a reset whose last part has not come yet."""
        return self._aside

    def absorb(self, batch: c.Changes) -> Touched:
        """Fold one batch. Returns what it touched. The parts of a reset are kept aside until the last has come."""
        if not batch.reset:
            self._aside, touched = None, Touched(revision=batch.revision, more=batch.more)
            self._fold(batch, touched)
            return touched
        if self._aside is None or self._aside.revision != batch.revision:  # parts that never came to an end are void
            self.resets += 1
            self._aside = _Listing(self._members, batch.revision)
        touched = self._aside.take_part(batch)
        if not batch.more:
            self._take_over(self._aside)
            self._aside = None
        return touched

    def _fold(self, batch: c.Changes, touched: Touched) -> None:
        self.revision = batch.revision
        # a listing comes in an order of its own
        for change in batch.changes if batch.reset else sorted(batch.changes, key=c.place_in_revision):
            self._absorbers[type(change)](change, touched)

    def _take_over(self, aside: _Listing) -> None:
        self.revision, self.readers = aside.revision, aside.readers
        self.leftovers.add(*self._tasks.take_over(aside._tasks))
        self._owners.take_over(aside._owners)
        self._members.take_over(aside._members)
        self.tasks, self.members = self._tasks.by_id, self._members.by_name
        self.prices.take_over(aside.prices)

    def lives(self, node: str, fence: int) -> bool:
        """Whether the process that made a claim is a live node, as far as is known."""
        return self._members.lives(node, fence)

    def owned_by(self, node: str) -> Set[str]:
        """The ids of the tasks whose owner key names `node`."""
        return self._owners.tasks_of(node)

    def handler_of(self, task_id: str) -> str | None:
        """The name under which a task asks for its handler, "" for none; None: there is no such task."""
        task = self.tasks.get(task_id)
        return None if task is None else task.wants.handler or ""

    def _put_task(self, change: c.TaskPut, touched: Touched) -> None:
        is_new = change.task_id not in self.tasks
        task = self._tasks.put(change, touched)
        if is_new:
            self._owners.task_came(task)

    def _task_gone(self, change: c.TaskGone, touched: Touched) -> None:
        if (task := self._tasks.gone(change, touched)) is not None:
            self._owners.task_went(task, touched)
        self.prices.forget(change.task_id)

    def _put_malformed(self, change: c.Malformed, touched: Touched) -> None:
        touched.malformed.append(change)
        if change.task_id is not None:
            self._tasks.put_bad_command(change.task_id, change.revision, touched)
        if change.state_of is not None:
            self._tasks.put_unreadable_state(change.state_of, touched)

    def _put_member(self, change: c.MemberPut, touched: Touched) -> None:
        self._members.put(change.member, touched.revision)
        touched.members = True
        touched.touched_members.append(change.member.name)

    def _member_gone(self, change: c.MemberGone, touched: Touched) -> None:
        touched.members |= self._members.gone(change.name, touched.revision)
        touched.gone_members.append(change.name)

    def _put_reader(self, change: c.ReaderPut, touched: Touched) -> None:
        self.readers[change.reader_id] = None
        touched.readers = True

    def _reader_gone(self, change: c.ReaderGone, touched: Touched) -> None:
        self.readers.pop(change.reader_id, None)
        touched.readers = True

    def _put_usage(self, change: c.UsagePut, touched: Touched) -> None:
        owners = ((task_id, self.tasks[task_id].owner) for task_id in self.prices.costs)
        owned = [task_id for task_id, owner in owners if owner is not None and owner.node == change.node]
        self.prices.put(change.node, change.usage, owned)
        touched.usages = True


class _Listing(Mirror):
    """A reset, folded part by part beside what is known. It is in the order of keys: what is said of a task may come
    before the task."""

    def __init__(self, members: Members, revision: int) -> None:
        super().__init__(Tasks(are_listed=True))
        self.revision = revision
        self._members.begin_as(members)
        #: what nodes say of their tasks, until all tasks are there
        self._usages: list[c.UsagePut] = []
        #: what the parts touched, except the tasks
        self._touched = Touched(revision=revision, reset=True, members=True, readers=True, usages=True)
        self._absorbers |= {
            c.OwnerGone: self._owners.mark_found,
            c.UsagePut: lambda change, touched: self._usages.append(change),
        }

    def take_part(self, part: c.Changes) -> Touched:
        """Fold one part. Returns the part's tasks; for the last part, all that the reset touched."""
        self._touched.tasks = {}
        self._fold(part, self._touched)
        self._touched.owners.clear()
        if part.more:
            return Touched(self._touched.tasks, revision=part.revision, reset=True, more=True)
        for usage in self._usages:
            self._put_usage(usage, self._touched)
        return self._touched
