"""A claimed task, and the conditions of its node at one instant: the data of lifecycle.py. Pure.

A ClaimedTask is made when a claim is won (claimed_tasks.py). It is dropped when the claim is given back, finished or
lost, and its process is dead. What happens to it is noted here by others (ownership.py, run_ends.py,
write_answers.py); only lifecycle.py decides from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mpfora.cluster.changes import TaskCommandPut
from mpfora.model.history import Run
from mpfora.model.needs import NOTHING, Needs, Room
from mpfora.model.outcome import Outcome
from mpfora.model.run_spec import RunLimits
from mpfora.model.state import State, TaskState
from mpfora.model.task import Claim, Cost
from mpfora.retry import Retry
from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now
from mpfora.supervisor.tasks.allocations import Allocations
from mpfora.supervisor.tasks.node_poison import NodeIsolation
from mpfora.supervisor.tasks.zygote_poison import NO_VERDICT, CrashVerdict, ZygoteIsolation


class Process(Enum):
    """NONE      no process
    RUNNING   forked (or being forked), and nothing else is wanted of it
    STOPPING  asked to stop; killed at ClaimedTask.kill_at_s
    KILLING   the zygote was told to kill it"""

    NONE = "none"
    RUNNING = "running"
    STOPPING = "stopping"
    KILLING = "killing"


Write = do.Keep | do.Release | do.Finish | do.Remove


@dataclass(slots=True)
class ClaimedTask:
    """limits, retry, handler   what holds for this task
    run               number of the run, unique on this node; of the last one while there is no process
    started_s, started_wall_s   boot and wall time of the last fork
    command           what a client asked, until it is carried out
    asked_revision    the command for which the process was asked to stop
    taken_revision    the newest command that was carried out or dropped
    leave             why the claim is to be given back; "" while it is to be kept
    leave_to          the node that should have the task then; None: any
    cost              what it costs, where this node measures
    generation        of the zygote that its run is in; without a run: of that whose handlers' settings hold for it
    renew             why its run is asked to end and the task to go on in the newest code here; "": it is not
    renew_within_s    how long the run has for that before it is killed
    lost              the claim is not ours any more: the process is killed and nothing is written
    hold              why it is not run, "" if nothing keeps it from that: nothing is started, and no state is written.
                      It goes when the claim is given back
    is_unreadable     that is because its state cannot be read
    bugs              how often mpfora itself has failed at it since the last write that was made (bulkhead.py)
    removed           a client wishes the task deleted: the process is killed and all of it removed
    in_doubt          of one that is unclaimed: the checkpoint whose writing was not answered
    former_fence      of one that was unclaimed: the fence of the claim that ended then
    history           its last runs, as they are kept
    cut_short         the state and history say of a run that was lost with its node, and are not written yet
    outcome           how the last run ended, until it is in the state
    verdict           what that says of the task if its zygote was lost
    unsaved           the newest checkpoint that is not written yet
    save_again_s      boot time before which no further one is written while it runs
    writing           the write under way, or to be repeated at write_again_s
    trouble           why what is to be kept of it is not written, "" if it is
    writes_failed, rejections   answers that nobody knows, and refusals for good, since the last write that was made
    dumping           it was told to be killed with a dump of its stacks, which takes a moment
    not_before_s      boot time before which it is not started
    created           TaskPut.created of the task; 0: not known
    heard             the watch has shown the claim, and so whatever was asked of the task before
    bad_props         what is wrong with the settings in its props: its runs end in that error, before any process
    sleeps_first      Unix seconds until which it is to sleep before its first run, where its props say so and that is
                      not written yet
    needs             of the node's resources, while it does not rest
    unclaimed         its claim ended and nobody else is known to have one: it runs on, is claimed again, and nothing
                      is written or started until that is won. Only where tasks may outlive the lease
    """

    claim: Claim
    props_json: str
    handler: str
    limits: RunLimits
    retry: Retry
    state: TaskState
    checkpoint_json: str | None = None
    process: Process = Process.NONE
    run: int = 0
    started_s: float = 0.0
    started_wall_s: float = 0.0
    saved_s: float = 0.0
    kill_at_s: float | None = None
    command: TaskCommandPut | None = None
    asked_revision: int | None = None
    taken_revision: int = 0
    leave: str = ""
    leave_to: str | None = None
    cost: Cost | None = None
    lost: bool = False
    hold: str = ""
    is_unreadable: bool = False
    bugs: int = 0
    outcome: Outcome | None = None
    unsaved: str | None = None
    save_again_s: float = 0.0
    writing: Write | None = None
    write_again_s: float | None = None
    writes_failed: int = 0
    rejections: int = 0
    trouble: str = ""
    dumping: bool = False
    not_before_s: float = 0.0
    unclaimed: bool = False
    history: tuple[Run, ...] = ()
    cut_short: bool = False
    verdict: CrashVerdict = NO_VERDICT
    bad_props: str = ""
    sleeps_first: float | None = None
    removed: bool = False
    in_doubt: str | None = None
    former_fence: int | None = None
    created: int = 0
    heard: bool = False
    generation: int = 1
    renew: str = ""
    renew_within_s: float = 0.0
    needs: Needs = NOTHING

    @property
    def task_id(self) -> str:
        return self.claim.task_id

    @property
    def resting(self) -> bool:
        """It needs no process, and is not about to."""
        is_unfit = bool(self.hold or self.bad_props)
        is_asleep = self.sleeps_first is not None or self._coming_state in (State.SLEEPING, State.PAUSED)
        return self.process is Process.NONE and (is_unfit or is_asleep or self.removed)

    @property
    def _coming_state(self) -> State:
        """That which is being written, if one is."""
        state = self.writing.update.state if isinstance(self.writing, do.Keep) else None
        return (state or self.state).state

    @property
    def giving_back(self) -> bool:
        """A write that ends the claim is under way."""
        return isinstance(self.writing, do.Release | do.Finish | do.Remove)

    @property
    def idle(self) -> bool:
        """It rests, and there is nothing to write of it."""
        is_whole = self.outcome is None and self.unsaved is None and self.command is None and not self.removed
        return self.resting and not self.hold and self.writing is None and is_whole and self.is_held

    @property
    def takes_new_settings(self) -> bool:
        """What its handler declares in newer code may hold from now on: its last run is over, and what becomes of it
        is written."""
        return self.process is Process.NONE and self.outcome is None and self.is_held and not self.hold

    @property
    def is_held(self) -> bool:
        """The claim is ours, as far as is known."""
        return not (self.lost or self.unclaimed)

    @property
    def over(self) -> bool:
        """Nothing is left to do: the core drops it."""
        ends = self.lost or (self.unclaimed and self.leave)
        return bool(ends) and self.process is Process.NONE

    # -- what happens to it: facts are noted; lifecycle.advance says what follows ------------------------

    def run_ended(self, outcome: Outcome) -> None:
        """The run's tree is dead."""
        self.no_process()
        self.outcome = outcome

    def no_process(self) -> None:
        """There is no process now. Perhaps there never was one."""
        self.process, self.kill_at_s, self.dumping = Process.NONE, None, False

    def saved(self, checkpoint_json: str, now: Now) -> None:
        """The task has saved something that is to be kept."""
        self.unsaved, self.saved_s = checkpoint_json, now.boot_s


