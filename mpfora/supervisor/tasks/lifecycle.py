"""The life of one claimed task on this node: which process it has, what it needs next, what is being written. Pure.

Events are noted in a ClaimedTask (claimed_task.py); then `advance` looks at the whole of it and says what is to be done
next. At most one write is under way for each task. A write that ends the claim is made only when the process tree is
dead.
"""

from __future__ import annotations

from dataclasses import replace

from mpfora.cluster.changes import TaskCommandPut
from mpfora.config.props import kept_of_props, named_in
from mpfora.model.history import Run
from mpfora.model.outcome import UNMEASURED, Cause, Outcome
from mpfora.model.run_spec import RunSpec
from mpfora.model.state import Message, State, TaskState, Verb, next_state
from mpfora.model.units import held_time
from mpfora.store.history_records import RUNS_KEPT
from mpfora.supervisor import actions as do
from mpfora.supervisor.coordinator.interface import Update
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, NodeConditions, Process, Write
from mpfora.supervisor.tasks.ending import ERROR_LINE_LIMIT, answer_fault, conclude, poisoned
from mpfora.supervisor.tasks.node_poison import (
    EARLY_S,
    FIELD,
    NOTHING,
    SOON_S,
    NodeSuspicion,
    after_end,
    read_node_suspicion,
    with_node_suspicion,
)
from mpfora.supervisor.tasks.stop_ladder import abandon, is_valid, next_steps
from mpfora.supervisor.tasks.zygote_poison import read_suspicion

#: the least time between two starts of a task that leaves by itself, or sleeps until a time that is over: else a
#: handler that leaves at once would be run thousands of times a minute
LEAST_RUN_S = 1.0
#: a task that sleeps longer than this is given back: until its time comes nobody owns it, and it costs nothing
HELD_SLEEP_S = 60.0


