"""Where a living run is: the run itself says it, else py-spy, else the kernel.

The task goes on as if nothing had happened. Whoever asks waits a second at most for the run's own answer, and then some
seconds for py-spy, which finds Python's stacks in the memory of a process that does not answer.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mpfora.ipc import look_area
from mpfora.ipc.look_area import STACK, Question
from mpfora.linux import syscalls
from mpfora.linux.threads import Thread, blocks, catches, threads
from mpfora.supervisor.zygote.stacks import without_our_frames

#: how long the run's own answer is waited for, and the pauses between two looks for it
ANSWER_WITHIN_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02
RING_EVERY_S = 0.2
#: how long py-spy may take
_PY_SPY_S = 10.0
#: bytes that are taken of what it says
_PY_SPY_BYTES = 256 * 1024
INSTALL = "to see Python's stacks of such a task, install py-spy on its node: pip install 'mpfora[profile]'"


class Ended(Exception):
    """The run has ended."""


@dataclass(frozen=True, slots=True)
class LivingRun:
    """What is needed to look into a run.

    file   its run_file, for the caller of `stack_of` to keep open meanwhile
    ring   tells the run that there is a question
    lives  whether it has not ended
    attempt  of its task"""

    pid: int
    file: int
    ring: Callable[[], None]
    lives: Callable[[], bool]
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class LiveStack:
    """how: "task" (its own answer), "py-spy" or "kernel"; note: why it is not the task's own, "" if it is."""

    text: str
    how: str
    pid: int
    note: str = ""
    attempt: int = 0


async def stack_of(run: LivingRun, *, native: bool = False) -> LiveStack:
    """native: with the frames of C code, which py-spy alone can tell. Raises Ended."""
    spy = find_py_spy()
    if native and spy is not None:
        return await _seen(run, spy, "", native=True)
    note = "" if not native else f"C code is not shown: {INSTALL}"
    text = await _own_answer(run)
    if text is not None:
        return LiveStack(without_our_frames(text).strip("\n"), "task", run.pid, note, run.attempt)
    return await _seen(run, spy, why_silent(run.pid))


async def _seen(run: LivingRun, spy: str | None, why: str, native: bool = False) -> LiveStack:
    """What can be seen of a run from outside."""
    failure = INSTALL
    if spy is not None:
        arguments = ["dump", "--pid", str(run.pid), *(["--native"] if native else [])]
        text, failure = await run_py_spy(spy, arguments, _PY_SPY_S)
        if text:
            return LiveStack(text, "py-spy", run.pid, why, run.attempt)
    if not run.lives():
        raise Ended
    lines = "\n".join(map(str, threads(run.pid)))
    return LiveStack(lines, "kernel", run.pid, "; ".join(filter(None, (why, failure))), run.attempt)


async def _own_answer(run: LivingRun) -> str | None:
    """None: it does not answer. Raises Ended."""
    loop = asyncio.get_running_loop()
    number = syscalls.boot_ns()
    look_area.ask(run.file, STACK, Question(number))
    ends, ring_at, pause_s = loop.time() + ANSWER_WITHIN_S, loop.time(), _FIRST_PAUSE_S
    try:
        while (text := look_area.answer(run.file, STACK, number)) is None:
            if not run.lives():
                raise Ended
            if loop.time() >= ends:
                return None
            if loop.time() >= ring_at:  # the exception of another signal may have ended the last look
                run.ring()
                ring_at += RING_EVERY_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    finally:
        look_area.withdraw(run.file, STACK)
    return text.decode(errors="replace")


def why_silent(pid: int) -> str:
    """Why a run does not answer, for people."""
    main: Thread | None = next(iter(threads(pid)), None)
    if main is None:
        return "its process is ending"
    if main.state.startswith("stopped"):
        return f"its process is {main.state}: kill -CONT {pid} continues it"
    if blocks(pid, signal.SIGURG):
        return "its main thread blocks signals"
    if not catches(pid, signal.SIGURG):
        return "its process no longer runs Python, or uses the signal SIGURG for something else"
    return f"its main thread is in C code, {main.state}, and has not come back from there for {ANSWER_WITHIN_S:g} s"


# -- py-spy ------------------------------------------------------------------------------------------------------------


def find_py_spy() -> str | None:
    """Its program: beside this Python, where an extra of mpfora puts it, or on the path."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


async def run_py_spy(program: str, arguments: Sequence[str], within_s: float) -> tuple[str, str]:
    """(what it says, why it says nothing)."""
    try:
        process = await asyncio.create_subprocess_exec(
            program, *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        return "", f"{program} cannot be executed: {error}"
    try:
        async with asyncio.timeout(within_s):
            out, err = await process.communicate()
    except TimeoutError:
        return "", f"{program} did not answer within {within_s:g} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        return "", f"{program} failed: {_last_line(err)}"
    return out[:_PY_SPY_BYTES].decode(errors="replace").strip(), ""


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it says nothing"
