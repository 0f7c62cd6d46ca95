"""What a task prints, for the page: lines in bunches, four a second at most, until the task has
finished or nobody looks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from mpfora.client import AsyncClient
from mpfora.errors import BadValue, MpforaError
from mpfora.model.units import shown
from mpfora.web.page_data import PageData
from mpfora.web.stream import event

EVERY_S = 0.25
#: lines of one event, and of one answer
_MOST_AT_ONCE, MOST_LINES = 500, 10_000
#: lines that wait for a slow reader; then the node waits, too
_AHEAD = 2_000
_HEARTBEAT_S = 10.0
USUAL_TAIL = 500


def wanted(params: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `AsyncClient.logs`. Raises BadValue."""
    found: dict[str, Any] = {"tail": _whole(params, "tail", 0, MOST_LINES, USUAL_TAIL)}
    if params.get("run"):
        found["run"] = _whole(params, "run", 1, 10**9, 1)
    if params.get("grep"):
        found["grep"] = params["grep"]
    return found


def _whole(params: Mapping[str, str], name: str, least: int, most: int, usual: int) -> int:
    text = params.get(name, "")
    if not text:
        return usual
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise BadValue(f"{name}: must be a whole number from {least:,} to {most:,}, not {shown(text)}")
    return int(text)


async def read_log(client: AsyncClient, task_id: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
    """What has been printed so far. Raises MpforaError."""
    async with aclosing(client.logs(task_id, **wanted(params))) as lines:
        return [line.to_json() async for line in lines]


async def follow_log(data: PageData, task_id: str, arguments: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
    """Events: `lines`, a list; `end`, with an error where it ended by one."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_AHEAD)
    pump = asyncio.create_task(_pump(data.client, task_id, arguments, queue))
    try:
        yield b"retry: 3000\n\n"
        silent_s = 0.0
        while not data.closing.is_set():
            some = await _bunch(queue)
            lines = [line for line in some if line is not None]
            if lines:
                yield event("lines", lines)
            if None in some:
                failure = pump.result()
                yield event("end", {"error": failure})
                return
            silent_s = 0.0 if some else silent_s + 1.0
            if silent_s >= _HEARTBEAT_S:
                silent_s = 0.0
                yield b": \n\n"
            await asyncio.sleep(EVERY_S)
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


async def _bunch(queue: asyncio.Queue[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """What is there; [] if nothing came within a second."""
    some: list[dict[str, Any] | None] = []
    with contextlib.suppress(TimeoutError):
        some.append(await asyncio.wait_for(queue.get(), 1.0))
    while len(some) < _MOST_AT_ONCE and not queue.empty():
        some.append(queue.get_nowait())
    return some


async def _pump(
    client: AsyncClient, task_id: str, arguments: Mapping[str, Any], queue: asyncio.Queue[dict[str, Any] | None]
) -> str:
    """Puts lines, and None at the end. Returns why it ended, "" if the task has finished."""
    why = ""
    try:
        async with aclosing(client.logs(task_id, follow=True, **arguments)) as lines:
            async for line in lines:
                await queue.put(line.to_json())
    except MpforaError as error:
        why = str(error)
    await queue.put(None)
    return why
