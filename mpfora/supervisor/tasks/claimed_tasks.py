"""The table of the tasks that this node has claimed: a ClaimedTask for each claim, from its winning to its end. Pure.

What happens to a task touches it, and the next turn looks at it. Modules of this folder write the table:

    ownership      adds the tasks that are won, and says whether their claims are still this node's
    run_ends       notes what runs save, and how they end
    write_answers  notes what the store answers
    evacuation     gives all of them back
    advancing      says what follows, and drops what is over
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from mpfora.cluster.mirror import Mirror
from mpfora.model.needs import Room, format_needs
from mpfora.model.task import Claim
from mpfora.supervisor.events import Event
from mpfora.supervisor.tasks.allocations import Allocations
from mpfora.supervisor.tasks.capacity import Capacity
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, Process
from mpfora.supervisor.tasks.evacuation import Evacuation
from mpfora.supervisor.tasks.movable import MovableTasks
from mpfora.supervisor.tasks.node_poison import NodeIsolation
from mpfora.supervisor.tasks.work_queue import WorkQueue
from mpfora.supervisor.tasks.zygote_poison import ZygoteIsolation
from mpfora.supervisor.timers import earliest


class ClaimedTasks:
    """capacity: how many tasks that need a process the node may hold; None: no bound. mirror: says what tasks ask for.

    by_id      by task id, in the order of winning
    by_run     those with a process, by the number of the run
    unclaimed  ids of those whose claim has ended and that run on; they are claimed again
    queue      which are to be looked at;  capacity  how many more may be held, and which a balancer is shown
    next_run   the number of the next run;  generation   of the zygote that forks, or that was the last to fork
    allocations  what runs have of the node's resources
    zygote_isolation, node_isolation   who may start while poison tasks are looked for
    """

    def __init__(self, capacity: int | None, mirror: Mirror, allocations: Allocations) -> None:
        self.by_id: dict[str, ClaimedTask] = {}
        self.by_run: dict[int, ClaimedTask] = {}
        self.unclaimed: dict[str, None] = {}
        self.queue = WorkQueue()
        self.next_run = self.generation = 1
        self.zygote_isolation, self.node_isolation = ZygoteIsolation(), NodeIsolation()
        self._evacuation = Evacuation()
        self.allocations = allocations
        self.capacity = Capacity(capacity, self.by_id, MovableTasks(mirror, self.by_id), allocations.has)
        #: those that are held, or of which something is not written, as of when they were looked at last
        self._troubled: dict[str, None] = {}
        #: claims whose tasks were dropped since `take_dropped`
        self._dropped: list[Claim] = []

    # -- what others ask ------------------------------------------------------------------------------

    def free_capacity(self) -> float:
        """How many more tasks that need a process may be held."""
        return self.room().slots

    def room(self) -> Room:
        return self.capacity.room()

    def holds(self) -> tuple[tuple[str, str], ...]:
        """(task id, why) of each that is held and does not do what its state says."""
        return _holds(self)

    def running(self) -> list[ClaimedTask]:
        """Those with a process."""
        return [claimed for claimed in self.by_run.values() if claimed.process is not Process.NONE]

    def about(self, event: Event) -> ClaimedTask | None:
        """The task that an event is about; None: it is about the node, or about a task that is not claimed."""
        if (run := getattr(event, "run", None)) is not None:
            return self.by_run.get(run)
        return self.by_id.get(getattr(event, "task_id", ""))

    def wake_at(self) -> float | None:
        return earliest(self.queue.wake_at(), self.zygote_isolation.wake_at(), self.node_isolation.wake_at())

    @property
    def has_backlog(self) -> bool:
        """Whether there is more to do in the next turn."""
        return self.queue.has_backlog

    @property
    def are_left_to_lease(self) -> bool:
        """Whether all that is held ends well with the lease."""
        return self._evacuation.is_left_to_lease(len(self.by_id))

    def new_run(self) -> int:
        """The number of a run that is not a task's."""
        self.next_run += 1
        return self.next_run - 1

    # -- what is to be looked at ----------------------------------------------------------------------

    def touch(self, task_id: str) -> None:
        """Something has happened to this claimed task."""
        self.queue.touch(task_id)
        self.capacity.touch(task_id)

    def touch_all(self) -> None:
        """Something that concerns every claimed task has changed: those with a process come first."""
        self.queue.touch_all(self._running_first())

    def compare_all(self) -> None:
        """The mirror is new: each is held against it, in slices."""
        self.queue.compare_all(self._running_first())

    def _running_first(self) -> Iterator[str]:
        return chain((claimed.task_id for claimed in self.by_run.values()), self.by_id)

    def take_due(self, now_s: float) -> Iterable[str]:
        """The tasks to look at now, each of which the caller looks at."""
        isolated = chain(self.zygote_isolation.take_released(now_s), self.node_isolation.take_released(now_s))
        released = chain(isolated, self.allocations.take_released())
        due = self.queue.take(now_s, released, self._is_wanted)
        self.capacity.looked_at_all()
        return due

    def _is_wanted(self, task_id: str) -> bool:
        claimed = self.by_id.get(task_id)
        return claimed is not None and self._evacuation.takes(claimed)

    # -- how they come and go -------------------------------------------------------------------------

    def looked_at(self, claimed: ClaimedTask, again_s: float | None) -> None:
        """A task was advanced. again_s: when there is something to do for it by time alone."""
        if claimed.process is not Process.NONE:
            self.by_run[claimed.run] = claimed
        self.queue.set_timer(claimed.task_id, again_s)
        self.capacity.look_at(claimed.task_id)
        if claimed.hold or claimed.trouble:
            self._troubled[claimed.task_id] = None
        else:
            self._troubled.pop(claimed.task_id, None)

    def give_back(self, task_id: str, reason: str, to: str | None = None) -> bool:
        """Stop a task and release it, to the node `to` if one is named. False: it is not held here."""
        claimed = self.by_id.get(task_id)
        if claimed is None:
            return False
        if not claimed.leave:
            claimed.leave, claimed.leave_to = reason, to
        self.touch(task_id)
        return True

    def give_all_back(self, reason: str, *, leaves: bool = False) -> None:
        """Stop all tasks and release them; "": no more than has begun. leaves: the node leaves."""
        self._evacuation.begin(reason, leaves=leaves, idle=len(self.by_id) - len(self.by_run))
        if reason:
            self.touch_all()

    def drop(self, claimed: ClaimedTask) -> None:
        """The claim is over, and so is the process."""
        task_id = claimed.task_id
        if self.by_id.get(task_id) is claimed:
            del self.by_id[task_id]
            self.capacity.look_at(task_id)
            self._troubled.pop(task_id, None)
            self.unclaimed.pop(task_id, None)
            self._evacuation.forget(task_id)
        self.queue.set_timer(task_id, None)
        self.zygote_isolation.forget(task_id)
        self.node_isolation.forget(task_id)
        self.allocations.forget(task_id)
        self._dropped.append(claimed.claim)

    def take_dropped(self) -> list[Claim]:
        """The claims whose claimed tasks ended since this was last asked."""
        dropped, self._dropped = self._dropped, []
        return dropped


def _holds(tasks: ClaimedTasks) -> tuple[tuple[str, str], ...]:
    waiting = tasks.zygote_isolation.waiting() | tasks.node_isolation.waiting() | tasks._troubled.keys()
    waiting |= tasks.allocations.waiting().keys()
    found = ((claimed.task_id, _why_held(claimed, tasks)) for t in sorted(waiting) if (claimed := tasks.by_id.get(t)))
    return tuple((task_id, why) for task_id, why in found if why)


def _why_held(claimed: ClaimedTask, tasks: ClaimedTasks) -> str:
    if claimed.hold or claimed.trouble:
        return claimed.hold or claimed.trouble
    if tasks.node_isolation.waits(claimed.task_id):
        return "it waits while mpfora finds out which task takes nodes down"
    if tasks.zygote_isolation.waits(claimed.task_id):
        return "it waits while mpfora finds out which task takes the zygote of this node down"
    if tasks.allocations.waits(claimed.task_id):
        return f"it needs {format_needs(claimed.needs)}, which other runs of this node still have"
    return ""