@dataclass(slots=True)
class NodeConditions:
    """What holds for every claimed task of the node at one instant.

    may_fork  the lease is good and the zygote is ready
    free_capacity   how many more tasks that need a process may be held, beside one that something is kept for;
                    free_resources   what is left for them
    allocations     which of the node's resources each run has
    stop_all  why every process is to be asked to stop; "" if none
    kill_all  every process is to be killed at once (a second signal)
    keep_finished_s  how long a finished task's state is kept; None: for ever
    save_every_s  between two writes of one running task's checkpoint
    zygote_isolation  who may be started while it is found out which task takes zygotes down
    node_isolation  the same for nodes
    lives     whether the very process that made a claim is a live node, as (node, fence)
    trouble   why no process can be started here, "" if it can: what needs one goes back
    generation  of the zygote that forks
    """

    node: str
    now: Now
    rng: random.Random
    may_fork: bool
    free_capacity: float
    stop_all: str = ""
    kill_all: bool = False
    save_every_s: float = 0.0
    keep_finished_s: float | None = None
    next_run: int = 1
    zygote_isolation: ZygoteIsolation = field(default_factory=ZygoteIsolation)
    trouble: str = ""
    node_isolation: NodeIsolation = field(default_factory=NodeIsolation)
    lives: Callable[[str, int], bool] = lambda node, fence: False
    generation: int = 1
    free_resources: Mapping[str, int] = field(default_factory=dict)
    allocations: Allocations = field(default_factory=Allocations)

    @property
    def room(self) -> Room:
        return Room(self.free_capacity, self.free_resources)

    def take_room(self, needs: Needs) -> bool:
        """Whether there is room for one more task, which has it from here on."""
        room = self.room
        if room.takes(needs):
            self.free_capacity, self.free_resources = room.less(needs)
            return True
        return False

    def new_run(self) -> int:
        self.next_run += 1
        return self.next_run - 1
