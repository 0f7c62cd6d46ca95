"""Benches for a whole test session: each handler's zygote is started once, in an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from mpfora.testing.bench import HandlerBench, TestRun

T = TypeVar("T")


class Benches:
    """Runs handlers as `mpfora.testing.run` does, and keeps the zygote of each for the runs that follow. Runs of
    several threads at once are fine."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="mpfora-benches", daemon=True)
        self._thread.start()
        self._kept: dict[object, HandlerBench] = {}
        self._lock = asyncio.Lock()

    def __call__(
        self, handler: str | Callable[..., Any], props: Mapping[str, Any] | None = None, **options: Any
    ) -> TestRun:
        """Run `handler` once with these props, and return what became of it. Takes the options of mpfora.testing.run,
        and raises what that raises."""
        return self._do(self._run(handler, props, options))

    def close(self) -> None:
        """End every zygote."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _turn(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _run(
        self, handler: str | Callable[..., Any], props: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> TestRun:
        async with self._lock:
            bench = self._kept.get(handler)
            if bench is None:
                bench = await HandlerBench(handler).__aenter__()
                self._kept[handler] = bench
        run = await bench.run(props, **options)
        if run.cause == "zygote_lost":  # the handler has taken it along: the next run gets a new one
            await self._discard(handler, bench)
        return run

    async def _discard(self, handler: object, bench: HandlerBench) -> None:
        if self._kept.get(handler) is bench:
            del self._kept[handler]
            await bench.__aexit__(None, None, None)

    async def _close(self) -> None:
        for handler, bench in list(self._kept.items()):
            await self._discard(handler, bench)
