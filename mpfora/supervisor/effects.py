"""Effects: one short coroutine for each action that asks the store or starts a zygote. What cannot block is done on the
spot.

Each answers with exactly one event; failure and "nobody knows" are events too. A bug of mpfora or of a coordinator is
logged with its traceback, and its action gets an answer as well. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mpfora.cluster.clocks import TIME_FIELD, differing, format_differing, is_own_wrong
from mpfora.linux.procfs import exists
from mpfora.linux.syscalls import boot_ns, remedy_of, remedy_of_text
from mpfora.model.lasting_condition import LastingCondition
from mpfora.model.outcome import Cause, Death, classify
from mpfora.model.task import Member
from mpfora.store.node_records import NODE_ROW
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import (
    Coordinator,
    LeaseNotFound,
    NameTaken,
    StoreError,
    Unknown,
    Unreachable,
    Unwritable,
    Update,
    WakeResult,
)
from mpfora.supervisor.zygote.child_exits import not_started
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes
from mpfora.supervisor.zygote.starts import Superseded
from mpfora.supervisor.zygote.startup import HandlerImportError, ZygoteStartError

#: how long the store may take to answer at the very start
START_LIMIT_S = 10.0
#: a command that was carried out is deleted: pauses between tries grow to this, and after so many failures the log says
#: so
TAKE_PAUSE_S = 5.0
TAKE_TRIES = 8

#: actions that go before answers to people
URGENT = (do.OpenSession, do.Renew, do.ClaimTasks, do.WakeTasks, do.Keep, do.Release, do.Finish, do.Remove)

log = logging.getLogger("mpfora.node")


class Effects:
    """coordinator and zygotes do the work; `put` is the loop's inbox."""

    def __init__(
        self,
        coordinator: Coordinator,
        zygotes: NodeZygotes,
        own_counts: Callable[[], Mapping[str, int]] = dict,
        on_sweep: Callable[[], None] = lambda: None,
    ) -> None:
        """own_counts: counters that are kept outside of the core, published with the core's. on_sweep: called when old
        logs are to be removed."""
        self._coordinator, self._zygotes, self._own_counts = coordinator, zygotes, own_counts
        self._on_sweep = on_sweep
        self._joined = False
        #: writes for the node's tasks that are under way, and renewals
        self._writes = 0
        self._at_once = self._done_at_once()
        self._answered = self._done_and_answered()

    def _done_at_once(self) -> Mapping[type, Callable[[Any], None]]:
        zygotes, coordinator = self._zygotes, self._coordinator
        return {
            do.Fork: lambda c: zygotes.fork(c.run, c.spec, c.generation),
            do.RetireZygotes: lambda c: zygotes.retire(c.generation),
            do.AskStop: lambda c: zygotes.ask_stop(c.run, c.message, c.reason, c.within_s),
            do.AskCheckpoint: lambda c: zygotes.ask_checkpoint(c.run),
            do.Kill: lambda c: zygotes.kill(c.run, c.cause, c.dump),
            do.SetDeadline: lambda c: zygotes.set_deadline(int(c.boot_s * 1e9)),
            do.ProbeZygote: lambda c: zygotes.probe(c.within_s),
            do.ForgetClaim: lambda c: coordinator.forget(c.claim),
            do.Say: say,
        }

    def _done_and_answered(self) -> Mapping[type, Callable[[Any], Awaitable[ev.Event]]]:
        coordinator = self._coordinator
        return {
            do.StartZygote: self._start_zygote,
            do.OpenSession: self._open_session,
            do.Renew: self._renew,
            do.ClaimTasks: self._claim,
            do.WakeTasks: self._wake,
            do.Keep: lambda c: self._settle(c, coordinator.keep),
            do.Release: lambda c: self._settle(c, coordinator.release),
            do.Finish: lambda c: self._settle(c, coordinator.done),
            do.Remove: lambda c: self._settle(c, coordinator.remove),
            do.TakeNodeCommand: lambda c: self._take(
                f"node command {c.key_id}", lambda: coordinator.take_node_command(c.node, c.key_id)
            ),
            do.TakeTaskCommand: lambda c: self._take(
                f"command of task {c.task_id}", lambda: coordinator.take_task_command(c.task_id, c.revision)
            ),
            do.Publish: lambda c: self._attempt("member record", coordinator.publish(c.member)),
            do.PublishProgress: self._publish_progress,
            do.Measure: self._measure,
            do.PublishUsage: lambda c: self._attempt("the costs of its tasks", coordinator.publish_usage(c.usage)),
            do.Sweep: self._sweep,
            do.CloseSession: self._close_session,
        }

    def start(self, action: do.Action) -> Awaitable[ev.Event] | None:
        """Begin to carry out an action. None: it is done already, and what follows comes as events of a zygote."""
        at_once = self._at_once.get(type(action))
        if at_once is None:
            return self._answer(action)
        try:
            at_once(action)
        except Exception as bug:  # noqa: BLE001 - logged, with its traceback
            _log_bug(action, bug)
            return _later(after_bug(action, bug))
        return None

    @property
    def is_writing(self) -> bool:
        """Whether something is being written for the node's tasks, or its lease renewed: what people ask waits."""
        return self._writes > 0

    async def _answer(self, action: do.Action) -> ev.Event:
        counts = isinstance(action, URGENT)
        self._writes += counts
        try:
            return await self._answered[type(action)](action)
        except Exception as bug:  # noqa: BLE001 - logged, with its traceback
            _log_bug(action, bug)
            return after_bug(action, bug)
        finally:
            self._writes -= counts

    # -- the store ------------------------------------------------------------------------------------

    async def _open_session(self, action: do.OpenSession) -> ev.Event:
        """Join. At the start the store has START_LIMIT_S to answer, and a former life of this node, killed a moment
        ago on this machine, has its lease to run out."""
        patience = boot_s() + (0.0 if self._joined else START_LIMIT_S)
        former_life = boot_s() + action.ttl_s + 2.0
        waiting = LastingCondition()
        while True:
            sent = boot_s()
            try:
                ttl = await self._coordinator.open(action.member, action.ttl_s)
            except NameTaken as error:
                if boot_s() > former_life or not _is_dead(error.holder):
                    return ev.SessionRefused(error.holder.host, error.holder.pid)
                if (report := waiting.seen(boot_s())) is not None:
                    pid = error.holder.pid
                    log.info("waiting for the lease of a former life of this node (pid %d) to run out%s", pid, report)
                await asyncio.sleep(0.5)
            except Unreachable as error:
                if boot_s() > patience:
                    return ev.SessionFailed(str(error) if self._joined else _no_answer(error))
                await asyncio.sleep(0.2)
            except StoreError as error:
                return ev.SessionFailed(str(error))
            else:
                self._joined = True
                self._zygotes.set_will(self._coordinator.will())
                return ev.SessionOpened(sent, ttl)

    async def _renew(self, action: do.Renew) -> ev.Event:
        sent = boot_s()
        try:
            if action.proves:
                await self._coordinator.prove()
            return ev.Renewed(sent, await self._coordinator.renew(), action.proves)
        except LeaseNotFound:
            return ev.LeaseGone()
        except Unreachable as error:
            return ev.RenewFailed(str(error))
        except StoreError as error:
            return ev.RenewFailed(str(error), refused=True)

    async def _claim(self, action: do.ClaimTasks) -> ev.Event:
        try:
            answers = await self._coordinator.claim(action.claims)
        except StoreError as error:
            # the renewal finds out that a lease is lost, and it alone says so
            answers = [Unknown(request.task_id, str(error)) for request in action.claims]
        return ev.ClaimsAnswered(tuple(answers))

    async def _wake(self, action: do.WakeTasks) -> ev.Event:
        error = ""
        try:
            results = await self._coordinator.wake(action.sleepers)
        except StoreError as failure:
            results, error = [WakeResult.UNKNOWN] * len(action.sleepers), str(failure)
        pairs = zip(action.sleepers, results, strict=True)
        return ev.WakesAnswered(tuple((sleeper.task_id, result) for sleeper, result in pairs), error)

    async def _settle(
        self, action: do.Keep | do.Release | do.Finish | do.Remove, write: Callable[[Any, Update], Awaitable[bool]]
    ) -> ev.Event:
        task_id, fence = action.claim.task_id, action.claim.fence
        try:
            made = await write(action.claim, action.update)
        except Unwritable as error:
            return ev.WriteAnswered(task_id, fence, ev.WriteResult.REJECTED, str(error))
        except StoreError as error:
            return ev.WriteAnswered(task_id, fence, ev.WriteResult.UNKNOWN, str(error))
        return ev.WriteAnswered(task_id, fence, ev.WriteResult.DONE if made else ev.WriteResult.REFUSED)

    async def _take(self, what: str, take: Callable[[], Awaitable[None]]) -> ev.Event:
        pause_s, failures = 0.1, 0
        while True:
            try:
                await take()
                return ev.Attempted(what)
            except StoreError as failure:
                failures += 1
                if failures == TAKE_TRIES:
                    log.warning("%s was carried out, and cannot be deleted yet: %s", what, failure)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, TAKE_PAUSE_S)

    async def _attempt(self, what: str, write: Awaitable[None]) -> ev.Event:
        try:
            await write
        except LeaseNotFound:
            return ev.LeaseGone()
        except StoreError as error:
            return ev.Attempted(what, f"could not be published: {error}")
        return ev.Attempted(what)

    async def _publish_progress(self, action: do.PublishProgress) -> ev.Event:
        rows: dict[str, dict[str, Any]] = {}
        given = dict(action.given)
        for task_id, run, attempt, started in action.rows:
            beat, usage = self._zygotes.progress(run), self._zygotes.usage(run)
            row: dict[str, Any] = {"attempt": attempt, "started": started}
            if beat is not None:
                row |= {"progress": beat.progress, "note": beat.note or None, "beats": beat.beats}
                if beat.progress is not None and not math.isfinite(beat.progress):
                    row["progress"] = None
            limits = self._zygotes.limits(run)
            if limits is not None and limits.stall_timeout_s is not None and limits.stall_by == "beats":
                row["stall_s"] = limits.stall_timeout_s
            if usage is not None:
                row |= {"cpu_s": round(usage.cpu_s, 2), "rss": usage.rss}
            if run in given:
                row["given"] = given[run]
            rows[task_id] = row
        for task_id, why in action.holds:
            rows[task_id] = {**rows.get(task_id, {}), "hold": why}
        if action.counts:
            rows[NODE_ROW] = {**dict(action.counts), **self._own_counts(), TIME_FIELD: action.wall_s}
        return await self._attempt("progress", self._coordinator.publish_progress(rows))

    async def _measure(self, action: do.Measure) -> ev.Event:
        seen = ((task_id, run, self._zygotes.usage(run)) for task_id, run in action.runs)
        samples = (
            ev.Sample(task_id, run, use.cpu_s, use.rss, use.at_s) for task_id, run, use in seen if use is not None
        )
        return ev.Measured(tuple(samples))

    async def _sweep(self, action: do.Sweep) -> ev.Event:
        try:
            if is_own_wrong(ahead := await self._coordinator.clocks()):
                log.error(
                    "the clocks of nodes differ from this one's: %s; what is kept of finished tasks, and logs, are not"
                    " removed from here before they agree: set the clock that is wrong",
                    format_differing(ahead),
                )
                return ev.Attempted("removal of finished tasks")
            if differing(ahead):
                log.warning(
                    "the clocks of some nodes differ from this one's: %s; each starts what sleeps or has a not_before"
                    " by its own clock: set the clock that is wrong",
                    format_differing(ahead),
                )
            self._on_sweep()
            removed = await self._coordinator.sweep(action.now)
        except StoreError as error:
            return ev.Attempted("removal of finished tasks", f"cannot be done now: {error}")
        if removed:
            log.info("removed what was kept of %d finished tasks", removed)
        return ev.Attempted("removal of finished tasks")

    async def _close_session(self, action: do.CloseSession) -> ev.Event:
        self._zygotes.set_will(None)
        await self._coordinator.close(has_claims=action.has_claims)
        return ev.SessionClosed()

    # -- processes ------------------------------------------------------------------------------------

    async def _start_zygote(self, action: do.StartZygote) -> ev.Event:
        try:
            ready = await self._zygotes.start()
        except HandlerImportError as error:
            return ev.ZygoteFailed(f"handler {error.spec} cannot be imported", error.traceback)
        except ZygoteStartError as error:
            return ev.ZygoteFailed(str(error), error.traceback)
        except Superseded:
            return ev.Attempted("start of a zygote")
        self._zygotes.set_will(self._coordinator.will() if self._joined else None)
        return ready


