"""Commands to tasks and to nodes, as a client writes them, and how it learns that they were carried out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from mpfora.client.submission import as_it_was, check_task_id
from mpfora.client.waiting import Waiter, wait_change
from mpfora.errors import (
    AnsweredOtherwise,
    MpforaError,
    NodeNotFound,
    NotCarriedOut,
    NotOnNode,
    NotTaken,
    TaskNotFound,
    UnreadableState,
)
from mpfora.keys import MARKER, Layout, format_message, format_node_command, parse_owner, parse_state
from mpfora.kv import KV, Answer, Get, Put, Store, Txn, exists, prefix_end
from mpfora.model import check_name
from mpfora.states import TRANSITIONS, Message, State, TaskState, Verb

#: what a task is once a command has been carried out; checkpoint and release leave its state as it is
_STATES_AFTER = {
    Verb.PAUSE: State.PAUSED,
    Verb.KILL: State.KILLED,
    Verb.SLEEP: State.SLEEPING,
    Verb.COMPLETE: State.COMPLETED,
    Verb.RUN: State.RUNNABLE,
}


def carried_out(message: Message, state: TaskState) -> bool:
    """Whether `state` is what the command asks for, or one that no command changes any more. `message` asks for one."""
    return state.terminal or state.state is _STATES_AFTER[message.verb]


def _no_task(state: object, message: Message) -> str:
    """Why there is nobody to obey: what is kept of the task, if it has finished."""
    try:
        kept = parse_state(state.value) if isinstance(state, KV) else TaskState()
    except ValueError:
        kept = TaskState()
    if kept.terminal:
        return f"it has finished ({kept.state.value}): too late for {message.verb.value}"
    return "there is no such task"


def _check_takes(task_id: str, message: Message, key: str, state: Answer) -> None:
    """Whether the task, as it is kept, takes this command, which its node would drop otherwise. A release of one whose
    state cannot be read writes no state."""
    try:
        kept = parse_state(state.value) if isinstance(state, KV) else TaskState()
    except ValueError as error:
        if message.verb is Verb.RELEASE:
            return
        raise UnreadableState(task_id, message.verb.value, key, str(error)) from None
    if (kept.state, message.verb) not in TRANSITIONS:
        raise NotTaken(task_id, message.verb.value, kept.state.value)


class Commander:
    """Writes commands. Raises what the store raises, and the errors named with each method."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def to_task(self, task_id: str, message: Message) -> int:
        """The revision at which it was written. Raises TaskNotFound, which says so where the task has finished,
        UnreadableState and NotTaken."""
        try:
            put = Put(self._layout.commands(check_task_id(task_id)), format_message(message))
        except ValueError as error:
            raise MpforaError(str(error)) from None
        key = self._layout.state(task_id)
        there, look = exists(self._layout.task(task_id)), (Get(key),)
        found = await self._store.txn(Txn((there,), look, look))
        while found.succeeded:
            _check_takes(task_id, message, key, found.answers[0])
            result = await self._store.txn(Txn((there, as_it_was(key, found.answers[0])), (put,), look))
            if result.succeeded:
                return result.revision
            found = await self._store.txn(Txn((there,), look, look))
        raise TaskNotFound(task_id, _no_task(found.answers[0], message))

    async def wait_task(self, task_id: str, message: Message, revision: int) -> None:
        """Until the command written at `revision` was taken, and the task is what it asks for. Raises
        AnsweredOtherwise."""
        change = await wait_change(self._store, self._layout.commands(task_id), revision + 1)
        if message.verb not in _STATES_AFTER:
            return
        state = await self._written_at(task_id, change.mod_revision) if change.deleted else None
        if state is not None and not carried_out(message, state):
            raise AnsweredOtherwise(task_id, message.verb.value, state.state.value)
        if state is not None:
            return
        await Waiter(self._store, self._layout, [task_id], lambda state: carried_out(message, state)).run()

    async def _written_at(self, task_id: str, revision: int) -> TaskState | None:
        """The state that was written as the command was taken; None: that was not so, or is not the last one any more.
        A Go node takes the command first."""
        found = (await self._store.txn(Txn((), (Get(self._layout.state(task_id)),)))).answers[0]
        try:
            return parse_state(found.value) if isinstance(found, KV) and found.mod_revision == revision else None
        except ValueError:
            return None

    async def to_node(self, name: str, verb: str, parameters: Mapping[str, Any]) -> tuple[str, int]:
        """The command's key, and the revision at which it was written. Raises NodeNotFound; of a stop_task,
        TaskNotFound and NotOnNode."""
        try:
            check_name(name, "node name")
            value = format_node_command(verb, parameters)
        except ValueError as error:
            raise MpforaError(str(error)) from None
        if "task" in parameters:
            await self._check_has(name, str(parameters["task"]))
        key = self._layout.node_command(name, str(secrets.randbits(64)))
        result = await self._store.txn(Txn((exists(self._layout.member(name)),), (Put(key, value),)))
        if not result.succeeded:
            raise NodeNotFound(name, await self._node_names())
        return key, result.revision

    async def _check_has(self, name: str, task_id: str) -> None:
        """Whether there is such a task, and this node has it: it would drop the command otherwise. The task may move
        before the node reads that, which then says so in its log."""
        look = Get(self._layout.task(check_task_id(task_id))), Get(self._layout.owner(task_id))
        task, owner = (await self._store.txn(Txn((), look))).answers
        if not isinstance(task, KV):
            raise TaskNotFound(task_id)
        try:
            holder = parse_owner(owner.value)[0] if isinstance(owner, KV) else None
        except ValueError:  # somebody's own form: only the node can tell
            return
        if holder != name:
            raise NotOnNode(task_id, name, holder)

    async def wait_node(self, name: str, verb: str, key: str, revision: int, timeout_s: float) -> None:
        """Until the node has taken the command. Raises NotCarriedOut."""
        try:
            async with asyncio.timeout(timeout_s):
                await wait_change(self._store, key, revision + 1)
        except TimeoutError:
            raise NotCarriedOut(f"node {name!r} has not taken {verb} within {timeout_s:g} s") from None

    async def _node_names(self) -> list[str]:
        start = self._layout.nodes
        keys = [kv.key[len(start) :].split("/") for kv in (await self._store.list(start, prefix_end(start))).kvs]
        return sorted(parts[0] for parts in keys if len(parts) == 2 and parts[1] == MARKER)
