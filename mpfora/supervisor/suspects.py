"""Which task takes zygotes down. Pure.

A zygote that dies takes every run with it, so that each task that ran is a suspect. It may have died of anything (a
person, the kernel's OOM killer), so all run again at once. When a second one dies before a suspect has run for
TRIAL_S longer than it had when the first did (MOST_TRIAL_S longer at most), suspects run again one at a time: a
trial, which lasts as long as that. It is cleared by that, or by any other end.

A suspect whose zygote dies during its trial is accused. Others may have run beside it, so that this proves nothing
yet: as soon as there is a zygote again it is tried alone, before anything else is started. One that takes down two
zygotes more with nobody beside it is poison, and fails: nobody else can have been the cause. What kills its zygote
only after longer than a trial lasts is not found; it does little harm.

What is known of a suspect is kept in its state under "suspect", so that it survives its node and moves with the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mpfora.states import TaskState

#: how much longer than before a suspect has to run; whatever runs for less has not proved anything yet
TRIAL_S = 10.0
#: a trial is no longer than that and TRIAL_S
MOST_TRIAL_S = 300.0
#: so many zygotes have died under one that is tried
TRIED_FROM = 2
#: the first one is the accusation, the others are made with nobody beside it
CONVICTIONS = 3
#: an accused one that is not started within that time (it is paused, say) does not keep others from starting
APPEARS_S = 90.0
FIELD = "suspect"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """losses  zygotes that died while it ran, since it was cleared;  ran_s  the longest it had run when one did;
    convictions  of these, so many died during its trial"""

    losses: int = 0
    ran_s: float = 0.0
    convictions: int = 0

    @property
    def trial_s(self) -> float:
        return TRIAL_S + min(self.ran_s, MOST_TRIAL_S)

    @property
    def is_tried(self) -> bool:
        return self.losses >= TRIED_FROM


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a lost zygote means for one of the tasks that ran: what is held against it from now on (None: nothing),
    and whether it has just been convicted."""

    suspicion: Suspicion | None = None
    convicted: bool = False

    @property
    def is_poison(self) -> bool:
        return self.convicted and self.suspicion is not None and self.suspicion.convictions >= CONVICTIONS


NO_VERDICT = Verdict()


def read_suspicion(state: TaskState) -> Suspicion | None:
    """What is kept against a task. What cannot be read counts as nothing: it is found out again."""
    kept = state.extra.get(FIELD)
    if not isinstance(kept, Mapping):
        return None
    losses, ran_s, convictions = (_number(kept, name) for name in ("losses", "ran_s", "convictions"))
    return Suspicion(int(losses), ran_s, int(convictions)) if losses >= 1 else None


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12 else 0.0


def with_suspicion(state: TaskState, suspicion: Suspicion | None) -> TaskState:
    """The state with this kept in it; None: with nothing."""
    if suspicion is None and FIELD not in state.extra:
        return state
    extra = {name: value for name, value in state.extra.items() if name != FIELD}
    if suspicion is not None:
        extra[FIELD] = {
            "losses": suspicion.losses,
            "ran_s": round(suspicion.ran_s, 3),
            "convictions": suspicion.convictions,
        }
    return replace(state, extra=extra)


@dataclass(frozen=True, slots=True)
class _Run:
    """trial_s: how long it is on trial; of one that is no suspect, how long it has proved nothing."""

    started_s: float
    suspicion: Suspicion | None
    trial_s: float

    def on_trial(self, now_s: float) -> bool:
        return now_s < self.started_s + self.trial_s


