"""Calls that are tried again: when, and those that wait for it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from mpfora.errors import TaskTimeout
from mpfora.model.outcome import Cause, Outcome
from mpfora.model.state import TaskError
from mpfora.pool.future import PoolFuture
from mpfora.pool.running import Entry, Running
from mpfora.retry import TryAgain, next_try

#: the most characters that are kept of the errors of a call
_TEXT = 1_000


class Sleepers:
    """on_awake: called in the loop, with an entry whose time has come."""

    def __init__(self, on_awake: Callable[[Entry], None]) -> None:
        self._on_awake = on_awake
        self._timers: dict[PoolFuture[Any], asyncio.TimerHandle] = {}
        self._random = random.Random()

    def take(self, running: Running, outcome: Outcome) -> bool:
        """Whether the policy of a call tries it again after this outcome."""
        seconds = self._wait_s(running, outcome)
        if seconds is None:
            return False
        timer = asyncio.get_running_loop().call_later(seconds, self._awake, running.entry)
        self._timers[running.future] = timer
        return True

    def forget(self, future: PoolFuture[Any]) -> bool:
        """Forget a call that was ended while it sleeps. Returns False if it does not sleep."""
        timer = self._timers.pop(future, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _awake(self, entry: Entry) -> None:
        del self._timers[entry.future]
        self._on_awake(entry)

    def _wait_s(self, running: Running, outcome: Outcome) -> float | None:
        policy = running.entry.work.limits.retry
        is_late = running.killed is TaskTimeout and outcome.cause is Cause.STOP_TIMEOUT
        is_failed = is_late or outcome.is_task_error or outcome.cause is Cause.ZYGOTE_LOST
        if policy is None or not is_failed or (running.killed is not None and not is_late):
            return None
        now = time.time()
        running.entry.errors.append(TaskError(now, outcome.error[:_TEXT], outcome.cause.value))
        match next_try(policy, running.entry.errors, now, self._random, outcome.error_kinds):
            case TryAgain(until):
                return max(0.0, until - now)
        return None
