"""ClusterEvent, and what becomes of the changes of a watch. Pure but for the time that is handed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mpfora.model.history import Run
from mpfora.model.state import TaskState
from mpfora.model.units import format_time
from mpfora.store.claim_records import parse_owner, parse_released, parse_released_to
from mpfora.store.command_records import parse_by, parse_message, parse_node_command
from mpfora.store.json_format import parse_object
from mpfora.store.keys import MARKER, Layout
from mpfora.store.kv import Event, Revision
from mpfora.store.state_records import parse_state


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """Something that has happened.

    time   Unix seconds: of starts and ends by the node's clock, else when this client heard of it
    kind   "submitted", "claimed", "started", "saved", "asked" (a command), "ended" (a run), "released", "moved",
           "lost" (a claim, with its node), "settled" (the task has finished), "deleted"; of nodes "joined", "left"
    by     who asked: user@host; "" where nobody did or it is not known
    text   for people
    """

    time: float
    kind: str
    task_id: str = ""
    node: str = ""
    by: str = ""
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "time": format_time(self.time),
            "kind": self.kind,
            "task": self.task_id,
            "node": self.node,
            "by": self.by,
            "text": self.text,
        }


def events_of_run(task_id: str, run: Run) -> Iterator[ClusterEvent]:
    """The events of one run in a task's history."""
    if run.started is not None:
        yield ClusterEvent(run.started, "started", task_id, run.node, text=f"run {run.attempt}, fence {run.fence}")
    if run.ended is not None:
        told = f": {run.error}" if run.error else ""
        yield ClusterEvent(run.ended, "ended", task_id, run.node, text=f"run {run.attempt}: {run.cause}{told}")


@dataclass(slots=True)
class _Known:
    """What is known of one task."""

    node: str = ""
    ended: float | None = None
    by: str = ""


@dataclass(slots=True)
class EventFold:
    """since: Unix seconds; ends of runs before it are old news."""

    layout: Layout
    since: float
    _tasks: dict[str, _Known] = field(default_factory=dict)

    def take(self, revision: Revision, now: float) -> Iterator[ClusterEvent]:
        """The events of one revision. What cannot be read is left out: it is told by `mpfora doctor`."""
        changes = {event.key: event for event in revision.events}
        for event in revision.events:
            try:
                yield from self._of(event, changes, now)
            except ValueError:
                continue

    def _of(self, event: Event, changes: dict[str, Event], now: float) -> Iterator[ClusterEvent]:
        keys = self.layout
        if event.key.startswith(keys.tasks):
            task_id, _, what = event.key.removeprefix(keys.tasks).partition("/")
            yield from self._of_task(task_id, what, event, changes, now)
        elif event.key.startswith(keys.states) and not event.deleted:
            yield from self._of_state(event.key.removeprefix(keys.states), parse_state(event.value), now)
        elif event.key.startswith(keys.checkpoints) and not event.deleted and event.value != b"null":
            task_id = event.key.removeprefix(keys.checkpoints)
            yield ClusterEvent(now, "saved", task_id, self._known(task_id).node, text=f"{len(event.value)} bytes")
        elif event.key.startswith(keys.removals) and not event.deleted:
            yield ClusterEvent(now, "asked", event.key.removeprefix(keys.removals), text="delete")
        elif event.key.startswith(keys.nodes):
            yield from _of_node(event.key.removeprefix(keys.nodes), event, now)

    def _of_task(
        self, task_id: str, what: str, event: Event, changes: dict[str, Event], now: float
    ) -> Iterator[ClusterEvent]:
        if what == "" and not event.deleted and event.create_revision == event.mod_revision:
            yield ClusterEvent(now, "submitted", task_id)
        elif what == "owner" and event.deleted:
            yield from self._let_go(task_id, changes, now)
        elif what == "owner":
            node, missed = parse_owner(event.value)
            self._known(task_id).node = node
            text = f"fence {event.create_revision}" + (f", in the place of {missed}" if missed else "")
            yield ClusterEvent(now, "claimed", task_id, node, text=text)
        elif what == "commands" and not event.deleted:
            known, by = self._known(task_id), parse_by(event.value)
            known.by = by
            yield ClusterEvent(now, "asked", task_id, known.node, by, parse_message(event.value).verb.value)

    def _let_go(self, task_id: str, changes: dict[str, Event], now: float) -> Iterator[ClusterEvent]:
        known = self._known(task_id)
        node, known.node = known.node, ""
        mark = changes.get(self.layout.released(task_id))
        if mark is not None and not mark.deleted:
            to = parse_released_to(mark.value)
            node = node or parse_released(mark.value)[0]
            kind, text = ("moved", f"to {to}, for the balance") if to else ("released", "")
            if parse_object(mark.value, "released").get("lost") is True:
                kind, text = "lost", "with its node"
            yield ClusterEvent(now, kind, task_id, node, text=text)
            return
        state = changes.get(self.layout.state(task_id))
        if state is not None and not state.deleted:
            return  # the task's state says the rest
        if (task := changes.get(self.layout.task(task_id))) is not None and task.deleted:
            yield ClusterEvent(now, "deleted", task_id, node)
        else:
            yield ClusterEvent(now, "lost", task_id, node, text="its claim has ended with the lease of its node")

    def _of_state(self, task_id: str, state: TaskState, now: float) -> Iterator[ClusterEvent]:
        known = self._known(task_id)
        if state.ended is not None and state.ended != known.ended and state.ended >= self.since:
            known.ended = state.ended
            text = f"run {state.attempt}: {state.cause}"
            if state.errors and state.errors[-1].at >= state.ended - 1:
                text += f": {state.errors[-1].text.partition(chr(10))[0][:200]}"
            if state.started is not None:
                yield ClusterEvent(state.started, "started", task_id, state.node, text=f"run {state.attempt}")
            yield ClusterEvent(state.ended, "ended", task_id, state.node, text=text)
        if state.terminal:
            by = known.by if state.state == "killed" else ""
            yield ClusterEvent(now, "settled", task_id, state.node, by, state.state.value)
            self._tasks.pop(task_id, None)

    def _known(self, task_id: str) -> _Known:
        return self._tasks.setdefault(task_id, _Known())


def _of_node(rest: str, event: Event, now: float) -> Iterator[ClusterEvent]:
    node, _, what = rest.partition("/")
    if what == MARKER and event.deleted:
        yield ClusterEvent(now, "left", node=node)
    elif what == MARKER and event.create_revision == event.mod_revision:
        yield ClusterEvent(now, "joined", node=node)
    elif what.startswith("commands/") and not what.endswith(MARKER) and not event.deleted:
        verb, parameters = parse_node_command(event.value)
        task_id = parameters.get("task")
        yield ClusterEvent(
            now, "asked", task_id if isinstance(task_id, str) else "", node, parse_by(event.value), f"node: {verb}"
        )
