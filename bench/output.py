"""Tasks that print as fast as they can, beside the node's lease: python bench/output.py [--seconds S] [--candidates]

A node with a lease of 3 s runs 8 tasks that print without pause and one that counts. Told are: how long the turns of
the supervisor's loop take, whether a renewal was late, how fast the counting task is beside 8 tasks that write to
/dev/null instead, what was printed, and what the log keeps.

--candidates  who should drain the pipes: a thread of the loop's process, or a process of its own. A loop looks at the
              clock each 2 ms; it is told how late it was, and how much was drained.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import secrets
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from common import machine, node, own_etcd, run, until

from mpfora import AsyncClient
from mpfora.run_logs.places import RunName
from mpfora.supervisor.output.drain import Drain
from mpfora.supervisor.output.log_store import LogBounds, LogStore
from mpfora.supervisor.zygote.output import Lines

PRINTERS = 8


# -- a real node -------------------------------------------------------------------------------------------------------


async def measure(endpoint: str, namespace: str, handler: str, seconds: float) -> tuple[float, float]:
    """(what the counter has counted a second, bytes that were printed)."""
    async with AsyncClient(endpoint, namespace=namespace) as client:
        ids = [f"{handler}-{number}" for number in range(PRINTERS)]
        await client.submit_many((task_id, {"for": seconds + 6}, handler) for task_id in ids)
        await asyncio.sleep(3)
        await client.submit("count", {"for": seconds}, "count_for", replace=True)
        counted = (await client.wait("count", timeout=seconds + 120)).result
        tasks = await client.wait(ids, timeout=seconds + 120)
        return counted / seconds, sum(task.result for task in tasks)


def beside(seconds: float) -> None:
    for handler in ("flood_null", "flood_blocks", "flood_lines"):
        namespace = f"bench-{secrets.token_hex(4)}"
        with (
            tempfile.TemporaryDirectory() as logs,
            own_etcd() as etcd,
            node(
                etcd.endpoint, namespace, "count_for=handlers:count_for", f"{handler}=handlers:{handler}",
                max_tasks=20, lease_ttl=3, log_dir=logs,
            ) as supervisor,
        ):  # fmt: skip
            used = psutil.Process(supervisor.pid)
            before, began = sum(used.cpu_times()[:2]), time.monotonic()
            rate, printed = run(measure(etcd.endpoint, namespace, handler, seconds))
            cpu = (sum(used.cpu_times()[:2]) - before) / (time.monotonic() - began)
            supervisor.process.send_signal(signal.SIGUSR1)
            turns = until(lambda: _turns(supervisor.log), "the node to tell of its turns")
            kept = sum(path.stat().st_size for path in Path(logs).rglob("*.log"))
            late = supervisor.log.read_text(errors="replace").count("lease")
        print(
            f"{handler:13} counter {rate / 1e6:6.2f} M/s; printed {printed / 2**20 / (seconds + 6):7.1f} MiB/s; kept"
            f" {kept / 2**20:.0f} MiB; supervisor {cpu * 100:.0f} % CPU; lines about the lease {late}\n"
            f"              {turns}"
        )


def _turns(log: Path) -> str | None:
    lines = [line for line in log.read_text(errors="replace").splitlines() if "turn" in line]
    return lines[-1].partition("turn")[2].strip() if lines else None


# -- who drains --------------------------------------------------------------------------------------------------------


def _drain(fds: list[int], folder: str, total: multiprocessing.sharedctypes.Synchronized[int] | None) -> LogStore:
    store = LogStore(Path(folder), LogBounds())
    store.start()
    drain = Drain()
    drain.start()
    keepers = []
    for number, fd in enumerate(fds):
        keeper = store.open(RunName(f"t{number}", 1, 1))
        keepers.append(keeper)
        drain.open(fd, Lines(lambda line: None), keeper)
    threading.Thread(target=_count, args=(keepers, total), daemon=True).start()
    return store


def _count(keepers: list, total) -> None:  # type: ignore[no-untyped-def,type-arg]
    while True:
        time.sleep(0.1)
        total.value = sum(keeper.position for keeper in keepers)


def _apart(fds: list[int], folder: str, total) -> None:  # type: ignore[no-untyped-def]
    _drain(fds, folder, total)
    signal.pause()


@contextlib.contextmanager
def _printers(block: bytes) -> Iterator[list[int]]:
    pids, fds = [], []
    for _ in range(PRINTERS):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(120)
            while True:
                os.write(writer, block)
        os.close(writer)
        pids.append(pid)
        fds.append(reader)
    try:
        yield fds
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


async def _lateness(seconds: float) -> list[float]:
    late = []
    ends = time.monotonic() + seconds
    while (began := time.monotonic()) < ends:
        await asyncio.sleep(0.002)
        late.append(time.monotonic() - began - 0.002)
    return late


def candidates(seconds: float) -> None:
    context = multiprocessing.get_context("fork")
    for what, block in (("lines", b"x" * 79 + b"\n"), ("blocks", (b"x" * 99 + b"\n") * 600)):
        for who in ("nobody", "process", "thread"):
            with tempfile.TemporaryDirectory() as folder, _printers(block) as fds:
                total = context.Value("q", 0)
                process = None
                if who == "process":
                    process = context.Process(target=_apart, args=(fds, folder, total))
                    process.start()
                elif who == "thread":
                    _drain(fds, folder, total)
                late = sorted(run(_lateness(seconds)))
                print(
                    f"{what:6} {who:8} late by {statistics.median(late) * 1000:5.2f} ms, 99 %"
                    f" {late[int(len(late) * 0.99)] * 1000:5.1f}, most {late[-1] * 1000:5.1f};"
                    f" drained {total.value / 2**20 / seconds:6.1f} MiB/s"
                )
                if process is not None:
                    process.kill()
                    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--candidates", action="store_true")
    options = parser.parse_args()
    print(machine())
    (candidates if options.candidates else beside)(options.seconds)


if __name__ == "__main__":
    main()
