"""What a client writes of a new task: checked, and as one transaction. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.errors import InvalidTask, TaskExists
from mpfora.keys import Layout, format_json, parse_state
from mpfora.kv import KV, Answer, Compare, Delete, Get, Put, Txn, TxnResult, absent, modified_at
from mpfora.model import InvalidName, check_name
from mpfora.task_settings import BadSetting, parse_task_settings

#: bytes of a task's props as JSON: etcd takes no request over 1.5 MiB
MAX_PROPS = 1_400_000


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to submit. `handler` goes into the props under that name, where nodes look for it."""

    id: str
    props: Mapping[str, Any] | None = None
    handler: str | None = None


def check_task_id(task_id: str) -> str:
    """The id, if it can be one. A wrong one must never become a part of a key. Raises InvalidTask."""
    if not isinstance(task_id, str):
        raise InvalidTask(f"task id {task_id!r}: must be a text, not {type(task_id).__name__}")
    try:
        return check_name(task_id)
    except InvalidName as error:
        raise InvalidTask(str(error)) from None


def format_props(task: NewTask) -> str:
    """The JSON text of its props. Raises InvalidTask, naming the task, for what cannot be submitted."""
    check_task_id(task.id)
    if task.props is not None and not isinstance(task.props, Mapping):
        raise InvalidTask(f"task {task.id!r}: props must be a JSON object (a dict), not {type(task.props).__name__}")
    try:
        parse_task_settings(task.props or {})
    except BadSetting as error:
        raise InvalidTask(f"task {task.id!r}: {error}") from None
    try:
        text = format_json(_with_handler(task))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidTask(f"task {task.id!r}: its props are no JSON: {error}") from None
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_PROPS:
        raise InvalidTask(
            f"task {task.id!r}: its props are {size:,} bytes as JSON, the limit is {MAX_PROPS:,}:"
            " keep large data in a file or an object store, and its name in the props"
        )
    return text


def _with_handler(task: NewTask) -> dict[str, Any]:
    props = dict(task.props or {})
    named = props.get("handler")
    if named is not None and (not isinstance(named, str) or not named):
        raise InvalidTask(f"task {task.id!r}: props.handler: {named!r:.80}: a handler's name is needed, or nothing")
    if task.handler is None:
        return props
    if not isinstance(task.handler, str) or not task.handler:
        raise InvalidTask(f"task {task.id!r}: the handler must be a name, not {task.handler!r}")
    if props.get("handler", task.handler) != task.handler:
        raise InvalidTask(
            f"task {task.id!r}: the handler is {task.handler!r}, but its props say {props['handler']!r}: leave one out"
        )
    return props | {"handler": task.handler}


def submit_txn(layout: Layout, task: NewTask) -> Txn:
    """Metafora's condition, that there are no props of this id, and further neither a task nor a kept state."""
    puts = _puts(layout, task)
    keys = (layout.props(task.id), layout.task(task.id), layout.state(task.id))
    return Txn(tuple(absent(key) for key in keys), puts, _in_the_way(layout, task.id))


def replace_txn(layout: Layout, task: NewTask, state: KV) -> Txn:
    """Put the task in the place of one that has finished, of which `state` is kept: nothing of the former is left.
    Refused, as submit_txn is, where a task exists by now or the state is another."""
    ours = (Delete(layout.commands(task.id)), Delete(layout.released(task.id)))
    return Txn(
        compares=(
            absent(layout.props(task.id)),
            absent(layout.task(task.id)),
            modified_at(layout.state(task.id), state.mod_revision),
        ),
        success=(*_puts(layout, task), *ours, *kept_of(layout, task.id, state)),
        failure=_in_the_way(layout, task.id),
    )


def kept_of(layout: Layout, task_id: str, state: Answer) -> tuple[Delete, ...]:
    """The removal of what outlives a task, its state first, and with it the note of until when that is kept. `state`
    stands at its state key."""
    keys = [layout.state(task_id), layout.checkpoint(task_id), layout.history(task_id)]
    try:
        kept_until = parse_state(state.value).kept_until if isinstance(state, KV) else None
    except ValueError:
        kept_until = None
    if kept_until is not None:
        keys.append(layout.finished_until(kept_until, task_id))
    return tuple(map(Delete, keys))


def as_it_was(key: str, found: Answer) -> Compare:
    """That nothing else stands at `key` by now than what was found there."""
    return modified_at(key, found.mod_revision) if isinstance(found, KV) else absent(key)


def _puts(layout: Layout, task: NewTask) -> tuple[Put, ...]:
    props = format_props(task)
    return Put(layout.task(task.id), b""), Put(layout.props(task.id), props)


def _in_the_way(layout: Layout, task_id: str) -> tuple[Get, ...]:
    return Get(layout.task(task_id)), Get(layout.props(task_id)), Get(layout.state(task_id))


def replaceable(result: TxnResult) -> KV | None:
    """The kept state that alone stands in the way of a refused submission; None: a task does."""
    if result.succeeded:
        return None
    task, props, state = result.answers
    return state if task is None and props is None and isinstance(state, KV) else None


def refusal(task_id: str, result: TxnResult, replace: bool = False) -> TaskExists | None:
    """What the transaction found in the way, with what to do; None: the task is submitted."""
    if result.succeeded:
        return None
    if (state := replaceable(result)) is not None:
        remedy = "replace it (mpfora submit --replace, or replace=True), or use another id"
        return TaskExists(task_id, _what_is_kept(state), remedy)
    never = "; one that has not finished is never replaced" if replace else ""
    return TaskExists(task_id, "a task", f"use another id, or delete it first{never}")


def _what_is_kept(state: KV) -> str:
    """A Go client may have deleted a task that had not finished, and left its state."""
    try:
        kept = parse_state(state.value)
    except ValueError as error:
        return f"a state that cannot be read ({error})"
    return "the state of a finished task" if kept.terminal else f"a state without a task, {kept.state.value},"


@dataclass(slots=True)
class Submitted:
    """What submit_many did: how many tasks are new, and the ids that existed already (or came twice), as they came."""

    new: int = 0
    existed: list[str] = field(default_factory=list)

    def count(self, refused: TaskExists | None) -> None:
        if refused is None:
            self.new += 1
        else:
            self.existed.append(refused.task_id)
