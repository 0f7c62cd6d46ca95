"""A pool for hours: random calls, kills, cancels, exceptions and limits from eight threads.

    python tests/pool/soak.py --seconds 3600 [--seed N]

What each call ends in is what it asks for; at the end no future is undone, and no process, thread, descriptor or shared
memory is left. Prints the seed first, and how many calls a second were made at the beginning and at the end.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import pool_zoo as zoo

import mpfora
from mpfora.linux import procfs

THREADS = 8
#: of every wait: no call may take longer, whatever the machine is busy with
LIMIT_S = 120.0
#: after this a call that hangs is ended by its thread
SHORT_S = 0.05


class Wrong(AssertionError):
    """What must not be. The text says what."""


Deed = Callable[[mpfora.Pool, random.Random], str]


def result(pool: mpfora.Pool, rng: random.Random) -> str:
    number = rng.randrange(1_000_000)
    check(pool.submit(zoo.double, number).result(LIMIT_S) == 2 * number, "a wrong result")
    return "result"


def buffers(pool: mpfora.Pool, rng: random.Random) -> str:
    data = bytearray(rng.randbytes(rng.choice((10, 10_000, 2_000_000))))
    check(pool.submit(zoo.echo, data).result(LIMIT_S) == data, "wrong bytes")
    return "buffers"


def raised(pool: mpfora.Pool, rng: random.Random) -> str:
    expect(pool.submit(zoo.fail, KeyError(rng.random())), KeyError)
    return "raised"


def described(pool: mpfora.Pool, rng: random.Random) -> str:
    expect(pool.submit(zoo.fail_unpicklable), mpfora.RemoteError)
    return "described"


def died(pool: mpfora.Pool, rng: random.Random) -> str:
    call, args = rng.choice([(zoo.die, ()), (zoo.crash, ()), (zoo.leave, (3,)), (zoo.exit_, (4,))])
    expect(pool.submit(call, *args), mpfora.RunDied)
    return "died"


def timed_out(pool: mpfora.Pool, rng: random.Random) -> str:
    expect(pool.options(timeout=SHORT_S).submit(zoo.sleep, 1000), mpfora.TaskTimeout)
    return "timed out"


def stalled(pool: mpfora.Pool, rng: random.Random) -> str:
    expect(pool.options(stall_timeout=SHORT_S).submit(zoo.sleep, 1000), mpfora.Stalled)
    return "stalled"


def cancelled(pool: mpfora.Pool, rng: random.Random) -> str:
    future = pool.submit(zoo.sleep, 1000)
    time.sleep(rng.random() * SHORT_S)
    check(future.cancel(), "a call that hangs was not cancelled")
    expect(future, CancelledError)
    return "cancelled"


def killed(pool: mpfora.Pool, rng: random.Random) -> str:
    future = pool.submit(zoo.sleep, 1000)
    time.sleep(rng.random() * SHORT_S)
    future.kill()
    expect(future, (mpfora.RunDied, CancelledError))
    return "killed"


def mapped(pool: mpfora.Pool, rng: random.Random) -> str:
    size = rng.randrange(1, 20)
    check(list(pool.map(zoo.double, range(size), chunksize=3)) == [2 * x for x in range(size)], "a wrong map")
    return "mapped"


def unpicklable(pool: mpfora.Pool, rng: random.Random) -> str:
    expect(pool.submit(zoo.give_back, threading.Lock()), Exception)
    return "unpicklable"


def zygote_lost(pool: mpfora.Pool, rng: random.Random) -> str:
    """Takes others along, which is why it is seldom."""
    expect(pool.submit(zoo.kill_zygote), mpfora.RunDied)
    return "zygote lost"


DEEDS: dict[Deed, int] = {
    result: 30, buffers: 8, raised: 8, described: 3, died: 8, timed_out: 4, stalled: 2, cancelled: 8, killed: 6,
    mapped: 3, unpicklable: 2,
}  # fmt: skip


def check(is_right: bool, what: str) -> None:
    if not is_right:
        raise Wrong(what)


def expect(future: Future[Any], kinds: Any) -> None:
    try:
        value = future.result(LIMIT_S)
    except kinds:
        return
    except BaseException as error:
        raise Wrong(f"{error!r} instead of {kinds}") from error
    raise Wrong(f"{value!r} instead of {kinds}")


class Soak:
    def __init__(self, seconds: float, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.times: list[float] = []
        self._end = time.monotonic() + seconds
        self._seed = seed

    def run(self) -> None:
        """Raises Wrong."""
        children = set(_children())  # a resource tracker, say, of multiprocessing
        before = _open_files(), _threads()
        with mpfora.Pool(4, preload=["pool_zoo"], on_line=lambda *_: None) as pool:
            result(pool, random.Random(0))
            threads = [threading.Thread(target=self._work, args=(pool, n)) for n in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            zygote_lost(pool, random.Random(0))
            result(pool, random.Random(0))
            check(not self.wrong, "; ".join(self.wrong[:5]))
            check(not pool._engine._calls._running, "calls that have no end")
        gc.collect()
        _until(
            lambda: (_open_files(), _threads()) <= before, f"{before} was there, {_open_files(), _threads()} is left"
        )
        _until(lambda: not set(_children()) - children, f"processes are left: {set(_children()) - children}")

    def rates(self) -> tuple[float, float]:
        """Calls a second in the first and in the last fifth."""
        tenth = max(1, len(self.times) // 5)
        first, last = self.times[:tenth], self.times[-tenth:]
        return len(first) / max(0.001, first[-1] - first[0]), len(last) / max(0.001, last[-1] - last[0])

    def _work(self, pool: mpfora.Pool, number: int) -> None:
        rng = random.Random(self._seed * THREADS + number)
        deeds, weights = list(DEEDS), list(DEEDS.values())
        while time.monotonic() < self._end and not self.wrong:
            deed = rng.choices(deeds, weights)[0]
            try:
                self.done[deed(pool, rng)] += 1
            except Exception as error:  # noqa: BLE001 - told in the thread that has started this one
                self.wrong.append(f"{deed.__name__}: {error!r}")
            self.times.append(time.monotonic())


def _until(look: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not look():
        if time.monotonic() > end:
            raise Wrong(what)
        time.sleep(0.02)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _threads() -> int:
    return threading.active_count()


def _children() -> list[int]:
    return [stat.pid for stat in procfs.Snapshot(procfs.processes()).children(os.getpid())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    soak = Soak(options.seconds, options.seed)
    soak.run()
    first, last = soak.rates()
    print(f"{sum(soak.done.values())} deeds, all right: {dict(soak.done)}")
    print(f"{first:.0f} a second in the first fifth, {last:.0f} in the last; nothing is left")


if __name__ == "__main__":
    main()
