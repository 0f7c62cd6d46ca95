"""Nanoseconds of ctx.beat() and ctx.stopping, beside an empty method call and a write to a multiprocessing.Value.

    python bench/beat.py [--json]

Each row is the best of several rounds, the loop's own cost taken off: what else runs on the machine only adds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
from timeit import Timer

from common import machine

from mpfora import Context, Task
from mpfora.child.run.channel import Channel
from mpfora.child.run.heartbeat import Heartbeat
from mpfora.child.run.stop_requests import StopRequests
from mpfora.ipc.slots import Slot, SlotTable
from mpfora.model.run_spec import RunLimits, RunSpec

ROUNDS = 15
CALLS = 50_000


class Empty:
    def method(self, progress: float | None = None, note: str | None = None) -> None:
        pass


def nanoseconds(statement: str, names: dict[str, object]) -> float:
    """Of one execution of `statement`, in which `p` is a float that changes at each round."""
    best = min(Timer(statement, globals=dict(names)).repeat(ROUNDS, CALLS))
    empty = min(Timer("pass").repeat(ROUNDS, CALLS))
    return (best - empty) / CALLS * 1e9


def context() -> Context:
    """A Context as entry makes it, in this process."""
    slots = SlotTable.create()
    ours, _theirs = socket.socketpair()
    spec = RunSpec("bench", "bench:beat", "{}", 1, 1, None, RunLimits(10.0))
    heartbeat = Heartbeat(Slot(slots, 0), "mpfora: task bench beat")
    return Context(
        Task("bench", {}, "bench:beat"), spec, heartbeat, StopRequests(Channel(ours.detach()), heartbeat), None
    )


def rows() -> dict[str, float]:
    ctx = context()
    names: dict[str, object] = {
        "ctx": ctx,
        "empty": Empty(),
        "steps": iter(range(10**9)),
        "locked": multiprocessing.Value("Q", 0),
        "raw": multiprocessing.Value("Q", 0, lock=False),
    }
    return {
        "empty method call": nanoseconds("empty.method()", names),
        "empty method call with an argument": nanoseconds("empty.method(0.5)", names),
        "ctx.beat()": nanoseconds("ctx.beat()", names),
        "ctx.beat(progress)": nanoseconds("ctx.beat(0.5)", names),
        "ctx.beat(progress), each call another": nanoseconds("ctx.beat(next(steps) / 1e6)", names)
        - nanoseconds("next(steps) / 1e6", names),
        "ctx.beat(progress, note), the same note": nanoseconds("ctx.beat(0.5, 'reading')", names),
        "ctx.stopping": nanoseconds("ctx.stopping", names),
        "multiprocessing.Value: value += 1, with its lock": nanoseconds(
            "with locked.get_lock():\n    locked.value += 1", names
        ),
        "multiprocessing.Value: value = 1": nanoseconds("locked.value = 1", names),
        "multiprocessing.Value(lock=False): value = 1": nanoseconds("raw.value = 1", names),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object, nanoseconds by row")
    arguments = parser.parse_args()
    if not arguments.json:
        print(machine())
    found = rows()
    if arguments.json:
        print(json.dumps(found))
        return
    for name, ns in found.items():
        print(f"{ns:8.0f} ns  {name}")


if __name__ == "__main__":
    main()
