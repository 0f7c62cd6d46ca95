"""Which task takes zygotes down. Pure.

A zygote that dies takes every run with it, so each task that ran is a suspect. Something else may have killed the
zygote (a person, the kernel's OOM killer), so all run again at once. When zygotes die again and again, suspects are
tried: half of the likeliest run first (those under which the most zygotes died, and of these the ones that had run the
shortest when the first did), and the other suspects wait for the length of a trial, which is a little longer than it
took a zygote to die. Then they run too. If a zygote dies meanwhile, only those on trial are the likeliest now, and half
of them run first: so a few losses are enough to find one of many.

The longer it takes a zygote to die, the more of them have to before anybody waits: two where it takes ten seconds at
most, three for twenty, seven for five minutes. What takes longer than that is not found; it does little harm, and all
that waiting would do more.

Who was on trial alone when a zygote died is accused. Others may have run beside it, so that this proves nothing yet: as
soon as there is a zygote again it is tried alone, before anything else is started. One that takes down two zygotes more
with nobody beside it is poison, and fails: nobody else can have been the cause.

What is known of a suspect is kept in its state under "suspect", so that it survives its node and moves with the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mpfora.model.state import TaskState
from mpfora.supervisor.tasks.held_back import HeldBack

#: a trial lasts so much longer than it took a zygote to die, and by this part of that longer still
TRIAL_S, TRIAL_PART = 5.0, 0.25
#: so many zygotes have died under one that is tried, within so long of its start; twice as long for each one more
TRIED_FROM, TRIED_WITHIN_S = 2, 10.0
#: a zygote that died later than that after a task's start says nothing of what it did before
MOST_S = 300.0
#: the first one is the accusation, the others are made with nobody beside it
CONVICTIONS = 3
#: one that is to be tried and is not started within that time (it is paused, say) does not keep others from starting
APPEARS_S = 15.0
#: before a task is run again whose zygote was lost: the first time, and later; an accused one, for which all others
#: wait, rests no longer than at first
REST_S, MOST_REST_S = 1.0, 2.0
FIELD = "suspect"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """losses       zygotes that died while it ran, one after the other
    ran_s        the longest that it had run when one of them died; the first counts only as long as it is the only one
    convictions  of these, so many died while it alone was on trial
    first_s      how long it had run when the first died"""

    losses: int = 0
    ran_s: float = 0.0
    convictions: int = 0
    first_s: float = 0.0

    @property
    def trial_s(self) -> float:
        return TRIAL_S + (1 + TRIAL_PART) * self.ran_s

    @property
    def is_tried(self) -> bool:
        """Whether enough zygotes have died under it for others to wait."""
        more = min(self.losses - TRIED_FROM, 10)
        return more >= 0 and self.ran_s <= TRIED_WITHIN_S * 2**more


@dataclass(frozen=True, slots=True)
class CrashVerdict:
    """What a lost zygote means for one of the tasks that ran: what is held against it from now on (None: nothing),
    and whether it has just been convicted."""

    suspicion: Suspicion | None = None
    convicted: bool = False

    @property
    def is_poison(self) -> bool:
        return self.convicted and self.suspicion is not None and self.suspicion.convictions >= CONVICTIONS


NO_VERDICT = CrashVerdict()


def rest_s(suspicion: Suspicion | None) -> float:
    """How long after the loss of its zygote a task is run again, at the earliest."""
    return REST_S if suspicion is None or suspicion.losses == 1 or suspicion.convictions else MOST_REST_S


def read_suspicion(state: TaskState) -> Suspicion | None:
    """What is held against a task, as its state says. What cannot be read counts as nothing: it shows again."""
    kept = state.extra.get(FIELD)
    if not isinstance(kept, Mapping):
        return None
    losses, ran_s, convictions, first_s = (
        _number(kept, name) for name in ("losses", "ran_s", "convictions", "first_s")
    )
    return Suspicion(int(losses), ran_s, int(convictions), first_s) if losses >= 1 else None


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12 else 0.0


def with_suspicion(state: TaskState, suspicion: Suspicion | None) -> TaskState:
    """The state with this in it. suspicion None: nothing is held against the task."""
    if suspicion is None and FIELD not in state.extra:
        return state
    extra = {name: value for name, value in state.extra.items() if name != FIELD}
    if suspicion is not None:
        extra[FIELD] = {
            "losses": suspicion.losses,
            "ran_s": round(suspicion.ran_s, 3),
            "first_s": round(suspicion.first_s, 3),
            "convictions": suspicion.convictions,
        }
    return replace(state, extra=extra)


@dataclass(frozen=True, slots=True)
class _Run:
    """generation: of the zygote that it is in."""

    started_s: float
    suspicion: Suspicion | None
    generation: int = 1

    @property
    def is_tried(self) -> bool:
        return self.suspicion is not None and self.suspicion.is_tried

    @property
    def trial_ends_s(self) -> float:
        return self.started_s + self.suspicion.trial_s if self.suspicion is not None and self.is_tried else 0.0


class ZygoteIsolation:
    """Who may start while poison tasks are looked for. Written by run_ends.py, claimed_tasks.py and lifecycle.py."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        #: what is held against tasks whose zygote was lost here and that do not run again yet
        self._suspects: dict[str, Suspicion] = {}
        #: who may start while other suspects wait; and whether everybody waits, suspect or not, as for an accused one
        self._first: dict[str, None] = {}
        self._is_alone = False
        #: until when such a one is waited for that has not started; None: nobody has asked to start yet
        self._appears_by_s: float | None = None
        #: what the zygote that died means for each task that ran, until the end of that run is told. A run with a
        #: process that does not die ends long after its zygote
        self._verdicts: dict[str, CrashVerdict] = {}
        #: the zygotes that have died and whose loss is not told yet
        self._dead: set[int] = set()
        #: who may not start yet
        self._held_back = HeldBack()

    # -- starting -------------------------------------------------------------------------------------

    def may_start(self, task_id: str, suspicion: Suspicion | None, now_s: float) -> bool:
        """Whether a task may be run now. If not it waits, and `take_released` tells when to ask again. Called when
        there is a zygote and nothing else keeps the task from running."""
        if not self._dead and self._appears_by_s is None:
            self._appears_by_s = now_s + APPEARS_S
        allowed = not (self._dead or self._waits_for_others(task_id, suspicion, now_s))
        if allowed:
            self._held_back.discard(task_id)
        else:
            self._held_back.add(task_id)
            self._held_back.wake_at_s = min((at for at in self._trial_ends() if at > now_s), default=None)
        return allowed

    def _waits_for_others(self, task_id: str, suspicion: Suspicion | None, now_s: float) -> bool:
        is_concerned = self._is_alone or (suspicion is not None and suspicion.is_tried)
        return is_concerned and task_id not in self._first and any(now_s < at for at in self._trial_ends())

    def _trial_ends(self) -> list[float]:
        """Until when each of those that run first is waited for."""
        runs = (self._runs.get(task_id) for task_id in self._first)
        return [(self._appears_by_s or 0.0) if run is None else run.trial_ends_s for run in runs]

    def started(self, task_id: str, suspicion: Suspicion | None, now_s: float, generation: int = 1) -> None:
        self._runs[task_id] = _Run(now_s, suspicion, generation)
        self._suspects.pop(task_id, None)

    # -- ends -----------------------------------------------------------------------------------------

    def ended(self, task_id: str) -> None:
        """The run ended by anything but the zygote's death, or this node does not hold the task any more."""
        self._suspects.pop(task_id, None)
        self._verdicts.pop(task_id, None)
        if task_id in self._first:
            del self._first[task_id]
            self._is_alone, self._held_back.has_changed = self._is_alone and bool(self._first), True
        self._runs.pop(task_id, None)

    def lost(self, task_id: str, now_s: float) -> CrashVerdict:
        """The run ended with its zygote. The first such end judges all tasks that ran in that."""
        if task_id in self._runs:
            self._judge(self._runs[task_id].generation, now_s)
        return self._verdicts.pop(task_id, NO_VERDICT)

    def not_made(self, task_id: str, suspicion: Suspicion | None) -> None:
        """There was no zygote to start the task, so it has not run."""
        self._runs.pop(task_id, None)
        if suspicion is not None:
            self._suspects[task_id] = suspicion

    def zygote_lost(self, now_s: float, generation: int = 1) -> bool:
        """Every run of that zygote has ended, but for those that a process holds which does not die. Returns whether
        there were any runs."""
        if any(run.generation == generation for run in self._runs.values()):
            self._judge(generation, now_s)
        had_runs = generation in self._dead
        self._dead.discard(generation)
        self._held_back.has_changed = True
        return had_runs

    def _judge(self, generation: int, now_s: float) -> None:
        runs = {task_id: run for task_id, run in self._runs.items() if run.generation == generation}
        self._runs = {task_id: run for task_id, run in self._runs.items() if task_id not in runs}
        self._dead.add(generation)
        on_trial = [task_id for task_id, run in runs.items() if now_s < run.trial_ends_s]
        for task_id, run in runs.items():
            verdict = self._verdicts[task_id] = _verdict(
                run, now_s, is_on_trial=task_id in on_trial, trials=len(on_trial), is_alone=len(runs) == 1
            )
            if verdict.suspicion is not None:
                self._suspects[task_id] = verdict.suspicion
        self._is_alone, self._appears_by_s = len(on_trial) == 1, None
        self._first = dict.fromkeys(on_trial if self._is_alone else self._likeliest())
        if self._is_alone and self._verdicts[on_trial[0]].is_poison:
            self._is_alone, self._first = False, {}

    def _likeliest(self) -> list[str]:
        """Half of the tasks with the most losses."""
        tried = {task_id: suspicion for task_id, suspicion in self._suspects.items() if suspicion.is_tried}
        most = max((suspicion.losses for suspicion in tried.values()), default=0)
        top = [task_id for task_id, suspicion in tried.items() if suspicion.losses == most]
        top.sort(key=lambda task_id: tried[task_id].first_s)
        return top[: (len(top) + 1) // 2]

    # -- waiting --------------------------------------------------------------------------------------

    def forget(self, task_id: str) -> None:
        """The task is not held here any more."""
        self._held_back.discard(task_id)
        self.ended(task_id)

    def waits(self, task_id: str) -> bool:
        """Whether the task is not started for the sake of a trial."""
        return task_id in self._held_back

    def waiting(self) -> set[str]:
        """Those that are not started for the sake of a trial."""
        return self._held_back.all()

    def take_released(self, now_s: float) -> list[str]:
        """The tasks that should ask again, since something has changed."""
        return [] if self._dead else self._held_back.take(now_s)

    def wake_at(self) -> float | None:
        """Boot time at which `take_released` has something to say by itself."""
        return None if self._dead else self._held_back.wake_at()


def _verdict(run: _Run, now_s: float, *, is_on_trial: bool, trials: int, is_alone: bool) -> CrashVerdict:
    """Where some are on trial nobody else is suspected. A task that was tried before and is not on trial is cleared;
    others keep what is held against them. A task that is on trial alone is accused. If it was accused before, that
    counts only if it ran alone."""
    if trials and not is_on_trial:
        return NO_VERDICT if run.is_tried else CrashVerdict(run.suspicion)
    suspicion = _suspected(run, now_s)
    convicted = trials == 1 and (is_alone or suspicion.convictions == 0)
    return CrashVerdict(replace(suspicion, convictions=suspicion.convictions + convicted), convicted)


def _suspected(run: _Run, now_s: float) -> Suspicion:
    """What is held against it after one more loss; after a long run, nothing of before."""
    ran_s = now_s - run.started_s
    before = run.suspicion if ran_s <= MOST_S or now_s < run.trial_ends_s else None
    if before is None:
        return Suspicion(1, ran_s, 0, ran_s)
    return replace(before, losses=before.losses + 1, ran_s=max(ran_s, before.ran_s if before.losses > 1 else 0.0))
