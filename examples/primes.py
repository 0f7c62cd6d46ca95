"""Count the primes below a number, in parts that run wherever there is a free node.

    python -m mpfora.supervisor primes:count        # in one terminal, or in several (--name node2, ...)
    python primes.py 1000000                        # in another

Kill the node and start it again: each part goes on where it was.
"""

from __future__ import annotations

import math
import secrets
import sys
import time

from mpfora import Client, Context, Message, Task

PARTS = 8
SAVE_EVERY_S = 5.0


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def count(task: Task, ctx: Context) -> Message | dict[str, int]:
    """props: low, below."""
    low, below = task.props["low"], task.props["below"]
    at = ctx.checkpoint or {"next": low, "found": 0}  # what the last run saved, or None
    found, save_at = at["found"], time.monotonic() + SAVE_EVERY_S
    for n in range(at["next"], below):
        ctx.beat((n - low) / (below - low))  # well under 1 µs
        if ctx.stopping:  # a rebalance, a command, a shutdown: leave, and say where we are
            return ctx.leave(checkpoint={"next": n, "found": found})
        if n % 1000 == 0 and time.monotonic() > save_at:  # for the case that nobody can ask us any more
            ctx.save({"next": n, "found": found})
            save_at = time.monotonic() + SAVE_EVERY_S
        found += is_prime(n)
    return {"found": found}


def main(below: int) -> None:
    edges = [below * part // PARTS for part in range(PARTS + 1)]
    with Client() as client:
        name = f"primes-{secrets.token_hex(3)}"
        ids = [f"{name}-{part}" for part in range(PARTS)]
        for part, task_id in enumerate(ids):
            client.submit(task_id, {"low": edges[part], "below": edges[part + 1]}, handler="primes:count")
        print(f"submitted {PARTS} tasks, {ids[0]} to {ids[-1]}; see them with: mpfora tasks")
        total = sum(info.result["found"] for info in client.wait(ids))
        print(f"{total} primes below {below}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
