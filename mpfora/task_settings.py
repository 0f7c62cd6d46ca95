"""What a task's props say of how it is to be run: its own settings, over its handler's and its node's. Pure.

    stop_timeout, stall_timeout   durations: seconds, or texts like "90s"
    stall_by                      "beats" or "cpu"
    memory_limit                  a size: bytes, or a text like "2GiB"
    retry                         an object of Retry's fields, each over the handler's (or node's) policy; or "metafora"
    not_before                    RFC 3339 with a zone: the task sleeps until then, and has no process
    labels                        the node must have each of these: names with texts

These names are mpfora's in every task's props, and so is "handler"; all others are the handler's own. null is as good
as missing. This is the one place that reads them: the node when it has claimed the task, and clients before they submit
one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mpfora.handlers import HandlerSettings
from mpfora.retry import Retry, parse_retry
from mpfora.units import parse_duration, parse_size, parse_time


class BadSetting(ValueError):
    """A setting in props that cannot be meant. The text names the field, as in `props.stop_timeout: ...`."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What the props say; None: nothing. not_before is Unix seconds."""

    stop_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    stall_by: str | None = None
    memory_limit: int | None = None
    retry: Mapping[str, Any] | str | None = None
    not_before: float | None = None

    def over(self, handler: HandlerSettings, node_retry: Retry) -> HandlerSettings:
        """The handler's settings with the task's in their place; its retry policy is always given. Raises BadSetting
        where the policies do not go together."""
        policy = handler.retry or node_retry
        return HandlerSettings(
            stop_timeout_s=self.stop_timeout_s or handler.stop_timeout_s,
            stall_timeout_s=self.stall_timeout_s or handler.stall_timeout_s,
            stall_by=self.stall_by or handler.stall_by,
            memory_limit=self.memory_limit or handler.memory_limit,
            retry=policy if self.retry is None else _retry(self.retry, policy),
        )


def parse_task_settings(props: Mapping[str, Any]) -> TaskSettings:
    """The settings among the props of a task. Raises BadSetting for the first that cannot be meant."""
    values = {name: read(props[name]) for name, read in _READERS.items() if props.get(name) is not None}
    return TaskSettings(
        stop_timeout_s=values.get("stop_timeout"),
        stall_timeout_s=values.get("stall_timeout"),
        stall_by=values.get("stall_by"),
        memory_limit=values.get("memory_limit"),
        retry=values.get("retry"),
        not_before=values.get("not_before"),
    )


def read_task_settings(props_json: str) -> TaskSettings:
    """As parse_task_settings, of JSON text as it stands in the store. Text that is no object has none: the run itself
    fails of it, and says so."""
    if not _MENTIONED.search(props_json):
        return TaskSettings()
    try:
        props = json.loads(props_json)
    except (ValueError, RecursionError):
        return TaskSettings()
    return parse_task_settings(props) if isinstance(props, dict) else TaskSettings()


def _duration(name: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            seconds = parse_duration(value, f"props.{name}")
        except ValueError as error:
            raise BadSetting(_cut(error)) from None
        if seconds <= 0:
            raise BadSetting(f"props.{name}: {value!r}: must be over 0")
        return seconds

    return read


def _size(value: Any) -> int:
    if not isinstance(value, int | str):
        raise BadSetting(f"props.memory_limit: {value!r:.80} is no size: use bytes or a text like '512MiB', '2GiB'")
    try:
        return parse_size(value, "props.memory_limit")
    except ValueError as error:
        raise BadSetting(_cut(error)) from None


def _stall_by(value: Any) -> str:
    if value not in ("beats", "cpu"):
        raise BadSetting(f"props.stall_by: {value!r:.80}: use 'beats' or 'cpu'")
    return str(value)


def _time(value: Any) -> float:
    try:
        if isinstance(value, str):
            return parse_time(value)
    except (ValueError, OverflowError):
        pass
    raise BadSetting(f"props.not_before: {value!r:.80} is no RFC 3339 time with a zone, like '2026-11-24T10:00:00Z'")


def _labels(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise BadSetting(f"props.labels: {value!r:.80}: an object of names with texts is needed, like {{'gpu': 'yes'}}")
    return value


def _checked_retry(value: Any) -> Mapping[str, Any] | str:
    _retry(value, Retry())
    checked: Mapping[str, Any] | str = value
    return checked


def _retry(value: Any, over: Retry) -> Retry:
    try:
        return parse_retry(value, over, "props.retry")
    except ValueError as error:
        raise BadSetting(_cut(error)) from None


def _cut(error: ValueError) -> str:
    """One line of an error's text, whatever it quotes."""
    text = str(error).partition("\n")[0]
    return text if len(text) <= 400 else text[:397] + "..."


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "stop_timeout": _duration("stop_timeout"),
    "stall_timeout": _duration("stall_timeout"),
    "stall_by": _stall_by,
    "memory_limit": _size,
    "retry": _checked_retry,
    "not_before": _time,
    "labels": _labels,
}
#: the names that are mpfora's in every task's props
OWN_NAMES = frozenset({"handler", *_READERS})
#: a text that has none of the names, and nothing that may be an escaped letter of one, is not parsed
_MENTIONED = re.compile("|".join([*(f'"{name}"' for name in _READERS), r"\\u"]))
