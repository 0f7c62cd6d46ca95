"""When a task that erred is tried again, and when it has failed. Pure; children import it (handlers declare it)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpfora.model.state import TaskError
from mpfora.model.units import format_duration, held_time, parse_duration, shown

if TYPE_CHECKING:
    from random import Random  # which children have no use of

#: the most errors that a policy may count, budgets included: all of them are kept in the task's state
MAX_ERRORS = 1_000
#: no delay grows by more than this from one error to the next
MOST_FACTOR = 1_000_000
#: the causes of errors that may have a budget of their own (outcome.TASK_ERRORS)
BUDGET_CAUSES = ("raised", "exited", "signalled", "stalled", "memory_limit", "pids_limit", "start_failed")
#: what is told of a task besides, and never counts against it
_UNCOUNTED = frozenset({"zygote_lost", "node_lost"})

#: exceptions that no policy tries again: what they are about does not change
_FINAL = {
    "mpfora.child.run.json_values.BadValue": "the value that cannot be kept will not change by itself",
    "mpfora.child.schema.BadProps": "its props are not what its handler needs, and will not change",
    "mpfora.koalemos.GivenUp": "its exit code is one of its fail_codes",
}

ErrorClasses = Iterable[type[BaseException] | str] | type[BaseException] | str


class _Default(str):
    """A duration that nobody has chosen: it gives way to a chosen one that contradicts it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy. Durations are seconds or texts like "4h".

    max_errors  that many errors within `within` make the task failed
    delay       before the second try; each further one waits `factor` times longer, up to max_delay
    jitter      each delay is varied by up to this part of itself, so that tasks that failed together part
    budgets     cause -> errors of that cause (of BUDGET_CAUSES) within `within` that make the task failed, e.g.
                {"memory_limit": 2}; they count neither against max_errors nor for its delays, and others not for theirs
    retry_on    exceptions that are tried again; all others fail the task at once. (): every exception is tried again.
                Ends that are no exceptions (crashes, stalls, memory kills) are not concerned
    fail_on     exceptions that fail the task at once, whatever retry_on says

    retry_on and fail_on take exception classes or their names, "module.Class" (a builtin's may stand alone), and match
    subclasses too. They are kept as names.
    """

    max_errors: int = 8
    within: float | str = "4h"
    delay: float | str = _Default("1s")
    factor: float = 2.0
    max_delay: float | str = _Default("10m")
    jitter: float = 0.1
    budgets: Mapping[str, int] = field(default_factory=dict)
    retry_on: ErrorClasses = ()
    fail_on: ErrorClasses = ()

    def __post_init__(self) -> None:
        _check_count("max_errors", self.max_errors)
        object.__setattr__(self, "budgets", _budgets(self.budgets))
        if self.most_errors > MAX_ERRORS:
            raise ValueError(
                f"Retry(budgets={shown(self.budgets)}): with max_errors at most {MAX_ERRORS}, each is kept"
            )
        for name in ("factor", "jitter"):
            if isinstance(number := getattr(self, name), bool) or not isinstance(number, int | float):
                raise ValueError(f"Retry({name}={shown(number)}): a number is needed")
        if not 1 <= self.factor <= MOST_FACTOR:
            raise ValueError(f"Retry(factor={shown(self.factor)}): a number from 1 to {MOST_FACTOR:,}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"Retry(jitter={shown(self.jitter)}): from 0 to below 1")
        defaults = [name for name in ("delay", "max_delay") if isinstance(getattr(self, name), _Default)]
        for name in ("within", "delay", "max_delay"):
            object.__setattr__(self, name, parse_duration(getattr(self, name), f"Retry({name})"))
        if not self.within:
            raise ValueError(f"Retry(within={shown(self.within)}): must be over 0: no error would ever count")
        if float(self.max_delay) < float(self.delay) and defaults:
            longest = self.max_delay if "delay" in defaults else self.delay
            object.__setattr__(self, "delay", longest)
            object.__setattr__(self, "max_delay", longest)
        elif float(self.max_delay) < float(self.delay):
            raise ValueError(
                f"Retry(max_delay={self.max_delay:g} s): must be no shorter than delay, which is {self.delay:g} s"
            )
        for name in ("retry_on", "fail_on"):
            object.__setattr__(self, name, _class_names(name, getattr(self, name)))

    @property
    def most_errors(self) -> int:
        """How many errors it may have to count at once."""
        return self.max_errors + sum(self.budgets.values())


def _check_count(name: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_ERRORS:
        raise ValueError(f"Retry({name}={shown(count)}): a whole number from 1 to {MAX_ERRORS}, each error is kept")


def _budgets(budgets: object) -> dict[str, int]:
    if not isinstance(budgets, Mapping):
        raise ValueError(f"Retry(budgets={shown(budgets)}): causes with numbers are needed, like {{'memory_limit': 2}}")
    for cause, count in budgets.items():
        if cause not in BUDGET_CAUSES:
            raise ValueError(
                f"Retry(budgets): {shown(cause)} is not a cause of errors: there are {', '.join(BUDGET_CAUSES)}"
            )
        _check_count(f"budgets.{cause}", count)
    return {str(cause): count for cause, count in budgets.items()}


def _class_names(name: str, classes: object) -> tuple[str, ...]:
    given = (classes,) if isinstance(classes, str | type) else classes
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise ValueError(f"Retry({name}={shown(classes)}): exception classes or their names are needed")
    return tuple(_class_name(name, each) for each in given)


def _class_name(name: str, given: object) -> str:
    if isinstance(given, type) and issubclass(given, BaseException):
        return f"{given.__module__}.{given.__qualname__}"
    if not isinstance(given, str) or not given or any(not part.isidentifier() for part in _plain(given).split(".")):
        raise ValueError(
            f"Retry({name}): {shown(given)} is neither an exception class nor its name, like 'module.Class'"
        )
    return given if "." in given else f"builtins.{given}"


def _plain(name: str) -> str:
    """A class made in a function is called module.function.<locals>.Class."""
    return name.replace("<locals>", "locals")


#: Metafora's own rule: 8 errors in 4 hours fail the task, each error makes it sleep 10 minutes
METAFORA = Retry(max_errors=8, within="4h", delay="10m", factor=1, max_delay="10m", jitter=0)


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The task sleeps until `until` (Unix seconds)."""

    until: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task has failed; `reason` is appended to its errors."""

    reason: str


def next_try(
    policy: Retry, errors: Sequence[TaskError], now: float, rng: Random, kinds: Sequence[str] = ()
) -> TryAgain | GiveUp:
    """What follows the newest of a task's errors. `errors` are all kept ones, it the last; `kinds` the names of its
    exception's class and of the bases, () where it was none."""
    if kinds and (reason := _excluded(policy, kinds)):
        return GiveUp(reason)
    within, delay, max_delay = float(policy.within), float(policy.delay), float(policy.max_delay)
    pool = _pool(policy, errors[-1]) if errors else None
    # what lies further ahead was written by a node whose clock is wrong, or this one's is
    recent = sum(abs(now - error.at) < within and _pool(policy, error) == pool for error in errors)
    if recent >= (policy.budgets[pool] if pool else policy.max_errors):
        counted = f"{pool + ' ' if pool else ''}error{'' if recent == 1 else 's'}"
        return GiveUp(f"exceeded error rate: {recent} {counted} within {format_duration(within)}")
    wait = delay
    for _ in range(recent - 1):
        wait = min(wait * policy.factor, max_delay)
    wait = min(wait, max_delay)
    return TryAgain(held_time(now + wait * (1 + policy.jitter * (2 * rng.random() - 1))))


def _pool(policy: Retry, error: TaskError) -> str | None:
    """The budget that an error counts against; "" is the common one, None: it counts against none."""
    if error.cause in _UNCOUNTED:
        return None
    return error.cause if error.cause in policy.budgets else ""


def _excluded(policy: Retry, kinds: Sequence[str]) -> str:
    """Why an exception of these classes is not tried again; "" if it is."""
    if (why := next((_FINAL[kind] for kind in kinds if kind in _FINAL), None)) is not None:
        return f"not tried again: {why}"
    names = {_canonical(kind) for kind in kinds}
    fail_on = next((name for name in _names(policy.fail_on) if _canonical(name) in names), None)
    if fail_on is not None:
        return f"not tried again: {kinds[0]} is in fail_on ({fail_on})"
    retry_on = _names(policy.retry_on)
    if retry_on and not any(_canonical(name) in names for name in retry_on):
        return f"not tried again: {kinds[0]} is not in retry_on ({', '.join(retry_on)})"
    return ""


def _names(classes: ErrorClasses) -> tuple[str, ...]:
    """Of a made policy: there they are names."""
    assert isinstance(classes, tuple)
    return classes


def _canonical(name: str) -> str:
    """A script's classes have two names: its handlers import it a second time."""
    return name.replace("__mp_main__.", "__main__.", 1) if name.startswith("__mp_main__.") else name


# -- policies as JSON and TOML tell them ------------------------------------------------------------------------------

_FIELDS = ("max_errors", "within", "delay", "factor", "max_delay", "jitter", "budgets", "retry_on", "fail_on")


def parse_retry(value: object, over: Retry, what: str = "retry") -> Retry:
    """The policy that `value` tells: the name "metafora", or an object of Retry's fields, each of which replaces that
    of `over`; null is as good as missing. Raises ValueError that begins with the field's name, `retry.max_errors: ...`.
    """
    if value == "metafora":
        return METAFORA
    if not isinstance(value, Mapping):
        raise ValueError(
            f'{what}: {shown(value)} is not a policy: use an object like {{"max_errors": 3}}, or "metafora"'
        )
    fields = {name: getattr(over, name) for name in _FIELDS}
    if value.get("delay") is None or value.get("max_delay") is None:  # the one that is not told gives way
        fields |= {name: _Default(f"{fields[name]:f}s") for name in ("delay", "max_delay")}
    for name in _FIELDS:
        if value.get(name) is not None:
            fields[name] = value[name]
            _make_alone(name, value[name], what)
    if unknown := sorted(str(name) for name in value if name not in _FIELDS):
        raise ValueError(f"{what}.{unknown[0]}: there is no such field; there are {', '.join(_FIELDS)}")
    try:
        return Retry(**fields)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _make_alone(name: str, value: object, what: str) -> None:
    """Raises ValueError that names the field."""
    try:
        Retry(**{name: value})  # type: ignore[arg-type]
    except ValueError as error:
        problem = str(error).partition(": ")[2] or str(error)
        as_a_word = rf"(?<![\w.]){re.escape(shown(value))}(?![\w.])"
        is_told = not isinstance(value, str | int | float) or re.search(as_a_word, problem) is not None
        raise ValueError(f"{what}.{name}: {problem if is_told else f'{shown(value)}: {problem}'}") from None
