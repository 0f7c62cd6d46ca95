"""Runs the coroutine of an async handler in an event loop. asyncio is imported here alone, at the first use."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from mpfora.child.run import stack_dump
from mpfora.child.run.stop_requests import StopRequests

if TYPE_CHECKING:
    import asyncio

#: what the handler leaves behind in the loop gets so long to be cancelled
_WIND_DOWN_S = 2.0

#: the loop is never closed: that would wait without bound for threads of its executor, and the process ends at once
_runners: list[asyncio.Runner] = []


class Left(Exception):
    """The coroutine was cancelled because the run is to end, and let itself be cancelled."""


def make_runner() -> asyncio.Runner:
    """With its event loop. Raises OSError where there are no descriptors for that."""
    import asyncio

    runner = asyncio.Runner()
    _runners.append(runner)
    runner.get_loop()
    return runner


def run_coroutine(coroutine: Coroutine[Any, Any, Any], runner: asyncio.Runner, requests: StopRequests) -> Any:
    """What the coroutine returns. It is cancelled at each Stop frame. Raises Left, and whatever it raises."""
    return runner.run(_supervise(coroutine, requests))


async def _supervise(coroutine: Coroutine[Any, Any, Any], requests: StopRequests) -> Any:
    import asyncio

    loop = asyncio.get_running_loop()
    stack_dump.with_tasks_of(loop)
    work = loop.create_task(coroutine, name="handler")

    def cancel() -> None:
        loop.call_soon_threadsafe(work.cancel)

    fd = requests.watched_by_loop(cancel)
    loop.add_reader(fd, requests.take)
    try:
        return await work
    except asyncio.CancelledError:
        if requests.stop_asked:
            raise Left from None
        raise
    finally:
        await _wind_down(loop)


async def _wind_down(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio.run does at its end, but bounded: cancel the other tasks, close the async generators."""
    import asyncio

    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_WIND_DOWN_S)
    for task in others:
        if task.done() and not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {"message": "a task failed while the run ended", "exception": task.exception(), "task": task}
            )
    closing = loop.create_task(loop.shutdown_asyncgens())
    await asyncio.wait((closing,), timeout=_WIND_DOWN_S)
    if not closing.done():  # how the handler itself has ended stays the end of the run
        message = f"asynchronous generators have not closed within {_WIND_DOWN_S:g} s of the handler's end"
        loop.call_exception_handler({"message": message})
