"""Makes the tasks of schedules. Any node can: the write that makes a slot's task lets one of them succeed.

The core never sees schedules. Each slot has its own order of the live nodes. The first node makes the task of the slot
when it is due; the next one does so a little later, in case the first is busy or dying. While no schedule is due
nothing is done.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from mpfora.cluster.changes import Changes, MemberGone, MemberPut
from mpfora.cluster.clocks import format_differing, is_own_wrong
from mpfora.model.schedule import LATE_S, Schedule, dealt_with, next_due, next_step, rank
from mpfora.model.units import format_time
from mpfora.store.schedule_records import KeptSchedule
from mpfora.supervisor.coordinator.interface import Coordinator, StoreError, Unreachable

log = logging.getLogger("mpfora.node")

#: how much later than the one before it in the order of a slot a node makes its task
NEXT_S = 2.0
#: how often the node looks whether the task that other slots wait for is over
_ASK_S = 2.0
#: seconds until the next try after an error of the store, and after an error of our own
_AGAIN_S, _BUG_S = 5.0, 60.0
#: seconds until the next try after another node's write came first
_SOON_S = 0.2
#: seconds until the clocks are compared again
_CLOCK_S = 60.0
#: the longest sleep: the machine's clock may be set
_LONGEST_S = 300.0


class Schedules:
    """Those of the cluster, as one node sees them."""

    def __init__(self, node: str, coordinator: Coordinator) -> None:
        self._node, self._coordinator = node, coordinator
        self._nodes: set[str] = set()
        self._is_reset = False
        self._kept: Sequence[KeptSchedule] = ()
        self._is_stale = False
        self._stirred = asyncio.Event()
        self._told: dict[str, str] = {}

    def take(self, changes: Changes) -> None:
        """Called for what the watch shows."""
        if changes.reset and not self._is_reset:
            self._nodes.clear()
        self._is_reset = changes.reset and changes.more
        for change in changes.changes:
            if type(change) is MemberPut:
                self._nodes.add(change.member.name)
            elif type(change) is MemberGone:
                self._nodes.discard(change.name)
        if changes.scheduled or (changes.reset and not changes.more):
            self._is_stale = True
            self._stirred.set()

    async def run(self) -> None:
        """For as long as the node lives."""
        while True:
            self._stirred.clear()
            pause_s = await self._turn_safely()
            try:
                async with asyncio.timeout(pause_s):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def _turn_safely(self) -> float | None:
        try:
            return await self._turn()
        except Unreachable:
            self._is_stale = True
            return _AGAIN_S
        except StoreError as error:
            self._is_stale = True
            self._tell("", f"the tasks of schedules cannot be made: {error}")
            return _AGAIN_S
        except Exception:
            log.exception("the tasks of schedules cannot be made: this is a bug in mpfora")
            return _BUG_S

    async def _turn(self) -> float | None:
        """Do what is due. Returns after how many seconds to look again; None: when something changes."""
        if self._is_stale:
            self._is_stale = False
            self._kept = await self._coordinator.schedules()
        pauses = [pause for kept in self._kept if (pause := await self._look_safely(kept)) is not None]
        return min((*pauses, _LONGEST_S)) if pauses else None

    async def _look_safely(self, kept: KeptSchedule) -> float | None:
        """An error of one schedule does not stop the others."""
        try:
            return await self._look(kept)
        except StoreError:
            raise
        except Exception:
            log.exception("schedule %s cannot be carried out: this is a bug in mpfora", kept.name)
            return _BUG_S

    async def _look(self, kept: KeptSchedule) -> float | None:
        """Returns after how many seconds to look again; None: when it changes."""
        if kept.schedule is None:
            self._tell(kept.name, f"schedule {kept.name!r} is not carried out: {kept.problem}; make it anew")
            return None
        now, waiting = time.time(), kept.progress.waiting
        if dealt_with(kept.schedule, kept.progress) > now + LATE_S:
            self._tell_future(kept, kept.schedule)
        due = next_due(kept.schedule, kept.progress)
        if due is None and not waiting:
            return None
        late_s = NEXT_S * self._place(kept.name, waiting[0] if due is None or waiting else due[0])
        until_s = math.inf if due is None else due[1] + late_s - now
        if not waiting and until_s > 0:
            return until_s
        if due is not None and now - due[1] > LATE_S and (told := await self._clock_trouble()):
            self._tell(kept.name, f"schedule {kept.name!r} waits: a time seems to have been missed, but {told}")
            return _CLOCK_S
        return await self._carry_out(kept, now, min(_ASK_S + late_s, max(_SOON_S, until_s)))

    async def _clock_trouble(self) -> str:
        """Why this node does not make the task of a slot that seems to be missed; "" if it may. The slot may seem to be
        over because this clock is ahead: then this node would note a slot as done that lies in the future of all
        others."""
        if not is_own_wrong(ahead := await self._coordinator.clocks()):
            return ""
        return f"the clocks of nodes differ from this one's ({format_differing(ahead)}). Set the clock that is wrong"

    def _tell_future(self, kept: KeptSchedule, schedule: Schedule) -> None:
        until = format_time(dealt_with(schedule, kept.progress))
        self._tell(
            kept.name,
            f"schedule {kept.name!r} makes no task before {until}: its times up to then are dealt with, although that"
            " lies in the future of this node's clock. If this clock is wrong, set it. If the clock of another node or"
            " client was wrong, delete the schedule and make it anew",
        )

    def _place(self, name: str, slot: int) -> int:
        return rank(self._node, sorted({*self._nodes, self._node}), name, slot)

    async def _carry_out(self, kept: KeptSchedule, now: float, pause_s: float) -> float:
        """pause_s: how many seconds to wait where nothing is to be done yet."""
        assert kept.schedule is not None
        last_id = kept.progress.last_id
        is_busy = last_id is not None and await self._coordinator.is_there(last_id)
        step = next_step(kept.schedule, kept.progress, now, is_busy)
        if step is None:
            return pause_s
        self._is_stale = True
        if not await self._coordinator.carry_out(kept, step):
            return _SOON_S
        if step.made is not None:
            log.info("schedule %s: task %s is made", kept.name, step.progress.last_id)
        return 0.0

    def _tell(self, name: str, text: str) -> None:
        """Once, until it changes."""
        if self._told.get(name) != text:
            self._told[name] = text
            log.warning("%s", text)
