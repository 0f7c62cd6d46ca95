"""Where a living run spends its time: its own sampler says it, or py-spy where the run does not answer.

A profile is text: collapsed stacks, `thread;outermost;...;innermost MICROSECONDS` a line.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mpfora.ipc import look_area
from mpfora.ipc.look_area import BY_CPU, BY_WALL, PROFILE, Question
from mpfora.linux import syscalls
from mpfora.supervisor.zygote.live_stack import (
    ANSWER_WITHIN_S,
    INSTALL,
    RING_EVERY_S,
    Ended,
    LivingRun,
    find_py_spy,
    run_py_spy,
    why_silent,
)

#: between two looks whether the profile is there
_LOOK_S = 0.05
#: how much longer than asked for a profile may take: a busy interpreter lets its sampler wait
_LATE_S = 5.0
_RAW = re.compile(r"^(.*) (\d+)$")


@dataclass(frozen=True, slots=True)
class LiveProfile:
    """how: "task" or "py-spy"; note: what else is to be known, "" if nothing."""

    text: str
    how: str
    pid: int
    note: str = ""
    attempt: int = 0


class Unprofiled(Exception):
    """No profile can be made. The text says why, and what to do."""


async def profile_of(run: LivingRun, *, for_s: float, hz: int, by: str) -> LiveProfile:
    """by: "wall", "cpu", or "gil", which py-spy alone can tell. Raises Ended, Unprofiled, OSError."""
    found = None if by == "gil" else await _own_profile(run, for_s, hz, BY_CPU if by == "cpu" else BY_WALL)
    spy = find_py_spy()
    # a main thread that answers from within C code may still not let the sampler run
    if found is not None and (found.text or not found.note or spy is None or not run.lives()):
        return found
    if by == "gil":
        why = "a process cannot see from inside who holds the GIL"
    else:
        why = why_silent(run.pid) if found is None else found.note
    if spy is None:
        raise Unprofiled(f"{why}; {INSTALL}")
    return await _py_spy(spy, run, for_s, hz, by, "" if by == "gil" else why)


async def _own_profile(run: LivingRun, for_s: float, hz: int, by: int) -> LiveProfile | None:
    """None: it does not answer."""
    loop, number = asyncio.get_running_loop(), syscalls.boot_ns()
    look_area.ask(run.file, PROFILE, Question(number, hz, int(for_s * 1000), by))
    try:
        if not await _begins(run, number):
            return None
        ends = loop.time() + for_s + _LATE_S
        while run.lives() and not look_area.is_finished(run.file, PROFILE, number):
            if loop.time() >= ends:
                return _read(run, number, "its interpreter was too busy to let the sampler end")
            await asyncio.sleep(_LOOK_S)
        return _read(run, number, "" if run.lives() else "the run ended meanwhile")
    finally:
        look_area.withdraw(run.file, PROFILE)


async def _begins(run: LivingRun, number: int) -> bool:
    """Whether its sampler has begun, within a second. Raises Ended."""
    loop = asyncio.get_running_loop()
    ends, ring_at = loop.time() + ANSWER_WITHIN_S, loop.time()
    while look_area.answer(run.file, PROFILE, number) is None:
        if not run.lives():
            raise Ended
        if loop.time() >= ends:
            return False
        if loop.time() >= ring_at:
            run.ring()
            ring_at += RING_EVERY_S
        await asyncio.sleep(0.005)
    return True


def _read(run: LivingRun, number: int, note: str) -> LiveProfile:
    """Raises Ended, Unprofiled."""
    text = (look_area.answer(run.file, PROFILE, number) or b"").decode(errors="replace")
    if text.startswith("!"):
        raise Unprofiled(f"its sampler failed: {text[1:500]}")
    if not text and not run.lives():
        raise Ended
    return LiveProfile(text, "task", run.pid, note, run.attempt)


async def _py_spy(program: str, run: LivingRun, for_s: float, hz: int, by: str, why: str) -> LiveProfile:
    with tempfile.TemporaryDirectory(prefix="mpfora-profile-") as folder:
        file = Path(folder) / "profile"
        seconds = max(1, round(for_s))
        arguments = ["record", "--pid", str(run.pid), "--duration", str(seconds), "--rate", str(hz), "--format", "raw"]
        more = {"gil": ["--gil"], "wall": ["--idle"]}.get(by, [])
        _, failure = await run_py_spy(program, [*arguments, *more, "--threads", "--output", str(file)], for_s + 10)
        if not file.exists():
            raise Unprofiled("; ".join(filter(None, (why, failure or "py-spy has seen nothing"))))
        raw = file.read_text(errors="replace")[: look_area.LONGEST[PROFILE]]
    return LiveProfile(_weighed(raw, hz), "py-spy", run.pid, why, run.attempt)


def _weighed(raw: str, hz: int) -> str:
    """py-spy counts samples."""
    found = (_RAW.match(line) for line in raw.splitlines())
    return "".join(f"{match[1]} {int(match[2]) * 1_000_000 // hz}\n" for match in found if match is not None)