class Trials:
    """The runs of one node, as far as they matter for this. Written by holdings.py and lifecycle.py."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        #: the suspect that runs (or ran last here)
        self._tried: str | None = None
        #: the accused task, and until when it may keep others from starting without having started itself
        self._accused: str | None = None
        self._appears_by_s = 0.0
        #: what the zygote that died last means for each task that ran; not empty until all their ends are told
        self._verdicts: dict[str, Verdict] = {}
        self._is_dead = False
        #: who may not start yet
        self._waiting: dict[str, None] = {}
        self._wake_at_s: float | None = None
        self._changed = False

    # -- starting -------------------------------------------------------------------------------------

    def may_start(self, task_id: str, suspicion: Suspicion | None, now_s: float) -> bool:
        """Whether a task may be run now. If not it waits, and `take_released` tells when to ask again."""
        allowed = not (self._is_dead or self._waits_for(task_id, suspicion, now_s))
        if allowed:
            self._waiting.pop(task_id, None)
        else:
            self._waiting[task_id] = None
            self._set_wake(now_s)
        return allowed

    def _waits_for(self, task_id: str, suspicion: Suspicion | None, now_s: float) -> bool:
        """Everybody for one that is tried alone, suspects for each other."""
        if self._accused is not None and task_id != self._accused:
            run = self._runs.get(self._accused)
            if now_s < self._appears_by_s if run is None else run.on_trial(now_s):
                return True
        tried = self._runs.get(self._tried) if self._tried is not None else None
        is_tried = suspicion is not None and suspicion.is_tried
        return is_tried and tried is not None and tried.on_trial(now_s)

    def started(self, task_id: str, suspicion: Suspicion | None, now_s: float) -> None:
        self._runs[task_id] = _Run(now_s, suspicion, suspicion.trial_s if suspicion else TRIAL_S)
        if suspicion is not None and suspicion.is_tried:
            self._tried = task_id

    # -- ends -----------------------------------------------------------------------------------------

    def ended(self, task_id: str) -> None:
        """By anything but the zygote's death; or it is not held here any more."""
        if self._accused == task_id:
            self._accused, self._changed = None, True
        self._changed |= self._runs.pop(task_id, None) is not None

    def lost(self, task_id: str, now_s: float) -> Verdict:
        """It ended with its zygote. The first such end judges all who ran; `zygote_lost` ends that."""
        if task_id in self._runs:
            self._judge(now_s)
        return self._verdicts.pop(task_id, NO_VERDICT)

    def zygote_lost(self) -> None:
        """All ends of that zygote's runs are told."""
        self._runs, self._verdicts, self._is_dead, self._changed = {}, {}, False, True

    def _judge(self, now_s: float) -> None:
        runs, self._runs, self._is_dead = self._runs, {}, True
        tried = runs.get(self._tried) if self._tried is not None else None
        accused = self._tried if tried is not None and tried.on_trial(now_s) else None
        self._accused, self._appears_by_s, self._tried = accused, now_s + APPEARS_S, None
        for task_id, run in runs.items():
            if task_id == accused:
                self._verdicts[task_id] = _conviction(run, now_s, alone=len(runs) == 1)
            elif accused is None or run.on_trial(now_s):
                self._verdicts[task_id] = Verdict(_suspected(run, now_s))
            else:
                self._verdicts[task_id] = NO_VERDICT

    # -- waiting --------------------------------------------------------------------------------------

    def forget(self, task_id: str) -> None:
        """The task is not held here any more."""
        self._waiting.pop(task_id, None)
        self.ended(task_id)

    def waits(self, task_id: str) -> bool:
        """Whether the task is not started for the sake of a trial."""
        return task_id in self._waiting

    def take_released(self, now_s: float) -> list[str]:
        """The tasks that should ask again, since something has changed."""
        due = self._wake_at_s is not None and now_s >= self._wake_at_s
        if not self._waiting or self._is_dead or not (due or self._changed):
            return []
        released, self._waiting = list(self._waiting), {}
        self._changed, self._wake_at_s = False, None
        return released

    def wake_at(self) -> float | None:
        """Boot time at which `take_released` has something to say by itself."""
        return self._wake_at_s if self._waiting and not self._is_dead else None

    def _set_wake(self, now_s: float) -> None:
        blocking = [self._runs.get(task_id) for task_id in (self._tried, self._accused) if task_id is not None]
        ends = [run.started_s + run.trial_s for run in blocking if run is not None]
        if self._accused is not None:
            ends.append(self._appears_by_s)
        self._wake_at_s = min((at for at in ends if at > now_s), default=None)


def _suspected(run: _Run, now_s: float) -> Suspicion:
    """One that outlived its trial is suspected anew."""
    before = run.suspicion if run.suspicion is not None and run.on_trial(now_s) else Suspicion()
    return Suspicion(before.losses + 1, max(before.ran_s, now_s - run.started_s), before.convictions)


def _conviction(run: _Run, now_s: float, *, alone: bool) -> Verdict:
    """It is accused; if it was before, that counts only if it was alone."""
    suspicion = _suspected(run, now_s)
    convicted = alone or suspicion.convictions == 0
    return Verdict(replace(suspicion, convictions=suspicion.convictions + convicted), convicted)
