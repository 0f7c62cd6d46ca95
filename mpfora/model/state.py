"""Task states, messages and the transition table, as Metafora's statemachine has them. Pure; children import it.

A task is in one State. A Message (a command from outside, or what a handler's run ended in) moves it along
TRANSITIONS; a pair that is not in the table is not valid. `runnable` is where no state key exists. `completed`,
`failed` and `killed` are terminal. An error leads through `fault`: the retry policy answers that with `sleep` (try
again later) or `error` (failed).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mpfora.errors import MpforaError
from mpfora.model.units import checked_time, held_time, shown


class State(StrEnum):
    RUNNABLE = "runnable"
    SLEEPING = "sleeping"
    PAUSED = "paused"
    FAULT = "fault"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.KILLED})


class Verb(StrEnum):
    """The names of messages."""

    CHECKPOINT = "checkpoint"
    RELEASE = "release"
    SLEEP = "sleep"
    COMPLETE = "complete"
    KILL = "kill"
    ERROR = "error"
    PAUSE = "pause"
    RUN = "run"


_ROWS: dict[State, dict[Verb, State]] = {
    State.RUNNABLE: {
        Verb.CHECKPOINT: State.RUNNABLE,
        Verb.RELEASE: State.RUNNABLE,
        Verb.SLEEP: State.SLEEPING,
        Verb.COMPLETE: State.COMPLETED,
        Verb.KILL: State.KILLED,
        Verb.ERROR: State.FAULT,
        Verb.PAUSE: State.PAUSED,
        Verb.RUN: State.RUNNABLE,
    },
    State.SLEEPING: {
        Verb.CHECKPOINT: State.SLEEPING,
        Verb.RELEASE: State.SLEEPING,
        Verb.SLEEP: State.SLEEPING,
        Verb.KILL: State.KILLED,
        Verb.ERROR: State.FAULT,
        Verb.PAUSE: State.PAUSED,
        Verb.RUN: State.RUNNABLE,
    },
    State.PAUSED: {
        Verb.CHECKPOINT: State.PAUSED,
        Verb.RELEASE: State.PAUSED,
        Verb.SLEEP: State.SLEEPING,
        Verb.KILL: State.KILLED,
        Verb.PAUSE: State.PAUSED,
        Verb.RUN: State.RUNNABLE,
    },
    State.FAULT: {
        Verb.SLEEP: State.SLEEPING,
        Verb.ERROR: State.FAILED,
    },
}

#: (from, message) -> to; a pair that is not here is not valid
TRANSITIONS: Mapping[tuple[State, Verb], State] = {
    (source, verb): target for source, row in _ROWS.items() for verb, target in row.items()
}


class InvalidMessage(MpforaError, ValueError):
    """A message that is malformed (sleep without a time) or has no place in the table (names both states)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A transition that is asked for: by a command, or by a handler as its return value.

    verb    what is asked
    until   Unix seconds, within the years 1 to 9998; given exactly with SLEEP
    checkpoint_json
            JSON text to save together with the transition; None: leave what is saved as it is
    result  the JSON value a COMPLETE brings
    """

    verb: Verb
    until: float | None = None
    checkpoint_json: str | None = None
    result: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.verb, Verb):
            raise InvalidMessage(f"message: verb {shown(self.verb)} is not one of {', '.join(Verb)}")
        if (self.verb is Verb.SLEEP) != (self.until is not None):
            raise InvalidMessage(f"message {self.verb.value!r}: `until` belongs to sleep, and sleep needs it")
        if self.until is not None:
            object.__setattr__(self, "until", _checked_until(self.until))

    @classmethod
    def sleep(cls, until: datetime | timedelta | float) -> Message:
        """Run again at `until`: an aware datetime, or Unix seconds, or a timedelta from now.

        A datetime or timedelta beyond the year 9998 means the end of that year. Raises InvalidMessage for what is not
        a time, and for a number outside the years 1 to 9998: hardly anybody means seconds by it."""
        if isinstance(until, timedelta):
            return cls(Verb.SLEEP, until=held_time(datetime.now().timestamp() + until.total_seconds()))
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise InvalidMessage("sleep: the datetime needs a time zone, e.g. datetime.now(timezone.utc)")
            return cls(Verb.SLEEP, until=held_time(until.timestamp()))
        return cls(Verb.SLEEP, until=until)

    @classmethod
    def pause(cls) -> Message:
        """Stay claimed and unstarted until a run message comes."""
        return cls(Verb.PAUSE)

    @classmethod
    def run(cls) -> Message:
        """Run (again)."""
        return cls(Verb.RUN)

    @classmethod
    def release(cls) -> Message:
        """Give the claim back; the state stays."""
        return cls(Verb.RELEASE)

    @classmethod
    def kill(cls) -> Message:
        """End for ever as killed."""
        return cls(Verb.KILL)

    @classmethod
    def checkpoint(cls) -> Message:
        """Save what would be lost, and go on."""
        return cls(Verb.CHECKPOINT)

    @classmethod
    def complete(cls, result: Any = None) -> Message:
        """Done, with a JSON value as the result."""
        return cls(Verb.COMPLETE, result=result)

    def with_checkpoint(self, checkpoint_json: str) -> Message:
        return replace(self, checkpoint_json=checkpoint_json)


def _checked_until(until: object) -> float:
    try:
        return checked_time(until, "sleep: until")
    except ValueError as error:
        raise InvalidMessage(str(error)) from None


@dataclass(frozen=True, slots=True)
class TaskError:
    """One error of a task: when (Unix seconds), what (one line and perhaps a traceback, bounded), its cause and
    stack. found: the JSON object that it was read from, which is written back as long as it says the same."""

    at: float
    text: str
    cause: str = ""
    stack: str = ""
    found: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TaskState:
    """What is kept of a task at NS/state/ID, and outlives it.

    until    Unix seconds, with SLEEPING; None there: its time has come
    errors   the last ones, oldest first
    attempt  runs that were started and have ended, over all nodes
    result   the JSON value of a completed task
    cause    how the last run ended (outcome.Cause), "" before the first end
    node     where the last run ended
    started, ended   Unix seconds of the last run
    stack    of every thread where the last run hung, if it was killed
    output   the last lines that the last run printed, if it did not complete
    extra    fields of the JSON that are not ours, kept as they are
    found    the texts of times as they were found, to be written back as long as they say the same
    kept_until  Unix seconds, whole ones: what is left of the finished task goes then; None: it stays
    handler, group  of a finished task: what its props named, which go with it; "": nothing
    props    of a task that failed or was killed: the JSON text that was submitted, to submit it again; "": not kept
    """

    state: State = State.RUNNABLE
    until: float | None = None
    errors: tuple[TaskError, ...] = ()
    attempt: int = 0
    result: Any = None
    cause: str = ""
    node: str = ""
    started: float | None = None
    ended: float | None = None
    stack: str = ""
    output: str = field(default="", compare=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
    kept_until: float | None = None
    handler: str = field(default="", compare=False)
    group: str = field(default="", compare=False)
    props: str = field(default="", compare=False)
    found: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL


def next_state(current: TaskState, message: Message) -> TaskState:
    """The state after `message`; raises InvalidMessage, naming both, where the table has no such transition."""
    target = TRANSITIONS.get((current.state, message.verb))
    if target is None:
        raise InvalidMessage(f"a {current.state.value} task takes no {message.verb.value!r} message")
    until = None
    if target is State.SLEEPING:
        until = message.until if message.verb is Verb.SLEEP else current.until
    result = message.result if target is State.COMPLETED else current.result
    return replace(current, state=target, until=until, result=result)
