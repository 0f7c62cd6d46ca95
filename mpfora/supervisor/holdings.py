"""The tasks that this node holds: a Slot for each claim, from the claim's winning to its end. Pure.

Events are absorbed into slots here and mark them dirty; `decide` advances the dirty ones. Every method returns what
is to be done or said at once. See lifecycle.py for what a slot does, claiming.py for how a claim is won.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mpfora.config import Settings
from mpfora.handlers import HandlerSettings
from mpfora.history import RUNS_KEPT, Run
from mpfora.keys import parse_wants
from mpfora.model import Claim
from mpfora.outcome import Cause, Outcome
from mpfora.states import State, TaskState
from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.answers import ended, explained, not_written, rejected, written
from mpfora.supervisor.coordinator import Update, Won
from mpfora.supervisor.lifecycle import advance, wake_at
from mpfora.supervisor.mirror import UNSEEN, Mirror, TaskView
from mpfora.supervisor.slot import Process, Site, Slot
from mpfora.supervisor.suspects import NO_VERDICT, Trials, Verdict, read_suspicion, rest_s
from mpfora.supervisor.timers import Timers
from mpfora.task_settings import BadSetting, TaskSettings, read_task_settings


class Holdings:
    """slots    by task id, in the order of winning; read by the core, written here only
    handlers what the zygote imported: name -> what its @handler declared
    """

    def __init__(self, settings: Settings, mirror: Mirror, rng: random.Random) -> None:
        self._settings, self._mirror, self._rng = settings, mirror, rng
        self.slots: dict[str, Slot] = {}
        self.handlers: Mapping[str, HandlerSettings] = {}
        self._runs: dict[int, Slot] = {}
        self._timers: Timers[str] = Timers()
        self._dirty: dict[str, None] = {}
        #: slots that need no process, as of when they were dirty last: whatever changes a slot makes it dirty
        self._resting: set[str] = set()
        self._next_run = 1
        self.trials = Trials()
        #: slots that are adrift
        self._adrift: dict[str, None] = {}
        #: claims whose slots were dropped since `take_dropped`
        self._dropped: list[Claim] = []

    # -- what others ask ------------------------------------------------------------------------------

    def rooms(self) -> float:
        """How many more tasks that need a process may be held."""
        if self._settings.capacity is None:
            return float("inf")
        for task_id in self._dirty:
            self._note_rest(task_id)
        return self._settings.capacity - (len(self.slots) - len(self._resting))

    def holds(self) -> tuple[tuple[str, str], ...]:
        """(task id, why) of each that is held and does not do what its state says. Walks all slots: for people who
        look."""
        found = ((slot.task_id, self._why_held(slot)) for slot in self.slots.values())
        return tuple((task_id, why) for task_id, why in found if why)

    def _why_held(self, slot: Slot) -> str:
        if slot.hold:
            return f"its state cannot be read: {slot.hold}"
        if slot.trouble:
            return slot.trouble
        if self.trials.waits(slot.task_id):
            return "it waits until it is found out which task takes the zygote of this node down"
        return ""

    def wake_at(self) -> float | None:
        times = (self._timers.next(), self.trials.wake_at())
        return min((at for at in times if at is not None), default=None)

    def take_dropped(self) -> list[Claim]:
        """The claims whose slots ended since this was last asked."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _note_rest(self, task_id: str) -> None:
        slot = self.slots.get(task_id)
        if slot is not None and slot.resting:
            self._resting.add(task_id)
        else:
            self._resting.discard(task_id)

    def touch_all(self) -> None:
        """Something that concerns every slot has changed."""
        self._dirty.update(dict.fromkeys(self.slots))

    # -- the claim ------------------------------------------------------------------------------------

    def won(self, won: Won) -> list[do.Command]:
        """A claim is ours: hold the task."""
        task_id = won.claim.task_id
        if (held := self.slots.get(task_id)) is not None:
            return self._regained(held, won) if held.adrift else []
        named = parse_wants(won.props_json).handler
        is_ours = named is None or named in self.handlers
        handler = named if named is not None and is_ours else next(iter(self.handlers))
        slot = self.slots[task_id] = self._slot(won, handler)
        self._dirty[task_id] = None
        said: list[do.Command] = []
        if not is_ours:
            slot.leave = f"it names the handler {named!r}, which this node has not"
            said.append(do.Say("warning", f"given back: {slot.leave}", task_id))
        if won.state_problem:
            slot.hold = won.state_problem
            said.append(do.Say("error", f"held and not run, its state cannot be read: {won.state_problem}", task_id))
        said += self._note_lost_run(slot, won)
        if slot.state.terminal:
            text = f"it was already {slot.state.state.value}: removed without a run"
            said.append(do.Say("warning", text, task_id))
        if self._mirror.revision >= won.claim.fence:
            said += self.compare([task_id])
        return said

    def _slot(self, won: Won, handler: str) -> Slot:
        declared, asked, problem = self.handlers[handler], TaskSettings(), ""
        try:
            asked = read_task_settings(won.props_json)
            declared = asked.over(declared, self._settings.retry)
        except BadSetting as error:
            problem = str(error)
        return Slot(
            won.claim,
            won.props_json,
            handler,
            self._limits(declared),
            declared.retry or self._settings.retry,
            won.state or TaskState(),
            won.checkpoint_json,
            bad_props=problem,
            sleeps_first=asked.not_before if won.state is None else None,
            history=won.history,
        )

    def _note_lost_run(self, slot: Slot, won: Won) -> list[do.Command]:
        """A claim that was lost together with its owner counts as a run of the task, which nobody else will note."""
        lost = won.lost_run or self._vanished(slot.task_id, was_run=slot.state.attempt > 0 or won.has_saved)
        may_have_run = slot.state.state is State.RUNNABLE and not won.state_problem and slot.sleeps_first is None
        if lost is None or not may_have_run:
            return []
        node, fence = lost
        attempt, cause = slot.state.attempt + 1, Cause.NODE_LOST.value
        slot.state = replace(slot.state, attempt=attempt, cause=cause, node=node, started=None, ended=None, stack="")
        slot.history = (*slot.history, Run(node, attempt, fence, cause=cause))[-RUNS_KEPT:]
        slot.cut_short = True
        whose = f"node {node}" if node else "its node"
        return [do.Say("info", f"its last run was lost with {whose}", slot.task_id)]

    def _vanished(self, task_id: str, *, was_run: bool) -> tuple[str, int] | None:
        """The claim before, if its owner vanished without a word. Go nodes never say one, and so count only if they are
        gone. Who was gone before this node looked was there if the task has been run, and is not known by name."""
        task = self._mirror.tasks.get(task_id)
        owner = None if task is None else task.vanished
        if owner is UNSEEN:
            return (owner.node, owner.fence) if was_run else None
        member = None if owner is None else self._mirror.members.get(owner.node)
        is_word = owner is None or (member is not None and not member.pid)
        return None if is_word or owner is None else (owner.node, owner.fence)

    def compare(self, task_ids: Iterable[str]) -> list[do.Command]:
        """Hold these slots against the mirror: is the claim still ours, and is there a command?"""
        said: list[do.Command] = []
        for task_id in task_ids:
            slot = self.slots.get(task_id)
            if slot is None:
                continue
            self._dirty[task_id] = None
            task = self._mirror.tasks.get(task_id)
            if task is not None and task.owner is not None and task.owner.fence == slot.claim.fence:
                said += _hear(slot, task)
            elif self._mirror.revision >= slot.claim.fence and not slot.giving_back:
                said += self._judge(slot, task)
        return said

    def _judge(self, slot: Slot, task: TaskView | None) -> list[do.Command]:
        """The claim that a slot was made for is not in the mirror."""
        if task is None:
            return self.lose(slot, "the task is deleted")
        if task.owner is not None and task.owner.node != self._settings.name:
            return self.lose(slot, f"it is {task.owner.node}'s")
        if slot.adrift:
            return []  # the claim under way is won, and its answer comes
        return self.lose(slot) if task.owner is not None else self.claim_ended(slot)

    def lose(self, slot: Slot, why: str = "") -> list[do.Command]:
        """The claim is not ours any more: the process dies at once, and nothing more is written."""
        self._dirty[slot.task_id] = None
        if slot.lost:
            return []
        slot.lost = True
        self._adrift.pop(slot.task_id, None)
        return [do.Say("warning", f"the claim is lost: {why}" if why else "the claim is lost", slot.task_id)]

    def claim_ended(self, slot: Slot) -> list[do.Command]:
        """The claim is no more, and perhaps nobody's: lost, unless what runs may outlive it."""
        has_something = slot.process is not Process.NONE or slot.outcome is not None
        # its end may have been written although no answer came
        is_gone = self._mirror.revision >= slot.claim.fence and slot.task_id not in self._mirror.tasks
        if self._settings.fences or slot.lost or not has_something or is_gone:
            return self.lose(slot)
        self._dirty[slot.task_id] = None
        if slot.adrift:
            return []
        slot.adrift, self._adrift[slot.task_id] = True, None
        slot.writing, slot.write_again_s, slot.save_again_s = None, None, 0.0
        return [do.Say("warning", "the claim has ended; it runs on and is claimed again", slot.task_id)]

    def claim_denied(self, task_id: str) -> list[do.Command]:
        """A claim was lost to another node, or the task is gone."""
        slot = self.slots.get(task_id)
        return self.lose(slot) if slot is not None and slot.adrift else []

    def adrift(self) -> list[str]:
        """The tasks to be claimed again."""
        return list(self._adrift)

    def _regained(self, slot: Slot, won: Won) -> list[do.Command]:
        """The new claim is taken over, unless somebody ran the task meanwhile: then this run is one too many."""
        slot.adrift = False
        self._adrift.pop(slot.task_id, None)
        kept = won.state or TaskState()
        if won.state_problem or (kept.state, kept.attempt) != (slot.state.state, slot.state.attempt):
            return self.lose(slot)
        slot.claim = won.claim
        self._dirty[slot.task_id] = None
        said: list[do.Command] = [do.Say("info", "claimed again; its process has gone on", slot.task_id)]
        return said + (self.compare([slot.task_id]) if self._mirror.revision >= won.claim.fence else [])

    def give_back(self, task_id: str, reason: str, to: str | None = None) -> bool:
        """Stop a task and release it, to the node `to` if one is named. False: it is not held here."""
        slot = self.slots.get(task_id)
        if slot is None:
            return False
        if not slot.leave:
            slot.leave, slot.leave_to = reason, to
        self._dirty[task_id] = None
        return True

    def give_all_back(self, reason: str) -> None:
        for task_id in self.slots:
            self.give_back(task_id, reason)

    # -- answers to writes ----------------------------------------------------------------------------

    def settled(self, event: ev.Settled, now: ev.Now) -> list[do.Command]:
        slot = self._writer(event.task_id, event.fence)
        if slot is not None and written(slot):
            self._drop(slot)
        return []

    def refused(self, event: ev.SettleRefused, now: ev.Now) -> list[do.Command]:
        slot = self._writer(event.task_id, event.fence)
        return [] if slot is None else self.claim_ended(slot)

    def unknown(self, event: ev.SettleUnknown, now: ev.Now) -> list[do.Command]:
        slot = self._writer(event.task_id, event.fence)
        if slot is None:
            return []
        not_written(slot, now)
        slot.trouble = f"{_what(slot)} is not written yet: {event.error}"
        return [do.Say("warning", f"not written yet, trying again: {event.error}", event.task_id)]

    def rejected(self, event: ev.SettleRejected, now: ev.Now) -> list[do.Command]:
        slot = self._writer(event.task_id, event.fence)
        if slot is None:
            return []
        text = f"{_what(slot)} cannot be written: {event.error}"
        rejected(slot, event.error, now)
        return [do.Say("error", text, event.task_id)]

    # -- processes ------------------------------------------------------------------------------------

    def saved(self, event: ev.ChildSaved, now: ev.Now) -> list[do.Command]:
        slot = self._runs.get(event.run)
        if slot is not None:
            slot.unsaved, slot.saved_s = event.checkpoint_json, now.boot_s
            self._dirty[slot.task_id] = None
        return []

    def exited(self, event: ev.ChildExited, now: ev.Now) -> list[do.Command]:
        slot = self._runs.pop(event.run, None)
        if slot is None:
            return []
        outcome = explained(event.outcome, slot.limits)
        said = _tell(slot, outcome, now)
        ended(slot, outcome)
        slot.verdict = self._convict(slot, event.outcome, now)
        if event.outcome.cause is Cause.ZYGOTE_LOST:
            slot.not_before_s = now.boot_s + rest_s(slot.verdict.suspicion)
        if slot.verdict.convicted:
            said.append(do.Say("warning", "it has taken its zygote down", slot.task_id))
        self._dirty[slot.task_id] = None
        return said

    def _convict(self, slot: Slot, outcome: Outcome, now: ev.Now) -> Verdict:
        """What the end of a run says of who takes zygotes down."""
        if outcome.cause is not Cause.ZYGOTE_LOST:
            self.trials.ended(slot.task_id)
            return NO_VERDICT
        if not outcome.made:
            suspicion = read_suspicion(slot.state)
            self.trials.not_made(slot.task_id, suspicion)
            return Verdict(suspicion)
        return self.trials.lost(slot.task_id, now.boot_s)

    # -- decide ---------------------------------------------------------------------------------------

    def decide(self, site: Site) -> list[do.Command]:
        """Advance every slot that something happened to, or whose time has come."""
        self._dirty.update(dict.fromkeys(self._timers.due(site.now.boot_s)))
        self._dirty.update(dict.fromkeys(self.trials.take_released(site.now.boot_s)))
        dirty, self._dirty = self._dirty, {}
        site.next_run = self._next_run
        steps: list[do.Command] = []
        for task_id in dirty:
            slot = self.slots.get(task_id)
            if slot is None:
                continue
            steps += advance(slot, site)
            if slot.process is not Process.NONE:
                self._runs[slot.run] = slot
            self._timers.set(task_id, wake_at(slot, site))
            self._note_rest(task_id)
            if slot.over:
                self._drop(slot)
        self._next_run = site.next_run
        return steps

    def _drop(self, slot: Slot) -> None:
        if self.slots.get(slot.task_id) is slot:
            del self.slots[slot.task_id]
            self._resting.discard(slot.task_id)
            self._adrift.pop(slot.task_id, None)
        self._timers.set(slot.task_id, None)
        self.trials.forget(slot.task_id)
        self._dropped.append(slot.claim)

    def _writer(self, task_id: str, fence: int) -> Slot | None:
        """The slot that waits for this answer, unless it was lost meanwhile."""
        slot = self.slots.get(task_id)
        if slot is None or slot.claim.fence != fence or slot.writing is None:
            return None
        self._dirty[task_id] = None
        return slot

    def _limits(self, own: HandlerSettings) -> do.RunLimits:
        """What the task asks and its handler declared wins over the node's settings."""
        node = self._settings
        return do.RunLimits(
            own.stop_timeout_s or node.stop_timeout_s,
            own.stall_timeout_s or node.stall_timeout_s,
            own.stall_by or node.stall_by,
            own.memory_limit or node.memory_limit,
        )


