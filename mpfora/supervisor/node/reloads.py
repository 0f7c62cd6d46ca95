"""Reloads: the handlers are imported anew by a zygote beside the one that forks, and what becomes of that. Pure.

New runs are forked of the new code once it is imported. What runs stays in the old code until it ends, or is asked to
save and go on in the new one. Code that cannot be imported changes nothing. The node's record says which code it runs
and how its last reload ended; there whoever has asked finds the answer.
"""

from __future__ import annotations

from typing import Any

from mpfora.model.code import Code, Reload, ReloadState
from mpfora.model.units import format_time
from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now, ReloadAsked, ZygoteFailed
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.node.zygote_restarts import ZygoteRestarts
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks

#: the reason that a run is told when it is asked to go on in the new code
WHY_RENEWED = "the code of the node was reloaded"
#: the most characters of an error, and of its traceback, whose end says most
_ERROR, _DETAIL = 300, 4000


class Reloads:
    """asked, answered: how many reloads were asked for, and how many of these are over: with the new code, without it,
    or since another one has taken their place."""

    def __init__(self, zygote: ZygoteRestarts, status: NodeStatus, claimed: ClaimedTasks) -> None:
        self._zygote, self._status, self._claimed = zygote, status, claimed
        self._reload: Reload | None = None
        #: how long running tasks have to go on in the code that is being imported
        self._within_s: float | None = None
        self.asked = self.answered = 0

    @property
    def error(self) -> str:
        """Why the last one failed; "": it did not."""
        return "" if self._reload is None else self._reload.error

    # -- what happens ---------------------------------------------------------------------------------

    def ask(self, event: ReloadAsked, now: Now) -> list[do.Action]:
        """A reload whose code is being imported gives way: the newest code is what is wanted."""
        if self._status.shutdown:
            return [do.Say("info", f"{event.why}: no reload, the node is shutting down")]
        self.asked += 1
        self._within_s = _sooner(self._within_s if self.is_importing else None, event.within_s)
        command = max(event.command, 0 if self._reload is None else self._reload.command)
        self._reload = Reload(ReloadState.IMPORTING, event.why, format_time(int(now.wall_s)), command)
        self._zygote.reload(now.boot_s)
        return [do.Say("info", f"{event.why}: importing the handlers anew")]

    @property
    def is_importing(self) -> bool:
        return self._reload is not None and self._reload.state is ReloadState.IMPORTING

    def zygote_ready(self) -> list[do.Action]:
        """A zygote was started, for a reload or not. Called when `claimed` knows of it. One that was started since
        another one was lost has the code that a reload before it could not import."""
        within_s, self._within_s = self._within_s, None
        if self._reload is None or self._reload.state is ReloadState.DONE:
            return []
        before = [task for task in self._claimed.running() if task.generation != self._claimed.generation]
        if within_s is None:
            told = self._end(ReloadState.DONE, staying=len(before)).of_running
        else:
            told = self._end(ReloadState.DONE, renewed=len(before)).of_running
            told += f" within {within_s:g} s" if told else ""
            for task in before:
                task.renew, task.renew_within_s = WHY_RENEWED, within_s
                self._claimed.touch(task.task_id)
        text = f"new runs are of generation {self._zygote.generation} of the code"
        return [do.Say("info", f"{text}; {told}" if told else text)]

    def zygote_failed(self, event: ZygoteFailed) -> list[do.Action]:
        """The new code cannot be imported. Where no zygote forks, health.py says what that means."""
        if not self.is_importing:
            return []
        self._within_s = None
        error, detail = event.error[:_ERROR], event.traceback[-_DETAIL:]
        self._end(ReloadState.FAILED, error=error, detail=detail)
        if not self._zygote.ready:
            return []
        told = f"{event.error}\n{event.traceback}".strip()
        return [do.Say("error", f"not reloaded, the node goes on with the code that it has: {told}")]

    def _end(self, state: ReloadState, **how: Any) -> Reload:
        assert self._reload is not None
        self._reload = Reload(state, self._reload.why, self._reload.since, self._reload.command, **how)
        self.answered = self.asked
        return self._reload

    # -- what is done ---------------------------------------------------------------------------------

    def decide(self, *, is_joined: bool) -> list[do.Action]:
        """Tell the others which code the node runs."""
        zygote = self._zygote
        is_plain = zygote.generation <= 1 and self._reload is None
        code = None if is_plain else Code(zygote.generation, zygote.former, self._reload)
        if self._status.code == code:
            return []
        self._status.code = code
        return [do.Publish(self._status.member())] if is_joined else []


def _sooner(first: float | None, second: float | None) -> float | None:
    """The earlier of two times for running tasks: a reload takes over what the one before it was asked to do."""
    return min((within_s for within_s in (first, second) if within_s is not None), default=None)
