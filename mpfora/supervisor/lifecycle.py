"""The life of one claimed task on this node: which process it has, what is to become of it, what is being written.
Pure.

Events are written into a Slot (slot.py); then `advance` looks at the whole slot and says what is to be done next. At
most one write is under way per slot, and a write that ends the claim is made only when the process tree is
dead.
"""

from __future__ import annotations

from dataclasses import replace

from mpfora.history import RUNS_KEPT, Run
from mpfora.outcome import Cause, Outcome
from mpfora.states import TRANSITIONS, Message, State, TaskState, Verb, next_state
from mpfora.supervisor import commands as do
from mpfora.supervisor.changes import TaskCommandPut
from mpfora.supervisor.coordinator import Update
from mpfora.supervisor.ending import ERROR_LINE_LIMIT, answer_fault, conclude
from mpfora.supervisor.slot import Process, Site, Slot, Write
from mpfora.supervisor.suspects import read_suspicion

#: a run that nobody asked to leave is given back this long after its start at the earliest, so that a handler that
#: leaves at once does not make the cluster claim it thousands of times a minute
LEAST_RUN_S = 1.0


def advance(slot: Slot, site: Site) -> list[do.Command]:
    """What is to be done for this slot now. Called after every event that touched it, and at its own times."""
    if slot.lost:
        return _abandon(slot)
    steps = _steer(slot, site)
    if slot.adrift:
        return steps
    if slot.writing is None:
        steps += _settle(slot, site)
    elif slot.write_again_s is not None and site.now.boot_s >= slot.write_again_s:
        slot.write_again_s = None
        steps.append(slot.writing)
    return steps


def wake_at(slot: Slot, site: Site) -> float | None:
    """Boot time at which `advance` has something to do by itself."""
    times = [at for at in (slot.kill_at_s, slot.write_again_s) if at is not None]
    if slot.process is not Process.NONE and slot.is_held and slot.writing is None and slot.unsaved is not None:
        times.append(slot.save_again_s)
    if slot.process is Process.NONE and slot.writing is None:
        if slot.state.state is State.SLEEPING and slot.state.until is not None:
            times.append(site.now.boot_s + max(0.0, slot.state.until - site.now.wall_s))
        if slot.not_before_s > site.now.boot_s:
            times.append(slot.not_before_s)
    return min(times, default=None)


def _abandon(slot: Slot) -> list[do.Command]:
    """The claim is another's, or may soon be: the process must be dead at once, and nothing is written."""
    slot.writing = slot.write_again_s = slot.kill_at_s = None
    if slot.process is Process.NONE:
        return []
    return _hasten(slot) if slot.process is Process.KILLING else _kill(slot, Cause.LOST_CLAIM, dump=False)


# -- the process -----------------------------------------------------------------------------------


def _steer(slot: Slot, site: Site) -> list[do.Command]:
    """The ladder: ask, wait stop_timeout, kill."""
    if slot.process is Process.NONE:
        return []
    if slot.process is Process.KILLING:
        return _hasten(slot) if site.kill_all else []
    if site.kill_all:
        return _kill(slot, Cause.STOP_TIMEOUT, dump=False)
    steps = _ask(slot, site) if slot.process is Process.RUNNING else []
    if slot.kill_at_s is not None and site.now.boot_s >= slot.kill_at_s:
        steps += _kill(slot, Cause.STOP_TIMEOUT, dump=True)
    return steps


def _ask(slot: Slot, site: Site) -> list[do.Command]:
    wish = _wish(slot, site)
    if wish is None:
        return []
    message, reason = wish
    slot.process = Process.STOPPING
    slot.kill_at_s = site.now.boot_s + slot.limits.stop_timeout_s
    if slot.command is not None and slot.command.message is message:
        slot.asked_revision = slot.command.revision
    return [do.AskStop(slot.run, message, reason, slot.limits.stop_timeout_s)]


def _kill(slot: Slot, cause: Cause, *, dump: bool) -> list[do.Command]:
    slot.process, slot.kill_at_s, slot.dumping = Process.KILLING, None, dump
    return [do.Kill(slot.run, cause, dump)]


def _hasten(slot: Slot) -> list[do.Command]:
    """There is no time for the dump any more. The first cause holds."""
    return _kill(slot, Cause.STOP_TIMEOUT, dump=False) if slot.dumping else []


def _wish(slot: Slot, site: Site) -> tuple[Message, str] | None:
    """Why a running process should end, if it should."""
    if slot.command is not None and ends_a_run(slot.command.message) and _is_valid(slot, slot.command):
        return slot.command.message, f"{slot.command.message.verb.value} command"
    if slot.leave:
        return Message.release(), slot.leave
    return (Message.release(), site.stop_all) if site.stop_all else None


def _is_valid(slot: Slot, command: TaskCommandPut) -> bool:
    return (slot.state.state, command.message.verb) in TRANSITIONS


