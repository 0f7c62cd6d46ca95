"""What processes cost: python bench/forks.py [rate] [deaths] [memory]

rate    runs a second through the zygote (no etcd), beside bare fork-exit-reap of this interpreter
deaths  SIGKILL of the supervisor until the last child is dead, with 10 and 500 children
memory  memory of its own (USS) of a child, with and without numpy preloaded, beside a bare forked interpreter
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import select
import signal
import statistics
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mpfora.handler_spec import parse_spec  # noqa: E402
from mpfora.supervisor.events import ChildExited, ChildStarted, Event  # noqa: E402
from mpfora.supervisor.zygote import RunLimits, Zygote  # noqa: E402

LIMITS = RunLimits(stop_timeout_s=10)


# -- handlers, imported in the zygote


def nothing(task, ctx):  # type: ignore[no-untyped-def]
    return None


def sleep(task, ctx):  # type: ignore[no-untyped-def]
    time.sleep(600)


if os.environ.get("BENCH_NUMPY"):
    import numpy

    TABLE = numpy.zeros(1000)


# -- rate


def bare_forks(number: int) -> float:
    began = time.perf_counter()
    for _ in range(number):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return number / (time.perf_counter() - began)


class Node:
    """A zygote, and its events in a queue."""

    def __init__(self, handler: str) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.zygote = Zygote([parse_spec(f"h=forks:{handler}")], "bench", self.events.put_nowait, lambda *_: None)

    def fork(self, run: int) -> None:
        self.zygote.fork(run, f"task{run}", "h", "{}", 1, 1, None, LIMITS)

    async def runs(self, number: int, at_once: int) -> float:
        """Runs a second, with `at_once` of them in flight."""
        began, started, ended = time.perf_counter(), 0, 0
        while ended < number:
            while started < number and started - ended < at_once:
                started += 1
                self.fork(started)
            if isinstance(await self.events.get(), ChildExited):
                ended += 1
        return number / (time.perf_counter() - began)


async def rate() -> None:
    node = Node("nothing")
    await node.zygote.start()
    try:
        for at_once in (1, 4, 16):
            bare = bare_forks(300)
            runs = await node.runs(500, at_once)
            print(
                f"bare fork, exit, reap: {bare:6.0f}/s   through the zygote, {at_once:2} in flight: {runs:5.0f} runs/s"
            )
    finally:
        await node.zygote.close()


# -- deaths


async def be_supervisor(number: int) -> None:
    node = Node("sleep")
    await node.zygote.start()
    for run in range(number):
        node.fork(run)
    pids = []
    while len(pids) < number:
        event = await node.events.get()
        if isinstance(event, ChildStarted):
            pids.append(event.pid)
    print(*pids, flush=True)
    await asyncio.Event().wait()


def death(number: int) -> float:
    """Seconds from SIGKILL of the supervisor to the death of its last child."""
    reader, writer = os.pipe()
    supervisor = os.posix_spawn(
        sys.executable,
        [sys.executable, __file__, "supervisor", str(number)],
        {**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_CLOSE, reader)],
    )
    os.close(writer)
    with os.fdopen(reader) as file:
        pids = [int(word) for word in file.readline().split()]
    time.sleep(0.5)  # the children are past their start, and asleep
    waiting = {os.pidfd_open(pid) for pid in pids}
    began = time.perf_counter()
    os.kill(supervisor, signal.SIGKILL)
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    while waiting:
        for fd, _ in poll.poll():
            poll.unregister(fd)
            waiting.discard(fd)
            os.close(fd)
    took = time.perf_counter() - began
    os.waitpid(supervisor, 0)
    return took


def deaths() -> None:
    for number, times in ((10, 10), (500, 3)):
        took = [death(number) * 1000 for _ in range(times)]
        print(
            f"supervisor killed, {number:3} children: the last is dead after {statistics.median(took):6.1f} ms"
            f" (median of {times}), {max(took):6.1f} ms at most"
        )


# -- memory


async def uss_of_a_child(with_numpy: bool) -> float:
    os.environ["BENCH_NUMPY"] = "1" if with_numpy else ""
    node = Node("sleep")
    await node.zygote.start()
    try:
        for run in range(10):
            node.fork(run)
        pids = []
        while len(pids) < 10:
            event = await node.events.get()
            if isinstance(event, ChildStarted):
                pids.append(event.pid)
        await asyncio.sleep(1)
        return statistics.median(psutil.Process(pid).memory_full_info().uss for pid in pids) / 2**20
    finally:
        await node.zygote.close()


def uss_of_a_bare_fork() -> float:
    """A fork of a fresh interpreter that does nothing but sleep."""
    code = "import os, time; pid = os.fork(); pid and os.write(1, str(pid).encode()); time.sleep(600)"
    reader, writer = os.pipe()
    parent = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)]
    )
    os.close(writer)
    child = int(os.read(reader, 20))
    os.close(reader)
    uss = psutil.Process(child).memory_full_info().uss / 2**20
    for pid in (child, parent):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(parent, 0)
    return uss


async def memory() -> None:
    print(f"USS of a bare forked interpreter:       {uss_of_a_bare_fork():6.2f} MiB")
    print(f"USS of a child:                         {await uss_of_a_child(False):6.2f} MiB")
    if importlib.util.find_spec("numpy") is None:
        print("USS of a child with numpy preloaded:    numpy is not installed")
    else:
        print(f"USS of a child with numpy preloaded:    {await uss_of_a_child(True):6.2f} MiB")


def main(*what: str) -> None:
    if what[:1] == ("supervisor",):
        asyncio.run(be_supervisor(int(what[1])))
        return
    wanted = what or ("rate", "deaths", "memory")
    if "rate" in wanted:
        asyncio.run(rate())
    if "deaths" in wanted:
        deaths()
    if "memory" in wanted:
        asyncio.run(memory())


if __name__ == "__main__":
    main(*sys.argv[1:])
