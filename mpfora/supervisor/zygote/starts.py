"""Starts of zygotes, one at a time: a newer one takes the place of one that is under way."""

from __future__ import annotations

from mpfora.ipc import frames
from mpfora.supervisor.zygote.startup import ZygoteStartError
from mpfora.supervisor.zygote.zygote import Zygote


class Superseded(Exception):
    """A start that has given way to a later one."""


class Starts:
    """`begin` numbers a start; `check` and `run` raise Superseded if a later one has begun."""

    def __init__(self) -> None:
        self._count = 0
        self._starting: Zygote | None = None

    def begin(self) -> int:
        """The number of this start. The zygote that imports is killed."""
        self._count += 1
        if self._starting is not None:
            self._starting.abandon("a newer start takes its place")
        return self._count

    def check(self, number: int) -> None:
        if number != self._count:
            raise Superseded

    async def run(self, number: int, zygote: Zygote) -> frames.Ready:
        """Wait until it has imported the handlers. Raises ZygoteStartError, too."""
        self._starting = zygote
        try:
            reply = await zygote.start()
        except ZygoteStartError:
            self.check(number)
            raise
        finally:
            self._starting = None if self._starting is zygote else self._starting
        self.check(number)
        return reply
