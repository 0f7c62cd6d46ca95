"""A task's own settings, in its props: they win over those of its handler and its node. Pure.

    stop_timeout, stall_timeout   durations: seconds, or texts like "90s"
    stall_by                      "beats" or "cpu"
    memory_limit                  a size: bytes, or a text like "2GiB"
    pids_limit                    the most processes and threads of its tree
    retry                         an object of Retry's fields, each over the handler's (or node's) policy; or "metafora"
    not_before                    RFC 3339 with a zone: the task sleeps until then, and has no process
    labels                        the node must have each of these: names with texts
    priority                      -100 to 100, 0 if it is not there: of tasks that wait the highest is claimed first
    needs                         what it needs of its node's resources while it runs: an object like {"gpus": 2}

These names are mpfora's in every task's props, and so are "handler" and "group"; all others are the handler's own. If
the props have an object "mpfora", mpfora looks for its names only there, and a task's own props may have any names.
null is as good as missing. Only this module reads these names: the node calls it when it has claimed a task, and
clients before they submit one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from mpfora.handlers import HandlerSettings
from mpfora.model.needs import Needs, parse_needs
from mpfora.model.task import OWN_OBJECT, Wants, own_part
from mpfora.model.units import held_time, parse_duration, parse_size, parse_time, shown
from mpfora.retry import Retry, parse_retry
from mpfora.store.json_format import parse_json

#: the longest props that are kept with the state of a task that failed or was killed
MOST_KEPT_BYTES = 65_536
#: the most processes that Linux can number
MOST_PIDS = 2**22
#: the highest priority; the lowest is as far below 0
MOST_PRIORITY = 100


class BadSetting(ValueError):
    """A setting in props that is wrong. The text names the field, as in `props.stop_timeout: ...`."""


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What the props say; None: nothing. not_before is Unix seconds."""

    stop_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    stall_by: str | None = None
    memory_limit: int | None = None
    retry: Mapping[str, Any] | str | None = None
    not_before: float | None = None
    pids_limit: int | None = None
    needs: Needs | None = None

    def over(self, handler: HandlerSettings, node_retry: Retry) -> HandlerSettings:
        """The handler's settings with the task's in their place; its retry policy is always given. Raises BadSetting
        where the policies do not go together."""
        policy = handler.retry or node_retry
        return HandlerSettings(
            stop_timeout_s=self.stop_timeout_s or handler.stop_timeout_s,
            stall_timeout_s=self.stall_timeout_s or handler.stall_timeout_s,
            stall_by=self.stall_by or handler.stall_by,
            memory_limit=self.memory_limit or handler.memory_limit,
            pids_limit=self.pids_limit or handler.pids_limit,
            retry=policy if self.retry is None else _retry(self.retry, policy),
            needs=handler.needs if self.needs is None else self.needs,
        )


def parse_task_settings(props: Mapping[str, Any]) -> TaskSettings:
    """The settings among the props of a task. Raises BadSetting for the first that is wrong."""
    own = own_part(props)
    try:
        values = {name: read(own[name]) for name, read in _READERS.items() if own.get(name) is not None}
    except BadSetting as error:
        if own is props:
            raise
        raise BadSetting(str(error).replace("props.", f"props.{OWN_OBJECT}.", 1)) from None
    if own is not props and (strange := sorted(name for name in own if name not in _IN_OWN_OBJECT)):
        names = ", ".join(sorted(_IN_OWN_OBJECT))
        raise BadSetting(_cut(ValueError(f"props.{OWN_OBJECT}.{strange[0]}: no such setting: there are {names}")))
    return TaskSettings(
        stop_timeout_s=values.get("stop_timeout"),
        stall_timeout_s=values.get("stall_timeout"),
        stall_by=values.get("stall_by"),
        memory_limit=values.get("memory_limit"),
        pids_limit=values.get("pids_limit"),
        retry=values.get("retry"),
        not_before=values.get("not_before"),
        needs=values.get("needs"),
    )


def read_task_settings(props_json: str) -> TaskSettings:
    """As parse_task_settings, of JSON text as it stands in the store. Text that is not an object has no settings: the
    run itself fails of it, and says so."""
    if not _MENTIONED.search(props_json):
        return TaskSettings()
    try:
        props = json.loads(props_json)
    except (ValueError, RecursionError):
        return TaskSettings()
    return parse_task_settings(props) if isinstance(props, dict) else TaskSettings()


#: props of so many bytes are remembered, and so many of them: tasks are submitted by the thousand, and often alike
_SHORT, _REMEMBERED = 200, 1024


def parse_wants(value: bytes | str) -> Wants:
    """What a task's props ask of a node. Never raises.

    Props that are not JSON make a `problem`, which fails the task when it is run. JSON that is not an object asks for
    nothing. A "handler" that is not a name, and "labels" that are not names with texts, are the task's own affair. A
    "not_before" that is not a time and "needs" that are no amounts are errors of the run, which needs nothing."""
    return _remembered_wants(value) if len(value) <= _SHORT else _wants(value)


