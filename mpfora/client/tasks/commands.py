"""Commands to tasks and to nodes, as a client writes them, and how it learns that they were carried out."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mpfora.client.tasks import arguments
from mpfora.client.tasks.submit import as_it_was, find_task_id
from mpfora.client.tasks.unowned import settle_txn, state_of
from mpfora.client.tasks.wait import Waiter, wait_change, watching
from mpfora.errors import (
    AnsweredOtherwise,
    BadValue,
    CommandReplaced,
    MpforaError,
    NodeNotFound,
    NotCarriedOut,
    NotOnNode,
    NotTaken,
    TaskNotFound,
    UnreadableState,
)
from mpfora.model.state import TRANSITIONS, Message, State, TaskState, Verb
from mpfora.model.task import check_name
from mpfora.store.claim_records import parse_owner
from mpfora.store.command_records import GO_VERBS, format_message, format_node_command, parse_message
from mpfora.store.keys import MARKER, Layout
from mpfora.store.kv import KV, Answer, Event, Get, Put, Store, Txn, absent, created_at, exists, prefix_end
from mpfora.store.node_records import parse_member
from mpfora.store.state_records import parse_state

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


@dataclass(frozen=True, slots=True)
class Sent:
    """A command. revision: at which it was written; is_done: no node owned the task, and it is carried out already;
    owner: the claim of the node that is to carry it out, as it stood then."""

    revision: int
    is_done: bool = False
    owner: KV | None = None


class _Found(NamedTuple):
    task: Answer
    owner: Answer
    state: Answer
    props: Answer
    removal: Answer


def _no_task(state: object, verb: str) -> str:
    """Why no task can obey: it has finished, or there is none."""
    try:
        kept = parse_state(state.value) if isinstance(state, KV) else TaskState()
    except ValueError:
        kept = TaskState()
    if kept.terminal:
        return f"it has finished ({kept.state.value}): too late for {verb}"
    return "there is no such task"


def _current(task_id: str, message: Message, key: str, found: _Found) -> TaskState | None:
    """The task's state. None: it cannot be read, and the command is a release, which writes none. Raises NotTaken for a
    command that the state does not take, since its node would drop that, and UnreadableState."""
    try:
        kept = parse_state(found.state.value) if isinstance(found.state, KV) else None
    except ValueError as error:
        if message.verb is Verb.RELEASE:
            return None
        raise UnreadableState(task_id, message.verb.value, key, str(error)) from None
    current = state_of(kept, found.props) if found.owner is None else kept or TaskState()
    if (current.state, message.verb) not in TRANSITIONS:
        raise NotTaken(task_id, message.verb.value, current.state.value)
    return current


def _verb_of(command: bytes) -> str:
    try:
        return parse_message(command).verb.value
    except ValueError:
        return "one that cannot be read"


class Commander:
    """Writes commands. Raises what the store raises, and the errors named with each method."""

    def __init__(self, store: Store, layout: Layout, by: str = "") -> None:
        """by: who sends them."""
        self._store = store
        self._layout = layout
        self.by = by

    async def to_task(self, task_id: str, message: Message) -> Sent:
        """Write the command for the task's owner, or carry it out where nobody owns the task. Raises TaskNotFound
        (which says so where the task has finished), UnreadableState and NotTaken."""
        key = self._layout.commands(find_task_id(task_id))
        try:
            put = Put(key, format_message(message, self.by))
        except (ValueError, TypeError, OverflowError) as error:
            raise BadValue(f"message: {error}") from None
        while isinstance((found := await self._look(task_id)).task, KV):
            if found.removal is not None:
                raise TaskNotFound(task_id, f"it is being deleted: too late for {message.verb.value}")
            current = _current(task_id, message, self._layout.state(task_id), found)
            txn = self._txn(task_id, message, current, found, put)
            result = await self._store.txn(txn)
            if result.succeeded:
                owner = found.owner if isinstance(found.owner, KV) else None
                return Sent(result.revision, is_done=owner is None, owner=owner)
        raise TaskNotFound(task_id, _no_task(found.state, message.verb.value))

    async def _look(self, task_id: str) -> _Found:
        keys = self._layout
        reads = keys.task, keys.owner, keys.state, keys.props, keys.removal
        return _Found(*(await self._store.txn(Txn((), tuple(Get(key(task_id)) for key in reads)))).answers)

    def _txn(self, task_id: str, message: Message, current: TaskState | None, found: _Found, put: Put) -> Txn:
        if isinstance(found.owner, KV):
            key = self._layout.state(task_id)
            compares = created_at(found.owner.key, found.owner.create_revision), as_it_was(key, found.state)
            return Txn(compares, (put,))
        if current is None:  # nobody owns it: there is nothing to release
            return Txn((absent(self._layout.owner(task_id)),), ())
        return settle_txn(self._layout, task_id, message, current, found.task, found.state, found.props, time.time())

    async def wait_task(self, task_id: str, message: Message, sent: Sent) -> None:
        """Wait until the owner has taken the command, and the task is what the command asks for. Where the owner goes,
        this client carries the command out. Raises AnsweredOtherwise, CommandReplaced, and what to_task does."""
        while not sent.is_done:
            change = await self._first_change(task_id, sent.revision + 1)
            if change.key != self._layout.commands(task_id):
                sent = await self.to_task(task_id, message)
            elif change.deleted:
                return await self._wait_taken(task_id, message, sent, change.mod_revision)
            elif change.value != format_message(message, self.by).encode():
                raise CommandReplaced(task_id, message.verb.value, _verb_of(change.value))
            else:
                sent = replace(sent, revision=change.mod_revision)
        return None

    async def _first_change(self, task_id: str, revision: int) -> Event:
        """The first change of the command, or of the owner, if that goes and leaves the command."""
        command, owner = self._layout.commands(task_id), self._layout.owner(task_id)
        async with watching(self._store, command, owner + "\0", revision) as revisions:
            async for found in revisions:
                events = {event.key: event for event in found.events}
                if command in events:
                    return events[command]
                if owner in events and events[owner].deleted:
                    return events[owner]
        raise AssertionError("a watch does not end")

    async def _wait_taken(self, task_id: str, message: Message, sent: Sent, taken_at: int) -> None:
        """Wait for what follows a command that was taken at this revision."""
        if message.verb is Verb.RELEASE and sent.owner is not None:
            # a Go node takes a command first, and then does what it says, if its handler lets it
            await wait_change(self._store, sent.owner.key, sent.revision + 1)
        if message.verb not in _STATES_AFTER:
            return
        state = await self._written_at(task_id, taken_at)
        if state is not None and not carried_out(message, state):
            raise AnsweredOtherwise(task_id, message.verb.value, state.state.value)
        if state is None:
            await Waiter(self._store, self._layout, [task_id], lambda state: carried_out(message, state)).run()

    async def _written_at(self, task_id: str, revision: int) -> TaskState | None:
        """The state that the owner wrote when it took the command. None: it wrote none then, or has written another
        since. A Go node takes the command first."""
        found = (await self._store.txn(Txn((), (Get(self._layout.state(task_id)),)))).answers[0]
        try:
            return parse_state(found.value) if isinstance(found, KV) and found.mod_revision == revision else None
        except ValueError:
            return None

    async def to_node(self, name: str, verb: str, parameters: Mapping[str, Any]) -> tuple[str, int]:
        """Write a command for a node. Returns its key, and the revision at which it was written. Raises NodeNotFound;
        for a stop_task also TaskNotFound and NotOnNode."""
        try:
            check_name(arguments.text(name, "node name"), "node name")
            value = format_node_command(arguments.text(verb, "node command"), parameters, self.by)
        except BadValue:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise BadValue(str(error)) from None
        await self._check_knows(name, verb)
        if "task" in parameters:
            await self._check_has(name, str(parameters["task"]))
        key = self._layout.node_command(name, str(secrets.randbits(64)))
        result = await self._store.txn(Txn((exists(self._layout.member(name)),), (Put(key, value),)))
        if not result.succeeded:
            raise NodeNotFound(name, await live_nodes(self._store, self._layout))
        return key, result.revision

    async def _check_knows(self, name: str, verb: str) -> None:
        """Raises MpforaError for a verb that a Go node does not know. A Go node deletes such a command as if it were
        done."""
        (found,) = (await self._store.txn(Txn((), (Get(self._layout.member(name)),)))).answers
        try:
            is_go = isinstance(found, KV) and parse_member(name, found.value).is_go
        except ValueError:
            return
        if is_go and verb not in GO_VERBS:
            raise MpforaError(
                f"node {name!r} is a Go node, which knows {', '.join(GO_VERBS)}, and ignores {verb} silently:"
                " freeze it, and stop its tasks one by one"
            )

    async def _check_has(self, name: str, task_id: str) -> None:
        """Raises TaskNotFound or NotOnNode where this node does not have the task: it would drop the command. If the
        task moves before the node reads the command, the node's log says so."""
        keys = self._layout.task(find_task_id(task_id)), self._layout.owner(task_id), self._layout.state(task_id)
        task, owner, state = (await self._store.txn(Txn((), tuple(map(Get, keys))))).answers
        if not isinstance(task, KV):
            raise TaskNotFound(task_id, _no_task(state, "stop_task"))
        try:
            holder = parse_owner(owner.value)[0] if isinstance(owner, KV) else None
        except ValueError:  # somebody's own form: only the node can tell
            return
        if holder != name:
            raise NotOnNode(task_id, name, holder)

    async def wait_node(self, name: str, verb: str, key: str, revision: int, timeout_s: float) -> None:
        """Wait until the node has taken the command. Raises NotCarriedOut."""
        try:
            async with asyncio.timeout(timeout_s):
                await wait_change(self._store, key, revision + 1)
        except TimeoutError:
            raise NotCarriedOut(f"node {name!r} has not taken {verb} within {timeout_s:g} s") from None


async def live_nodes(store: Store, layout: Layout) -> list[str]:
    """Their names, in order."""
    start = layout.nodes
    keys = [kv.key[len(start) :].split("/") for kv in (await store.list(start, prefix_end(start))).kvs]
    return sorted(parts[0] for parts in keys if len(parts) == 2 and parts[1] == MARKER)
