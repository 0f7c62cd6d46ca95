"""What comes out of a pool: results into futures, lines to whoever reads them. Both run code of the user's, so the
threads of Deliveries do them; this module hands them over."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

from mpfora.model.outcome import Outcome
from mpfora.pool.deliveries import HELD_UP_S, Deliveries
from mpfora.pool.future import PoolFuture
from mpfora.pool.running import Running
from mpfora.pool.verdict import judge

log = logging.getLogger(__name__)

#: the most lines that wait for a slow reader; further ones are left out
LINES_WAITING = 10_000
#: lines in RunDied.last_lines
LAST_LINES = 40

OnLine = Callable[[PoolFuture[Any], str], None]


class Outlet:
    """All is called from the loop. on_delivered is called in a thread of deliveries, when a future is done."""

    def __init__(self, name: str, on_line: OnLine | None, on_delivered: Callable[[PoolFuture[Any]], None]) -> None:
        self._on_line = on_line
        self._on_delivered = on_delivered
        self._deliveries = Deliveries(name)
        self._left_out = 0
        self._looks = False
        self._has_told = False

    @property
    def is_mine(self) -> bool:
        """Whether the caller is in a thread of deliveries."""
        return self._deliveries.is_mine()

    def settle(self, running: Running, outcome: Outcome) -> None:
        """Tell the future of a call what it has ended in."""
        self._put(partial(self._settle, running, outcome))

    def fail(self, future: PoolFuture[Any], error: BaseException) -> None:
        self._put(partial(self._end, future, None, error))

    def show(self, future: PoolFuture[Any] | None, line: str) -> None:
        """future: of the call that has printed the line; None: the zygote has."""
        if future is not None:
            future._lines.append(line)
        if self._deliveries.waiting >= LINES_WAITING:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        self._put(partial(self._show, future, line, left_out))

    def close(self) -> None:
        self._deliveries.close()

    def _put(self, deed: Callable[[], None]) -> None:
        self._deliveries.put(deed)
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(HELD_UP_S, self._look)

    def _look(self) -> None:
        self._looks = self._deliveries.waiting > 0
        if self._looks:
            self._deliveries.look()
            asyncio.get_running_loop().call_later(HELD_UP_S, self._look)

    # -- in a thread of deliveries ------------------------------------------------------------------------------------

    def _settle(self, running: Running, outcome: Outcome) -> None:
        lines = running.future.lines[-LAST_LINES:]
        verdict = judge(outcome, running.result, running.killed, running.why, lines)
        running.close_result()
        if verdict.error is not None and running.entry.errors:
            verdict.error.add_note(f"(the call was tried {running.future.attempt} times)")
        self._end(running.future, *verdict)

    def _end(self, future: PoolFuture[Any], value: Any, error: BaseException | None) -> None:
        try:
            future._end(value, error)
        finally:
            self._on_delivered(future)

    def _show(self, future: PoolFuture[Any] | None, line: str, left_out: int) -> None:
        try:
            if left_out:
                print(f"mpfora: left out {left_out} lines of calls: their reader is too slow", file=sys.stderr)
            if self._on_line is not None and future is not None:
                self._on_line(future, line)
            else:
                _print(line, sys.stderr if future is None else sys.stdout)
        except Exception as error:  # noqa: BLE001 - on_line, or a sys.stdout of the user's own
            if not self._has_told:
                self._has_told = True
                log.warning("a line of a call could not be shown, and perhaps more: %r", error)


def _print(line: str, stream: TextIO) -> None:
    """With escapes for what the stream's encoding does not have."""
    try:
        print(line, file=stream, flush=True)
    except UnicodeEncodeError:
        print(line.encode(stream.encoding, "backslashreplace").decode(stream.encoding), file=stream, flush=True)
