"""What a node answers whoever asks for the log of a run."""

from __future__ import annotations

import asyncio
import base64
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from mpfora.run_logs.places import RunName, parts_of
from mpfora.run_logs.reader import Piece, read_piece, since_start, tail_start
from mpfora.store.question_records import Question
from mpfora.supervisor.output.node_output import NodeOutput

#: bytes of the log in one answer, and of its times
_MOST, _MOST_TIMES = 128 * 1024, 2000
#: between two looks whether something was printed, while somebody waits for it
_LOOK_S = 0.1


async def answer_log(outputs: NodeOutput, question: Question) -> dict[str, Any]:
    """The answer:

    start, data   from which byte on it is, and the bytes (zlib, base64); later than asked for where some are missing
    times         pairs of a byte and the milliseconds since 1970 when it was printed
    size          where the next byte will stand
    ended         nothing more will come
    folder        in place of data, for who is on this machine: the folder of the logs, its device and inode
    gone          in place of all that: nothing of this run is kept here, and perhaps why
    error         in place of all that: why it cannot be read"""
    if outputs.folder is None:
        return {"gone": True, "why": "the node keeps nothing of what its tasks print"}
    try:
        return await _answer(outputs, question)
    except OSError as error:
        return {"error": f"the node cannot read its logs: {error}"}


async def _answer(outputs: NodeOutput, question: Question) -> dict[str, Any]:
    """Raises OSError."""
    assert outputs.folder is not None
    run = RunName(question.task_id, question.run, question.fence)
    start = question.start
    if question.tail is not None:
        start = await asyncio.to_thread(tail_start, outputs.folder, run, question.tail)
    if question.since_ms is not None:
        start = max(start, await asyncio.to_thread(since_start, outputs.folder, run, question.since_ms))
    if question.machine and question.machine == machine_id():
        try:
            return await _named(outputs, run, start)
        except OSError:
            pass  # there is no folder to be named: it is answered as from elsewhere
    loop = asyncio.get_running_loop()
    ends = loop.time() + question.wait_s
    if question.is_reading:
        await _ended(outputs, run, ends)
        return {"ended": run not in outputs.running}
    while True:
        is_running = run in outputs.running  # asked before the files are looked at
        piece = await _read(outputs, run, start)
        if (piece is not None and piece.data) or not is_running or loop.time() >= ends:
            return await asyncio.to_thread(_format, piece, start, not is_running)
        await _printed(outputs, run, piece.size if piece is not None else 0, ends)


async def _named(outputs: NodeOutput, run: RunName, start: int) -> dict[str, Any]:
    """Where to read the log oneself. Of a run that has printed nothing there may be no folder yet."""
    assert outputs.folder is not None
    is_running = run in outputs.running
    parts = await asyncio.to_thread(parts_of, outputs.folder, run)
    if not parts and not is_running:
        return {"gone": True}
    await asyncio.to_thread(outputs.folder.mkdir, parents=True, exist_ok=True, mode=0o700)
    found = await asyncio.to_thread(os.stat, outputs.folder)
    size = parts[-1].end if parts else 0
    folder = [str(outputs.folder), found.st_dev, found.st_ino]
    return {"start": start, "data": "", "times": [], "size": size, "ended": not is_running, "folder": folder}


async def _ended(outputs: NodeOutput, run: RunName, ends: float) -> None:
    loop = asyncio.get_running_loop()
    while run in outputs.running and loop.time() < ends:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(_LOOK_S)


@cache
def machine_id() -> str:
    """What tells this machine from others; "" where it cannot be told, and nobody is on the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


async def _read(outputs: NodeOutput, run: RunName, start: int) -> Piece | None:
    assert outputs.folder is not None
    return await asyncio.to_thread(read_piece, outputs.folder, run, start, _MOST)


async def _printed(outputs: NodeOutput, run: RunName, size: int, ends: float) -> None:
    """Wait until the run has printed more than `size` bytes, or has ended."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(_LOOK_S)
    while (  # noqa: ASYNC110 - looked at while somebody waits for it, and told by nobody else
        (stream := outputs.running.get(run)) is not None and stream.position <= size and loop.time() < ends
    ):
        await asyncio.sleep(_LOOK_S)


def _format(piece: Piece | None, start: int, has_ended: bool) -> dict[str, Any]:
    if piece is None:
        if has_ended:
            return {"gone": True}
        piece = Piece(start, b"", (), start)
    after = piece.start + len(piece.data)
    times = [entry for entry in piece.times if entry[0] < after]
    return {
        "start": piece.start,
        "data": base64.b64encode(zlib.compress(piece.data, 1)).decode(),
        "times": times[-_MOST_TIMES:],
        "size": piece.size,
        "ended": has_ended and after >= piece.size,
    }