def ends_a_run(message: Message) -> bool:
    """Whether a command can be carried out only with the process gone."""
    return message.verb not in (Verb.RUN, Verb.CHECKPOINT)


# -- what is kept of it ----------------------------------------------------------------------------


def _settle(slot: Slot, site: Site) -> list[do.Command]:
    """The next write or fork; the order of the cases is the order of their urgency."""
    if slot.process is not Process.NONE:
        return _settle_running(slot, site)
    if slot.outcome is not None:
        return _conclude(slot, site)
    if slot.hold:
        return _hold(slot)
    if slot.cut_short:
        slot.cut_short = False
        return _write(slot, do.Keep(slot.claim, Update(slot.state, history=slot.history)))
    if slot.state.state is State.FAULT:
        return _answer_fault(slot, site)
    if slot.state.terminal:
        return _finish(slot, site, Update())
    if slot.sleeps_first is not None:
        return _sleep_first(slot, slot.sleeps_first)
    if slot.command is not None:
        steps = _obey(slot, slot.command, site)
        return steps if slot.writing is not None else steps + _settle(slot, site)
    if slot.leave:
        return _write(slot, do.Release(slot.claim, Update(checkpoint_json=slot.unsaved)))
    if slot.unsaved is not None:
        return _write(slot, do.Keep(slot.claim, Update(checkpoint_json=slot.unsaved)))
    if slot.state.state is State.SLEEPING:
        return _wake(slot, site)
    if slot.state.state is State.RUNNABLE:
        return _start(slot, site)
    return []


def _hold(slot: Slot) -> list[do.Command]:
    """A task whose kept state nobody can read: no state is written over that, and so a command can do no more than give
    the claim back. What is to become of the task is for people to say, who mend its state, or delete it."""
    command = slot.command
    if slot.leave:
        return _write(slot, do.Release(slot.claim, Update()))
    if command is None:
        return []
    if command.message.verb is Verb.RELEASE:
        return _write(slot, do.Release(slot.claim, Update(command_revision=command.revision)))
    return _drop(slot, command, "its state cannot be read")


def _settle_running(slot: Slot, site: Site) -> list[do.Command]:
    command = slot.command
    if command is not None and not _is_valid(slot, command):
        return _drop_invalid(slot, command) + _settle_running(slot, site)
    if command is not None and _can_be_taken(slot, command.message):
        ask = [do.AskCheckpoint(slot.run)] if command.message.verb is Verb.CHECKPOINT else []
        return [*ask, _take(slot, command), *_settle_running(slot, site)]
    if slot.unsaved is not None and site.now.boot_s >= slot.save_again_s:
        slot.save_again_s = site.now.boot_s + site.save_every_s
        return _write(slot, do.Keep(slot.claim, Update(checkpoint_json=slot.unsaved)))
    return []


def _can_be_taken(slot: Slot, message: Message) -> bool:
    """Whether a command is carried out by the process as it is. A `run` that overtakes a `pause` waits for the end:
    only then is known what there is to run."""
    return message.verb is Verb.CHECKPOINT or (message.verb is Verb.RUN and slot.process is Process.RUNNING)


def _take(slot: Slot, command: TaskCommandPut) -> do.Command:
    slot.command, slot.taken_revision = None, command.revision
    return do.TakeTaskCommand(slot.task_id, command.revision)


def _drop_invalid(slot: Slot, command: TaskCommandPut) -> list[do.Command]:
    """A command that has no place in the task's state."""
    return _drop(slot, command, f"the task is {slot.state.state.value}")


def _drop(slot: Slot, command: TaskCommandPut, why: str) -> list[do.Command]:
    text = f"command {command.message.verb.value!r} dropped: {why}"
    return [do.Say("warning", text, slot.task_id), _take(slot, command)]


def _finish(slot: Slot, site: Site, update: Update) -> list[do.Command]:
    state = update.state or slot.state
    if site.keep_finished_s is not None and state.kept_until is None:
        kept_until = float(int(site.now.wall_s + site.keep_finished_s))
        update = replace(update, state=replace(state, kept_until=kept_until))
    return _write(slot, do.Finish(slot.claim, update))


def _conclude(slot: Slot, site: Site) -> list[do.Command]:
    assert slot.outcome is not None
    command = slot.command if slot.command is not None and slot.command.revision == slot.asked_revision else None
    ending = conclude(
        slot.state,
        slot.outcome,
        asked=command.message if command else None,
        retry=slot.retry,
        node=site.node,
        started=slot.started_wall_s,
        now=site.now.wall_s,
        rng=site.rng,
        verdict=slot.verdict,
    )
    newer_command = slot.command is not None and command is None
    rested_s = slot.started_s + LEAST_RUN_S
    if ending.give_back and not (slot.leave or slot.command or site.stop_all) and site.now.boot_s < rested_s:
        slot.not_before_s = rested_s
        return []
    update = Update(
        ending.state,
        ending.checkpoint_json or slot.unsaved,
        command.revision if command else None,
        history=(*slot.history, _run_of(slot, slot.outcome, ending.state))[-RUNS_KEPT:],
    )
    if ending.state.terminal:
        return _finish(slot, site, update)
    if (ending.give_back or slot.leave) and not newer_command:
        return _write(slot, do.Release(slot.claim, update))
    return _write(slot, do.Keep(slot.claim, update))


