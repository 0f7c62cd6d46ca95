"""What the members of etcd say of themselves. Part of Etcd."""

from __future__ import annotations

from typing import Any, NamedTuple

from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.config.settings import EtcdSettings
from mpfora.store.etcd import messages
from mpfora.store.etcd.calls import Calls
from mpfora.store.etcd.members import Member
from mpfora.store.kv import Space

#: what etcd's quota is where nobody says more
DEFAULT_QUOTA = 2 * 2**30


class Status(NamedTuple):
    """What one member says of itself. version like "3.5.1"; quota: bytes that its database may have, 0: it does not
    tell."""

    version: str
    revision: int
    db_size: int
    address: str
    quota: int = 0


def space_of(status: Status, quota: int | None) -> Space:
    """quota: what etcd's quota is known to be, where it does not tell it itself."""
    told = status.quota or quota
    return Space(status.db_size, told or DEFAULT_QUOTA, is_told=bool(told))


class ServerCalls:
    """Raises as Etcd."""

    settings: EtcdSettings
    calls: Calls

    async def status(self) -> Status:
        """The status of the member that is asked at present."""

        async def ask(member: Member, timeout_s: float, metadata: Any) -> Status:
            answer = await member.maintenance.Status(rpc.StatusRequest(), timeout=timeout_s, metadata=metadata)
            quota = messages.quota_of(answer)
            return Status(answer.version, answer.header.revision, answer.dbSize, member.address, quota)

        status: Status = await self.calls.call(ask, repeatable=True)
        return status

    async def space(self) -> Space:
        """How full the member is that is asked at present."""
        return space_of(await self.status(), self.settings.quota)

    async def has_no_space(self) -> bool:
        """Whether an alarm says that the quota is used up: then every put is refused until somebody disarms it."""

        async def ask(member: Member, timeout_s: float, metadata: Any) -> bool:
            request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
            answer = await member.maintenance.Alarm(request, timeout=timeout_s, metadata=metadata)
            return any(alarm.alarm == rpc.NOSPACE for alarm in answer.alarms)

        return bool(await self.calls.call(ask, repeatable=True))
