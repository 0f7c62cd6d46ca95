"""How long a deadlocked task takes to be dead and released, over stop_timeout: median and 99th percentile.

    python bench/deadlock.py [--rounds N] [--at-once N] [--stop-timeout S]

A node runs tasks that hold two locks each other wants. It is frozen, and told to stop them all at once; the time runs
from the command's being put into etcd until the watch of another client shows the claim to be gone, and stop_timeout
is taken off. The claim goes only when the whole process tree is dead and its stacks are written.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import time

from common import LIMIT_S, Node, machine, node, own_etcd, run, until

from mpfora import AsyncClient
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout

NAME = "bench"


async def watch_releases(
    etcd: Etcd, layout: Layout, revision: int, owners: dict[str, str], gone: dict[str, float]
) -> None:
    """Note when each owner key is deleted, by task, until all are."""
    async for made in etcd.watch(layout.tasks, layout.tasks[:-1] + "0", revision + 1):
        for event in made.events:
            if event.deleted and event.key in owners:
                gone[owners[event.key]] = time.perf_counter()
        if len(gone) == len(owners):
            return


async def one_round(endpoint: str, namespace: str, tasks: list[str]) -> list[float]:
    """Seconds until each was released."""
    etcd, layout = Etcd(endpoint), Layout(namespace)
    owners = {layout.owner(task): task for task in tasks}
    gone: dict[str, float] = {}
    async with AsyncClient(endpoint, namespace=namespace) as client:
        await client.node_command_and_wait(NAME, "freeze")
        revision = (await etcd.status()).revision
        watching = asyncio.create_task(watch_releases(etcd, layout, revision, owners, gone))
        asked = time.perf_counter()
        await asyncio.gather(*(client.node_command(NAME, "stop_task", task=task) for task in tasks))
        await asyncio.wait_for(watching, LIMIT_S)
        await client.node_command_and_wait(NAME, "unfreeze")
    await etcd.close()
    return [at - asked for at in gone.values()]


async def submit(endpoint: str, namespace: str, tasks: list[str]) -> None:
    async with AsyncClient(endpoint, namespace=namespace) as client:
        await client.submit_many((task, None) for task in tasks)


def wait_locked(supervisor: Node, count: int) -> None:
    """Until every child runs its second thread, which takes the locks the other way round."""
    until(lambda: sum(child.num_threads() == 2 for child in supervisor.children()) == count, "the tasks to deadlock")
    time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--stop-timeout", type=float, default=1.0)
    options = parser.parse_args()
    print(machine())
    namespace = f"bench-{secrets.token_hex(4)}"
    tasks = [f"task-{index}" for index in range(options.at_once)]
    settings = {"name": NAME, "max_tasks": options.at_once, "stop_timeout": options.stop_timeout}
    over: list[float] = []
    with own_etcd() as etcd, node(etcd.endpoint, namespace, "handlers:deadlock", **settings) as supervisor:
        run(submit(etcd.endpoint, namespace, tasks))
        for _ in range(options.rounds):
            wait_locked(supervisor, len(tasks))
            took = run(one_round(etcd.endpoint, namespace, tasks))
            over += [(seconds - options.stop_timeout) * 1e3 for seconds in took]
    p99 = sorted(over)[-(-len(over) * 99 // 100) - 1]
    print(
        f"deadlocked until dead and released, over stop_timeout: {statistics.median(over):.0f} ms median,"
        f" {p99:.0f} ms p99, {max(over):.0f} ms at most ({len(over)} tasks, {options.at_once} at once)"
    )


if __name__ == "__main__":
    main()
