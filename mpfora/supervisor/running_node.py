"""A node while it runs: its core and loop, its zygotes, and what goes on beside them."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from mpfora.cluster.assignment.own_overview import overview_of
from mpfora.cluster.changes import Changes
from mpfora.cluster.overview import format_overview
from mpfora.config.handler_spec import HandlerSpec
from mpfora.config.settings import Settings
from mpfora.linux.systemd import NotifySocket
from mpfora.model.units import format_time
from mpfora.store.question_records import CLUSTER, LOG, MACHINE, Question
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer
from mpfora.supervisor.code_watch import CodeWatch
from mpfora.supervisor.coordinator.interface import Coordinator
from mpfora.supervisor.core import Core
from mpfora.supervisor.effects import Effects, boot_s
from mpfora.supervisor.loop import Loop, now
from mpfora.supervisor.machine_facts import machine_facts
from mpfora.supervisor.node_http import NodeHttp
from mpfora.supervisor.output.log_answers import answer_log
from mpfora.supervisor.output.log_store import log_store
from mpfora.supervisor.output.node_output import NodeOutput
from mpfora.supervisor.questions import Questions
from mpfora.supervisor.schedules import Schedules
from mpfora.supervisor.service_manager import ServiceManager
from mpfora.supervisor.signals import Signals
from mpfora.supervisor.turn_watchdog import Turns
from mpfora.supervisor.zygote.cgroups import Groups
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes
from mpfora.supervisor.zygote.startup import Timeouts
from mpfora.supervisor.zygote.zombies import ForeignZombies

log = logging.getLogger("mpfora.node")
task_log = logging.getLogger("mpfora.task")


class NodeError(Exception):
    """The node ended for a reason that its user must mend; `code` is the exit code that the command line gives it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class RunningNode:
    """Made and run by a Consumer, in its event loop. The arguments are the Consumer's; turns: how long the turns of the
    loop take. Raises NodeError."""

    def __init__(
        self,
        coordinator: Coordinator,
        specs: Sequence[HandlerSpec],
        balancer: Balancer,
        settings: Settings,
        turns: Turns,
        *,
        exclusive: bool,
        notify: NotifySocket | None,
    ) -> None:
        self._coordinator, self._settings, self._turns, self._notify = coordinator, settings, turns, notify
        self._code_watch = CodeWatch(self._reload) if settings.reload_on_change else None
        self._outputs = NodeOutput(print_to_log, log_store(settings))
        self._zygotes = NodeZygotes(
            specs,
            settings.name,
            self.put,
            print_to_log,
            groups=Groups(settings.namespace, settings.name, may_move=exclusive),
            timeouts=Timeouts(start_s=settings.import_timeout_s),
            open_output=self._outputs,
            on_files=None if self._code_watch is None else self._code_watch.imported,
        )
        self._core = Core(
            settings,
            balancer,
            host=socket.gethostname(),
            pid=os.getpid(),
            created=format_time(time.time()),
            rng=random.Random(),
        )
        self._effects = Effects(coordinator, self._zygotes, turns.values, self._outputs.expire)
        self._questions = self._make_questions()
        self._schedules = Schedules(settings.name, coordinator)
        self._http = self._make_http()
        saw = None if self._http is None else self._http.saw
        self._loop = Loop(self._core, self._effects, coordinator, turns, self._take, saw)

    def put(self, event: ev.Event) -> None:
        """Called in the event loop."""
        self._loop.put(event)

    async def run(self, stop: Callable[[str], None]) -> do.Exit:
        """Runs until the node has left. stop: called when a signal asks for that."""
        self._turns.watch()
        asides = [_aside(ForeignZombies().reap_for_ever()), _aside(self._schedules.run())]
        if self._notify is not None:
            manager = ServiceManager(self._notify, lambda: self._core.summary(now()))
            asides.append(_aside(manager.tell_for_ever()))
        if self._code_watch is not None:
            asides.append(_aside(self._code_watch.run()))
        with Signals(asyncio.get_running_loop(), stop, self._reload, self._ask_summary):
            try:
                return await self._loop.run()
            finally:
                for aside in asides:
                    aside.cancel()
                await self._close()

    async def _close(self) -> None:
        self._questions.close()
        if self._http is not None:
            self._http.close()
        await self._zygotes.close(late=self._core.is_late(boot_s()))
        await self._coordinator.close()
        self._outputs.close()
        self._turns.close()
        log.info("%s", self._turns)

    def _take(self, changes: Changes) -> None:
        """What the watch shows, for what is done beside the core."""
        self._questions.take(changes.asked)
        self._schedules.take(changes)

    def _reload(self, why: str) -> None:
        self.put(ev.ReloadAsked(why))

    def _ask_summary(self) -> None:
        self.put(ev.SummaryAsked())
        log.info("%s", self._turns)

    def _make_questions(self) -> Questions:
        others = {
            CLUSTER: partial(_tell_overview, self._core),
            MACHINE: partial(_tell_machine, self._settings, self._notify is not None),
            LOG: partial(answer_log, self._outputs),
        }
        name, effects = self._settings.name, self._effects
        return Questions(name, self._coordinator, self._zygotes, lambda: effects.is_writing, others)

    def _make_http(self) -> NodeHttp | None:
        """What --http shows, from here on. Raises NodeError."""
        address = self._settings.http
        if address is None:
            return None
        try:
            http = NodeHttp(address, self._core, self._zygotes, self._turns, self._outputs.counts)
        except ImportError as error:
            raise NodeError(2, f"--http: {error}") from None
        except OSError as error:
            raise NodeError(2, f"--http {address}: cannot be listened at: {error.strerror or error}") from None
        http.start(address)
        return http


async def _tell_overview(core: Core, question: Question) -> dict[str, Any]:
    task_ids = [task_id for task_id in question.task_id.split(",") if task_id]
    return format_overview(overview_of(core.mirror, core.assignments, task_ids))


async def _tell_machine(settings: Settings, is_notified: bool, question: Question) -> dict[str, Any]:
    return await asyncio.to_thread(machine_facts, settings, is_notified)


def _aside(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Something that goes on beside the node's loop. The node does not need it: if it fails, the log says so and the
    node goes on."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell_failure)
    return task


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s failed: this is a bug in mpfora; the node goes on without it", task, exc_info=error)


def print_to_log(task_id: str, line: str) -> None:
    """A line that a task printed."""
    task_log.info("%s", line, extra={"task": task_id})
