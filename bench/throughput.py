"""Isolated tasks a second, end to end, beside bare fork-exit-reap and other ways to run a job in a process of its own.

    python bench/throughput.py [--tasks N] [--max-tasks N] [--alone]

End to end: submitted in etcd, claimed, forked, run, reported, written as completed and gone from etcd. The handler does
nothing. Bare: a loop of os.fork, os._exit and os.waitpid, measured before and after, of a fresh interpreter and of one
with a zygote's modules. CPU is user and system time per task, which says more than a rate where other work runs on the
machine. --alone leaves out what else runs jobs (rivals.py).
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import subprocess
import sys
import time

import psutil
from common import HERE, ROOT, Cpu, Node, machine, node, own_etcd, run
from etcd3.etcdrpc import rpc_pb2 as rpc
from rivals import RIVALS

from mpfora import AsyncClient
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout

BARE = """
{image}
import os, resource, time
def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
began, used = time.perf_counter(), cpu()
for _ in range({count}):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
print({count} / (time.perf_counter() - began), (cpu() - used) / {count})
"""


#: what a process has in its memory when it forks: nothing but Python, or what a zygote has before the handlers
IMAGES = {"fresh interpreter": "", "zygote's image": "import gc, mpfora.child.zygote; gc.collect(); gc.freeze()"}


def bare(image: str, count: int = 1000) -> tuple[float, float]:
    """Forks a second, and CPU seconds for each."""
    code = BARE.format(image=IMAGES[image], count=count)
    command = [sys.executable, "-c", code]
    words = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    return float(words[0]), float(words[1])


# -- mpfora -----------------------------------------------------------------------------------------------------------


async def all_gone(etcd: Etcd, layout: Layout, by: Node) -> None:
    """Until no task is left. Keys are counted, not read: the looks must not cost what is measured."""
    request = rpc.RangeRequest(
        key=f"{layout.tasks}task-".encode(), range_end=f"{layout.tasks}task.".encode(), count_only=True
    )
    while True:
        answer = await etcd.calls.call(
            lambda member, timeout, metadata: member.kv.Range(request, timeout=timeout, metadata=metadata),
            repeatable=True,
        )
        if answer.count == 0:
            return
        if by.process.poll() is not None:
            raise RuntimeError(f"the node ended:\n{by.log.read_text(errors='replace')}")
        await asyncio.sleep(0.05)


async def submit_and_wait(endpoint: str, namespace: str, count: int, by: Node) -> float:
    """Seconds from the first submission to the last task's being gone."""
    etcd, batch = Etcd(endpoint), secrets.token_hex(4)
    async with AsyncClient(endpoint, namespace=namespace) as client:
        await client.ping()
        began = time.perf_counter()
        await client.submit_many((f"task-{batch}-{index}", None) for index in range(count))
        await all_gone(etcd, Layout(namespace), by)
        took = time.perf_counter() - began
    await etcd.close()
    return took


def mpfora(count: int, max_tasks: int) -> tuple[float, dict[str, float]]:
    """Tasks a second, and CPU seconds per task by process."""
    namespace = f"bench-{secrets.token_hex(4)}"
    with own_etcd() as etcd, node(etcd.endpoint, namespace, "handlers:nothing", max_tasks=max_tasks) as supervisor:
        run(submit_and_wait(etcd.endpoint, namespace, 50, supervisor))  # everything is warm
        cpu = Cpu(
            {
                "supervisor": psutil.Process(supervisor.pid),
                "zygote": supervisor.zygote(),
                "etcd": psutil.Process(etcd.etcd_pid),
            }
        )
        cpu.start()
        took = run(submit_and_wait(etcd.endpoint, namespace, count, supervisor))
        used = cpu.used()
    return count / took, {name: seconds / count for name, seconds in used.items()}


def show_cpu(used: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in used.items() if seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--max-tasks", type=int, default=64, help="of the node: tasks under way at once")
    parser.add_argument("--alone", action="store_true", help="without RQ, Celery, pebble and ProcessPoolExecutor")
    options = parser.parse_args()
    print(machine())
    forks = {image: [bare(image)] for image in IMAGES}
    rate, used = mpfora(options.tasks, options.max_tasks)
    for image, runs in forks.items():
        runs.append(bare(image))
        mean, cpu = (sum(values) / 2 for values in zip(*runs, strict=True))
        print(f"{mean:7.0f} /s  bare fork, exit, reap, {image}: {cpu * 1e3:.2f} ms of CPU each; half is {mean / 2:.0f}")
    print(f"{rate:7.0f} /s  mpfora, end to end; {sum(used.values()) * 1e3:.2f} ms of CPU each: {show_cpu(used)}")
    if not options.alone:
        show_rivals()


def show_rivals() -> None:
    for name, (what, _, _) in RIVALS.items():
        command = [sys.executable, str(HERE / "rivals.py"), name]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        print(f"{'-':>7} /s  {what}: {said}" if said.startswith("left out") else f"{float(said):7.0f} /s  {what}")


if __name__ == "__main__":
    main()
