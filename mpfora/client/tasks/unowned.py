"""What a command makes of a task that no node owns: the client carries it out itself, as its owner would. Pure.

There is no process, so that a command is a change of the kept state, in one transaction that compares that there is
still no owner, and the same task and state.
"""

from __future__ import annotations

from dataclasses import replace

from mpfora.client.tasks.submit import as_it_was
from mpfora.config.props import BadSetting, kept_of_props, named_in, read_task_settings
from mpfora.config.settings import KEEP_FINISHED_S
from mpfora.model.state import Message, State, TaskState, Verb, next_state
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Answer, Delete, DeletePrefix, Op, Put, Txn, absent
from mpfora.store.state_records import format_state


def state_of(kept: TaskState | None, props: Answer) -> TaskState:
    """The state as an owner would take it: a task without one that is not to run before its time sleeps."""
    if kept is not None:
        return kept
    try:
        text = props.value.decode(errors="replace") if isinstance(props, KV) else ""
        until = read_task_settings(text).not_before
    except BadSetting:
        return TaskState()  # its first run fails of that
    return TaskState() if until is None else TaskState(State.SLEEPING, until=until)


def settle_txn(layout: Layout, task_id: str, message: Message, current: TaskState, task: Answer, state: Answer,
               props: Answer, now_s: float) -> Txn:  # fmt: skip
    """The command, carried out. It is in the place of whatever other command waits for an owner. `current` is what
    `state_of` says; raises InvalidMessage where that takes no such message."""
    task_key, state_key = layout.task(task_id), layout.state(task_id)
    compares = absent(layout.owner(task_id)), as_it_was(task_key, task), as_it_was(state_key, state)
    after = next_state(current, message)
    ops: tuple[Op, ...] = (Delete(layout.commands(task_id)),)
    if after.terminal:
        handler, group = named_in(props.value) if isinstance(props, KV) else ("", "")
        until = float(int(now_s + KEEP_FINISHED_S))
        text = props.value.decode(errors="replace") if isinstance(props, KV) else ""
        kept = "" if after.state is State.COMPLETED else kept_of_props(text)
        after = replace(after, kept_until=until, handler=handler, group=group, props=kept)
        ops = _finish_ops(layout, task_id, after)
    elif not _is_done_already(current, message):
        ops = (*ops, Put(state_key, format_state(after)))
    return Txn(compares, ops)


def _is_done_already(current: TaskState, message: Message) -> bool:
    """Nothing runs that could save something or let go."""
    leaves = message.verb in (Verb.RELEASE, Verb.CHECKPOINT)
    return leaves or (message.verb is Verb.RUN and current.state is State.RUNNABLE)


def _finish_ops(layout: Layout, task_id: str, after: TaskState) -> tuple[Op, ...]:
    """The state stays as long as a node keeps one by default, and the task goes."""
    assert after.kept_until is not None
    puts = Put(layout.state(task_id), format_state(after)), Put(layout.finished_until(after.kept_until, task_id), b"")
    gone = Delete(layout.task(task_id)), Delete(layout.checkpoint(task_id)), Delete(layout.released(task_id))
    return *puts, *gone, DeletePrefix(layout.below_task(task_id))
