"""A new task: its checks, and the transaction that writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.config.props import BadSetting, parse_task_settings
from mpfora.errors import InvalidTask, TaskExists
from mpfora.model.task import OWN_OBJECT, InvalidName, check_name, own_part
from mpfora.model.units import shown
from mpfora.store.claim_records import parse_owner
from mpfora.store.json_format import format_json
from mpfora.store.keys import MARKER, Layout
from mpfora.store.kv import KV, Answer, Compare, Delete, Get, Put, Txn, TxnResult, absent, modified_at
from mpfora.store.state_records import parse_state

#: the most bytes of a key
MOST_ID = 4096
#: bytes of a task's props as JSON: etcd takes no request over 1.5 MiB
MAX_PROPS = 1_400_000


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to submit. `handler` and `group` go into the props under these names, where nodes and listings look for
    them."""

    id: str
    props: Mapping[str, Any] | None = None
    handler: str | None = None
    group: str | None = None


def check_task_id(task_id: str) -> str:
    """The id, checked: a wrong one must never become a part of a key. Raises InvalidTask."""
    if not isinstance(task_id, str):
        raise InvalidTask(f"task id {task_id!r}: must be a text, not {type(task_id).__name__}")
    try:
        return check_name(task_id)
    except InvalidName as error:
        raise InvalidTask(str(error)) from None


def find_task_id(task_id: str) -> str:
    """The id of a task that may stand in the namespace, whoever submitted it: Go's may have any that is one part of a
    key. Raises InvalidTask."""
    if not isinstance(task_id, str):
        raise InvalidTask(f"task id {shown(task_id)}: must be a text, not {type(task_id).__name__}")
    try:
        task_id.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise InvalidTask(f"task id {shown(task_id)}: it is not a text that etcd's keys can hold") from None
    if not task_id or "/" in task_id or task_id == MARKER or len(task_id) > MOST_ID:
        raise InvalidTask(
            f"task id {shown(task_id)}: no task is called so: an id is one part of a key, without slashes"
        )
    return task_id


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
        text = format_json(with_names(task))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidTask(f"task {task.id!r}: its props are not JSON: {error}") from None
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_PROPS:
        raise InvalidTask(
            f"task {task.id!r}: its props are {size:,} bytes as JSON, the limit is {MAX_PROPS:,}:"
            " keep large data in a file or an object store, and its name in the props"
        )
    return text


def with_names(task: NewTask) -> dict[str, Any]:
    """The props with the handler and the group. Raises InvalidTask where they name others."""
    whole = dict(task.props or {})
    props = dict(own_part(whole))
    named = props.get("handler")
    if named is not None and (not isinstance(named, str) or not named):
        raise InvalidTask(f"task {task.id!r}: props.handler: {named!r:.80}: write a handler's name, or leave it out")
    given = {"handler": task.handler, "group": task.group}
    if all(value is None for value in given.values()):
        return whole
    for what, value in given.items():
        if value is None:
            continue
        if not isinstance(value, str) or not value:
            raise InvalidTask(f"task {task.id!r}: the {what} must be a name, not {value!r}")
        if props.get(what, value) != value:
            raise InvalidTask(
                f"task {task.id!r}: the {what} is {value!r}, but its props say {props[what]!r}: leave one out"
            )
        props[what] = value
    return whole | {OWN_OBJECT: props} if own_part(whole) is not whole else props


def submit_txn(layout: Layout, task: NewTask) -> Txn:
    """Put the task, if nothing of this id stands there: no props (Metafora's condition), no task, no owner, no wish to
    delete it, and no kept state."""
    puts = _puts(layout, task)
    compares = (*_unused(layout, task.id), absent(layout.state(task.id)))
    return Txn(compares, puts, _in_the_way(layout, task.id))


def _unused(layout: Layout, task_id: str) -> tuple[Compare, ...]:
    keys = layout.props, layout.task, layout.owner, layout.removal
    return tuple(absent(key(task_id)) for key in keys)


def replace_txn(layout: Layout, task: NewTask, state: KV) -> Txn:
    """Put the task in the place of a finished one, of which `state` is kept; nothing of the former stays. Refused, as
    submit_txn is, where a task exists by now or the state has changed."""
    return _in_place_of(layout, task.id, _puts(layout, task), state)


def again_txn(layout: Layout, task_id: str, props_json: str, state: KV) -> Txn:
    """Put a finished task again, with the props that its state has kept."""
    puts = Put(layout.task(task_id), b""), Put(layout.props(task_id), props_json)
    return _in_place_of(layout, task_id, puts, state)


def _in_place_of(layout: Layout, task_id: str, puts: tuple[Put, ...], state: KV) -> Txn:
    of_ours = layout.commands, layout.released, layout.released_before
    ours = tuple(Delete(key(task_id)) for key in of_ours)
    return Txn(
        compares=(*_unused(layout, task_id), modified_at(layout.state(task_id), state.mod_revision)),
        success=(*puts, *ours, *kept_of(layout, task_id, state)),
        failure=_in_the_way(layout, task_id),
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
    """The condition that `key` still holds what was found there."""
    return modified_at(key, found.mod_revision) if isinstance(found, KV) else absent(key)


def _puts(layout: Layout, task: NewTask) -> tuple[Put, ...]:
    props = format_props(task)
    return Put(layout.task(task.id), b""), Put(layout.props(task.id), props)


def _in_the_way(layout: Layout, task_id: str) -> tuple[Get, ...]:
    keys = layout.task, layout.props, layout.state, layout.owner, layout.removal
    return tuple(Get(key(task_id)) for key in keys)


def is_removed(result: TxnResult) -> bool:
    """Whether a refused submission found a wish to delete the task, and no owner who would do it."""
    return not result.succeeded and result.answers[3] is None and isinstance(result.answers[4], KV)


def replaceable(result: TxnResult) -> KV | None:
    """The kept state, where nothing else was in the way of a refused submission; None: a task was in the way."""
    if result.succeeded:
        return None
    task, props, state, owner, removal = result.answers
    return state if task is props is owner is removal is None and isinstance(state, KV) else None


def refusal(task_id: str, result: TxnResult, replace: bool = False) -> TaskExists | None:
    """The error for what the transaction found in the way, with what to do; None: the task is submitted."""
    if result.succeeded:
        return None
    if (state := replaceable(result)) is not None:
        remedy = "replace it (mpfora submit --replace, or replace=True), or use another id"
        return TaskExists(task_id, _what_is_kept(state), remedy)
    owner, removal = result.answers[3:]
    if isinstance(owner, KV) and (removal is not None or result.answers[0] is None):
        return _held(task_id, owner, is_removed=removal is not None)
    never = "; one that has not finished is never replaced" if replace else ""
    return TaskExists(task_id, "a task", f"use another id, or delete it first{never}")


def _held(task_id: str, owner: KV, *, is_removed: bool) -> TaskExists:
    """The error for a task whose owner has not let go: nobody else can know that nothing of it runs."""
    node = node_of(owner) or "a node whose name cannot be read"
    if is_removed:
        text = f"it is being deleted on {node}: its node has not answered yet"
    else:
        text = f"{node} still owns it, although the task itself is gone"
    remedy = f"submit it when {node} has let go, at the latest when the lease of {node} has ended"
    return TaskExists(task_id, text, remedy, is_sentence=True)


def node_of(owner: KV) -> str | None:
    """Whose claim it is; None where that cannot be read."""
    try:
        return parse_owner(owner.value)[0]
    except ValueError:
        return None


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
