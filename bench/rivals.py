"""Other ways to run each job in a process of its own: python bench/rivals.py NAME prints the jobs a second of one.

throughput.py runs it for each in a fresh interpreter, so that none is held up by what another has imported. Each is
what its own documentation offers for that, with as many workers as there are cores, and does nothing in its jobs. One
that is not installed (`pip install -e '.[bench]'`), or whose Redis server is not there, says so.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import rival_jobs
from rival_jobs import nothing

HERE = Path(__file__).resolve().parent
WORKERS = os.cpu_count() or 1


class NotHere(Exception):
    """This one cannot be measured. The text says what it lacks."""


def executor(count: int) -> float:
    """ProcessPoolExecutor(max_tasks_per_child=1): it forks no workers then, and forkserver is its fastest way."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(WORKERS, mp_context=context, max_tasks_per_child=1) as pool:
        pool.submit(nothing).result()
        return _rate(count, lambda: [job.result() for job in [pool.submit(nothing) for _ in range(count)]])


def pebble(count: int) -> float:
    try:
        from pebble import ProcessPool
    except ImportError:
        raise NotHere("pebble is not installed") from None
    with ProcessPool(WORKERS, max_tasks=1) as pool:
        pool.schedule(nothing).result()
        return _rate(count, lambda: [job.result() for job in [pool.schedule(nothing) for _ in range(count)]])


def rq(count: int) -> float:
    """A worker forks for each job."""
    try:
        from redis import Redis
        from rq import Queue
    except ImportError as error:
        raise NotHere(f"rq does not start here: {error}") from None
    with _redis() as url, _workers([[sys.executable, "-m", "rq.cli", "worker", "--url", url, "-q"]] * WORKERS):
        queue = Queue(connection=Redis.from_url(url))
        finished = queue.finished_job_registry

        def run(jobs: int) -> None:
            before = finished.get_job_count(cleanup=False)
            for _ in range(jobs):
                queue.enqueue("rival_jobs.nothing")
            _until(lambda: finished.get_job_count(cleanup=False) >= before + jobs, "the jobs to finish")

        run(WORKERS)
        return _rate(count, lambda: run(count))


def celery(count: int) -> float:
    """--max-tasks-per-child 1: the prefork pool replaces each process after its task."""
    try:
        import celery  # noqa: F401
        import kombu.transport.redis  # noqa: F401 - what its worker needs to start: redis, and packaging
    except ImportError as error:
        raise NotHere(f"celery does not start here: {error}") from None
    with _redis() as url:
        os.environ["BENCH_CELERY"] = url
        command = [sys.executable, "-m", "celery", "-A", "rival_jobs", "worker", "-l", "ERROR", "--without-gossip"]
        command += ["--without-mingle", "--concurrency", str(WORKERS), "--max-tasks-per-child", "1"]
        with _workers([command]):
            task = importlib.reload(rival_jobs).celery_nothing

            def run(jobs: int) -> None:
                for result in [task.delay() for _ in range(jobs)]:
                    result.get(timeout=120)

            run(1)
            return _rate(count, lambda: run(count))


#: name -> (what it is, how it is measured, how many jobs it is given)
RIVALS: dict[str, tuple[str, Callable[[int], float], int]] = {
    "pebble": ("pebble, max_tasks=1", pebble, 100),
    "rq": ("RQ, fork per job", rq, 100),
    "executor": ("ProcessPoolExecutor, max_tasks_per_child=1", executor, 50),
    "celery": ("Celery, --max-tasks-per-child 1", celery, 30),
}


def _rate(count: int, run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return count / (time.perf_counter() - began)


def _until(look: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + 120
    while not look():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within 120 s: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise NotHere("there is no redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            _until(lambda: _listens(port), "redis-server to listen")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def _workers(commands: list[list[str]]) -> Iterator[None]:
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    quiet = subprocess.DEVNULL
    started = [subprocess.Popen(command, env=environment, cwd=HERE, stdout=quiet, stderr=quiet) for command in commands]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


def main() -> None:
    _, measure, count = RIVALS[sys.argv[1]]
    try:
        print(f"{measure(count):.1f}")
    except NotHere as error:
        print(f"left out: {error}")


if __name__ == "__main__":
    main()
