"""A claimed task on this node, and what holds there for each at one instant: the data of lifecycle.py. Pure.

A Slot is made when a claim is won (holdings.py) and dropped when the claim is given back, finished or lost and its
process is dead. Events are written into it by holdings.py and answers.py; only lifecycle.py decides from it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum

from mpfora.history import Run
from mpfora.model import Claim, Cost
from mpfora.outcome import Outcome
from mpfora.retry import Retry
from mpfora.states import State, TaskState
from mpfora.supervisor import commands as do
from mpfora.supervisor.changes import TaskCommandPut
from mpfora.supervisor.events import Now
from mpfora.supervisor.suspects import NO_VERDICT, Trials, Verdict


class Process(Enum):
    """NONE      no process
    RUNNING   forked (or being forked), and nothing else is wanted of it
    STOPPING  asked to stop; killed at Slot.kill_at_s
    KILLING   the zygote was told to kill it"""

    NONE = "none"
    RUNNING = "running"
    STOPPING = "stopping"
    KILLING = "killing"


Write = do.Keep | do.Release | do.Finish


@dataclass(slots=True)
class Slot:
    """limits, retry, handler   what holds for this task
    run               number of the run, unique on this node; of the last one while there is no process
    started_s, started_wall_s   boot and wall time of the last fork
    command           what a client asked, until it is carried out
    asked_revision    the command for which the process was asked to stop
    taken_revision    the newest command that was carried out or dropped
    leave             why the claim is to be given back; "" while it is to be kept
    leave_to          the node that should have the task then; None: any
    cost              what it costs, where this node measures
    lost              the claim is not ours any more: the process is killed and nothing is written
    hold              why its state cannot be read: nothing is started, and no state is written over that one
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
    bad_props         what is wrong with the settings in its props: its runs end in that error, before any process
    sleeps_first      Unix seconds until which it is to sleep before its first run, where its props say so and that is
                      not written yet
    adrift            its claim ended and nobody else is known to have one: it runs on, is claimed again, and nothing is
                      written or started until that is won. Only where tasks may outlive the lease
    """

    claim: Claim
    props_json: str
    handler: str
    limits: do.RunLimits
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
    adrift: bool = False
    history: tuple[Run, ...] = ()
    cut_short: bool = False
    verdict: Verdict = NO_VERDICT
    bad_props: str = ""
    sleeps_first: float | None = None

    @property
    def task_id(self) -> str:
        return self.claim.task_id

    @property
    def resting(self) -> bool:
        """It needs no process, and is not about to."""
        is_unfit = bool(self.hold or self.bad_props)
        is_asleep = self.sleeps_first is not None or self._coming_state in (State.SLEEPING, State.PAUSED)
        return self.process is Process.NONE and (is_unfit or is_asleep)

    @property
    def _coming_state(self) -> State:
        """That which is being written, if one is."""
        state = self.writing.update.state if isinstance(self.writing, do.Keep) else None
        return (state or self.state).state

    @property
    def giving_back(self) -> bool:
        """A write that ends the claim is under way."""
        return isinstance(self.writing, do.Release | do.Finish)

    @property
    def is_held(self) -> bool:
        """The claim is ours, as far as is known."""
        return not (self.lost or self.adrift)

    @property
    def over(self) -> bool:
        """Nothing is left to do: the core drops it."""
        ends = self.lost or (self.adrift and self.leave)
        return bool(ends) and self.process is Process.NONE


@dataclass(slots=True)
class Site:
    """What holds for every slot of the node at one instant.

    may_fork  the lease is good and the zygote is ready
    rooms     how many more tasks may be active
    stop_all  why every process is to be asked to stop; "" if none
    kill_all  every process is to be killed at once (a second signal)
    keep_finished_s  how long a finished task's state is kept; None: for ever
    save_every_s  between two writes of one running task's checkpoint
    trials    who may be started while it is found out which task takes zygotes down
    """

    node: str
    now: Now
    rng: random.Random
    may_fork: bool
    rooms: float
    stop_all: str = ""
    kill_all: bool = False
    save_every_s: float = 0.0
    keep_finished_s: float | None = None
    next_run: int = 1
    trials: Trials = field(default_factory=Trials)

    def new_run(self) -> int:
        self.next_run += 1
        return self.next_run - 1
