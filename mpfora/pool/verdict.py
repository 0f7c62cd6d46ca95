"""The verdict on a call whose process has ended: its value, the exception that it raised, or why there is neither."""

from __future__ import annotations

from collections.abc import Sequence
from traceback import format_exception
from typing import Any, NamedTuple

from mpfora.errors import MemoryLimit, RemoteError, RunDied, Stalled, TaskTimeout
from mpfora.ipc import parcel, pickling
from mpfora.model.outcome import Cause, Outcome

_CLASSES = {Cause.STALLED: Stalled, Cause.MEMORY_LIMIT: MemoryLimit}


class RemoteTraceback(Exception):
    """The cause of an exception that comes from a child. `tb` is the traceback there, as text."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


class Verdict(NamedTuple):
    """error None: `value` is the result."""

    value: Any
    error: BaseException | None


def judge(outcome: Outcome, result: int, killed: type[RunDied] | None, why: str, lines: Sequence[str]) -> Verdict:
    """Called when nothing of the process is left. result: the descriptor of its parcel. killed, why: the class and the
    text of the error, where the pool had it killed."""
    try:
        if outcome.cause is Cause.COMPLETED:
            return _value(result)
        if outcome.cause is Cause.RAISED or (outcome.cause is Cause.START_FAILED and outcome.error_kind):
            return Verdict(None, _raised(outcome, result))
    except RunDied as error:
        return Verdict(None, error)
    except BaseException as error:  # noqa: BLE001 - the code of the result's own classes
        return Verdict(None, _unpickling(error))
    return Verdict(None, _death(outcome, killed, why, lines))


def _unpickling(error: BaseException) -> BaseException:
    """The error for an error in the result's own code. It ran in a thread, which SystemExit and the like cannot
    end."""
    where = "raised while the result of the call was unpickled in the program that has the pool"
    if isinstance(error, Exception):
        error.add_note(f"({where})")
        return error
    text = f"{where}: {type(error).__name__}: {error}"
    return RemoteError(text, f"{type(error).__module__}.{type(error).__qualname__}", "".join(format_exception(error)))


def _value(result: int) -> Verdict:
    segments = parcel.take(result, shared=True)
    if segments is None:
        raise RunDied("the call ended without its result, though it said that it had one")
    return Verdict(pickling.unpack(segments), None)


def _raised(outcome: Outcome, result: int) -> BaseException:
    """The exception itself where it came, or a description."""
    error = _unpickled(result) or RemoteError(outcome.error, outcome.error_kind, outcome.traceback)
    error.__cause__ = RemoteTraceback(outcome.traceback or outcome.error)
    return error


def _unpickled(result: int) -> BaseException | None:
    """The exception that the child has sent; None: it sent none, or its class cannot be imported here, or the like."""
    try:
        segments = parcel.take(result, shared=True)
        error = None if segments is None else pickling.unpack(segments)
    except BaseException:  # noqa: BLE001 - the exception's own code
        return None
    return error if isinstance(error, BaseException) else None


def _death(outcome: Outcome, killed: type[RunDied] | None, why: str, lines: Sequence[str]) -> RunDied:
    is_killed = killed is not None and outcome.cause is Cause.STOP_TIMEOUT
    cls = killed if is_killed and killed is not None else _CLASSES.get(outcome.cause, RunDied)
    text = why if is_killed else outcome.error or f"the call ended: {outcome.cause}"
    cause = "timeout" if cls is TaskTimeout else "killed" if is_killed else outcome.cause.value
    error = cls(text, cause, outcome.exit_code, outcome.signal, outcome.stack, lines)
    if outcome.stack:
        error.add_note(f"where it was:\n{outcome.stack}")
    return error
