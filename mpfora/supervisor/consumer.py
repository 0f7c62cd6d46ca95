"""Consumer: a node as an object, for programs that start one themselves; `python -m mpfora.supervisor` is built on
it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from setproctitle import setproctitle

from mpfora.config import handler_spec
from mpfora.config.handler_spec import HandlerSpec, check_names, spec_of
from mpfora.config.settings import Settings
from mpfora.errors import BadValue
from mpfora.linux.systemd import NotifySocket
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer, FairBalancer
from mpfora.supervisor.coordinator.interface import Coordinator
from mpfora.supervisor.running_node import NodeError as NodeError
from mpfora.supervisor.running_node import RunningNode
from mpfora.supervisor.turn_watchdog import Turns

HandlerLike = str | Callable[..., Any]

log = logging.getLogger(__name__)

_PROC = "/proc/self/stat"


class Consumer:
    """Runs the tasks of one namespace that it has a handler for, each in a process of its own.

    Consumer(EtcdCoordinator(), "primes:count", FairBalancer()).run()

    coordinator  the store to claim through
    handlers     "module:attribute", "name=module:attribute", a function or class at the top level of a module or of
                 the running script; or a sequence of these
    balancer     FairBalancer() unless given
    settings     config.Settings; a keyword of Settings may be given instead, e.g. name="node2", max_tasks=4

    `exclusive` and `notify` are for python -m mpfora.supervisor: the node is the whole program, and its service.

    Raises SettingsError and HandlerSpecError for settings and handlers that are not valid.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        handlers: HandlerLike | Sequence[HandlerLike],
        balancer: Balancer | None = None,
        settings: Settings | None = None,
        *,
        exclusive: bool = False,
        notify: NotifySocket | None = None,
        **overrides: Any,
    ) -> None:
        single = isinstance(handlers, str) or callable(handlers)
        self._specs: list[HandlerSpec] = [spec_of(h) for h in ([handlers] if single else handlers)]  # type: ignore[arg-type,union-attr]
        check_names(self._specs)
        self._coordinator = coordinator
        self._balancer = balancer or FairBalancer()
        self.settings = replace(settings or Settings(), handlers=tuple(s.name for s in self._specs), **overrides)
        self._exclusive, self._notify = exclusive, notify
        #: why it is to stop; each call of `stop` that the loop has not been told of
        self._stops: collections.deque[str] = collections.deque()
        #: how long the turns of the loop took so far
        self.turns = Turns(self.settings.margin_s / 2)
        self._node: RunningNode | None = None
        self._asyncio: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Run until `stop` is called, or SIGTERM or SIGINT comes (caught only when called in the main thread).

        Then every task is stopped and released within stop_timeout. Raises NodeError where the node could not start:
        code 3 the store is not reachable, 4 the name is taken, 5 a handler cannot be imported; and where it was asked
        to be started again: code 75, by `mpfora node NAME restart`."""
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(self.turns.selector())) as runner:
            runner.run(self.run_async())

    async def run_async(self) -> None:
        """As `run`, in a running event loop. The turns of that loop are not measured."""
        _check_surroundings()
        for note in self.settings.has_notes:
            log.warning("%s", note)
        node = self._node = RunningNode(
            self._coordinator, self._specs, self._balancer, self.settings, self.turns,
            exclusive=self._exclusive, notify=self._notify,
        )  # fmt: skip
        self._asyncio = asyncio.get_running_loop()
        self._tell_stops()
        ended = await node.run(self.stop)
        if ended.code:
            raise NodeError(ended.code, ended.text)

    def stop(self, why: str = "stop") -> None:
        """Stop and release everything and make `run` return; a second call kills at once. Called before `run`, it makes
        that return without a task having been claimed. Callable from any thread."""
        self._stops.append(why)
        if self._asyncio is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and so has the node
                self._asyncio.call_soon_threadsafe(self._tell_stops)

    def reload(self, why: str = "reload", within_s: float | None = None) -> None:
        """Import the handlers anew, for new runs. What runs stays in the code that it has; or, within_s: is asked to
        save and go on in the new code, and killed after so many seconds. Code that cannot be imported changes nothing,
        and the log says why. Called while `run` runs, from any thread; before and after that it means nothing. Raises
        BadValue for a within_s that is no number of seconds."""
        is_number = isinstance(within_s, int | float) and not isinstance(within_s, bool)
        if within_s is not None and not (is_number and 0 <= within_s < 1e9):
            raise BadValue(f"within_s: {within_s!r} is not a number of seconds, or is negative, or beyond 30 years")
        if self._asyncio is not None and self._node is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and so has the node
                self._asyncio.call_soon_threadsafe(self._node.put, ev.ReloadAsked(why, within_s))

    def _tell_stops(self) -> None:
        """Called in the loop: once when that begins, and after each call of `stop`."""
        while self._stops and self._node is not None:
            self._node.put(ev.ShutdownAsked(self._stops.popleft()))


def _check_surroundings() -> None:
    """Raises NodeError where no node can run."""
    if handler_spec.is_importing:
        raise NodeError(
            5,
            "a node is started where its handlers are imported, and the node's own zygote imports them: put what"
            " starts it under `if __name__ == '__main__':`",
        )
    if not sys.platform.startswith("linux"):
        raise NodeError(2, f"an mpfora node needs Linux (process groups, death signals, /proc); this is {sys.platform}")
    if not os.access(_PROC, os.R_OK):
        raise NodeError(2, "there is no /proc, which a node needs: mount it (mount -t proc proc /proc)")


def show_title(node: str) -> None:
    """What `ps` shows of a supervisor."""
    setproctitle(f"mpfora: supervisor {node}")