def advance(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    """What is to be done for this claimed task now. Called after every event that touched it, and at its own times."""
    if claimed.lost:
        return abandon(claimed)
    steps = next_steps(claimed, conditions)
    if claimed.unclaimed:
        return steps
    if claimed.writing is None:
        steps += _settle(claimed, conditions)
    elif claimed.write_again_s is not None and conditions.now.boot_s >= claimed.write_again_s:
        claimed.write_again_s = None
        steps.append(claimed.writing)
    return steps


def wake_at(claimed: ClaimedTask, conditions: NodeConditions) -> float | None:
    """Boot time at which `advance` has something to do by itself."""
    times = [at for at in (claimed.kill_at_s, claimed.write_again_s) if at is not None]
    if (
        claimed.process is not Process.NONE
        and claimed.is_held
        and claimed.writing is None
        and claimed.unsaved is not None
    ):
        times.append(claimed.save_again_s)
    if (
        claimed.process is not Process.NONE
        and claimed.is_held
        and claimed.writing is None
        and FIELD in claimed.state.extra
    ):
        times.append(claimed.started_s + _node_suspicion_changes_s(claimed))
    if claimed.process is Process.NONE and claimed.writing is None:
        if claimed.state.state is State.SLEEPING and claimed.state.until is not None:
            times.append(conditions.now.boot_s + max(0.0, claimed.state.until - conditions.now.wall_s))
        if claimed.not_before_s > conditions.now.boot_s:
            times.append(claimed.not_before_s)
    return min(times, default=None)


# -- what is kept of it ----------------------------------------------------------------------------


def _settle(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    """The next write or fork; the order of the cases is the order of their urgency."""
    if claimed.process is not Process.NONE:
        return _settle_running(claimed, conditions)
    if claimed.removed:
        return _write(claimed, do.Remove(claimed.claim))
    if claimed.outcome is not None:
        return _conclude(claimed, conditions)
    if claimed.hold:
        return _hold(claimed)
    if claimed.cut_short:
        claimed.cut_short = False
        return _write(claimed, do.Keep(claimed.claim, Update(claimed.state, history=claimed.history)))
    if claimed.state.state is State.FAULT:
        return _answer_fault(claimed, conditions)
    if claimed.state.terminal:
        return _finish(claimed, conditions, Update())
    if claimed.sleeps_first is not None:
        return _sleep_first(claimed, conditions, claimed.sleeps_first)
    if claimed.command is not None:
        steps = _obey(claimed, claimed.command, conditions)
        return steps if claimed.writing is not None else steps + _settle(claimed, conditions)
    if claimed.leave:
        return _write(claimed, do.Release(claimed.claim, Update(checkpoint_json=claimed.unsaved)))
    if claimed.unsaved is not None:
        return _write(claimed, do.Keep(claimed.claim, Update(checkpoint_json=claimed.unsaved)))
    if claimed.state.state is State.SLEEPING:
        return _wake(claimed, conditions)
    if claimed.state.state is State.RUNNABLE:
        return _start(claimed, conditions)
    return []


def _hold(claimed: ClaimedTask) -> list[do.Action]:
    """A task whose state cannot be read, or cannot be written: none is written, and so a command can do no more than
    give the claim back. People decide about the task: they mend its state, or delete it."""
    command = claimed.command
    if claimed.leave:
        return _write(claimed, do.Release(claimed.claim, Update()))
    if command is None:
        return []
    if command.message.verb is Verb.RELEASE:
        return _write(claimed, do.Release(claimed.claim, Update(command_revision=command.revision)))
    return _drop(claimed, command, claimed.hold)


def _settle_running(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    command = claimed.command
    if command is not None and not is_valid(claimed, command):
        return _drop_invalid(claimed, command) + _settle_running(claimed, conditions)
    if command is not None and _can_be_taken(claimed, command.message):
        ask = [do.AskCheckpoint(claimed.run)] if command.message.verb is Verb.CHECKPOINT else []
        return [*ask, _take(claimed, command), *_settle_running(claimed, conditions)]
    if claimed.unsaved is not None and conditions.now.boot_s >= claimed.save_again_s:
        claimed.save_again_s = conditions.now.boot_s + conditions.save_every_s
        return _write(claimed, do.Keep(claimed.claim, Update(checkpoint_json=claimed.unsaved)))
    if FIELD in claimed.state.extra and conditions.now.boot_s >= claimed.started_s + _node_suspicion_changes_s(claimed):
        held = read_node_suspicion(claimed.state)
        is_cleared = conditions.now.boot_s >= claimed.started_s + SOON_S
        changed = with_node_suspicion(claimed.state, NOTHING if is_cleared else replace(held, late=True))
        return _write(claimed, do.Keep(claimed.claim, Update(changed)))
    return []


def _node_suspicion_changes_s(claimed: ClaimedTask) -> float:
    """How long a run lives until less is held against it: a trial is late then, or its task is cleared."""
    held = read_node_suspicion(claimed.state)
    return EARLY_S if held.trial and not held.late else SOON_S


def _can_be_taken(claimed: ClaimedTask, message: Message) -> bool:
    """Whether a command is carried out by the process as it is. A `run` that overtakes a `pause` waits for the end:
    only then is known what there is to run."""
    return message.verb is Verb.CHECKPOINT or (message.verb is Verb.RUN and claimed.process is Process.RUNNING)


def _take(claimed: ClaimedTask, command: TaskCommandPut) -> do.Action:
    claimed.command, claimed.taken_revision = None, command.revision
    return do.TakeTaskCommand(claimed.task_id, command.revision)


def _drop_invalid(claimed: ClaimedTask, command: TaskCommandPut) -> list[do.Action]:
    """A command that has no place in the task's state."""
    return _drop(claimed, command, f"the task is {claimed.state.state.value}")


def _drop(claimed: ClaimedTask, command: TaskCommandPut, why: str) -> list[do.Action]:
    text = f"command {command.message.verb.value!r} dropped: {why}"
    return [do.Say("warning", text, claimed.task_id), _take(claimed, command)]


def _finish(claimed: ClaimedTask, conditions: NodeConditions, update: Update) -> list[do.Action]:
    state = update.state or claimed.state
    kept_until = state.kept_until
    if conditions.keep_finished_s is not None and kept_until is None:
        kept_until = float(int(held_time(conditions.now.wall_s + conditions.keep_finished_s)))
    handler, group = named_in(claimed.props_json)  # the props go with the task
    can_be_retried = state.state in (State.FAILED, State.KILLED)
    state = replace(
        state,
        kept_until=kept_until,
        handler=claimed.handler or handler or state.handler,
        group=group or state.group,
        props=kept_of_props(claimed.props_json) if can_be_retried else "",
    )
    if state != claimed.state:
        update = replace(update, state=state)
    return _write(claimed, do.Finish(claimed.claim, update))


def _conclude(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    assert claimed.outcome is not None
    command = (
        claimed.command if claimed.command is not None and claimed.command.revision == claimed.asked_revision else None
    )
    ending = conclude(
        after_end(claimed.state, claimed.outcome, conditions.now.boot_s - claimed.started_s),
        claimed.outcome,
        asked=command.message if command else None,
        retry=claimed.retry,
        node=conditions.node,
        started=claimed.started_wall_s,
        now=conditions.now.wall_s,
        rng=conditions.rng,
        verdict=claimed.verdict,
    )
    if claimed.renew and claimed.command is None and not (claimed.leave or conditions.stop_all):
        ending = replace(ending, give_back=False)  # it goes on here, in newer code
    newer_command = claimed.command is not None and command is None
    rested_s = claimed.started_s + LEAST_RUN_S
    if (
        ending.give_back
        and not (claimed.leave or claimed.command or conditions.stop_all)
        and conditions.now.boot_s < rested_s
    ):
        claimed.not_before_s = rested_s
        return []
    if claimed.outcome.message is not None and ending.state.state is State.SLEEPING:
        claimed.not_before_s = rested_s  # it may sleep until a time that is over
    update = Update(
        ending.state,
        ending.checkpoint_json or claimed.unsaved,
        command.revision if command else None,
        history=(*claimed.history, _run_of(claimed, claimed.outcome, ending.state))[-RUNS_KEPT:],
    )
    if ending.state.terminal:
        return _finish(claimed, conditions, update)
    if (ending.give_back or claimed.leave) and not newer_command:
        return _write(claimed, do.Release(claimed.claim, update))
    return _rest(claimed, conditions, update)


def _run_of(claimed: ClaimedTask, outcome: Outcome, state: TaskState) -> Run:
    """The history entry of a finished run. state: the one that the run has led to."""
    told = next((error.text for error in reversed(state.errors) if (error.at, error.cause) == _mark(state)), "")
    is_measured = outcome.usage != UNMEASURED
    return Run(
        node=state.node,
        attempt=state.attempt,
        fence=claimed.claim.fence,
        started=state.started,
        ended=state.ended,
        cause=state.cause,
        error=(told or outcome.error).partition("\n")[0][:ERROR_LINE_LIMIT],
        cpu_s=round(outcome.usage.cpu_s, 3) if is_measured else None,
        max_rss=outcome.usage.max_rss if is_measured else None,
    )


def _mark(state: TaskState) -> tuple[float | None, str]:
    """Identifies the error of a state's last run among its errors."""
    return state.ended, state.cause


def _answer_fault(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    """A Go node left it between an error and what its policy says."""
    state = answer_fault(claimed.state, claimed.retry, conditions.now.wall_s, conditions.rng)
    update = Update(state, claimed.unsaved)
    return _finish(claimed, conditions, update) if state.terminal else _write(claimed, do.Keep(claimed.claim, update))


def _obey(claimed: ClaimedTask, command: TaskCommandPut, conditions: NodeConditions) -> list[do.Action]:
    """Carry out a command on a task without a process."""
    if not is_valid(claimed, command):
        return _drop_invalid(claimed, command)
    if command.message.verb is Verb.RUN and claimed.state.state is State.RUNNABLE:
        return [_take(claimed, command)]
    update = Update(next_state(claimed.state, command.message), claimed.unsaved, command.revision)
    assert update.state is not None
    if update.state.terminal:
        return _finish(claimed, conditions, update)
    if command.message.verb is Verb.RUN:
        return _rouse(claimed, conditions, update)
    if command.message.verb is Verb.RELEASE:
        return _write(claimed, do.Release(claimed.claim, update))
    return _rest(claimed, conditions, update)


def _rest(claimed: ClaimedTask, conditions: NodeConditions, update: Update) -> list[do.Action]:
    """A state without a process is written. The claim is kept, unless the task sleeps long and nothing else is asked
    of it."""
    command, state = claimed.command, update.state or claimed.state
    is_alone = command is None or command.revision == update.command_revision
    if is_alone and claimed.heard and _sleeps_long(state, conditions):
        return _write(claimed, do.Release(claimed.claim, update))
    return _write(claimed, do.Keep(claimed.claim, update))


def _sleeps_long(state: TaskState, conditions: NodeConditions) -> bool:
    is_asleep = state.state is State.SLEEPING and state.until is not None
    return is_asleep and (state.until or 0.0) > conditions.now.wall_s + HELD_SLEEP_S


def _wake(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    """A sleeper whose time has come is runnable. One that sleeps long is given back."""
    if claimed.heard and _sleeps_long(claimed.state, conditions):
        # its state is written again: the nodes may not know of it, as it was there before its task was
        return _write(claimed, do.Release(claimed.claim, Update(claimed.state, claimed.unsaved)))
    if claimed.state.until is not None and claimed.state.until > conditions.now.wall_s:
        return []
    return _rouse(claimed, conditions, Update(next_state(claimed.state, Message.run())))


def _rouse(claimed: ClaimedTask, conditions: NodeConditions, update: Update) -> list[do.Action]:
    """A task that rested is runnable: here if there is room, else anywhere."""
    if not conditions.take_room(claimed.needs):
        return _write(claimed, do.Release(claimed.claim, update))
    return _write(claimed, do.Keep(claimed.claim, update))


def _sleep_first(claimed: ClaimedTask, conditions: NodeConditions, until: float) -> list[do.Action]:
    """A task that was never run, and that sleeps first. If its time has come it wakes up at once: like every sleeper it
    was claimed without asking whether there is room."""
    claimed.sleeps_first = None
    return _rest(claimed, conditions, Update(next_state(claimed.state, Message.sleep(until))))


def _start(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    if conditions.trouble and not claimed.bad_props:
        return _give_back(claimed, conditions.trouble)
    if not conditions.may_fork or conditions.stop_all or conditions.now.boot_s < claimed.not_before_s:
        return []
    return _fail_to_start(claimed, conditions) if claimed.bad_props else _fork(claimed, conditions)


def _give_back(claimed: ClaimedTask, why: str) -> list[do.Action]:
    """To whoever can run it. It has had no run here."""
    said = do.Say("info", f"given back: {why}", claimed.task_id)
    return [said, *_write(claimed, do.Release(claimed.claim, Update(checkpoint_json=claimed.unsaved)))]


def _fail_to_start(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    """A run that ends before there is a process for it."""
    claimed.started_s, claimed.started_wall_s = conditions.now.boot_s, conditions.now.wall_s
    claimed.outcome = Outcome(Cause.START_FAILED, error=claimed.bad_props)
    return [do.Say("warning", f"not started: {claimed.bad_props}", claimed.task_id), *_conclude(claimed, conditions)]


def _fork(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    suspicion = read_suspicion(claimed.state)
    if not conditions.zygote_isolation.may_start(claimed.task_id, suspicion, conditions.now.boot_s):
        return []
    held = read_node_suspicion(claimed.state)
    if not conditions.node_isolation.may_start(claimed.task_id, held, conditions.now.boot_s):
        return []
    if held.is_tried and not held.trial:
        return _try_alone(claimed, held.without_living(conditions.lives), conditions)
    if not conditions.allocations.may_start(claimed.task_id, claimed.needs):
        return []
    conditions.zygote_isolation.started(claimed.task_id, suspicion, conditions.now.boot_s, conditions.generation)
    conditions.node_isolation.started(claimed.task_id, conditions.now.boot_s)
    claimed.process, claimed.run = Process.RUNNING, conditions.new_run()
    claimed.generation, claimed.renew = conditions.generation, ""
    claimed.started_s = claimed.saved_s = conditions.now.boot_s
    claimed.started_wall_s = conditions.now.wall_s
    spec = RunSpec(
        claimed.task_id,
        claimed.handler,
        claimed.props_json,
        claimed.claim.fence,
        claimed.state.attempt + 1,
        claimed.checkpoint_json,
        claimed.limits,
        conditions.allocations.give(claimed.run, claimed.needs),
    )
    return [do.Fork(claimed.run, spec, claimed.generation)]


def _try_alone(claimed: ClaimedTask, held: NodeSuspicion, conditions: NodeConditions) -> list[do.Action]:
    """A suspect whose control is over. Nodes that were only cut off have come back by now."""
    if held.is_poison:
        failed = poisoned(claimed.state, held.text, conditions.now.wall_s)
        conditions.node_isolation.forget(claimed.task_id)
        return _finish(claimed, conditions, Update(failed, history=claimed.history))
    state = with_node_suspicion(claimed.state, replace(held, trial=held.is_tried, late=False))
    return _write(claimed, do.Keep(claimed.claim, Update(state)))


def _write(claimed: ClaimedTask, write: Write) -> list[do.Action]:
    if isinstance(write, do.Release) and (claimed.leave_to is not None or claimed.cost is not None):
        write = do.Release(write.claim, replace(write.update, to=claimed.leave_to, cost=claimed.cost))
    claimed.writing, claimed.write_again_s = write, None
    return [write]
