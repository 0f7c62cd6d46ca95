"""The handlers that the demo's nodes run: a dozen kinds of honest work, and four that do what no handler should.

Every good one has the same shape: the work is cut into steps; after each it beats, looks whether it is to stop, and
twice a second saves where it is. `in_steps` is that shape.
"""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mpfora import Context, Message, Retry, Task, handler
from mpfora.demo import work
from mpfora.demo.witness import witnessed

Step = TypeVar("Step")

SAVE_EVERY_S = 0.5
#: how long the two that hang may go without a beat
STALL_S = 3.0
MEMORY_LIMIT = "192MiB"
#: the hostile ones are tried twice
TWICE = Retry(max_errors=2, delay="500ms", jitter=0)


def in_steps(
    ctx: Context, steps: Sequence[Step], state: work.State, advance: Callable[[Step], None]
) -> Message | dict[str, Any]:
    """Advance through all steps, from where the last run was; returns what is left to do for the node to end the run.

    `advance` changes `state`, a dict of JSON values: it is the checkpoint, and at the end the result."""
    saved = ctx.checkpoint or {"step": 0, "state": state}
    state.update(saved["state"])
    save_at = time.monotonic() + SAVE_EVERY_S
    for number in range(saved["step"], len(steps)):
        ctx.beat(number / len(steps))
        if ctx.stopping:
            return ctx.leave({"step": number, "state": state})
        if time.monotonic() >= save_at:
            ctx.save({"step": number, "state": state})
            save_at = time.monotonic() + SAVE_EVERY_S
        advance(steps[number])
    return state


# -- good ones --------------------------------------------------------------------------------------------------------


@witnessed
def primes(task: Task, ctx: Context) -> Any:
    """props: low, high."""
    state = {"primes": 0}
    high = task.props["high"]
    chunks = range(task.props["low"], high, 2000)
    return in_steps(ctx, chunks, state, lambda low: work.count_primes(state, low, min(low + 2000, high)))


@witnessed
def mandelbrot(task: Task, ctx: Context) -> Any:
    """props: first, last (rows of the tile), rows (of the picture), width, most (rounds)."""
    state = {"inside": 0}
    rows, width, most = (task.props[name] for name in ("rows", "width", "most"))
    tile = range(task.props["first"], task.props["last"])
    return in_steps(ctx, tile, state, lambda row: work.mandelbrot_row(state, row, rows, width, most))


@witnessed
def text_statistics(task: Task, ctx: Context) -> Any:
    """Of all source files of this Python."""
    state: work.State = {"files": 0, "lines": 0, "words": 0, "keywords": {}}
    return in_steps(ctx, work.python_files(), state, lambda path: work.read_text(state, path))


@witnessed
def monte_carlo(task: Task, ctx: Context) -> Any:
    """props: blocks, darts (of a block)."""
    state = {"hits": 0, "darts": 0}
    darts = task.props["darts"]
    return in_steps(ctx, range(task.props["blocks"]), state, lambda block: work.throw_darts(state, block, darts))


@witnessed
def queens(task: Task, ctx: Context) -> Any:
    """props: size (of the board)."""
    state = {"boards": 0}
    size = task.props["size"]
    openings = [(first, second) for first in range(size) for second in range(size)]
    return in_steps(ctx, openings, state, lambda pair: work.place_queens(state, *pair, size))


@witnessed
def proof_of_work(task: Task, ctx: Context) -> Any:
    """props: seed, bits, below (where the search ends)."""
    state = {"nonce": None}
    seed, bits = task.props["seed"], task.props["bits"]
    chunks = range(0, task.props["below"], 10_000)
    return in_steps(ctx, chunks, state, lambda low: work.search_nonce(state, low, low + 10_000, seed, bits))


@witnessed
def collatz(task: Task, ctx: Context) -> Any:
    """props: below."""
    state = {"steps": 0, "start": 0}
    below = task.props["below"]
    chunks = range(0, below, 1000)
    return in_steps(ctx, chunks, state, lambda low: work.longest_collatz(state, low, min(low + 1000, below)))


@witnessed
def life(task: Task, ctx: Context) -> Any:
    """props: cells, generations (a multiple of 19)."""
    state = {"cells": task.props["cells"]}
    steps = range(task.props["generations"] // 19)
    ended = in_steps(ctx, steps, state, lambda _: work.live_on(state, 19))
    return ended if isinstance(ended, Message) else {"cells": len(ended["cells"])}


@witnessed
def knights(task: Task, ctx: Context) -> Any:
    """props: size."""
    state = {"tours": 0}
    size = task.props["size"]
    return in_steps(ctx, work.knight_paths(size, 6), state, lambda path: work.count_tours(state, path, size))


@witnessed
def goldbach(task: Task, ctx: Context) -> Any:
    """props: below."""
    state = {"least": 0, "even": 0}
    below = task.props["below"]
    marks = work.sieve(below)
    primes = [n for n in range(2000) if marks[n]]
    chunks = range(0, below, 10_000)
    return in_steps(
        ctx, chunks, state, lambda low: work.split_evens(state, low, min(low + 10_000, below), marks, primes)
    )


# -- bad ones ---------------------------------------------------------------------------------------------------------


@handler(stall_timeout=STALL_S, retry=TWICE)
@witnessed
def deadlock(task: Task, ctx: Context) -> None:
    """Two transfers between two accounts, each locking the one that it takes from first."""
    here, there, both_locked = threading.Lock(), threading.Lock(), threading.Barrier(2)
    ctx.beat(0.5)
    threading.Thread(target=transfer, args=(there, here, both_locked), daemon=True).start()
    transfer(here, there, both_locked)


def transfer(giver: threading.Lock, taker: threading.Lock, both_locked: threading.Barrier) -> None:
    with giver:
        both_locked.wait()
        with taker:
            raise AssertionError("nobody gets here")


@handler(stall_timeout=STALL_S, retry=TWICE)
@witnessed
def regex(task: Task, ctx: Context) -> bool:
    """Checks a text with an innocent-looking pattern: C code that holds the GIL for longer than anybody waits."""
    ctx.beat(0.5)
    return accepts("a" * 60 + "!")


def accepts(text: str) -> bool:
    return re.fullmatch(r"(\w+\s?)*\.", text) is not None


@handler(retry=TWICE)
@witnessed
def segfault(task: Task, ctx: Context) -> None:
    """Reads from an address that is not there."""
    ctx.beat(0.5)
    time.sleep(0.5)
    peek()


def peek() -> bytes:
    return ctypes.string_at(1)


@handler(memory_limit=MEMORY_LIMIT, retry=TWICE)
@witnessed
def memory(task: Task, ctx: Context) -> None:
    """Takes more and more memory, at about 100 MB a second; gives up at 2 GB, in case nobody stops it."""
    kept: list[bytes] = []
    for _ in range(200):
        keep_more(kept)
        ctx.beat(min(1.0, len(kept) / 20))


def keep_more(kept: list[bytes]) -> None:
    kept.append(b"x" * 10_000_000)
    time.sleep(0.1)
