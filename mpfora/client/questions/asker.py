"""Asker: asks nodes again and again on one lease, for whoever looks on."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

from mpfora.client.questions.questions import REVOKE_WITHIN_S, TTL_S, received, renew
from mpfora.errors import NodeSilent
from mpfora.store.keys import Layout
from mpfora.store.kv import Compacted, Delete, DeletePrefix, LeaseNotFound, Put, Store, StoreError, Txn, exists
from mpfora.store.question_records import Question, format_question, parse_answer


class Asker:
    """Made by `asking`."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store, self._layout = store, layout
        self._lease: int | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def ask(self, node: str, question: Question, timeout_s: float) -> dict[str, Any]:
        """The answer of a node. Raises NodeSilent, StoreError."""
        number = str(secrets.randbits(63))
        request = self._layout.request(node, number)
        try:
            lease = await self._leased()
            put = Put(request, format_question(question), lease)
            asked = await self._store.txn(Txn((exists(self._layout.member(node)),), (put,)))
        except LeaseNotFound:
            await self.close()
            raise
        if not asked.succeeded:
            raise NodeSilent(node, "is not live: its lease has ended")
        try:
            async with asyncio.timeout(timeout_s):
                return parse_answer(await received(self._store, self._layout.answers(number), asked.revision + 1))
        except TimeoutError:
            raise NodeSilent(node, f"has not answered within {round(timeout_s, 1):g} s") from None
        except (ValueError, Compacted) as error:
            raise NodeSilent(node, f"gave an answer that cannot be read: {error}") from None
        finally:
            with contextlib.suppress(StoreError):  # the end of the lease removes it
                await self._store.txn(Txn((), (Delete(request), DeletePrefix(self._layout.answers(number)))))

    async def close(self) -> None:
        """Give the lease up; the next question takes another."""
        lease, renewing = self._lease, self._renewing
        self._lease = self._renewing = None
        if renewing is not None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        if lease is not None:
            with contextlib.suppress(StoreError):  # the lease runs out by itself
                await self._store.revoke(lease, REVOKE_WITHIN_S)

    async def _leased(self) -> int:
        if self._lease is None or self._renewing is None or self._renewing.done():
            await self.close()
            self._lease = (await self._store.grant(TTL_S)).id
            self._renewing = asyncio.create_task(renew(self._store, self._lease))
        return self._lease


@contextlib.asynccontextmanager
async def asking(store: Store, layout: Layout) -> AsyncIterator[Asker]:
    asker = Asker(store, layout)
    try:
        yield asker
    finally:
        await asker.close()
