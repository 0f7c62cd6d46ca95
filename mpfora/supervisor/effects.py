"""Effects: one short coroutine per command that asks the store or starts the zygote; what cannot block is done on
the spot.

Each answers with exactly one event, and failure and "nobody knows" are events too. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mpfora.keys import NODE_ROW
from mpfora.linux import boot_ns
from mpfora.model import Member
from mpfora.processes import read_stat
from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator import (
    Coordinator,
    CoordinatorError,
    LeaseLost,
    NameTaken,
    TooLarge,
    Unknown,
    Unreachable,
    Update,
)
from mpfora.supervisor.zygote import HandlerImportError, Zygote, ZygoteStartError

#: how long the store may take to answer at the very start
START_LIMIT_S = 10.0
#: a command that was carried out is deleted with this patience; then it is left for the next owner
TAKE_TRIES = 8

log = logging.getLogger("mpfora.node")


class Effects:
    """coordinator and zygote do the work; `put` is the loop's inbox."""

    def __init__(self, coordinator: Coordinator, zygote: Zygote) -> None:
        self._coordinator, self._zygote = coordinator, zygote
        self._joined = False
        self._at_once: Mapping[type, Callable[[Any], None]] = {
            do.Fork: self._fork,
            do.AskStop: lambda c: zygote.ask_stop(c.run, c.message, c.reason, c.within_s),
            do.AskCheckpoint: lambda c: zygote.ask_checkpoint(c.run),
            do.Kill: lambda c: zygote.kill(c.run, c.cause, c.dump),
            do.SetDeadline: lambda c: zygote.set_deadline(int(c.boot_s * 1e9)),
            do.ProbeZygote: lambda c: zygote.probe(c.within_s),
            do.Say: say,
        }
        self._answered: Mapping[type, Callable[[Any], Awaitable[ev.Event]]] = {
            do.StartZygote: self._start_zygote,
            do.OpenSession: self._open_session,
            do.Renew: self._renew,
            do.ClaimTasks: self._claim,
            do.Keep: lambda c: self._settle(c, coordinator.keep),
            do.Release: lambda c: self._settle(c, coordinator.release),
            do.Finish: lambda c: self._settle(c, coordinator.done),
            do.TakeNodeCommand: lambda c: self._take(
                f"node command {c.key_id}", lambda: coordinator.take_node_command(c.node, c.key_id)
            ),
            do.TakeTaskCommand: lambda c: self._take(
                f"command of task {c.task_id}", lambda: coordinator.take_task_command(c.task_id, c.revision)
            ),
            do.Publish: lambda c: self._attempt("member record", coordinator.publish(c.member)),
            do.PublishProgress: self._publish_progress,
            do.Measure: self._measure,
            do.PublishUsage: lambda c: self._attempt("what its tasks cost", coordinator.publish_usage(c.usage)),
            do.Sweep: self._sweep,
            do.CloseSession: self._close_session,
        }

    def start(self, command: do.Command) -> Awaitable[ev.Event] | None:
        """Begin to carry out a command. None: it is done already, and what follows comes as events of the zygote."""
        at_once = self._at_once.get(type(command))
        if at_once is not None:
            at_once(command)
            return None
        return self._answered[type(command)](command)

    # -- the store ------------------------------------------------------------------------------------

    async def _open_session(self, command: do.OpenSession) -> ev.Event:
        """Join. At the start the store has START_LIMIT_S to answer, and a former life of this node, killed a moment
        ago on this machine, has its lease to run out."""
        patience = boot_s() + (0.0 if self._joined else START_LIMIT_S)
        former_life = boot_s() + command.ttl_s + 2.0
        while True:
            sent = boot_s()
            try:
                ttl = await self._coordinator.open(command.member, command.ttl_s)
            except NameTaken as error:
                if boot_s() > former_life or not _is_dead(error.holder):
                    return ev.SessionRefused(error.holder.host, error.holder.pid)
                log.info("waiting for the lease of a former life of this node (pid %d) to run out", error.holder.pid)
                await asyncio.sleep(0.5)
            except Unreachable as error:
                if boot_s() > patience:
                    return ev.SessionFailed(str(error) if self._joined else _no_answer(error))
                await asyncio.sleep(0.2)
            except CoordinatorError as error:
                return ev.SessionFailed(str(error))
            else:
                self._joined = True
                self._zygote.set_will(self._coordinator.will())
                return ev.SessionOpened(sent, ttl)

    async def _renew(self, command: do.Renew) -> ev.Event:
        sent = boot_s()
        try:
            return ev.Renewed(sent, await self._coordinator.renew())
        except LeaseLost:
            return ev.LeaseGone()
        except CoordinatorError as error:
            return ev.RenewFailed(str(error))

    async def _claim(self, command: do.ClaimTasks) -> ev.Event:
        try:
            answers = await self._coordinator.claim(command.claims)
        except CoordinatorError as error:
            # a lost lease is found out by the renewal, which is the one place that says so
            answers = [Unknown(task_id, str(error)) for task_id, _ in command.claims]
        return ev.ClaimsAnswered(tuple(answers))

    async def _settle(
        self, command: do.Keep | do.Release | do.Finish, write: Callable[[Any, Update], Awaitable[bool]]
    ) -> ev.Event:
        task_id, fence = command.claim.task_id, command.claim.fence
        try:
            made = await write(command.claim, command.update)
        except TooLarge as error:
            return ev.SettleRejected(task_id, fence, str(error))
        except CoordinatorError as error:
            return ev.SettleUnknown(task_id, fence, str(error))
        return ev.Settled(task_id, fence) if made else ev.SettleRefused(task_id, fence)

    async def _take(self, what: str, take: Callable[[], Awaitable[None]]) -> ev.Event:
        error = ""
        for attempt in range(TAKE_TRIES):
            try:
                await take()
                return ev.Attempted(what)
            except CoordinatorError as failure:
                error = str(failure)
                await asyncio.sleep(0.1 * 2**attempt)
        return ev.Attempted(what, f"was carried out, but could not be deleted: {error}")

    async def _attempt(self, what: str, write: Awaitable[None]) -> ev.Event:
        try:
            await write
        except LeaseLost:
            return ev.LeaseGone()
        except CoordinatorError as error:
            return ev.Attempted(what, f"could not be published: {error}")
        return ev.Attempted(what)

    async def _publish_progress(self, command: do.PublishProgress) -> ev.Event:
        rows: dict[str, dict[str, Any]] = {}
        for task_id, run, attempt, started in command.rows:
            beat, usage = self._zygote.progress(run), self._zygote.usage(run)
            row: dict[str, Any] = {"attempt": attempt, "started": started}
            if beat is not None:
                row |= {"progress": beat.progress, "note": beat.note or None}
                if beat.progress is not None and not math.isfinite(beat.progress):
                    row["progress"] = None
            if usage is not None:
                row |= {"cpu_s": round(usage.cpu_s, 2), "rss": usage.rss}
            rows[task_id] = row
        for task_id, why in command.holds:
            rows[task_id] = {**rows.get(task_id, {}), "hold": why}
        if command.counts:
            rows[NODE_ROW] = dict(command.counts)
        return await self._attempt("progress", self._coordinator.publish_progress(rows))

    async def _measure(self, command: do.Measure) -> ev.Event:
        seen = ((task_id, run, self._zygote.usage(run)) for task_id, run in command.runs)
        samples = (
            ev.Sample(task_id, run, use.cpu_s, use.rss, use.at_s) for task_id, run, use in seen if use is not None
        )
        return ev.Measured(tuple(samples))

    async def _sweep(self, command: do.Sweep) -> ev.Event:
        try:
            removed = await self._coordinator.sweep(command.now)
        except CoordinatorError as error:
            return ev.Attempted("removal of finished tasks", f"not now: {error}")
        if removed:
            log.info("removed what was kept of %d finished tasks", removed)
        return ev.Attempted("removal of finished tasks")

    async def _close_session(self, command: do.CloseSession) -> ev.Event:
        self._zygote.set_will(None)
        await self._coordinator.close()
        return ev.SessionClosed()

    # -- processes ------------------------------------------------------------------------------------

    async def _start_zygote(self, command: do.StartZygote) -> ev.Event:
        try:
            ready = await self._zygote.start()
        except HandlerImportError as error:
            return ev.ZygoteFailed(f"handler {error.spec} cannot be imported", error.traceback)
        except ZygoteStartError as error:
            return ev.ZygoteFailed(str(error))
        self._zygote.set_will(self._coordinator.will() if self._joined else None)
        return ready

    def _fork(self, c: do.Fork) -> None:
        self._zygote.fork(c.run, c.task_id, c.handler, c.props_json, c.fence, c.attempt, c.checkpoint_json, c.limits)


def _no_answer(error: Unreachable) -> str:
    return f"no answer within {START_LIMIT_S:g} s of the start: {error}"


def _is_dead(holder: Member) -> bool:
    """Whether a node that ran on this very machine is gone. A pid of another machine says nothing; our own was that
    of a former life (in a container the pids are the same each time), and a zombie only waits to be forgotten."""
    if holder.host != socket.gethostname() or holder.pid <= 0:
        return False
    stat = read_stat(holder.pid)
    return holder.pid == os.getpid() or stat is None or stat.is_zombie


def boot_s() -> float:
    """Boot time in seconds: goes on while the machine sleeps, and is never set."""
    return boot_ns() / 1e9


def say(command: do.Say) -> None:
    """A line of the node's log."""
    level = logging.getLevelNamesMapping()[command.level.upper()]
    log.log(level, command.text, extra={"task": command.task_id} if command.task_id else None)
