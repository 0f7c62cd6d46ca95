"""What a client writes of a new task: checked, and as one transaction. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.errors import InvalidTask, TaskExists
from mpfora.keys import Layout, format_json
from mpfora.kv import Get, Put, Txn, TxnResult, absent
from mpfora.model import InvalidName, check_name

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
    props = format_props(task)
    keys = (layout.props(task.id), layout.task(task.id), layout.state(task.id))
    return Txn(
        compares=tuple(absent(key) for key in keys),
        success=(Put(layout.task(task.id), b""), Put(layout.props(task.id), props)),
        failure=(Get(layout.task(task.id)), Get(layout.state(task.id))),
    )


def refusal(task_id: str, result: TxnResult) -> TaskExists | None:
    """What the transaction found in the way, with what to do; None: the task is submitted."""
    if result.succeeded:
        return None
    task, state = result.answers
    what = "the state of a finished task" if task is None and state is not None else "a task"
    return TaskExists(task_id, what, "use another id, or delete it first")


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