def after_bug(action: do.Action, bug: Exception) -> ev.Event:
    """The answer to an action that failed by a bug. Want of memory is none: it is the node's trouble, and passes."""
    why = f"{type(bug).__name__}: {bug}"[:1000]
    lacks_memory = isinstance(bug, MemoryError)
    match action:
        case do.Fork() if lacks_memory:
            return not_started(action.run, why, Cause.NO_PROCESS)
        case do.Fork():
            death = Death(killed_for=Cause.START_FAILED, note=f"mpfora could not start it: {why}")
            return ev.ChildExited(action.run, classify(None, death))
        case do.Keep() | do.Release() | do.Finish() | do.Remove():
            result = ev.WriteResult.UNKNOWN if lacks_memory else ev.WriteResult.REJECTED
            return ev.WriteAnswered(action.claim.task_id, action.claim.fence, result, why)
        case do.ClaimTasks():
            return ev.ClaimsAnswered(tuple(Unknown(request.task_id, why) for request in action.claims))
        case do.WakeTasks():
            return ev.WakesAnswered(tuple((s.task_id, WakeResult.UNKNOWN) for s in action.sleepers), why)
        case do.Renew():
            return ev.RenewFailed(why)
        case do.OpenSession():
            return ev.SessionFailed(why)
        case do.CloseSession():
            return ev.SessionClosed()
        case do.StartZygote():
            return ev.ZygoteFailed(why)
        case do.Measure():
            return ev.Measured(())
        case do.Kill() | do.SetDeadline() | do.ProbeZygote():
            return ev.ShutdownAsked("internal error: a process cannot be ended, see the log", 1)
    return ev.Attempted(type(action).__name__, f"failed: {why}")


