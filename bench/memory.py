"""Memory of its own (USS) that a task's process takes, with and without numpy preloaded: python bench/memory.py

Beside it: bare forks of a fresh interpreter and of one with a zygote's modules, and a fresh `python -c` that has done
nothing yet (and one that has imported numpy), which is what every job costs where each has an interpreter of its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import statistics
import subprocess
import sys

import psutil
from common import ROOT, machine
from sleepers import start_sleepers

CHILDREN = 10
#: long enough for every child to have come to rest
REST_S = 1.0
FORK = "import os, time; pid = os.fork(); pid and print(pid, flush=True); time.sleep(600)"
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def uss(pid: int) -> float:
    """In MiB."""
    return float(psutil.Process(pid).memory_full_info().uss) / 2**20


async def child(with_numpy: bool) -> float:
    """The median of some children that sleep in their handler."""
    os.environ["BENCH_NUMPY"] = "1" if with_numpy else ""
    zygotes, pids = await start_sleepers(CHILDREN)
    try:
        await asyncio.sleep(REST_S)
        return statistics.median(map(uss, pids))
    finally:
        await zygotes.close()


def interpreter(code: str) -> float:
    """Of a process that prints its pid, or that of a child of its, and sleeps."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    found = uss(pid)
    for each in {pid, process.pid}:
        os.kill(each, 9)
    process.wait()
    return found


def main() -> None:
    print(machine())
    rows = {
        "a task's process": asyncio.run(child(False)),
        "a bare fork of a fresh interpreter": interpreter(FORK),
        "a bare fork of an interpreter with a zygote's modules": interpreter(
            f"import mpfora.child.zygote.start; {FORK}"
        ),
        "a fresh interpreter": interpreter(SLEEP),
    }
    if importlib.util.find_spec("numpy") is not None:
        rows["a task's process, numpy preloaded"] = asyncio.run(child(True))
        rows["a fresh interpreter with numpy"] = interpreter(f"import numpy; {SLEEP}")
    for name, mib in rows.items():
        print(f"{mib:7.2f} MiB  {name}")
    if importlib.util.find_spec("numpy") is None:
        print(f"{'-':>7} MiB  a task's process, numpy preloaded: left out, numpy is not installed")


if __name__ == "__main__":
    main()
