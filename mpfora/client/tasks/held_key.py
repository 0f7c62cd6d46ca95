"""A key of a client's own: it says that somebody is there, on a lease that is renewed, and goes with them."""

from __future__ import annotations

import asyncio
import contextlib

from mpfora.store.kv import LeaseNotFound, Put, Store, StoreError, Txn, Unreachable

#: a client that dies is forgotten after this
_TTL_S = 8.0
_RENEW_EVERY_S = 2.0
_REVOKE_WITHIN_S = 2.0


class HeldKey:
    """Held from `take` to `let_go`. While the store does not answer it may be gone, and is put again afterwards.

    revision  of its last put; 0: it was never put
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._lease = 0
        self.revision = 0
        self._renewing: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Raises what the store raises."""
        await self._put()
        self._renewing = asyncio.create_task(self._renew())

    async def let_go(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        with contextlib.suppress(StoreError):  # the lease runs out by itself
            await self._store.revoke(self._lease, _REVOKE_WITHIN_S)

    async def _put(self) -> None:
        self._lease = (await self._store.grant(_TTL_S)).id
        self.revision = (await self._store.txn(Txn((), (Put(self._key, b"", self._lease),)))).revision

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                await self._store.keepalive(self._lease, _RENEW_EVERY_S)
            except LeaseNotFound:
                with contextlib.suppress(Unreachable):
                    await self._put()
            except Unreachable:
                continue
