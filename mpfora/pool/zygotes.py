"""The zygotes of a pool: one at work, another one instead when that is lost, and a successor with more modules in it.

A zygote that has a call's module imported hands it to every child; else each child imports it anew. So when a call of a
new module comes, a successor is started that has that, too; until it is ready the old one goes on, and it leaves when
its last call has ended.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from mpfora.config.handler_spec import HandlerSpec
from mpfora.pool.preload import Ahead
from mpfora.pool.work import Work
from mpfora.supervisor.events import Event, ZygoteLost
from mpfora.supervisor.zygote.command_line import Program, module_path
from mpfora.supervisor.zygote.startup import HandlerImportError, Timeouts, ZygoteStartError
from mpfora.supervisor.zygote.zygote import Zygote

log = logging.getLogger(__name__)

#: the handler that a child of a pool is given
CALL = HandlerSpec("call", "mpfora.child.pool.call", "conduct")
TIMEOUTS = Timeouts(ping_every_s=2.0, ping_s=10.0)
#: how long the import of modules may take if nobody has asked to preload them
TRIED_S = 60.0
#: pauses before a start is tried again
_AGAIN_S = (0.1, 0.5, 2.0)


class PreloadError(ZygoteStartError):
    """A module of Pool(preload=...) cannot be imported. The text names it, `traceback` shows where."""


class Zygotes:
    """All is called from the pool's loop. `current` is the one that forks, None while there is none.

    on_change  called when `current` has become another
    on_failed  called when none can be started, with the reason
    """

    def __init__(
        self,
        needed: tuple[str, ...],
        on_event: Callable[[Event], None],
        on_started: Callable[[int, int], None],
        on_output: Callable[[str, str], None],
        on_change: Callable[[], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.current: Zygote | None = None
        self._ahead = Ahead(needed)
        self._on_event, self._on_started, self._on_output = on_event, on_started, on_output
        self._on_change, self._on_failed = on_change, on_failed
        self._starting: asyncio.Task[None] | None = None
        #: zygote -> how many calls run in it
        self._uses: dict[Zygote, int] = {}
        #: sys.path as each zygote found it
        self._paths: weakref.WeakKeyDictionary[Zygote, list[str]] = weakref.WeakKeyDictionary()
        self._closings: set[asyncio.Task[None]] = set()

    def want(self, work: Work | None) -> None:
        """Have a zygote, with the modules of `work` imported if they can be."""
        if work is not None:
            self._ahead.learn(work)
        if self._starting is None and (self.current is None or self._ahead.is_outdated):
            self._starting = asyncio.get_running_loop().create_task(self._start())

    def use(self, zygote: Zygote) -> None:
        self._uses[zygote] += 1

    def let_go(self, zygote: Zygote) -> None:
        """A call has ended. One that has a successor leaves with its last call."""
        self._uses[zygote] -= 1
        self._leave_if_unused(zygote)

    def new_path(self, zygote: Zygote) -> list[str] | None:
        """Where modules are looked for now; None: it is as the zygote has it."""
        path = module_path()
        return None if self._paths.get(zygote) == path else path

    async def close(self) -> None:
        """End all, in bounded time."""
        if self._starting is not None:
            self._starting.cancel()
            with suppress(asyncio.CancelledError):
                await self._starting
        self.current = None
        for zygote in list(self._uses):
            self._close(zygote)
        if self._closings:
            await asyncio.wait(self._closings)

    async def _start(self) -> None:
        """Start one, a few times if need be."""
        try:
            for pause_s in (*_AGAIN_S, None):
                try:
                    zygote = self._execute()
                    await self._started_or_closed(zygote)
                except HandlerImportError as error:
                    self._on_failed(PreloadError(_named(error), error.traceback))
                    return
                except (ZygoteStartError, OSError) as error:
                    if self._ahead.gives_up(error):
                        continue
                    if pause_s is None:
                        self._on_failed(error)
                        return
                    await asyncio.sleep(pause_s)
                else:
                    self._take_over(zygote)
                    return
        except Exception as error:
            log.exception("no zygote can be started: this is a bug in mpfora")
            self._on_failed(error)
        finally:
            self._starting = None

    def _execute(self) -> Zygote:
        """Execute a zygote. This program stays as it is: its limit of open files, and who inherits its orphans."""
        path = module_path()
        zygote = Zygote(
            Program([CALL], "pool", self._ahead.preload()),
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            lambda event: self._take(zygote, event),
            self._on_output,
            timeouts=self._timeouts(),
            on_started=self._on_started,
        )
        self._paths[zygote] = path
        return zygote

    async def _started_or_closed(self, zygote: Zygote) -> None:
        """Where the start is cancelled the zygote is killed: wait until nothing is left of it."""
        try:
            await zygote.start()
        except asyncio.CancelledError:
            await zygote.close()
            raise

    def _timeouts(self) -> Timeouts:
        """Imports that only make calls faster get less time than those that somebody asked for."""
        return TIMEOUTS if self._ahead.needed else replace(TIMEOUTS, start_s=TRIED_S)

    def _take_over(self, zygote: Zygote) -> None:
        old, self.current = self.current, zygote
        self._ahead.started()
        self._uses[zygote] = 0
        self._starting = None
        if old is not None:
            self._leave_if_unused(old)
        self._on_change()

    def _take(self, zygote: Zygote, event: Event) -> None:
        """Take an event of any zygote. The calls of a lost one have ended already."""
        if not isinstance(event, ZygoteLost):
            self._on_event(event)
            return
        log.warning("the pool's zygote is lost, another one takes its place: %s", event.reason)
        if self.current is zygote:
            self.current = None
        self._leave_if_unused(zygote)  # if it is used, a process that does not die holds it
        self._on_change()

    def _leave_if_unused(self, zygote: Zygote) -> None:
        if zygote is not self.current and not self._uses.get(zygote, 1):
            self._close(zygote)

    def _close(self, zygote: Zygote) -> None:
        if self._uses.pop(zygote, None) is not None:
            closing = asyncio.get_running_loop().create_task(zygote.close())
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)


def _named(error: HandlerImportError) -> str:
    last = error.traceback.strip().splitlines()[-1:] or [str(error)]
    return f"the pool cannot start: {last[0]}"
