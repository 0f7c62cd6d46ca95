"""What hostile handlers do, one function a deed. Imported by zygotes: standard library and mpfora only.

A deed gets the task, its context and its own arguments, and may return, raise, hang or end its process. What it returns
that is not None is what its handler returns.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing import shared_memory
from typing import Any

from mpfora import Message

#: what is written to every descriptor, the file of the lines among them
GARBAGE = b"\x00\x00\x00\x10garbage that is not a frame"
#: how the names of shared memory begin that hostile tasks make
SHARED = "mpfora_hostile_"

Deed = Callable[..., Any]
DEEDS: dict[str, Deed] = {}


def deed(function: Deed) -> Deed:
    DEEDS[function.__name__] = function
    return function


def _for_ever() -> None:
    while True:
        time.sleep(60)


# -- values that nobody can mean --------------------------------------------------------------------------------------

STRANGE: dict[str, Callable[[], Any]] = {
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "nanoseconds": time.time_ns,
    "milliseconds": lambda: time.time() * 1000,
    "maxsize": lambda: sys.maxsize,
    "minus": lambda: -sys.maxsize,
    "googol": lambda: 10**400,
    "tiny": lambda: 5e-324,
    "datetime_max": lambda: datetime.max,
    "datetime_min": lambda: datetime.min.replace(tzinfo=UTC),
    "datetime_edge": lambda: datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-14))),
    "timedelta_max": lambda: timedelta.max,
    "text": lambda: "50%",
    "bytes": lambda: b"\xff\x00",
    "object": object,
    "set": lambda: {1, 2},
    "true": lambda: True,
    "escape": lambda: "\x1b]0;owned\x07\x1b[2J\x00\ud800",
    "long": lambda: "x" * 3_000_000,
    "deep": lambda: json.loads("[" * 900 + "]" * 900),
    "cyclic": lambda: _cyclic(),
    "keys": lambda: {(1, 2): 3, None: 4, 1.5: 5},
    "class": lambda: _Liar(),
}


def _cyclic() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


class _Liar(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@deed
def sleep_until(task: Any, ctx: Any, what: str) -> Any:
    return Message.sleep(STRANGE[what]())


@deed
def answer(task: Any, ctx: Any, what: str) -> Any:
    return STRANGE[what]()


@deed
def save(task: Any, ctx: Any, what: str) -> None:
    ctx.save(STRANGE[what]())


@deed
def leave(task: Any, ctx: Any, what: str) -> Any:
    return ctx.leave(checkpoint=STRANGE[what]())


@deed
def beat(task: Any, ctx: Any, what: str) -> None:
    ctx.beat(STRANGE[what]())


@deed
def note(task: Any, ctx: Any, what: str) -> None:
    ctx.beat(0.5, note=STRANGE[what]())


@deed
def wait(task: Any, ctx: Any, what: str) -> None:
    ctx.wait(STRANGE[what]())


@deed
def raise_it(task: Any, ctx: Any, what: str) -> None:
    raise ValueError(STRANGE[what]())


@deed
def exit_with(task: Any, ctx: Any, what: str) -> None:
    sys.exit(STRANGE[what]())


@deed
def log_it(task: Any, ctx: Any, what: str) -> None:
    ctx.log.warning("%s", STRANGE[what]())


# -- floods -----------------------------------------------------------------------------------------------------------


def _for_a_while(seconds: float, act: Callable[[], Any]) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        act()


@deed
def flood_saves(task: Any, ctx: Any, seconds: float, size: int) -> None:
    _for_a_while(seconds, lambda: ctx.save("x" * size))


@deed
def flood_beats(task: Any, ctx: Any, seconds: float) -> None:
    _for_a_while(seconds, lambda: ctx.beat(0.1, note="n" * 300))


@deed
def flood_lines(task: Any, ctx: Any, seconds: float, line: str) -> None:
    data = line.encode("utf-8", "surrogatepass")
    _for_a_while(seconds, lambda: os.write(1, data * 50))


@deed
def flood_log(task: Any, ctx: Any, seconds: float) -> None:
    _for_a_while(seconds, lambda: ctx.log.error("again"))


# -- hanging ----------------------------------------------------------------------------------------------------------


@deed
def hang(task: Any, ctx: Any) -> None:
    _for_ever()


@deed
def hang_in_c(task: Any, ctx: Any) -> None:
    """Holds the GIL."""
    ctypes.PyDLL(None).sleep(10_000)


@deed
def hang_deaf(task: Any, ctx: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _for_ever()


@deed
def hang_busy(task: Any, ctx: Any) -> None:
    while True:
        pass


@deed
def hang_beating(task: Any, ctx: Any) -> None:
    while True:
        ctx.beat()
        time.sleep(0.01)


@deed
def stop_itself(task: Any, ctx: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@deed
def hang_in_a_loop(task: Any, ctx: Any) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    asyncio.run(never())


# -- its process ------------------------------------------------------------------------------------------------------


@deed
def die(task: Any, ctx: Any, number: int) -> None:
    os.kill(os.getpid(), number)
    _for_ever()


@deed
def leave_at_once(task: Any, ctx: Any, code: int) -> None:
    os._exit(code)


@deed
def kill_group(task: Any, ctx: Any) -> None:
    os.killpg(0, signal.SIGKILL)


@deed
def close_all(task: Any, ctx: Any) -> None:
    os.closerange(0, 256)


@deed
def write_everywhere(task: Any, ctx: Any) -> None:
    for number in range(3, 64):
        try:
            os.write(number, GARBAGE)
        except OSError:
            continue


@deed
def take_descriptors(task: Any, ctx: Any) -> None:
    """All that it may have."""
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        time.sleep(0.2)
    finally:
        for number in taken:
            os.close(number)


@deed
def no_descriptors(task: Any, ctx: Any) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


@deed
def no_address_space(task: Any, ctx: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
    bytearray(1 << 26)


@deed
def another_user(task: Any, ctx: Any) -> None:
    if os.getuid() == 0:
        os.setuid(65534)


@deed
def take_memory(task: Any, ctx: Any, size: int) -> None:
    taken = bytearray(size)
    for at in range(0, size, 4096):
        taken[at] = 1
    time.sleep(1.5)


@deed
def map_memory(task: Any, ctx: Any, size: int) -> None:
    """Shared memory without a file."""
    taken = mmap.mmap(-1, size)
    for at in range(0, size, 4096):
        taken[at] = 1
    time.sleep(1.5)


@deed
def share_memory(task: Any, ctx: Any, size: int) -> None:
    """And never removes it."""
    name = f"{SHARED}{task.id}_{ctx.fence}_{os.getpid()}"
    shared = shared_memory.SharedMemory(name, create=True, size=size)
    shared.buf[:4] = b"some"


@deed
def threads(task: Any, ctx: Any, number: int) -> None:
    for _ in range(number):
        threading.Thread(target=_for_ever).start()


@deed
def no_signals(task: Any, ctx: Any) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
        signal.signal(number, signal.SIG_IGN)


@deed
def no_modules(task: Any, ctx: Any) -> None:
    sys.modules.clear()
    gc.collect()


@deed
def no_streams(task: Any, ctx: Any) -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


# -- other processes --------------------------------------------------------------------------------------------------


def _forked(act: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        act()
    finally:
        os._exit(0)


@deed
def workers(task: Any, ctx: Any, number: int) -> None:
    for _ in range(number):
        _forked(_for_ever)


@deed
def daemon(task: Any, ctx: Any) -> None:
    """In a session of its own, its parent gone."""

    def parent() -> None:
        os.setsid()
        _forked(_for_ever)

    os.waitpid(_forked(parent), 0)


@deed
def unmarked_daemon(task: Any, ctx: Any) -> None:
    """Nothing in its environment says whose it is."""
    subprocess.run(["sh", "-c", "setsid env -i sleep 30303 >/dev/null 2>&1 </dev/null &"], check=True)


@deed
def deaf_worker(task: Any, ctx: Any) -> None:
    def deaf() -> None:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _for_ever()

    _forked(deaf)


@deed
def zombies(task: Any, ctx: Any, number: int) -> None:
    for _ in range(number):
        subprocess.run(["sh", "-c", "(sleep 0.05 &)"], check=True)


@deed
def both_return(task: Any, ctx: Any) -> None:
    """A copy of its process goes on as it does."""
    os.fork()


@deed
def steal_exits(task: Any, ctx: Any) -> None:
    def steal() -> None:
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                time.sleep(0.01)

    threading.Thread(target=steal, daemon=True).start()


@deed
def kill_zygote(task: Any, ctx: Any) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    _for_ever()


@deed
def stop_zygote(task: Any, ctx: Any) -> None:
    os.kill(os.getppid(), signal.SIGSTOP)
    _for_ever()


@deed
def kill_supervisor(task: Any, ctx: Any) -> None:
    with open(f"/proc/{os.getppid()}/stat") as stat:
        supervisor = int(stat.read().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    _for_ever()


@deed
def work(task: Any, ctx: Any, seconds: float) -> None:
    """Something decent in between."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not ctx.stopping:
        ctx.beat()
        sum(range(1000))
