"""The calls for schedules."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpfora.client.calls.connection import Connection
from mpfora.client.tasks import arguments

# What a call alone needs is imported there: a command that shows one task is to come at once.
if TYPE_CHECKING:
    from mpfora.client.info.schedule_info import ScheduleInfo
    from mpfora.client.schedules.schedules import Schedules


class ScheduleCalls(Connection):
    """schedule, schedules, pause_schedule, resume_schedule, trigger_schedule, delete_schedule."""

    async def schedule(
        self,
        name: str,
        *,
        cron: str | None = None,
        every: float | str | None = None,
        tz: str = "UTC",
        handler: str | None = None,
        props: Mapping[str, Any] | None = None,
        overlap: str = "skip",
        catch_up: str = "last",
        jitter: float | str = 0.0,
    ) -> ScheduleInfo:
        """Have a task made again and again: at the times that `cron` tells in the time zone `tz`, or `every` so often,
        in whole seconds. Each task is called NAME@TIME and is a task like any other. Nodes make it: the first that
        comes, and each once.

        overlap   what becomes of a time at which the task before it is still there: "skip" it, "queue" its task until
                  that is over, or "replace" that, which is killed
        catch_up  what becomes of times at which no node was there: "last", the last of them has its task, or "none"
        jitter    each task is made up to so much later, so that not all come at once

        A schedule of this name that exists is changed; how far it has come stays. Raises BadValue and InvalidTask."""
        from mpfora.client.schedules.schedules import new_schedule

        timing, rules = (cron, every, tz), (overlap, catch_up, jitter)
        wanted = new_schedule(name, int(time.time()), timing, handler, props, rules)
        with self._errors(writes=True):
            return await self._schedules().put(wanted)

    async def schedules(self) -> list[ScheduleInfo]:
        """All schedules, by name. One that cannot be read has a `problem`."""
        with self._errors():
            return await self._schedules().all()

    async def pause_schedule(self, name: str) -> ScheduleInfo:
        """Let its times pass without a task, until `resume_schedule`. Raises ScheduleNotFound."""
        arguments.text(name, "name")
        with self._errors(writes=True):
            return await self._schedules().pause(name)

    async def resume_schedule(self, name: str) -> ScheduleInfo:
        """Go on with the next of its times. Raises ScheduleNotFound."""
        arguments.text(name, "name")
        with self._errors(writes=True):
            return await self._schedules().resume(name, int(time.time()))

    async def trigger_schedule(self, name: str) -> str:
        """Have a task made now, beside its times; it waits until the one before is over. Returns the task's id. Raises
        ScheduleNotFound."""
        arguments.text(name, "name")
        with self._errors(writes=True):
            return await self._schedules().trigger(name, int(time.time()))

    async def delete_schedule(self, name: str) -> bool:
        """Make no more tasks. Those that were made go on. False: there is no schedule of this name."""
        arguments.text(name, "name")
        with self._errors(writes=True):
            return await self._schedules().delete(name)

    def _schedules(self) -> Schedules:
        from mpfora.client.schedules.schedules import Schedules

        return Schedules(self._etcd, self._layout)
