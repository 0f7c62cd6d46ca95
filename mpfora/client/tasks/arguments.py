"""The arguments of client calls, checked as they enter. Each function returns the value as it is used from then on, or
raises BadValue, which names the argument and says what would be right. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mpfora.client.filters.filter import ALL, Filter, all_of, having, parse_filter
from mpfora.client.info.task_info import LISTED_STATES
from mpfora.client.tasks.submit import NewTask, find_task_id
from mpfora.config.settings import EtcdSettings, check_namespace
from mpfora.errors import BadValue, InvalidTask
from mpfora.model.state import Message
from mpfora.model.units import MOST_S, parse_duration, shown

#: tasks that are under way at once
MOST_WINDOW = 100_000


def text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    raise BadValue(f"{name}: must be a text, not {shown(value)}")


def flag(value: Any, name: str) -> bool:
    """True or False. Other values that count as true are refused: a time-out in the place of a flag is a mistake."""
    if isinstance(value, bool):
        return value
    raise BadValue(f"{name}: must be True or False, not {shown(value)}")


def seconds(value: Any, name: str) -> float:
    """A time-out: seconds, or a text like "10m". A negative one is over at once. One that no clock can hold becomes a
    hundred years."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return float(max(0, min(value, MOST_S)))
    try:
        return parse_duration(value, name)
    except (ValueError, TypeError, OverflowError):
        raise BadValue(
            f"{name}: {shown(value)} is not a duration: use seconds or a text like '90s', '10m', '4h'"
        ) from None


def optional_seconds(value: Any, name: str) -> float | None:
    return None if value is None else seconds(value, name)


def duration(value: Any, name: str) -> float:
    """A length of time that is not a time-out. Negative ones are refused."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        raise BadValue(f"{name}: {shown(value)}: a duration is 0 or more")
    return seconds(value, name)


def count(value: Any, name: str, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    raise BadValue(f"{name}: must be a whole number from 1 to {most:,}, not {shown(value)}")


def choice(value: Any, name: str, choices: Sequence[str]) -> str | None:
    """One of `words`, or None."""
    if value is None or (isinstance(value, str) and value in choices):
        return None if value is None else str(value)
    raise BadValue(f"{name}: must be one of {', '.join(choices)}, not {shown(value)}")


def selection(state: Any, q: Any) -> Filter:
    """The filter of a state and the text of a filter."""
    by_state = ALL if choice(state, "state", LISTED_STATES) is None else having("state", state)
    return all_of(by_state, parse_filter(q))


def callback(value: Any, name: str) -> Callable[..., Any] | None:
    if value is None or callable(value):
        return value  # type: ignore[no-any-return]
    raise BadValue(f"{name}: must be a function, not {shown(value)}")


def message(value: Any) -> Message:
    if isinstance(value, Message):
        return value
    raise BadValue(f"message: must be a Message, like Message.pause(), not {shown(value)}")


def task_ids(value: Any, name: str = "task_ids") -> list[str]:
    """The ids of an iterable; a text is one id. Raises InvalidTask for a value that cannot be an id."""
    if isinstance(value, str):
        return [find_task_id(value)]
    return [find_task_id(task_id) for task_id in items(value, name, "ids")]


def items(value: Any, name: str, of: str) -> Iterable[Any]:
    """An iterable. A text or bytes are iterables by accident, and refused."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray):
        return value
    raise BadValue(f"{name}: must be a list or another iterable of {of}, not {shown(value)}")


def new_tasks(value: Any) -> Iterator[NewTask]:
    """The NewTasks of an iterable of NewTasks and of pairs of an id and its props. Raises InvalidTask when it comes to
    anything else."""
    if isinstance(value, Mapping):
        raise BadValue(f"tasks: must be a list or another iterable of (id, props) pairs, not {shown(value)}")
    return map(_new_task, items(value, "tasks", "NewTasks or (id, props) pairs"))


def _new_task(value: Any) -> NewTask:
    if isinstance(value, NewTask):
        return value
    if isinstance(value, tuple | list) and 1 <= len(value) <= 3:
        return NewTask(*value)
    raise InvalidTask(f"tasks: {shown(value)}: each must be a NewTask, or a pair of an id and its props")


def namespace(value: Any) -> str:
    try:
        return check_namespace(text(value, "namespace"), "namespace")
    except ValueError as error:
        raise BadValue(str(error)) from None


def endpoints(value: Any) -> str | list[str] | EtcdSettings:
    if isinstance(value, str | EtcdSettings):
        return value
    some = list(items(value, "endpoints", "texts like 'host:port'"))
    return [text(endpoint, "endpoints") for endpoint in some]
