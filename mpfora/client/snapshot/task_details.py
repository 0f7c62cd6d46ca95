"""TaskDetails: all that stands in the store of one task, for who looks at it alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpfora.client.info.task_info import TaskInfo
from mpfora.client.snapshot.rows import listed_ids, task_info
from mpfora.client.snapshot.snapshot import read_snapshot, read_state
from mpfora.errors import TaskNotFound
from mpfora.model.history import Run
from mpfora.store.history_records import parse_history
from mpfora.store.json_format import parse_json
from mpfora.store.keys import Layout
from mpfora.store.kv import KV


@dataclass(frozen=True, slots=True)
class TaskDetails:
    """task: as in listings, with its history; why it waits is not in it, as that takes a look at all nodes
    props, checkpoint   JSON values; None: there are none. Of a finished task props are kept if it failed or was killed
    checkpoint_bytes    its size
    problem   which of them cannot be read, and why; "" else
    """

    task: TaskInfo
    props: Any = None
    checkpoint: Any = None
    checkpoint_bytes: int = 0
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"task": self.task.to_json()}


def keys_of(layout: Layout, task_id: str) -> list[str]:
    """What `details_of` needs."""
    below = layout.task, layout.props, layout.owner, layout.state, layout.released, layout.released_before
    return [key(task_id) for key in (*below, layout.removal, layout.checkpoint, layout.history)]


def details_of(layout: Layout, task_id: str, found: Sequence[KV]) -> TaskDetails:
    """Raises TaskNotFound."""
    snapshot = read_snapshot(layout, found)
    if task_id not in listed_ids(snapshot):
        raise TaskNotFound(task_id)
    values = {kv.key: kv.value for kv in found}
    problems: list[str] = []

    def value(what: str, key: str) -> Any:
        try:
            return parse_json(values[key], what) if key in values else None
        except ValueError as error:
            problems.append(str(error))
            return None

    checkpoint = layout.checkpoint(task_id)
    history: tuple[Run, ...] = ()
    try:
        history = parse_history(values[layout.history(task_id)]) if layout.history(task_id) in values else ()
    except ValueError as error:
        problems.append(str(error))
    task = replace(task_info(task_id, snapshot.tasks[task_id], {}), history=history)
    kept = read_state(snapshot.tasks[task_id].state)[0].props
    if kept:
        values.setdefault(layout.props(task_id), kept.encode(errors="surrogateescape"))
    props, saved = value("props", layout.props(task_id)), value("checkpoint", checkpoint)
    return TaskDetails(task, props, saved, len(values.get(checkpoint, b"")), "; ".join(problems))
