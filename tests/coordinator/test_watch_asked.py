"""Questions that were put while a node did not watch."""

from __future__ import annotations

from mpfora.cluster.changes import Asked
from mpfora.store.keys import Layout
from mpfora.store.kv import Put, Txn
from mpfora.store.memory import MemoryKV
from mpfora.supervisor.coordinator.watch import watch_namespace


async def test_a_listing_finds_the_questions_that_stand_there() -> None:
    store, layout = MemoryKV(), Layout("ns")
    store.run(Txn((), (Put(layout.request("n1", "17"), "{}"), Put(layout.task("t1"), ""))))
    async for changes in watch_namespace(store, layout):  # type: ignore[arg-type]
        assert changes.reset
        if not changes.more:
            assert changes.asked == (Asked("n1", "17"),)
            return
