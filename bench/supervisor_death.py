"""From SIGKILL of a supervisor until the last of its children is dead: python bench/supervisor_death.py [N:TIMES ...]

Beside it, in the same run: as many children of one parent that kills them one after the other and reaps them.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable

from common import HERE, ROOT, machine
from sleepers import start_sleepers


async def be_supervisor(number: int) -> None:
    """A supervisor without etcd: print the children's pids, and wait to be killed."""
    _, pids = await start_sleepers(number)
    print(*pids, flush=True)
    await asyncio.Event().wait()


def seconds_until_dead(pids: Iterable[int]) -> float:
    """Seconds from now until the last of these has ended."""
    waiting = {os.pidfd_open(pid) for pid in pids}
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    began = time.perf_counter()
    while waiting:
        for fd, _ in poll.poll():
            poll.unregister(fd)
            waiting.discard(fd)
            os.close(fd)
    return time.perf_counter() - began


def death(number: int) -> float:
    command = [sys.executable, __file__, "supervisor", str(number)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"}
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE)
    assert supervisor.stdout is not None
    pids = [int(word) for word in supervisor.stdout.readline().split()]
    time.sleep(0.5)  # the children are past their start, and asleep
    supervisor.send_signal(signal.SIGKILL)
    took = seconds_until_dead(pids)
    supervisor.wait()
    return took


BARE = """
import os, signal, sys, time
pids = []
for _ in range(int(sys.argv[1])):
    pids.append(os.fork())
    if pids[-1] == 0:
        signal.pause()
time.sleep(0.5)
began = time.perf_counter()
for pid in pids:
    os.kill(pid, signal.SIGKILL)
for pid in pids:
    os.waitpid(pid, 0)
print(time.perf_counter() - began)
"""


def bare(number: int) -> float:
    command = [sys.executable, "-c", BARE, str(number)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(*cases: str) -> None:
    if cases[:1] == ("supervisor",):
        asyncio.run(be_supervisor(int(cases[1])))
        return
    print(machine())
    for case in cases or ("10:10", "500:3"):
        number, times = map(int, case.split(":"))
        took = [death(number) * 1e3 for _ in range(times)]
        beside = [bare(number) * 1e3 for _ in range(times)]
        print(
            f"{number:4} children: the last is dead {statistics.median(took):.1f} ms after SIGKILL of the supervisor"
            f" (median of {times}; {max(took):.1f} ms at most); bare children of one parent:"
            f" {statistics.median(beside):.1f} ms"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
