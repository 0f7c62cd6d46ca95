"""mpfora.Pool beside other process pools of one machine, each with a new process for each call where it can do that.

    python bench/pool.py [--calls N] [--parents 15,1024] [--only NAME,...]

Each is measured in a fresh interpreter, with a parent of that many megabytes (and four threads, where it is a large
one): calls a second, the median time of a single call, the time from making the pool to its first result, of a call
that gets and returns an array of 100 MB, and from cancel() to the death of the process. Bare forks, of a fresh
interpreter's image and of a zygote's, are measured before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

WORKERS = os.cpu_count() or 1
ARRAY_BYTES = 100 << 20
SINGLE = 20
ALONE_S = 120.0


class Way(NamedTuple):
    """What a pool does. start(fn, *args) returns what has result(); cancel: whether that ends what runs."""

    start: Callable[..., Any]
    cancels: bool


def nothing() -> int:
    return os.getpid()


def echo(array: Any) -> Any:
    return array


def hang(path: str) -> None:
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


# -- the ways ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ours() -> Iterator[Way]:
    import mpfora

    with mpfora.Pool(WORKERS) as pool:
        yield Way(pool.submit, True)


@contextlib.contextmanager
def executor() -> Iterator[Way]:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(WORKERS, mp_context=context, max_tasks_per_child=1) as pool:
        yield Way(pool.submit, False)


class _Result:
    def __init__(self, waiting: Any) -> None:
        self.result = waiting.get


def _multiprocessing(method: str) -> Callable[[], Any]:
    @contextlib.contextmanager
    def way() -> Iterator[Way]:
        with multiprocessing.get_context(method).Pool(WORKERS, maxtasksperchild=1) as pool:
            yield Way(lambda fn, *args: _Result(pool.apply_async(fn, args)), False)

    return way


@contextlib.contextmanager
def pebble() -> Iterator[Way]:
    from pebble import ProcessPool

    with ProcessPool(WORKERS, max_tasks=1) as pool:
        yield Way(lambda fn, *args: pool.schedule(fn, args=args), True)


@contextlib.contextmanager
def loky() -> Iterator[Way]:
    from loky import ProcessPoolExecutor as Loky

    with Loky(WORKERS) as pool:
        yield Way(pool.submit, False)


WAYS: dict[str, tuple[str, Callable[[], Any]]] = {
    "mpfora": ("mpfora.Pool", ours),
    "executor": ("ProcessPoolExecutor, forkserver, max_tasks_per_child=1", executor),
    "mp-fork": ("multiprocessing.Pool, fork, maxtasksperchild=1", _multiprocessing("fork")),
    "mp-forkserver": ("multiprocessing.Pool, forkserver, maxtasksperchild=1", _multiprocessing("forkserver")),
    "pebble": ("pebble, max_tasks=1", pebble),
    "loky": ("loky, whose workers live on", loky),
}

#: imported before the first result is timed, as the others are
MODULES = {"mpfora": "mpfora.pool", "pebble": "pebble", "loky": "loky"}


# -- measuring, in an interpreter of its own --------------------------------------------------------------------------


def measure(name: str, calls: int, megabytes: int) -> Iterator[dict[str, float]]:
    """One figure after the other: not every pool comes to the end of this."""
    ballast = _grow(megabytes)
    if name in MODULES:
        importlib.import_module(MODULES[name])
    began = time.perf_counter()
    with WAYS[name][1]() as way:
        way.start(nothing).result()
        yield {"first_ms": 1000 * (time.perf_counter() - began)}
        for _ in range(3 * WORKERS):
            way.start(nothing).result()
        time.sleep(1.0)
        singles = [_timed(lambda: way.start(nothing).result()) for _ in range(SINGLE)]
        yield {"single_ms": 1000 * statistics.median(singles)}
        seconds = _timed(lambda: [each.result() for each in [way.start(nothing) for _ in range(calls)]])
        yield {"rate": calls / seconds}
        if not way.cancels:
            yield {"cancel_ms": -1.0}  # it cannot
        else:
            yield {"cancel_ms": 1000 * statistics.median([_cancel(way) for _ in range(3)])}
        with contextlib.suppress(ImportError):
            import numpy

            array = numpy.ones(ARRAY_BYTES, dtype=numpy.uint8)
            yield {"array_ms": 1000 * min(_timed(lambda: way.start(echo, array).result()) for _ in range(3))}
    del ballast


def _grow(megabytes: int) -> bytearray:
    """Memory that is written to, and threads, as a program has them."""
    ballast = bytearray(max(0, megabytes - 15) << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    for _ in range(4 if megabytes > 15 else 0):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return ballast


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _cancel(way: Way) -> float:
    """Seconds from cancel() until the process is gone."""
    path = f"/tmp/mpfora-bench-{os.getpid()}"
    future = way.start(hang, path)
    while not os.path.exists(path) or not os.path.getsize(path):
        time.sleep(0.001)
    with open(path) as file:
        pid = int(file.read())
    os.unlink(path)
    time.sleep(0.05)

    def end() -> None:
        future.cancel()
        while os.path.exists(f"/proc/{pid}/exe") and _lives(pid):
            time.sleep(0.0005)

    return _timed(end)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- the table --------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--parents", default="15,1024", help="megabytes [15,1024]")
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    parents = [int(megabytes) for megabytes in options.parents.split(",")]
    if options.measure:
        for figure in measure(options.measure, options.calls, parents[0]):
            print(json.dumps(figure), flush=True)
        return
    from common import machine
    from throughput import IMAGES, bare

    print(machine())
    for megabytes in parents:
        before = {image: bare(image, 300)[0] for image in IMAGES}
        print(f"\nA parent of {megabytes} MB, {WORKERS} workers\n")
        print("| pool | calls/s | single ms | first ms | 100 MB in and out ms | cancel() to dead ms |")
        print("|---|---|---|---|---|---|")
        for name in options.only.split(","):
            print(_row(name, options.calls, megabytes), flush=True)
        for image, rate in before.items():
            print(f"\nbare fork, exit and reap of a {image}: {rate:.0f}/s before, {bare(image, 300)[0]:.0f}/s after")


def _row(name: str, calls: int, megabytes: int) -> str:
    command = [sys.executable, __file__, "--measure", name, "--calls", str(calls), "--parents", str(megabytes)]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, start_new_session=True)
        try:
            process.wait(ALONE_S)
            problem = "-"
        except subprocess.TimeoutExpired:
            problem = "hangs"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for file in (output, errors):
            file.seek(0)
        if process.returncode > 0:
            problem = (errors.read().strip().splitlines() or ["failed"])[-1]
        found: dict[str, float] = {}
        for line in output:
            found |= json.loads(line)
    cells = [found.get(key) for key in ("rate", "single_ms", "first_ms", "array_ms", "cancel_ms")]
    texts = [problem if cell is None else "-" if cell < 0 else f"{cell:.0f}" for cell in cells]
    return f"| {WAYS[name][0]} | {' | '.join(texts)} |"


if __name__ == "__main__":
    main()
