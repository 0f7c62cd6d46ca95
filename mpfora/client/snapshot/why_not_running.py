"""Why tasks do not run, by one snapshot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

from mpfora.client.snapshot.snapshot import Live, Snapshot, TaskKeys, is_resting, owner_node
from mpfora.client.snapshot.why_pending import NO_TURN, NodeLoad, Turn, takes_tasks, why_pending
from mpfora.cluster.assignment.fitting import fits
from mpfora.config.props import parse_wants
from mpfora.model.state import TaskState
from mpfora.model.task import InvalidName, Member, Wants, check_name


class Turns(Protocol):
    """Whose turn it is: a node's assignments, or what it tells of them."""

    @property
    def assignee(self) -> Mapping[str, str]: ...

    def window(self) -> int: ...


class Reasons:
    """Says why tasks do not run, by one snapshot. Pending tasks that ask for the same share one answer.

    loads, turns  of the snapshot, where somebody keeps them; else they are made of it, which walks all tasks"""

    def __init__(
        self,
        snapshot: Snapshot,
        live: Live,
        now: float,
        loads: list[NodeLoad] | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._snapshot, self._live, self.now = snapshot, live, now
        self._loads = snapshot.loads() if loads is None else loads
        self._kept_turns = turns
        self._anybody_takes = any(map(takes_tasks, self._loads))
        self._known: dict[tuple[object, ...], str] = {}

    def key_of_state(self, task_id: str) -> str:
        return self._snapshot.layout.state(task_id)

    def member(self, node: str) -> Member | None:
        return self._snapshot.members.get(node)

    def of(self, task_id: str, keys: TaskKeys, kept: TaskState) -> str | None:
        """Why the task does not run. None: it runs, sleeps or is paused with its owner, has finished, or does not
        exist."""
        if not keys.exists or kept.terminal:
            return None
        if keys.removed:
            return _of_removed(owner_node(keys))
        if keys.owner is not None:
            return None if self.asleep_until(keys) is not None else self._of_owned(task_id, keys, kept)
        try:
            check_name(task_id)
        except InvalidName as error:
            return f"no node takes it: {error}; remove its key with etcdctl"
        until = keys.asleep_until
        if until is None:
            return self._of_unowned(task_id, keys, kept)
        return self._of_sleeping(task_id, keys, kept) if until > self.now else self._of_due(task_id, keys, kept)

    def asleep_until(self, keys: TaskKeys) -> float | None:
        return asleep_until(keys, self.now)

    @cached_property
    def _turns(self) -> Turns:
        """Made when the first task needs it: it walks all tasks."""
        if self._kept_turns is None:
            # what nodes know of each other is much to import, and who asks for one task seldom needs it
            from mpfora.client.snapshot.assignments import assignments_of

            self._kept_turns = assignments_of(self._snapshot)
        return self._kept_turns

    def _turn(self, task_id: str) -> Turn:
        if not self._anybody_takes:
            return NO_TURN
        return Turn(self._turns.assignee.get(task_id), self._turns.window())

    def _of_unowned(self, task_id: str, keys: TaskKeys, kept: TaskState) -> str:
        vanished = kept.attempt > 0 and not keys.released
        wants, resting = Wants() if keys.props is None else parse_wants(keys.props), keys.rests
        turn = self._turn(task_id)
        key = wants.handler, *sorted(wants.labels.items()), wants.needs, wants.problem, resting, vanished, turn
        if key not in self._known:
            self._known[key] = why_pending(wants, self._loads, turn, resting=resting, vanished=vanished)
        return self._known[key]

    def _of_sleeping(self, task_id: str, keys: TaskKeys, kept: TaskState) -> str | None:
        """Nobody has anything to do for it before its time. The reason says now whether a node could run it then."""
        wants = parse_wants(keys.props or b"")
        whose = "by not_before in its props" if keys.state is None else "by its kept state"
        if any(fits(load.member, wants) for load in self._loads):
            return f"{whose}; no node owns it until then"
        return f"{whose}; if nothing changes until then: {self._of_unowned(task_id, keys, kept)}"

    def _of_due(self, task_id: str, keys: TaskKeys, kept: TaskState) -> str:
        if not any(load.member.pid for load in self._loads):
            return self._of_unowned(task_id, keys, kept)
        return "its time has come: a node wakes it up at once, or another one a second later, by its own clock"

    def _of_owned(self, task_id: str, keys: TaskKeys, kept: TaskState) -> str | None:
        node = owner_node(keys)
        if node is None:
            return "whose claim it is cannot be read: delete the owner key if no node runs it"
        if node not in self._snapshot.members:
            return (
                f"node {node} owns it and is gone: the claim ends with its lease (mpfora doctor tells of one on none)"
            )
        if (held := text_of(self._live.get(node, {}).get(task_id, {}), "hold")) is not None:
            return f"node {node} holds it: {held}"
        if node not in self._live or task_id in self._live[node] or is_resting(kept):
            return None
        return f"node {node} has claimed it and runs no process of it: not yet, or it holds it, as its log says"


def asleep_until(keys: TaskKeys, now: float) -> float | None:
    """Until when a task without a kept state sleeps, by its `not_before`."""
    until = keys.asleep_until if keys.exists and keys.state is None else None
    return until if until is not None and until > now else None


def _of_removed(node: str | None) -> str:
    if node is None:
        return "it is being deleted: the next node that can does it, or mpfora delete"
    return f"it is being deleted on {node}: its node has not answered yet"


def text_of(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) and value else None
