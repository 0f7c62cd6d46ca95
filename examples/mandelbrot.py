"""Compute a picture of the Mandelbrot set in tiles, each a task, and write it as a PGM file.

python -m mpfora.supervisor mandelbrot:tile     # in one terminal, or on several machines
python mandelbrot.py 600 picture.pgm            # in another: 600 pixels wide
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from mpfora import Client, Context, Message, Task
from mpfora.client import NewTask

ROUNDS = 255
TILES = 12
#: the part of the plane that is shown: left, top, width, height
LEFT, TOP, WIDTH, HEIGHT = -2.0, -1.25, 2.5, 2.5


def rounds_until_escape(c: complex) -> int:
    z = 0j
    for n in range(ROUNDS):
        z = z * z + c
        if abs(z) > 2:
            return n
    return ROUNDS


def tile(task: Task, ctx: Context) -> Message | list[str]:
    """props: size (of the picture), first, last (rows). Returns its rows, each as a text of hexadecimal bytes."""
    size, first, last = task.props["size"], task.props["first"], task.props["last"]
    rows: list[str] = ctx.checkpoint or []
    for y in range(first + len(rows), last):
        ctx.beat(len(rows) / (last - first))
        if ctx.stopping:
            return ctx.leave(checkpoint=rows)
        points = (complex(LEFT + WIDTH * x / size, TOP + HEIGHT * y / size) for x in range(size))
        rows.append(bytes(ROUNDS - rounds_until_escape(c) for c in points).hex())
    return rows


def main(size: int, path: str) -> None:
    name = f"mandelbrot-{secrets.token_hex(3)}"
    edges = [size * n // TILES for n in range(TILES + 1)]
    tasks = [
        NewTask(f"{name}-{n}", {"size": size, "first": edges[n], "last": edges[n + 1]}, "mandelbrot:tile")
        for n in range(TILES)
    ]
    with Client() as client:
        client.submit_many(tasks)
        print(f"submitted {TILES} tiles; see them with: mpfora tasks")
        tiles = client.wait([task.id for task in tasks])
    pixels = b"".join(bytes.fromhex(row) for done in tiles for row in done.result)
    Path(path).write_bytes(b"P5 %d %d 255\n" % (size, size) + pixels)
    print(f"wrote {path}, {size} x {size}, computed on {', '.join(sorted({done.node or '?' for done in tiles}))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600, sys.argv[2] if len(sys.argv) > 2 else "mandelbrot.pgm")
