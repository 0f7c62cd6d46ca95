"""The arithmetic of the demo's tasks: each function does one step of a job. Pure; standard library only.

A job's state is a dict of JSON values, so that it can be saved as it is and gone on with in another process.
"""

from __future__ import annotations

import hashlib
import keyword
import math
import random
import re
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

State = dict[str, Any]

_WORD = re.compile(rb"[A-Za-z_]+")
_KEYWORDS = frozenset(word.encode() for word in keyword.kwlist)


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def count_primes(state: State, low: int, high: int) -> None:
    """Primes from `low` to below `high`, by trial division."""
    state["primes"] += sum(map(is_prime, range(low, high)))


def mandelbrot_row(state: State, row: int, rows: int, width: int, most: int) -> None:
    """Points of one row of a picture of -2..0.5 by -1.25..1.25 that do not escape within `most` rounds.

    Row `row` and row `rows - 1 - row` mirror each other exactly, also in floating point."""
    y = 2.5 * (row + 0.5 - rows / 2) / rows
    for column in range(width):
        c = complex(-2 + 2.5 * (column + 0.5) / width, y)
        z = c
        for _ in range(most):
            if abs(z) > 2:
                break
            z = z * z + c
        else:
            state["inside"] += 1


def python_files() -> list[Path]:
    """The source files of the Python that runs this, without what was installed into it."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(p for p in root.rglob("*.py") if not {"site-packages", "dist-packages"} & set(p.parts))


def read_text(state: State, path: Path) -> None:
    """Lines, words, and how often each of Python's keywords occurs."""
    data = path.read_bytes()
    state["files"] += 1
    state["lines"] += data.count(b"\n")
    words = _WORD.findall(data)
    state["words"] += len(words)
    for word in filter(_KEYWORDS.__contains__, words):
        key = word.decode()
        state["keywords"][key] = state["keywords"].get(key, 0) + 1


def throw_darts(state: State, block: int, darts: int) -> None:
    """Darts of one block that hit the quarter circle. A block has its own seed: repeated, it gives the same."""
    rng = random.Random(block)
    state["darts"] += darts
    state["hits"] += sum(rng.random() ** 2 + rng.random() ** 2 <= 1 for _ in range(darts))


def place_queens(state: State, first: int, second: int, size: int) -> None:
    """Ways to place the other queens when the first two rows have theirs in these columns."""
    a, b = 1 << first, 1 << second
    if b not in (a, a << 1, a >> 1):
        state["boards"] += _queens(a | b, ((a << 1) | b) << 1, ((a >> 1) | b) >> 1, (1 << size) - 1)


def _queens(columns: int, left: int, right: int, full: int) -> int:
    if columns == full:
        return 1
    found = 0
    free = full & ~(columns | left | right)
    while free:
        bit = free & -free
        free ^= bit
        found += _queens(columns | bit, (left | bit) << 1, (right | bit) >> 1, full)
    return found


def leading_zeros(seed: str, nonce: int) -> int:
    """Leading zero bits of sha256(seed, nonce)."""
    digest = hashlib.sha256(seed.encode() + nonce.to_bytes(8, "big")).digest()
    return 256 - int.from_bytes(digest, "big").bit_length()


def search_nonce(state: State, low: int, high: int, seed: str, bits: int) -> None:
    """The first nonce of the range whose hash has that many leading zero bits, if none was found before."""
    if state["nonce"] is not None:
        return
    base, limit = hashlib.sha256(seed.encode()), 1 << (256 - bits)
    for nonce in range(low, high):
        this = base.copy()
        this.update(nonce.to_bytes(8, "big"))
        if int.from_bytes(this.digest(), "big") < limit:
            state["nonce"] = nonce
            return


def longest_collatz(state: State, low: int, high: int) -> None:
    """The start from `low` to below `high` whose Collatz sequence is longest, if it beats the one known."""
    for start in range(max(1, low), high):
        n, steps = start, 0
        while n != 1:
            n = 3 * n + 1 if n & 1 else n >> 1
            steps += 1
        if steps > state["steps"]:
            state["steps"], state["start"] = steps, start


#: between two rows of the plane: a cell is the number x + y * ROW
ROW = 100_000
_AROUND = (-ROW - 1, -ROW, -ROW + 1, -1, 1, ROW - 1, ROW, ROW + 1)


def live_on(state: State, generations: int) -> None:
    """Conway's Game of Life on a plane as good as endless, so many generations on."""
    cells = set(state["cells"])
    for _ in range(generations):
        near = Counter(cell + offset for cell in cells for offset in _AROUND)
        cells = {cell for cell, count in near.items() if count == 3 or (count == 2 and cell in cells)}
    state["cells"] = sorted(cells)


_JUMPS = ((1, 2), (2, 1), (-1, 2), (-2, 1), (1, -2), (2, -1), (-1, -2), (-2, -1))
Square = tuple[int, int]


def knight_moves(size: int) -> dict[Square, list[Square]]:
    """Where a knight can go from each square."""
    squares = [(row, column) for row in range(size) for column in range(size)]
    return {(r, c): [(r + a, c + b) for a, b in _JUMPS if (r + a, c + b) in squares] for r, c in squares}


def knight_paths(size: int, length: int) -> list[list[Square]]:
    """All paths of that many squares from the corner: the tours are divided among them."""
    moves = knight_moves(size)
    paths = [[(0, 0)]]
    for _ in range(length - 1):
        paths = [[*path, square] for path in paths for square in moves[path[-1]] if square not in path]
    return paths


def count_tours(state: State, path: list[Square], size: int) -> None:
    """Tours of the whole board that begin with `path`."""
    moves, visited = knight_moves(size), set(path[:-1])

    def go(square: Square, left: int) -> int:
        if not left:
            return 1
        visited.add(square)
        found = sum(go(to, left - 1) for to in moves[square] if to not in visited)
        visited.discard(square)
        return found

    state["tours"] += go(path[-1], size * size - len(path))


def sieve(below: int) -> bytearray:
    """1 at each prime."""
    marks = bytearray([1]) * below
    marks[:2] = b"\0\0"
    for n in range(2, math.isqrt(below) + 1):
        if marks[n]:
            marks[n * n :: n] = bytes(len(range(n * n, below, n)))
    return marks


def split_evens(state: State, low: int, high: int, marks: bytearray, primes: list[int]) -> None:
    """Goldbach: each even number of the range as a sum of two primes; keeps the one that needs the largest least
    prime."""
    for even in range(max(4, low + low % 2), high, 2):
        least = next((prime for prime in primes if marks[even - prime]), 0)
        if least > state["least"]:
            state["least"], state["even"] = least, even