def _log_bug(action: do.Action, bug: Exception) -> None:
    task_id = getattr(action, "task_id", "") or getattr(getattr(action, "claim", None), "task_id", "")
    text = "%s failed, which is a bug in mpfora or its coordinator; the node goes on"
    if isinstance(bug, MemoryError):
        text = "this node got no memory for %s; it goes on: " + remedy_of(bug)
    log.error(text, type(action).__name__, exc_info=bug, extra={"task": task_id} if task_id else None)


async def _later(event: ev.Event) -> ev.Event:
    return event


def _no_answer(error: Unreachable) -> str:
    remedy = remedy_of_text(str(error))
    return f"no answer within {START_LIMIT_S:g} s of the start: {error}{': ' if remedy else ''}{remedy}"


def _is_dead(holder: Member) -> bool:
    """Whether a node that ran on this very machine is gone. A pid of another machine says nothing. Our own pid was that
    of a former life: in a container the pids are the same each time. A zombie counts as gone."""
    if holder.host != socket.gethostname() or holder.pid <= 0:
        return False
    return holder.pid == os.getpid() or not exists(holder.pid)


def boot_s() -> float:
    """Boot time in seconds: goes on while the machine sleeps, and is never set."""
    return boot_ns() / 1e9


def say(action: do.Say) -> None:
    """A line of the node's log."""
    level = logging.getLevelNamesMapping()[action.level.upper()]
    log.log(level, action.text, extra={"task": action.task_id} if action.task_id else None)
