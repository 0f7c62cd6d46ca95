"""One call for each of many tasks, a bounded number at once. A refusal of one does not hold up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from mpfora.errors import ClientClosed, EtcdRefused, EtcdUnreachable, MpforaError

T = TypeVar("T")

#: how many calls are under way at once: their transactions share requests
AT_ONCE = 500
#: how many owners are waited for at once: each wait has a watch of its own
WATCHED_AT_ONCE = 100
#: errors that the other tasks would get, too
_OF_ALL = (EtcdUnreachable, EtcdRefused, ClientClosed)


async def each_of(
    task_ids: Iterable[str],
    act: Callable[[str], Awaitable[T]],
    at_once: int,
    on_done: Callable[[str, T | MpforaError], None] | None = None,
) -> dict[str, T | MpforaError]:
    """Returns for each id, in their order, what `act` returned, or the MpforaError that it raised. Calls on_done as
    each is done. Raises what concerns all of them: EtcdUnreachable, EtcdRefused, ClientClosed."""
    results: dict[str, T | MpforaError] = {}
    ids = list(dict.fromkeys(task_ids))
    todo = iter(ids)

    async def work() -> None:
        for task_id in todo:
            result: T | MpforaError
            try:
                result = await act(task_id)
            except _OF_ALL:
                raise
            except MpforaError as error:
                result = error
            results[task_id] = result
            if on_done is not None:
                on_done(task_id, result)

    workers = [asyncio.create_task(work()) for _ in range(min(at_once, len(ids)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return {task_id: results[task_id] for task_id in ids}
