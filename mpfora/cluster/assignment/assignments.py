"""Chooses the node that should claim each unowned task. Pure.

All nodes fold the same revisions in the same order, so all choose alike: there is one attempt per claim, and no talk.
Safety never depends on any of this: two who claim are one failed compare. A task that its assignee does not claim in
time is anybody's, who then writes whom it waited for ("missed").

    cluster/assignment/task_places.py     where each task stands: owned, assigned, waiting, asleep
    cluster/assignment/node_loads.py      what each node carries, and the room that it has
    cluster/assignment/eligible_nodes.py  which nodes may be assigned what; suspects
    cluster/assignment/node_queue.py      of those the least loaded
    cluster/assignment/placement.py       who gets what waits, and how much ahead
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from mpfora.cluster.assignment.eligible_nodes import EligibleNodes
from mpfora.cluster.assignment.kinds import kind_of_task
from mpfora.cluster.assignment.node_loads import NodeLoads
from mpfora.cluster.assignment.node_queue import NodeQueues
from mpfora.cluster.assignment.placement import Placement
from mpfora.cluster.assignment.scarcity import Scarcity
from mpfora.cluster.assignment.task_places import TaskPlaces
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.plans.fair_plan import Group
from mpfora.cluster.sleeping import SleepingTasks
from mpfora.cluster.task_view import TaskView, Touched
from mpfora.model.task import Member

#: how many kinds without tasks may stay in the caches of nodes
SPARE_KINDS = 64


class Assignments:
    """The fold. Call `fold` once per batch, right after the mirror absorbed it.

    loads     what each node carries
    nodes     which nodes may be assigned tasks;  scarcity  which tasks wait for resources
    assignee  task id -> node that should claim it
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self.loads = NodeLoads(mirror.prices)
        self.nodes = EligibleNodes(mirror)
        self._places = TaskPlaces(self.loads)
        self.assignee = self._places.assignee
        self._queues = NodeQueues(self.nodes, self.loads, mirror.prices)
        self._placement = Placement(mirror, self._places, self.nodes, self._queues)
        self.scarcity = Scarcity(mirror, self._places, self.nodes)
        #: in this revision members have come, gone or changed; records were put
        self._members_moved = self._members_put = False
        #: what the parts of a reset have said so far, and the number of that reset
        self._aside: TaskPlaces | None = None
        self._aside_of = 0

    @property
    def sleeping(self) -> SleepingTasks:
        """The unowned tasks that sleep. Whoever wakes them up takes them out when they are due."""
        return self._places.sleeping

    def waiting(self) -> Iterable[str]:
        """Ids of unowned tasks that no live node can take now."""
        return iter(self._places.waiting)

    def window(self) -> int:
        """How many tasks a node may be assigned that it has not claimed yet."""
        return self._placement.window()

    def groups(self) -> tuple[Group, ...]:
        """All tasks that are owned or assigned, by what they ask of a node: for the plan."""
        return self.loads.groups(self.nodes.names_of_kind, self.nodes.needs_of_kind)

    def rank(self, task: TaskView, node: str) -> int | None:
        """The place of `node` (0 is next) among those that may claim a task its assignee missed; None: it may not.

        Those without room come last: they may have some when their turn comes, and wait for it until then."""
        kind, assignee = kind_of_task(task), self.assignee.get(task.id)

        def key(member: Member) -> tuple[bool, int, str]:
            is_full = self.loads.room_for(member, kind) <= 0
            return is_full, zlib.crc32(f"{task.id}\0{member.name}".encode()), member.name

        keys = {member.name: key(member) for member in self.nodes.of_kind(kind) if member.name != assignee}
        if node not in keys:
            return None
        mine = keys[node]
        return sum(1 for key_ in keys.values() if key_ < mine)

    def fold(self, touched: Touched) -> dict[str, None]:
        """Take in one batch; returns the ids of the tasks whose assignee was set, changed or taken away. Of a revision
        in parts all are counted as they come, and what waits is assigned after the last."""
        if touched.reset:
            if touched.more:
                self._fold_aside(touched)
                return {}
            self._take_over(touched)
        self.nodes.judge(touched, self.assignee)
        self._members_moved |= touched.members
        self._members_put |= bool(touched.touched_members)
        self._queues.renew(members_changed=touched.members)
        handed_to: dict[str, None] = {}
        for task_id in touched.tasks:
            task = self._mirror.tasks.get(task_id)
            if not self._places.enter(task_id, task) and task is not None and self._hand_over_or_queue(task):
                handed_to[task_id] = None
        return handed_to if touched.more else self._redistribute() | handed_to

    def _hand_over_or_queue(self, task: TaskView) -> bool:
        """Queue an unowned task that has no assignee, or assign it to the node that its last owner named. True: it was
        assigned."""
        if task.id in self.assignee:
            return False
        self._places.drop(task.id)
        kind = kind_of_task(task)
        if self._placement.hand_over(task, kind):
            return True
        self._places.queue(task, kind)
        return False

    def _redistribute(self) -> dict[str, None]:
        """The revision is complete: assign what can be assigned."""
        undone: dict[str, None] = {}
        is_moved, is_put = self._members_moved, self._members_put
        self._members_moved = self._members_put = False
        if is_moved:
            undone = self._start_over() if is_put else self._take_back()
            self.loads.forget_gone(self._mirror.members)
            self.nodes.forget_gone()
        self.loads.keep_up()
        assigned = self._placement.assign(everywhere=is_moved)
        self._forget_kinds()
        return undone | assigned

    def _start_over(self) -> dict[str, None]:
        """A record was put: assign anew all that is assigned and not claimed, in an order that does not depend on
        what a node saw before. So nodes agree again that have begun to watch at different times."""
        return self._queue_anew(list(self.assignee))

    def _take_back(self) -> dict[str, None]:
        """A node is gone or a suspect: queue again what it should have claimed. Assignments of other nodes stay, so
        that no claim under way is crossed."""
        members = self._mirror.members
        live = {name for name, member in members.items() if self.nodes.is_live(member)}
        return self._queue_anew([task_id for task_id, node in self.assignee.items() if node not in live])

    def _queue_anew(self, undone: list[str]) -> dict[str, None]:
        for task_id in undone:
            self._places.drop(task_id)
            task = self._mirror.tasks[task_id]
            self._places.queue(task, kind_of_task(task))
        return dict.fromkeys(undone)

    def _forget_kinds(self) -> None:
        """Forget kinds of which there are no tasks any more, when there are many."""
        held, waiting = self.loads.kinds, self._places.waiting
        for cache in (self.nodes.by_kind, self._queues.by_kind):
            if len(cache) > SPARE_KINDS + 2 * (self.loads.count_kinds() + len(waiting)):
                for kind in [kind for kind in cache if kind not in held and kind not in waiting]:
                    del cache[kind]

    def _fold_aside(self, touched: Touched) -> None:
        """Enter a part of a reset beside what is known until it is whole."""
        mirror = self._mirror.aside
        assert mirror is not None
        if self._aside is None or self._aside_of != self._mirror.resets:
            self._aside, self._aside_of = TaskPlaces(NodeLoads(mirror.prices)), self._mirror.resets
        for task_id in touched.tasks:
            task = mirror.tasks.get(task_id)
            if not self._aside.enter(task_id, task) and task is not None:
                self._aside.drop(task_id)
                self._aside.queue(task, kind_of_task(task))

    def _take_over(self, touched: Touched) -> None:
        """The last part of a reset has come: what was entered aside is what is known."""
        self._mirror.leftovers.add(*self._places.take_all())
        self.nodes.clear()
        self._queues.clear()
        aside, self._aside = self._aside, None
        if aside is None or self._aside_of != self._mirror.resets:
            touched.tasks = dict.fromkeys(self._mirror.tasks)
        else:
            self._places.take_over(aside)
