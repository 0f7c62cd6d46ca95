"""What it costs to look at many tasks: python bench/look.py [--tasks N]

One etcd, one node that runs eight tasks, and N more: six of ten are pending, three are completed, one in a hundred has
failed with a stack, the rest sleep. Then what people type, as whole processes from start to exit, the best of three;
the same read as a whole, as it was done before; and a mirror, as `top` and the page hold one.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
from common import machine, node, own_etcd, run, until

from mpfora import AsyncClient
from mpfora.client.snapshot.rows import task_rows
from mpfora.model.state import State, TaskError, TaskState
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import Op, Put, Txn
from mpfora.store.state_records import format_state

NAMESPACE = "look"
NOW = time.time()


def state_of(number: int) -> TaskState | None:
    tenth = number % 10
    if number % 100 == 99:
        errors = (TaskError(NOW - number % 9000, "it went wrong", "raised", "a line of a stack\n" * 40),)
        return TaskState(State.FAILED, errors=errors, attempt=3, cause="raised", ended=NOW - number % 9000, node="n1")
    if tenth in (6, 7, 8):
        return TaskState(State.COMPLETED, result={"n": number}, attempt=1, ended=NOW - number % 9000, handler="work")
    return None if tenth < 6 else TaskState(State.SLEEPING, until=NOW + 90_000 + number)


def ops_of(layout: Layout, number: int) -> tuple[Op, ...]:
    task_id, state = f"customer-{number:07}", state_of(number)
    puts: list[Op] = [] if state is None else [Put(layout.state(task_id), format_state(state))]
    if state is None or not state.terminal:
        props = f'{{"handler":"elsewhere","customer":{number % 1000},"path":"s3://bucket/{number}/input.parquet"}}'
        puts += [Put(layout.task(task_id), b""), Put(layout.props(task_id), props)]
    return tuple(puts)


async def fill(endpoint: str, tasks: int) -> None:
    etcd, layout = Etcd(endpoint), Layout(NAMESPACE)
    for first in range(0, tasks, 5_000):
        numbers = range(first, min(tasks, first + 5_000))
        await asyncio.gather(*(etcd.submit(Txn((), ops_of(layout, n)), str(n)) for n in numbers))
    await etcd.close()


def best(act: Callable[[], object], times: int = 3) -> float:
    """Seconds of the quickest of a few."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return min(taken)


def command(endpoint: str, *arguments: str) -> Callable[[], int]:
    def act() -> int:
        program = (sys.executable, "-m", "mpfora.cli", "--etcd", endpoint, "--namespace", NAMESPACE, *arguments)
        return len(subprocess.run(program, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)

    return act


def tell(what: str, seconds: float, goal_s: float | None = None) -> None:
    goal = "" if goal_s is None else f"   goal {goal_s:g} s{'' if seconds < goal_s else ': MISSED'}"
    print(f"{what:58} {seconds:8.3f} s{goal}", flush=True)


async def read_whole(endpoint: str) -> None:
    async with AsyncClient(endpoint, NAMESPACE) as client:
        snapshot = await client._reader.snapshot()
        task_rows(snapshot, await client._reader.live(snapshot), now=time.time())


async def look(endpoint: str) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    async with AsyncClient(endpoint, NAMESPACE) as client, client.mirror() as mirror:
        began = time.perf_counter()
        await mirror.ready(120)
        tell("a mirror is ready", time.perf_counter() - began)
        print(f"{'its memory':58} {(process.memory_info().rss - before) / 2**20:8.0f} MiB")
        for q, sort in (
            ("", "id"), ("", "since"), ("", "-id"), ("", "progress"),
            ("state:failed", "since"), ("state:pending", "id"),
            ("handler:elsewhere -state:sleeping", "id"), ("id:customer-00012*", "id"), ("00012", "id"),
            ("since:10m", "since"), ("since:>1h state:completed", "-since"), ("props.customer:17", "id"),
            ("label.gpu:yes", "id"),
        ):  # fmt: skip
            mirror.page(q, 50, None, sort)  # makes the order, the first time
            taken = best(lambda q=q, sort=sort: mirror.page(q, 50, None, sort), 5)  # type: ignore[misc]
            page = mirror.page(q, 50, None, sort)
            tell(f"a page of 50, {q or 'all'} by {sort} ({page.total:,})", taken, 0.02)
        last = mirror.page("", 50, "customer-0090000")
        tell("a page of 50 near the end", best(lambda: mirror.page("", 50, "customer-0090000")), 0.02)
        assert last
        tell("the nodes", best(mirror.nodes), 0.02)
        tell("why tasks wait", best(mirror.waiting))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=100_000)
    tasks = parser.parse_args().tasks
    print(machine())
    print(f"{tasks:,} tasks")
    with own_etcd() as etcd:
        endpoint = etcd.endpoint
        run(fill(endpoint, tasks))
        with node(endpoint, NAMESPACE, "work=handlers:wait", name="n1", max_tasks=8):
            for number in range(8):
                command(endpoint, "submit", f"run{number}", "--handler", "work")()
            one = until(lambda: command(endpoint, "task", "run0", "--json")() > 0, "the tasks to be there")
            assert one
            tell("read whole, as all of these were once", best(lambda: run(read_whole(endpoint)), 2))
            tell("mpfora --version: what a process costs", best(command(endpoint, "--version")))
            tell("mpfora tasks --state failed", best(command(endpoint, "tasks", "--state", "failed")), 1.0)
            tell(
                "mpfora tasks --state failed --limit 50",
                best(command(endpoint, "tasks", "state:failed", "--limit", "50")),
                1,
            )
            tell("mpfora tasks --limit 50", best(command(endpoint, "tasks", "--limit", "50")))
            tell("mpfora tasks", best(command(endpoint, "tasks"), 1))
            tell("mpfora task ID, running", best(command(endpoint, "task", "run0")), 0.3)
            tell("mpfora task ID, pending", best(command(endpoint, "task", "customer-0000001")), 0.3)
            tell("mpfora task ID, completed", best(command(endpoint, "task", "customer-0000006")), 0.3)
            tell("mpfora nodes", best(command(endpoint, "nodes")), 0.5)
            run(look(endpoint))


if __name__ == "__main__":
    main()