def _run_of(slot: Slot, outcome: Outcome, state: TaskState) -> Run:
    """What is kept of a run in the history, once it is known what it makes of the task."""
    told = next((error.text for error in reversed(state.errors) if (error.at, error.cause) == _mark(state)), "")
    return Run(
        node=state.node,
        attempt=state.attempt,
        fence=slot.claim.fence,
        started=state.started,
        ended=state.ended,
        cause=state.cause,
        error=(told or outcome.error).partition("\n")[0][:ERROR_LINE_LIMIT],
        cpu_s=round(outcome.usage.cpu_s, 3),
        max_rss=outcome.usage.max_rss,
    )


def _mark(state: TaskState) -> tuple[float | None, str]:
    """By which the error of a state's last run is known among its errors."""
    return state.ended, state.cause


def _answer_fault(slot: Slot, site: Site) -> list[do.Command]:
    """A Go node left it between an error and what its policy says."""
    state = answer_fault(slot.state, slot.retry, site.now.wall_s, site.rng)
    update = Update(state, slot.unsaved)
    return _finish(slot, site, update) if state.terminal else _write(slot, do.Keep(slot.claim, update))


def _obey(slot: Slot, command: TaskCommandPut, site: Site) -> list[do.Command]:
    """Carry out a command on a task without a process."""
    if not _is_valid(slot, command):
        return _drop_invalid(slot, command)
    if command.message.verb is Verb.RUN and slot.state.state is State.RUNNABLE:
        return [_take(slot, command)]
    update = Update(next_state(slot.state, command.message), slot.unsaved, command.revision)
    assert update.state is not None
    if update.state.terminal:
        return _finish(slot, site, update)
    if command.message.verb is Verb.RUN:
        return _rouse(slot, site, update)
    if command.message.verb is Verb.RELEASE:
        return _write(slot, do.Release(slot.claim, update))
    return _write(slot, do.Keep(slot.claim, update))


def _wake(slot: Slot, site: Site) -> list[do.Command]:
    """A sleeper whose time has come is runnable."""
    if slot.state.until is not None and slot.state.until > site.now.wall_s:
        return []
    return _rouse(slot, site, Update(next_state(slot.state, Message.run())))


def _rouse(slot: Slot, site: Site, update: Update) -> list[do.Command]:
    """A task that rested is runnable: here if there is room, else anywhere."""
    if site.rooms < 1:
        return _write(slot, do.Release(slot.claim, update))
    site.rooms -= 1
    return _write(slot, do.Keep(slot.claim, update))


def _sleep_first(slot: Slot, until: float) -> list[do.Command]:
    """A task that was never run, and is not to be before its time. If that has come it wakes up at once: as every
    sleeper it was claimed without asking whether there is room."""
    slot.sleeps_first = None
    return _write(slot, do.Keep(slot.claim, Update(next_state(slot.state, Message.sleep(until)))))


def _start(slot: Slot, site: Site) -> list[do.Command]:
    if not site.may_fork or site.stop_all or site.now.boot_s < slot.not_before_s:
        return []
    return _fail_to_start(slot, site) if slot.bad_props else _fork(slot, site)


def _fail_to_start(slot: Slot, site: Site) -> list[do.Command]:
    """A run that ends before there is a process for it."""
    slot.started_s, slot.started_wall_s = site.now.boot_s, site.now.wall_s
    slot.outcome = Outcome(Cause.START_FAILED, error=slot.bad_props)
    return [do.Say("warning", f"not started: {slot.bad_props}", slot.task_id), *_conclude(slot, site)]


def _fork(slot: Slot, site: Site) -> list[do.Command]:
    suspicion = read_suspicion(slot.state)
    if not site.trials.may_start(slot.task_id, suspicion, site.now.boot_s):
        return []
    site.trials.started(slot.task_id, suspicion, site.now.boot_s)
    slot.process, slot.run = Process.RUNNING, site.new_run()
    slot.started_s = slot.saved_s = site.now.boot_s
    slot.started_wall_s = site.now.wall_s
    fork = do.Fork(
        slot.run,
        slot.task_id,
        slot.handler,
        slot.props_json,
        slot.claim.fence,
        slot.state.attempt + 1,
        slot.checkpoint_json,
        slot.limits,
    )
    return [fork]


def _write(slot: Slot, write: Write) -> list[do.Command]:
    if isinstance(write, do.Release) and (slot.leave_to is not None or slot.cost is not None):
        write = do.Release(write.claim, replace(write.update, to=slot.leave_to, cost=slot.cost))
    slot.writing, slot.write_again_s = write, None
    return [write]
