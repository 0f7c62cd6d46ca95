"""What child.py executes, with the tree that is to be measured on its path: one line of JSON.

Only what has been there for long is imported, so that older trees can be measured too.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from mpfora.testing import HandlerBench

#: children that are looked at while they sleep, and how long they have to start and to come to rest
SLEEPERS, REST_S = 10, 3.0


def of_tasks() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [each for each in found if any("mpfora: task" in word for word in each.cmdline())]


def zygote_cpu_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def page_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def with_groups(bench: HandlerBench) -> Any:
    """Give the bench's zygote control groups, which it has not by itself."""
    from mpfora.supervisor.zygote.cgroups import Groups

    groups = Groups("bench", f"child-{time.time_ns()}", may_move=False)
    bench._zygotes._groups = groups
    return groups


async def short_runs(count: int, groups: bool) -> dict[str, float]:
    """Of runs one after the other: CPU and page faults of the child, CPU of the zygote, and how long each takes."""
    bench = HandlerBench("handlers:page_faults")
    made = with_groups(bench) if groups else None
    cpu, faults, took = [], [], []
    async with bench:
        if made is not None and made.path is None:
            raise SystemExit("no control groups")
        for number in range(count + 20):
            began = time.perf_counter()
            run = await bench.run()
            if number == 19:  # everything is warm
                zygote = next(
                    each.pid for each in psutil.Process().children(True) if "zygote" in " ".join(each.cmdline()[:1])
                )
                before, faulted = zygote_cpu_s(zygote), page_faults(zygote)
            if number >= 20:
                took.append(time.perf_counter() - began)
                cpu.append(run.usage.cpu_s)
                faults.append(run.result)
        used, faulted = zygote_cpu_s(zygote) - before, page_faults(zygote) - faulted
    return {
        "child_ms": 1e3 * statistics.quantiles(cpu, n=10)[0],
        "faults": statistics.median(faults),
        "zygote_faults": faulted / count,
        "zygote_ms": 1e3 * used / count,
        "run_ms": 1e3 * statistics.quantiles(took, n=10)[0],
    }


async def memory() -> float:
    """Of children that sleep in their handler, in MiB."""
    async with HandlerBench("handlers:sleep") as bench:
        runs = [asyncio.create_task(bench.run(stop_timeout=0.1)) for _ in range(SLEEPERS)]
        await asyncio.sleep(REST_S)
        assert len(of_tasks()) == SLEEPERS
        found = statistics.median(each.memory_full_info().uss for each in of_tasks()) / 2**20
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
    return float(found)


async def main(count: int, groups: bool) -> None:
    row = await short_runs(count, groups)
    if not groups:
        row["own_mib"] = await memory()
    print(json.dumps(row))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), "groups" in sys.argv[2:]))
