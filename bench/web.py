"""What `mpfora web` costs at 100,000 tasks: the first page, its memory, CPU with ten tabs, events to the screen, etcd.

    python bench/web.py [TASKS]

Tasks are of all states, half of them finished; a node runs 4 of them. A tab is a stream of `/api/v1/stream`, as a
browser has one. Times of pages are whole requests over the loopback, the median of 40.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import common
import httpx
import psutil

from mpfora import Client
from mpfora.client import NewTask
from mpfora.model.state import State, TaskState
from mpfora.store.keys import Layout
from mpfora.store.state_records import format_state

NAMESPACE = "bench"
TOKEN = "t" * 20
PAGES = {
    "first page, by id": "tasks", "by since": "tasks?sort=since", "failed": "tasks?q=state:failed",
    "a handler": "tasks?q=handler:h7", "a part of the id": "tasks?q=9999", "props": "tasks?q=props.n:778",
    "overview": "overview", "nodes": "nodes", "groups": "groups", "one task": "tasks/t000778",
}  # fmt: skip


def fill(endpoint: str, count: int) -> None:
    """Half of the tasks wait for handlers that nobody has; of the others a finished state is kept."""
    import asyncio

    from mpfora.store.etcd import Etcd
    from mpfora.store.kv import Put, Txn

    with Client(endpoint, NAMESPACE) as client:
        client.submit_many(
            NewTask(f"t{n:06d}", {"n": n, "group": f"g{n % 50}"}, f"h{n % 20}") for n in range(0, count, 2)
        )

    async def finished() -> None:
        etcd, layout, now = Etcd(endpoint), Layout(NAMESPACE), time.time()
        for start in range(1, count, 200):
            puts = []
            for n in range(start, min(count, start + 200), 2):
                state = (State.COMPLETED, State.FAILED, State.KILLED)[n % 10 // 4]
                ended = now - n % 86_400
                kept = TaskState(
                    state=state, attempt=1, cause="raised" if state is State.FAILED else "", node="n1",
                    started=ended - 60, ended=ended, handler=f"h{n % 20}", group=f"g{n % 50}", result={"n": n},
                )  # fmt: skip
                puts.append(Put(layout.state(f"t{n:06d}"), format_state(kept)))
            await etcd.txn(Txn((), tuple(puts)))
        await etcd.close()

    asyncio.run(finished())


@contextmanager
def served(endpoint: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    tokens = folder / "tokens"
    tokens.write_text(f"ann admin {TOKEN}\n")
    tokens.chmod(0o600)
    options = ["--listen", "127.0.0.1:0", "--auth", f"token:{tokens}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mpfora.cli", "--etcd", endpoint, "--namespace", NAMESPACE, "web", *options],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(common.ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


class Tab(threading.Thread):
    """seen: for each event, when it came."""

    def __init__(self, url: str, **params: str) -> None:
        super().__init__(daemon=True)
        self._url, self._params = url, params
        self.seen: list[float] = []
        self.bytes = 0
        self.start()

    def run(self) -> None:
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.stream(
            "GET", f"{self._url}api/v1/stream", params=self._params, headers=headers, timeout=60
        ) as answer:
            for line in answer.iter_lines():
                self.bytes += len(line)
                if line.startswith("event: view"):
                    self.seen.append(time.monotonic())


def cpu_of(processes: list[psutil.Process], for_s: float) -> list[float]:
    """Percent of a core."""
    before = [sum(process.cpu_times()[:2]) for process in processes]
    time.sleep(for_s)
    return [100 * (sum(process.cpu_times()[:2]) - was) / for_s for process, was in zip(processes, before, strict=True)]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(common.machine())
    with ExitStack() as stack:
        etcd = stack.enter_context(common.own_etcd())
        fill(etcd.endpoint, count)
        node = stack.enter_context(
            common.node(etcd.endpoint, NAMESPACE, "crunch=handlers:wait", name="n1", max_tasks=4)
        )
        server = psutil.Process(etcd.etcd_pid)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        alone = cpu_of([server], 10)[0]
        url, web = stack.enter_context(served(etcd.endpoint, folder))
        client = stack.enter_context(
            httpx.Client(base_url=f"{url}api/v1/", headers={"authorization": f"Bearer {TOKEN}"}, timeout=120)
        )
        began = time.monotonic()
        common.until(lambda: client.get("tasks").status_code == 200, "the mirror has all tasks")
        total = client.get("tasks").json()["total"]
        print(f"{total:,} tasks are read {time.monotonic() - began:.1f} s after the start")
        for name, path in PAGES.items():
            times = []
            for _ in range(40):
                at = time.perf_counter()
                client.get(path).raise_for_status()
                times.append(1000 * (time.perf_counter() - at))
            print(f"  {name:18} {statistics.median(times):6.1f} ms, at most {max(times):6.1f}")
        own, whole = web.memory_full_info().uss, web.memory_info().rss
        print(f"memory: {own / 1e6:.0f} MB of its own, {whole / 1e6:.0f} MB resident")
        idle, etcd_idle = cpu_of([web, server], 20)
        print(f"nobody looks: {idle:.1f} % of a core; etcd {etcd_idle:.1f} % (without it {alone:.1f} %)")
        with Client(etcd.endpoint, NAMESPACE) as user:
            user.submit_many(NewTask(f"run-{n}", {"seconds": 600}, "crunch") for n in range(4))
            views = (
                {"view": "tasks"},
                {"view": "overview"},
                {"view": "tasks", "q": "state:runnable"},
                {"view": "nodes"},
            )
            tabs = [Tab(url, **views[n % 4]) for n in range(10)]
            time.sleep(8)
            busy, etcd_busy, of_node = cpu_of([web, server, psutil.Process(node.pid)], 20)
            print(
                f"ten tabs, 4 running tasks: {busy:.1f} % of a core; etcd {etcd_busy:.1f} %; the node {of_node:.1f} %"
            )
            print(f"  a tab gets {sum(tab.bytes for tab in tabs) / len(tabs) / 28 / 1000:.1f} kB/s")
            late = []
            for n in range(10):
                at = time.monotonic()
                seen = len(tabs[0].seen)
                user.submit(f"a-new-{n}", {}, "h1")
                common.until(lambda seen=seen: len(tabs[0].seen) > seen, "the tab sees it")
                late.append(tabs[0].seen[-1] - at)
                time.sleep(1.1)
            print(f"an event is on the screen after {statistics.median(late):.2f} s, at most {max(late):.2f} s")


if __name__ == "__main__":
    main()
