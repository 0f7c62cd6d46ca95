"""The sampler: a thread that looks many times a second where the threads of its process are, from a question on until
its time is up or nobody asks any more. What it has seen so far stands in the run's file each second.

Samples are weighed by the time since the last one, in microseconds: elapsed time, or what the thread has used of its
processor. So they are right on the whole, however seldom a busy interpreter lets the sampler run.
"""

from __future__ import annotations

import _thread
import os
import sys
from time import sleep
from types import CodeType, FrameType
from typing import Any

from mpfora.child.run.loop_tasks import LoopTasks
from mpfora.ipc import look_area
from mpfora.ipc.look_area import BY_CPU, LONGEST, PROFILE, Question
from mpfora.linux.syscalls import monotonic

#: different stacks that are told apart, and frames of one
_STACKS, _FRAMES = 20_000, 200
_PUBLISH_EVERY_S = 1.0

Stack = tuple[str, tuple[tuple[CodeType, int], ...]]


class Sampler:
    """file: a descriptor of the run's file, which is closed at the end."""

    def __init__(self, file: int, question: Question) -> None:
        self._file = file
        self._question = question
        self._weights: dict[Stack, int] = {}
        self._rest = 0
        self._waiting = LoopTasks()
        #: CPU time of each thread at the last sample, in nanoseconds
        self._cpu: dict[int, int] = {}

    def start(self) -> None:
        """Raises RuntimeError where there is no thread to be had."""
        look_area.reply(self._file, PROFILE, self._question.number, b"")
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._sample_until_done()
            self._publish()
            look_area.finish(self._file, PROFILE, self._question.number)
        except Exception as error:  # noqa: BLE001 - a thread of ours must not print into the task's log
            look_area.reply(self._file, PROFILE, self._question.number, f"!{type(error).__name__}: {error}".encode())
        finally:
            os.close(self._file)

    def _sample_until_done(self) -> None:
        pause_s = 1 / self._question.rate_hz
        last = began = monotonic()
        publish_at, ends = began + _PUBLISH_EVERY_S, began + self._question.for_ms / 1000
        self._sample(0.0)
        while last < ends and look_area.asked(self._file, PROFILE) == self._question.number:
            sleep(pause_s)
            now = monotonic()
            self._sample(now - last)
            last = now
            if now >= publish_at:
                self._publish()
                publish_at = now + _PUBLISH_EVERY_S

    def _sample(self, elapsed_s: float) -> None:
        own = _thread.get_ident()
        threads: dict[int, Any] = getattr(sys.modules.get("threading"), "_active", {}).copy()
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            thread = threads.get(ident)
            weight = int(elapsed_s * 1e6)
            if self._question.by == BY_CPU:
                weight = min(weight, self._cpu_us(ident, getattr(thread, "native_id", None)))
                waiting = []
            else:
                waiting = self._waiting.of(ident, frame)
            for name, frames in waiting:
                self._add((name, tuple((one.f_code, one.f_lineno or 0) for one in frames)), weight)
            if weight > 0 and not waiting:
                self._count(str(getattr(thread, "_name", "") or f"thread {ident}"), frame, weight)

    def _cpu_us(self, ident: int, native_id: int | None) -> int:
        """What a thread has used since the last sample; nothing at the first one, or where that cannot be known."""
        try:
            with open(f"/proc/self/task/{native_id}/schedstat", "rb") as file:
                used = int(file.read().split()[0])
        except (OSError, ValueError, IndexError):
            return 0
        before, self._cpu[ident] = self._cpu.get(ident, used), used
        return (used - before) // 1000

    def _count(self, name: str, frame: FrameType | None, weight: int) -> None:
        frames: list[tuple[CodeType, int]] = []
        while frame is not None and len(frames) < _FRAMES:
            frames.append((frame.f_code, frame.f_lineno or 0))
            frame = frame.f_back
        self._add((name, tuple(frames)), weight)

    def _add(self, stack: Stack, weight: int) -> None:
        if stack in self._weights or len(self._weights) < _STACKS:
            self._weights[stack] = self._weights.get(stack, 0) + weight
        else:
            self._rest += weight

    def _publish(self) -> None:
        """Collapsed stacks: `thread;outermost;...;innermost MICROSECONDS`, the heaviest first."""
        lines, left = [], LONGEST[PROFILE] - 100
        for stack, weight in sorted(self._weights.items(), key=lambda item: -item[1]):
            line = f"{_collapsed(stack)} {weight}\n"
            left -= 2 * len(line)  # of UTF-8
            if left < 0:
                self._rest += weight
            else:
                lines.append(line)
        if self._rest:
            lines.append(f"(other stacks) {self._rest}\n")
        look_area.reply(self._file, PROFILE, self._question.number, "".join(lines).encode(errors="replace"))


def _collapsed(stack: Stack) -> str:
    name, frames = stack
    parts = [name, *(f"{code.co_qualname} ({code.co_filename}:{line})" for code, line in reversed(frames))]
    return ";".join(part.replace(";", ",").replace("\n", " ") for part in parts)