def _what(slot: Slot) -> str:
    """What the write under way is to keep, for the log."""
    update = Update() if slot.writing is None else slot.writing.update
    if update.state is not None:
        return "its state"
    if update.checkpoint_json is not None:
        return f"a checkpoint of {len(update.checkpoint_json.encode()):,} bytes (the one before is kept)"
    return "its release"


def _hear(slot: Slot, task: TaskView) -> list[do.Command]:
    """The newest command for a task that is ours; one that was carried out already may still be seen for a moment. One
    that cannot be understood is deleted."""
    if task.command is None or task.command.revision > slot.taken_revision:
        slot.command = task.command
    if slot.hold and task.changed > slot.claim.fence and not task.is_unreadable:
        slot.leave = slot.leave or "its state was written anew"
    if task.spoiled <= slot.taken_revision:
        return []
    slot.taken_revision = task.spoiled
    return [do.TakeTaskCommand(task.id, task.spoiled)]


def _tell(slot: Slot, outcome: Outcome, now: ev.Now) -> list[do.Command]:
    """The end of a run, for the log."""
    text = f"ended after {now.boot_s - slot.started_s:.1f} s: {outcome.cause.value}"
    level = "warning" if outcome.is_task_error else "info"
    if outcome.error:
        text += f": {outcome.error}"
    if outcome.traceback and outcome.traceback.rstrip() != outcome.error:
        text += f"\n{outcome.traceback.rstrip()}"
    if outcome.stack and outcome.message is None:
        text += f"\nwhere it was:\n{outcome.stack}"
    return [do.Say(level, text, slot.task_id)]
