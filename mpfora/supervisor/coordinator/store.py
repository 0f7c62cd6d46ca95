"""StoreCoordinator: the Coordinator over any transactional key-value store, in Metafora's key layout.

Every promise of the interface is kept here, by compares inside transactions: EtcdCoordinator brings a real etcd,
MemoryCoordinator one in memory, and both run this same code.

A claim is ours while its owner key has the create revision that is the fence, and hangs on our lease. A write for a
task compares both, so that whatever arrives late, twice or from a former life of this node changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from mpfora.cluster.changes import Changes
from mpfora.cluster.clocks import read_clocks
from mpfora.model.schedule import Step
from mpfora.model.task import Claim, Member, NodeUsage
from mpfora.store import kv
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Delete, Get, Put, Store, Txn
from mpfora.store.schedule_records import KeptSchedule, parse_schedules, step_txns
from mpfora.supervisor.coordinator.claim_batches import ClaimBatches
from mpfora.supervisor.coordinator.interface import (
    ClaimAnswer,
    ClaimRequest,
    Coordinator,
    Sleeper,
    Update,
    WakeResult,
    Won,
)
from mpfora.supervisor.coordinator.settlements import Settlements
from mpfora.supervisor.coordinator.store_session import CLOSE_S, CLOSE_WITH_CLAIMS_S, StoreSession
from mpfora.supervisor.coordinator.transactions import Session, sweep_txn, take_command
from mpfora.supervisor.coordinator.watch import watch_namespace

log = logging.getLogger("mpfora.etcd")

#: so many finished tasks are removed at once: there is no hurry
SWEPT_AT_ONCE = 50


class StoreCoordinator(Coordinator):
    """See the module's docstring and the interface. One node's; used from one event loop."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store, self._layout = store, Layout(namespace)
        self._session = StoreSession(store, self._layout)
        self._claims = ClaimBatches(store, self._layout)
        self._settlements = Settlements(store, self._layout, self._session)

    @property
    def session(self) -> Session:
        """The node and its lease. Raises StoreError before `open`."""
        return self._session.opened

    # -- the session --------------------------------------------------------------------------------------------------

    async def open(self, member: Member, ttl_s: float) -> float:
        granted_s = await self._session.open(member, ttl_s)
        self._settlements.session_opened()
        return granted_s

    async def renew(self) -> float:
        return await self._session.renew()

    async def prove(self) -> None:
        await self._session.prove()

    async def publish(self, member: Member) -> None:
        await self._session.publish(member)

    async def publish_progress(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        await self._session.publish_progress(rows)

    async def publish_usage(self, usage: NodeUsage) -> None:
        await self._session.publish_usage(usage)

    async def close(self, *, has_claims: bool = False) -> None:
        within_s = CLOSE_WITH_CLAIMS_S if has_claims else CLOSE_S
        try:
            async with asyncio.timeout(within_s):
                await self._session.close(within_s, has_claims=has_claims)
                await self._store.close()
        except TimeoutError:
            log.info("the store did not let go within %g s", within_s)

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def claim(self, claims: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
        session = self.session
        answers = await self._claims.claim(session, claims)
        for answer in answers:
            if isinstance(answer, Won) and session is self._session.current:
                self._settlements.won(answer)
        return answers

    async def wake(self, sleepers: Sequence[Sleeper]) -> list[WakeResult]:
        return await self._claims.wake(self.session, sleepers)

    async def keep(self, claim: Claim, update: Update) -> bool:
        return await self._settlements.keep(claim, update)

    async def release(self, claim: Claim, update: Update) -> bool:
        return await self._settlements.release(claim, update)

    async def done(self, claim: Claim, update: Update) -> bool:
        return await self._settlements.done(claim, update)

    async def remove(self, claim: Claim, update: Update) -> bool:
        return await self._settlements.remove(claim, update)

    def forget(self, claim: Claim) -> None:
        self._settlements.forget(claim)

    # -- the namespace ------------------------------------------------------------------------------------------------

    async def watch(self) -> AsyncGenerator[Changes, None]:
        async with aclosing(watch_namespace(self._store, self._layout)) as batches:
            async for changes in batches:
                yield changes

    async def clocks(self) -> Mapping[str, float]:
        return await read_clocks(self._store, self._layout)

    async def sweep(self, now: float) -> int:
        removed = 0
        kvs = (await self._store.list(self._layout.finished, self._layout.finished_until(now))).kvs
        for start in range(0, len(kvs), SWEPT_AT_ONCE):
            some = kvs[start : start + SWEPT_AT_ONCE]
            results = await asyncio.gather(
                *(self._store.submit(sweep_txn(self._layout, found), found.key) for found in some)
            )
            removed += sum(result.succeeded for result in results)
        return removed

    async def question(self, node: str, number: str) -> tuple[str, int] | None:
        (found,) = (await self._store.txn(Txn((), (Get(self._layout.request(node, number)),)))).answers
        return (found.value.decode(errors="replace"), found.lease) if isinstance(found, KV) else None

    async def answer(self, node: str, number: str, sequence: int, piece: str, lease: int) -> bool:
        asked = kv.exists(self._layout.request(node, number))
        put = Put(self._layout.answer(number, sequence), piece, lease)
        try:
            return (await self._store.txn(Txn((asked,), (put,)))).succeeded
        except kv.LeaseNotFound:  # the asker's
            return False

    async def schedules(self) -> Sequence[KeptSchedule]:
        prefix = self._layout.schedules
        return parse_schedules(self._layout, (await self._store.list(prefix, kv.prefix_end(prefix))).kvs)

    async def is_there(self, task_id: str) -> bool:
        return (await self._store.txn(Txn((), (Get(self._layout.task(task_id)),)))).answers[0] is not None

    async def carry_out(self, kept: KeptSchedule, step: Step) -> bool:
        for txn in step_txns(self._layout, kept, step):
            result = await self._store.txn(txn)
            if result.succeeded or not any(result.answers):
                return result.succeeded
        return False

    async def take_node_command(self, node: str, key_id: str) -> None:
        key = self._layout.node_command(node, key_id)
        await self._store.submit(Txn((), (Delete(key),)), key)

    async def take_task_command(self, task_id: str, revision: int) -> None:
        await self._store.submit(take_command(self._layout, task_id, revision), task_id)
