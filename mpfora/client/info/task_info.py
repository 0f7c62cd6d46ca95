"""TaskInfo: what users see of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpfora.model.history import Run
from mpfora.model.state import TERMINAL, State, TaskError
from mpfora.model.units import format_time

#: a task that is runnable and that nobody owns
PENDING = "pending"
#: a task whose kept state cannot be read
UNREADABLE = "unreadable"
#: what TaskInfo.state may be
LISTED_STATES = (PENDING, *(state.value for state in State), UNREADABLE)
FINISHED = frozenset(state.value for state in TERMINAL)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task, as it stands in etcd. Times are Unix seconds.

    state     Metafora's name of it; "pending": runnable, and nobody owns it; "sleeping" also by the not_before of its
              props, before a node has claimed it for the first time; "unreadable": see the note
    node      who owns it; of a finished task, where its last run ended
    handler   the name in its props, None: it names none
    progress  0.0 to 1.0, None: not told;  note: what the handler says of itself
    attempt   the number of its run; of a task that does not run, how many runs it had
    fence     of the claim, None: nobody owns it
    started   of the current or the last run
    until     when a sleeping task is to run again
    cause     how its last run ended;  stack: of every thread where that run hung
    ended     when its last run ended
    reason    why it does not run, where that is not plain: what keeps a task from being claimed that nobody owns, or
              what its node says of why it holds it
    history   its last runs, oldest first; None: not looked at, as in listings of many
    kept_until  when what is kept of a finished task goes; None: it stays until it is purged
    group     by its props
    cpu       cores that its running processes use: since the run began; or of late, where somebody looks on
    needs     of its node's resources while it runs; None: nothing, or what its handler says
    given     what its run has of them, like {"gpus": [1]}; None: nothing, or it is not told
    priority  by its props
    cpu_s     seconds of processor time that they have used;  rss: their memory now, in bytes
    """

    id: str
    state: str
    node: str | None = None
    handler: str | None = None
    progress: float | None = None
    note: str | None = None
    attempt: int = 0
    fence: int | None = None
    started: float | None = None
    until: float | None = None
    errors: tuple[TaskError, ...] = ()
    result: Any = None
    cause: str | None = None
    stack: str | None = None
    ended: float | None = None
    reason: str | None = None
    history: tuple[Run, ...] | None = None
    kept_until: float | None = None
    group: str | None = None
    cpu: float | None = None
    cpu_s: float | None = None
    rss: int | None = None
    needs: Mapping[str, Any] | None = None
    given: Mapping[str, Any] | None = None
    priority: int = 0

    @property
    def finished(self) -> bool:
        """Completed, failed or killed: nothing will change any more."""
        return self.state in FINISHED

    @property
    def completed(self) -> bool:
        return self.state == State.COMPLETED

    def to_json(self) -> dict[str, Any]:
        """The fields in their order, times as RFC 3339."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("started", "until", "ended", "kept_until"):
            values[name] = _format_optional_time(values[name])
        values["history"] = None if self.history is None else [run.to_json() for run in self.history]
        values["errors"] = [
            {"timestamp": format_time(e.at), "error": e.text, "cause": e.cause or None, "stack": e.stack or None}
            for e in self.errors
        ]
        return values


def _format_optional_time(unix_s: float | None) -> str | None:
    return None if unix_s is None else format_time(unix_s)