def _wants(value: bytes | str) -> Wants:
    if value in (b"", ""):
        return Wants()
    try:
        props = parse_json(value, "props")
    except ValueError as error:
        return Wants(problem=str(error))
    if not isinstance(props, dict):
        return Wants()
    props = own_part(props)
    handler, labels = props.get("handler"), props.get("labels")
    labels_count = isinstance(labels, dict) and all(isinstance(text, str) for text in labels.values())
    plain = _plain_wants(handler if isinstance(handler, str) else None)
    found: dict[str, Any] = {} if not (labels and labels_count) else {"labels": labels}
    for name, read in _WANTED.items():
        if props.get(name) is not None and (value := read(props[name])) is not None:
            found[name] = value
    return replace(plain, **found) if found else plain


_remembered_wants = lru_cache(maxsize=_REMEMBERED)(_wants)


@lru_cache(maxsize=1024)
def _plain_wants(handler: str | None) -> Wants:
    """One for all tasks that ask for this handler and nothing else: a million of them may wait."""
    return Wants(handler)


def named_in(props: bytes | str) -> tuple[str, str]:
    """(handler, group) that a task's props name, "" for none. Never raises."""
    text = props.decode(errors="replace") if isinstance(props, bytes) else props
    if '"handler"' not in text and '"group"' not in text:
        return "", ""
    try:
        values = parse_json(text, "props")
    except ValueError:
        return "", ""
    own = own_part(values) if isinstance(values, dict) else {}
    handler, group = own.get("handler"), own.get("group")
    return handler if isinstance(handler, str) else "", group if isinstance(group, str) else ""


def kept_of_props(props_json: str) -> str:
    """What a task that fails or is killed keeps of its props, so that it can be submitted again as it was; "" where
    that is too much to keep."""
    text = props_json or "{}"
    return text if len(text.encode(errors="surrogatepass")) <= MOST_KEPT_BYTES else ""


def _time_of(value: Any) -> float | None:
    try:
        return held_time(parse_time(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _needs_of(value: Any) -> Needs | None:
    """() where the needs are no amounts: then the run fails, wherever it is."""
    try:
        return parse_needs(value, "needs")
    except ValueError:
        return ()


#: what a node must know of a task before the claim, besides handler and labels
_WANTED: Mapping[str, Callable[[Any], Any]] = {
    "not_before": _time_of,
    "needs": _needs_of,
    "priority": lambda value: _whole_priority(value) or 0,
}


def _duration(name: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            seconds = parse_duration(value, f"props.{name}")
        except ValueError as error:
            raise BadSetting(_cut(error)) from None
        if seconds <= 0:
            raise BadSetting(f"props.{name}: {shown(value)}: must be over 0")
        return seconds

    return read


def _size(value: Any) -> int:
    if not isinstance(value, int | str):
        raise BadSetting(f"props.memory_limit: {shown(value)} is not a size: use bytes or a text like '512MiB', '2GiB'")
    try:
        return parse_size(value, "props.memory_limit")
    except ValueError as error:
        raise BadSetting(_cut(error)) from None


def _pids(value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 1 <= value <= MOST_PIDS:
        raise BadSetting(f"props.pids_limit: {shown(value)} is not a number of processes and threads, 1 to {MOST_PIDS}")
    return value


def _stall_by(value: Any) -> str:
    if value not in ("beats", "cpu"):
        raise BadSetting(f"props.stall_by: {shown(value)}: use 'beats' or 'cpu'")
    return str(value)


def _time(value: Any) -> float:
    try:
        if isinstance(value, str):
            return held_time(parse_time(value))
    except ValueError:
        pass
    raise BadSetting(
        f"props.not_before: {shown(value)} is not an RFC 3339 time with a zone, like '2026-11-24T10:00:00Z'"
    )


def _labels(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise BadSetting(
            f"props.labels: {shown(value)}: an object of names with texts is needed, like {{'gpu': 'yes'}}"
        )
    return value


def _needs(value: Any) -> Needs:
    try:
        return parse_needs(value, "props.needs")
    except ValueError as error:
        raise BadSetting(_cut(error)) from None


def _priority(value: Any) -> int:
    priority = _whole_priority(value)
    if priority is None:
        raise BadSetting(
            f"props.priority: {shown(value)} is not a priority: a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}"
        )
    return priority


def _whole_priority(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and -MOST_PRIORITY <= value <= MOST_PRIORITY else None


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
    "pids_limit": _pids,
    "retry": _checked_retry,
    "not_before": _time,
    "labels": _labels,
    "needs": _needs,
    "priority": _priority,
}
#: the names that are mpfora's in every task's props
OWN_NAMES = frozenset({"handler", "group", OWN_OBJECT, *_READERS})
_IN_OWN_OBJECT = OWN_NAMES - {OWN_OBJECT}
#: a text that has none of the names, and nothing that may be an escaped letter of one, is not parsed
_MENTIONED = re.compile("|".join([*(f'"{name}"' for name in (OWN_OBJECT, *_READERS)), r"\\u"]))
