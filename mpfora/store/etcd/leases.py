"""The calls for leases. Part of Etcd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.store.etcd import messages
from mpfora.store.etcd.calls import CALL_TIMEOUT_S, Calls
from mpfora.store.etcd.members import Member
from mpfora.store.kv import Lease, LeaseNotFound, Unreachable


class LeaseCalls:
    """Raises as Etcd."""

    calls: Calls

    async def grant(self, ttl_s: float) -> Lease:
        """A new lease of at least `ttl_s` (etcd counts whole seconds). A lease whose answer was lost runs out by
        itself."""
        request = rpc.LeaseGrantRequest(TTL=math.ceil(ttl_s))
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseGrant(request, timeout=timeout, metadata=metadata),
            repeatable=True,
        )
        return Lease(answer.ID, float(answer.TTL))

    async def keepalive(self, lease: int, timeout_s: float = CALL_TIMEOUT_S) -> float:
        """Renew a lease once. Returns its TTL in seconds. Raises LeaseNotFound."""

        async def renew(member: Member, timeout_s: float, metadata: Any) -> Any:
            call = member.lease.LeaseKeepAlive(
                iter([rpc.LeaseKeepAliveRequest(ID=lease)]), timeout=timeout_s, metadata=metadata
            )
            try:
                answer = await call.read()
                if answer is messages.END:
                    raise Unreachable(f"{member.address}: the renewal ended without an answer")
                return answer
            finally:
                call.cancel()

        answer = await self.calls.call(renew, timeout_s, repeatable=True)
        if answer.TTL <= 0:
            raise LeaseNotFound(f"lease {lease:x} has run out or was revoked")
        return float(answer.TTL)

    async def revoke(self, lease: int, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""
        request = rpc.LeaseRevokeRequest(ID=lease)
        await self.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseRevoke(request, timeout=timeout, metadata=metadata),
            timeout_s,
            repeatable=True,
        )

    async def lease_keys(self, lease: int) -> Sequence[str]:
        """The keys that hang on a lease. Raises LeaseNotFound."""
        request = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseTimeToLive(request, timeout=timeout, metadata=metadata),
            repeatable=True,
        )
        if answer.TTL <= 0:
            raise LeaseNotFound(f"lease {lease:x} has run out or was revoked")
        return sorted(messages.decode_key(key) for key in answer.keys)

    async def lease_left(self, lease: int) -> tuple[float, float]:
        """(seconds that it lasts from now on, seconds that it was granted). Raises LeaseNotFound."""
        request = rpc.LeaseTimeToLiveRequest(ID=lease)
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseTimeToLive(request, timeout=timeout, metadata=metadata),
            repeatable=True,
        )
        if answer.TTL <= 0:
            raise LeaseNotFound(f"lease {lease:x} has run out or was revoked")
        return float(answer.TTL), float(answer.grantedTTL)
