"""Which task takes nodes down. Pure.

A task's handler may end its supervisor, or the whole machine. The node that died can tell nobody. So the evidence is
kept in the task's state, under "node_suspect": the next owner enters each loss there. The first claim of a task leaves
a trace (coordinator/transactions.py), so that the loss of its first run is known, too.

A run that lives for SOON_S clears its task. So two losses in a row mean that two nodes died soon after the task's
start. The task is a suspect then, and is tried alone.

Nodes die of other things too, at whatever rate, and an innocent suspect must not be convicted of that. So each trial
has a control: the node holds the suspect for WATCH_S and does not start it. Then it writes that this is a trial, starts
the task, and starts nothing else from SOON_S before to SOON_S after. A node that dies in the trial speaks against the
task, more so if it dies within EARLY_S. A node that dies in the control speaks for the task. The control is longer than
the trial: it sees more of what kills nodes anyway.

The verdict comes after a control, too. A node that was only cut off from the store is there again by then with the same
process. Its record shows that, and the loss is taken back. A task that ends its node at once each time has taken down
five nodes when it fails.

The numbers follow from what is promised: of 5,000 innocent suspects at most one is failed, however often nodes die; a
task that ends its node at once takes five down, one that does so later in its trial eight; and where nodes die of
something else every other minute, or other such tasks take them down each minute, a task that ends them is found out
all the same. Tests compute these chances exactly, and show for other numbers which promise breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from mpfora.model.outcome import TASK_ERRORS, Cause, Outcome
from mpfora.model.state import TaskState
from mpfora.supervisor.tasks.held_back import HeldBack
from mpfora.supervisor.timers import earliest

#: a run that has lived for so long did not take its node down; and so long is a trial
SOON_S = 20.0
#: a trial's control; and how soon an early death is
WATCH_S, EARLY_S = 40.0, 5.0
#: so many losses in a row make a suspect
SUSPECT_FROM = 2
#: what a death counts: early in a trial, later in it, in a control; so much is poison, and less than the last is not
#: counted in the task's favour: among other tasks that take nodes down it would never be found out
EARLY, LATE, WITHOUT = 2, 1, -2
POISON, LEAST = 6, -2
FIELD = "node_suspect"
#: losses that are kept
_KEPT = 16


@dataclass(frozen=True, slots=True)
class Loss:
    """A claim that was lost together with its node.

    alone    while the task was tried;  late  more than EARLY_S after that start
    without  the task was a suspect, and had not been started
    """

    node: str
    fence: int
    alone: bool = False
    late: bool = False
    without: bool = False

    @property
    def weight(self) -> int:
        if self.without:
            return WITHOUT
        return 0 if not self.alone else LATE if self.late else EARLY


@dataclass(frozen=True, slots=True)
class NodeSuspicion:
    """losses  in a row, oldest first;  trial  the present run is a trial;  late  and has lived for EARLY_S"""

    losses: tuple[Loss, ...] = ()
    trial: bool = False
    late: bool = False

    @property
    def is_tried(self) -> bool:
        return sum(not loss.without for loss in self.losses) >= SUSPECT_FROM

    @property
    def score(self) -> int:
        total = 0
        for loss in self.losses:
            total = max(LEAST, total + loss.weight)
        return total

    @property
    def is_poison(self) -> bool:
        return self.score >= POISON

    @property
    def text(self) -> str:
        """For people: what is held against the task."""
        taken = [loss.node or "a node" for loss in self.losses if not loss.without]
        return f"it took down its node {len(taken)} times within {SOON_S:g} s of its start ({', '.join(taken)})"

    def without_living(self, lives: Callable[[str, int], bool]) -> NodeSuspicion:
        """lives: whether the very process that made a claim is a live node, as (node, fence)."""
        return replace(self, losses=tuple(loss for loss in self.losses if not lives(loss.node, loss.fence)))


NOTHING = NodeSuspicion()


def read_node_suspicion(state: TaskState) -> NodeSuspicion:
    """What is held against a task, as its state says. What cannot be read counts as nothing."""
    kept = state.extra.get(FIELD)
    if not isinstance(kept, Mapping) or not isinstance(kept.get("losses"), list):
        return NOTHING
    losses = tuple(_parse_loss(row) for row in kept["losses"] if isinstance(row, Mapping))
    return NodeSuspicion(losses[-_KEPT:], kept.get("trial") is True, kept.get("late") is True)


def _parse_loss(row: Mapping[str, object]) -> Loss:
    node, fence = row.get("node"), row.get("fence")
    return Loss(
        node[:128] if isinstance(node, str) else "",
        fence if type(fence) is int else 0,
        *(row.get(name) is True for name in ("alone", "late", "without")),
    )


def with_node_suspicion(state: TaskState, suspicion: NodeSuspicion) -> TaskState:
    """The state with this in it. Where nothing is held against the task, the field is left out."""
    if not suspicion.losses and FIELD not in state.extra:
        return state
    extra = {name: value for name, value in state.extra.items() if name != FIELD}
    if suspicion.losses:
        losses = [asdict(loss) for loss in suspicion.losses]
        extra[FIELD] = {"losses": losses, "trial": suspicion.trial, "late": suspicion.late}
    return replace(state, extra=extra)


def after_loss(
    state: TaskState, node: str, fence: int, lives: Callable[[str, int], bool], *, is_proven: bool = False
) -> TaskState:
    """The state after a claim was lost with its node.

    lives      whether the very process that made a claim is a live node, as (node, fence)
    is_proven  the zygote has told that its supervisor died. The record of that node may stand for a moment still
    """
    before = read_node_suspicion(state)
    last = Loss(node, fence, before.trial, before.late, without=before.is_tried and not before.trial)
    dead = before.without_living(lives).losses
    if is_proven or not lives(node, fence):
        dead = (*dead, last)
    return with_node_suspicion(state, NodeSuspicion(dead[-_KEPT:]))


def after_end(state: TaskState, outcome: Outcome, ran_s: float) -> TaskState:
    """The state after a run that has ended while its node lived."""
    if FIELD not in state.extra:
        return state
    is_cleared = ran_s >= SOON_S or outcome.cause in TASK_ERRORS or outcome.cause is Cause.COMPLETED
    suspicion = read_node_suspicion(state)
    return with_node_suspicion(state, NOTHING if is_cleared else replace(suspicion, trial=False, late=False))


class NodeIsolation:
    """Who may start on this node while a suspect is tried. Written by lifecycle.py and claimed_tasks.py."""

    def __init__(self) -> None:
        #: runs that live -> when they were started
        self._started: dict[str, float] = {}
        #: suspects that wait -> (what is held against each, since when it waits)
        self._suspects: dict[str, tuple[int, float]] = {}
        self._trial: str | None = None
        self._trial_ends_s = 0.0
        self._held_back = HeldBack()

    def may_start(self, task_id: str, suspicion: NodeSuspicion, now_s: float) -> bool:
        """Whether a task may be started now; if not it waits, and `take_released` tells when to ask again. A suspect
        that may is on trial from here on."""
        if self._trial is not None and now_s >= self._trial_ends_s:
            self._trial = None
        at = self._not_before(task_id, suspicion, now_s)
        if at is None:
            self._held_back.discard(task_id)
            if suspicion.is_tried and self._trial is None:
                self._trial, self._trial_ends_s = task_id, now_s + SOON_S
                self._suspects.pop(task_id, None)
            return True
        self._held_back.add(task_id)
        self._held_back.wake_at_s = earliest(at, self._held_back.wake_at_s)
        return False

    def _not_before(self, task_id: str, suspicion: NodeSuspicion, now_s: float) -> float | None:
        """Until when it waits, as far as is known; None: it does not."""
        if suspicion.is_tried and task_id != self._trial:
            _, since_s = self._suspects.get(task_id, (0, now_s))
            self._suspects[task_id] = suspicion.score, since_s
        if self._trial is not None:
            return None if task_id == self._trial else self._trial_ends_s
        if not self._suspects:
            return None
        # what is held against one must not grow in the controls of others without an end: the worst comes first
        first = min(self._suspects, key=lambda suspect: (-self._suspects[suspect][0], suspect))
        watched_s = self._suspects[first][1] + WATCH_S
        if task_id not in self._suspects and now_s < watched_s - SOON_S:
            return None
        quiet_s = max((at for other, at in self._started.items() if other != task_id), default=now_s - SOON_S) + SOON_S
        at = max(watched_s, quiet_s)
        if now_s < at:
            return at
        return None if task_id == first else now_s + 1.0

    def started(self, task_id: str, now_s: float) -> None:
        self._started[task_id] = now_s
        if task_id == self._trial:
            self._trial_ends_s = now_s + SOON_S

    def forget(self, task_id: str) -> None:
        """The task's run has ended, or this node does not hold the task any more."""
        self._started.pop(task_id, None)
        self._suspects.pop(task_id, None)
        self._held_back.discard(task_id)
        if task_id == self._trial:
            self._trial = None
        self._held_back.has_changed = bool(self._held_back)

    def waits(self, task_id: str) -> bool:
        return task_id in self._held_back

    def waiting(self) -> set[str]:
        """Those that are not started for the sake of a trial."""
        return self._held_back.all()

    def take_released(self, now_s: float) -> list[str]:
        """The tasks that should ask again."""
        return self._held_back.take(now_s)

    def wake_at(self) -> float | None:
        return self._held_back.wake_at()
