"""All zygotes of a node in the simulation: mpfora/supervisor/zygote/node_zygotes.py, on the simulation's clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mpfora.model.outcome import Cause, Death, classify
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.model.state import Message
from mpfora.supervisor import events as ev
from mpfora.supervisor.zygote.runs import RunUsage
from mpfora.supervisor.zygote.starts import Superseded
from mpfora.supervisor.zygote.startup import ZygoteStartError

from .clock import Host
from .zygotes import ZygoteEnd

if TYPE_CHECKING:
    from .machine import Machine


class NodeZygotes:
    """What effects.py calls."""

    def __init__(self, host: Host, machine: Machine, handlers: tuple[str, ...], put: Callable[[ev.Event], None]):
        self._host, self._machine, self._handlers, self._put = host, machine, handlers, put
        self._ends: list[ZygoteEnd] = []
        self._started: dict[int, ZygoteEnd] = {}
        self._retired: set[int] = set()
        self._leaving: set[int] = set()
        self._starting: ZygoteEnd | None = None
        self._starts = self._generation = 0
        self._deadline: int | None = None
        self._will: Any = None

    async def start(self) -> ev.ZygoteReady:
        self._starts += 1
        mine, generation = self._starts, self._generation + 1
        if self._starting is not None:
            self._starting.kill_now()
        end = self._starting = ZygoteEnd(self._host, self._machine, self._handlers, partial(self._take, generation))
        self._ends.append(end)
        try:
            ready = await end.start()
        except ZygoteStartError:
            self._check_newest(mine)
            raise
        finally:
            self._starting = None if self._starting is end else self._starting
        self._check_newest(mine)
        end.wait_for([other for other in self._ends if other is not end])
        end.set_deadline(self._deadline)
        end.set_will(self._will)
        for former in self._started.values():
            former.set_will(None)
        self._generation, self._started[generation] = generation, end
        return replace(ready, generation=generation)

    def _check_newest(self, mine: int) -> None:
        if mine != self._starts:
            raise Superseded

    def _take(self, generation: int, event: ev.Event) -> None:
        if not isinstance(event, ev.ZygoteLost):
            self._put(event)
            if isinstance(event, ev.ChildExited) and generation in self._retired:
                self._dismiss(generation)
        elif self._started.pop(generation, None) is not None:
            self._retired.discard(generation)
            self._put(replace(event, generation=generation))

    def retire(self, generation: int) -> None:
        for former in [number for number in self._started if number < generation]:
            self._retired.add(former)
            self._dismiss(former)

    def _dismiss(self, generation: int) -> None:
        end = self._started.get(generation)
        if end is not None and end.is_idle and generation not in self._leaving:
            self._leaving.add(generation)
            end.begin_close(late=False)
            self._host.spawn(self._leave(generation, end))

    async def _leave(self, generation: int, end: ZygoteEnd) -> None:
        await end.closed()
        self._started.pop(generation, None)
        self._put(ev.ZygoteEnded(generation))

    async def close(self, *, late: bool = False) -> None:
        self._starts += 1
        for end in self._ends:
            end.begin_close(late=late)
        for end in self._ends:
            await end.closed()

    # -- what effects.py asks -----------------------------------------------------------------------------------------

    def fork(self, run: int, spec: RunSpec, generation: int) -> None:
        end = self._started.get(generation)
        if end is not None and generation not in self._leaving:
            end.fork(run, spec)
        else:
            death = Death(killed_for=Cause.ZYGOTE_LOST, note="there is no zygote")
            self._host.soon(self._put, ev.ChildExited(run, replace(classify(None, death), made=False)))

    def ask_stop(self, run: int, message: Message, reason: str, within_s: float) -> None:
        for end in self._ends:
            end.ask_stop(run, message, reason, within_s)

    def ask_checkpoint(self, run: int) -> None:
        for end in self._ends:
            end.ask_checkpoint(run)

    def kill(self, run: int, cause: Cause, dump: bool = True) -> None:
        for end in self._ends:
            end.kill(run, cause, dump)

    def probe(self, within_s: float) -> None:
        for end in self._started.values():
            end.probe(within_s)

    def set_deadline(self, boot_ns: int | None) -> None:
        self._deadline = boot_ns
        for end in self._ends:
            end.set_deadline(boot_ns)

    def set_will(self, will: tuple[list[str], str] | None) -> None:
        self._will = will
        if (newest := self._started.get(self._generation)) is not None:
            newest.set_will(will)

    def progress(self, run: int) -> None:
        return None

    def limits(self, run: int) -> RunLimits | None:
        return next((limits for end in self._ends if (limits := end.limits(run)) is not None), None)

    def usage(self, run: int) -> RunUsage | None:
        return next((usage for end in self._ends if (usage := end.usage(run)) is not None), None)
