"""StoreWatch: how full etcd is, and which nodes have not renewed their leases. The mirror sees neither: etcd is asked
for both now and then, while somebody looks."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mpfora.client import AsyncClient
from mpfora.store.keys import MARKER
from mpfora.store.kv import KV, LeaseNotFound, Space, StoreError, prefix_end

log = logging.getLogger("mpfora.web")

#: a node renews each fifth of its lease: with less than this part left it has missed two renewals
_LATE_PART = 0.55


@dataclass(frozen=True, slots=True)
class LateLease:
    """left_s: after so many seconds the node is taken for dead, and its tasks go to others."""

    node: str
    left_s: float
    ttl_s: float


class StoreWatch:
    """`look` asks; space is None while it is not known."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.space: Space | None = None
        self.late: tuple[LateLease, ...] = ()

    async def look(self) -> None:
        """A user who may not ask some of it sees the rest."""
        await self.ask_space()
        etcd, layout = self._client._etcd, self._client._layout
        try:
            members = (await etcd.list(layout.nodes, prefix_end(layout.nodes))).kvs
            late = [await self._late(kv) for kv in members if kv.key.endswith(f"/{MARKER}") and kv.lease]
            self.late = tuple(one for one in late if one is not None)
        except StoreError as error:
            log.debug("how nodes renew their leases cannot be seen: %s", error)
            self.late = ()

    async def ask_space(self) -> Space | None:
        """How full etcd is now; None: it does not say."""
        try:
            self.space = await self._client._etcd.space()
        except StoreError as error:
            log.debug("how full etcd is cannot be seen: %s", error)
            self.space = None
        return self.space

    async def _late(self, kv: KV) -> LateLease | None:
        try:
            left_s, ttl_s = await self._client._etcd.lease_left(kv.lease)
        except LeaseNotFound:
            return None  # the node has just ended, and the mirror will say so
        node = kv.key.removeprefix(self._client._layout.nodes).removesuffix(f"/{MARKER}")
        return LateLease(node, left_s, ttl_s) if left_s < _LATE_PART * ttl_s else None
