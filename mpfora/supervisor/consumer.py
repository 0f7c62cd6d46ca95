"""Consumer: a node as an object, for programs that start one themselves; `python -m mpfora.supervisor` is built on
it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from setproctitle import setproctitle

from mpfora.config import Settings
from mpfora.handler_spec import HandlerSpec, check_names, spec_of
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance import Balancer, FairBalancer
from mpfora.supervisor.coordinator import Coordinator
from mpfora.supervisor.core import Core
from mpfora.supervisor.effects import Effects
from mpfora.supervisor.loop import Loop
from mpfora.supervisor.zygote import Zygote
from mpfora.units import format_time

HandlerLike = str | Callable[..., Any]

log = logging.getLogger("mpfora.node")
task_log = logging.getLogger("mpfora.task")


class NodeError(Exception):
    """The node ended for a reason that its user must mend; `code` is the exit code that the command line gives it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Consumer:
    """Runs the tasks of one namespace that it has a handler for, each in a process of its own.

    Consumer(EtcdCoordinator("localhost:2379", namespace="primes"), "primes:count", FairBalancer()).run()

    coordinator  the store to claim through
    handlers     "module:attribute", "name=module:attribute", a function or class at the top level of a module or of
    the
                 running script; or a sequence of these
    balancer     FairBalancer() unless given
    settings     config.Settings; a keyword of Settings may be given instead, e.g. name="node2", max_tasks=4

    Raises SettingsError and HandlerSpecError for what cannot hold.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        handlers: HandlerLike | Sequence[HandlerLike],
        balancer: Balancer | None = None,
        settings: Settings | None = None,
        *,
        exclusive: bool = False,
        **overrides: Any,
    ) -> None:
        single = isinstance(handlers, str) or callable(handlers)
        self._specs: list[HandlerSpec] = [spec_of(h) for h in ([handlers] if single else handlers)]  # type: ignore[arg-type,union-attr]
        check_names(self._specs)
        self._coordinator = coordinator
        self._balancer = balancer or FairBalancer()
        self.settings = replace(settings or Settings(), handlers=tuple(s.name for s in self._specs), **overrides)
        self._exclusive = exclusive
        self._loop: Loop | None = None
        self._asyncio: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Run until `stop` is called, or SIGTERM or SIGINT comes (caught only when called in the main thread).

        Then every task is stopped and released within stop_timeout. Raises NodeError where the node could not start:
        code 3 the store is not reachable, 4 the name is taken, 5 a handler cannot be imported."""
        asyncio.run(self.run_async())

    async def run_async(self) -> None:
        """As `run`, in a running event loop."""
        if not sys.platform.startswith("linux"):
            raise NodeError(
                2, f"an mpfora node needs Linux (process groups, death signals, /proc); this is {sys.platform}"
            )
        zygote = Zygote(self._specs, self.settings.name, self._put, output, exclusive=self._exclusive)
        core = Core(
            self.settings,
            self._balancer,
            host=socket.gethostname(),
            pid=os.getpid(),
            created=format_time(time.time()),
            rng=random.Random(),
        )
        self._asyncio = asyncio.get_running_loop()
        self._loop = Loop(core, Effects(self._coordinator, zygote), self._coordinator)
        try:
            with _Signals(self._asyncio, self.stop):
                ended = await self._loop.run()
        finally:
            await zygote.close()
            await self._coordinator.close()
        if ended.code:
            raise NodeError(ended.code, ended.text)

    def stop(self, why: str = "stop") -> None:
        """Stop and release everything and make `run` return; a second call kills at once. Callable from any
        thread."""
        if self._asyncio is not None and self._loop is not None:
            self._asyncio.call_soon_threadsafe(self._loop.put, ev.ShutdownAsked(why))

    def _put(self, event: ev.Event) -> None:
        assert self._loop is not None
        self._loop.put(event)


class _Signals:
    """SIGTERM and SIGINT ask for a stop while the node runs; only the main thread can have them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stop: Callable[[str], None]) -> None:
        self._loop, self._stop = loop, stop
        self._numbers = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                self._loop.add_signal_handler(number, self._stop, number.name)
        else:
            self._numbers = ()  # type: ignore[assignment]

    def __exit__(self, *exc: object) -> None:
        for number in self._numbers:
            self._loop.remove_signal_handler(number)


def output(task_id: str, line: str) -> None:
    """A line that a task printed."""
    task_log.info("%s", line, extra={"task": task_id})


def show_title(node: str) -> None:
    """What `ps` shows of a supervisor."""
    setproctitle(f"mpfora: supervisor {node}")
