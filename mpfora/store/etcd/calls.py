"""Calls: one request to the cluster, made until a member answers it, with a deadline and the token it needs.

Knows nothing of what the requests are. client.py makes requests through it, watch.py opens its streams with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import grpc
from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.config.settings import EtcdSettings
from mpfora.store.etcd import messages
from mpfora.store.etcd.diagnosis import Diagnoses
from mpfora.store.etcd.members import Member, Members
from mpfora.store.kv import StoreError, Unauthenticated, Unreachable, Unusable

log = logging.getLogger("mpfora.etcd")

#: the time of a whole call, failing over included
CALL_TIMEOUT_S = 5.0
#: the time of one try while there is another endpoint to ask
TRY_TIMEOUT_S = 2.0

#: (member, timeout_s, metadata) -> an awaitable of the answer, which raises AioRpcError or StoreError
Call = Callable[[Member, float, Any], Any]


class Calls:
    """The members and the token of one client. Used and closed in one event loop."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises StoreError for a user without a password; what else cannot hold shows at the first call."""
        if (settings.user is None) != (settings.password is None):
            raise StoreError("etcd: user and password go together: give both or none")
        self.settings = settings
        self._members: Members | None = None
        self._diagnoses = Diagnoses(settings)
        self._token: str | None = None
        self._token_lock = asyncio.Lock()

    @property
    def token(self) -> str | None:
        """None: not asked for yet; "": authentication is not enabled, as far as is known."""
        return self._token

    @property
    def members(self) -> Members:
        if self._members is None:
            self._members = Members(self.settings)
        return self._members

    async def close(self) -> None:
        if self._members is not None:
            await self._members.close()

    # -- one call -----------------------------------------------------------------------------------------------------

    async def call(self, call: Call, timeout_s: float = CALL_TIMEOUT_S, *, repeatable: bool) -> Any:
        """Ask one member after another until one answers, each once (a single one twice: its connection may be a stale
        one). A call that is not repeatable is asked again only when it surely had no effect. Raises Unreachable, which
        is Unusable where it is known what people must mend; and what etcd refuses with."""
        ends = time.monotonic() + timeout_s
        tries = max(len(self.members), 2)
        failures: list[Unreachable] = []
        while tries and (left_s := ends - time.monotonic()) > 0:
            tries -= 1
            member = self.members.current
            alone = tries == 0 or len(self.members) == 1
            try:
                return await self._call_member(member, call, left_s if alone else min(left_s, TRY_TIMEOUT_S))
            except Unreachable as error:
                failures.append(error)
                self.members.leave(member, silent=isinstance(error, messages.Silent))
                if error.sent and not repeatable:
                    break
        raise await self._diagnosed(failures)

    async def _diagnosed(self, failures: list[Unreachable]) -> Unreachable:
        """One error of what went wrong with the members in turn, in words where a look at them finds any."""
        texts = [await self._diagnoses.explain(failure) for failure in failures]
        text = "; ".join(dict.fromkeys(map(str, texts)))
        if all(isinstance(each, Unusable) for each in texts):
            return Unusable(text)
        return Unreachable(text, sent=any(failure.sent for failure in failures))

    async def _call_member(self, member: Member, call: Call, timeout_s: float) -> Any:
        """One call to one member, made once more with a new token if the old one is refused, or none was shown."""
        used = self._token
        try:
            return await self._call_once(member, call, timeout_s)
        except messages.TokenRefused as error:
            if self.settings.user is None:
                raise Unauthenticated(f"etcd asks for a user and password: give both ({error})") from None
            await self.authenticate(self._token if used is None else used)
        try:
            return await self._call_once(member, call, timeout_s)
        except messages.TokenRefused as error:
            raise Unreachable(f"{member.address}: a new token was refused: {error}", sent=False) from None

    async def _call_once(self, member: Member, call: Call, timeout_s: float) -> Any:
        metadata = await self.metadata()
        try:
            return await call(member, timeout_s, metadata)
        except grpc.aio.AioRpcError as failure:
            error = messages.error_of(failure, member.address)
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise messages.Silent(f"{member.address}: no answer within {timeout_s:.1f} s") from None
            raise error from None
        except grpc.aio.UsageError as misuse:  # the channel is closed
            raise Unreachable(f"{member.address}: {misuse}", sent=False) from None
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            raise Unreachable(f"{member.address}: the connection was closed under the request") from None

    # -- for the watch too --------------------------------------------------------------------------------------------

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every request. hasleader: a member that lost its cluster says so at once instead of
        waiting."""
        if self.settings.user is None:
            return (("hasleader", "true"),)
        if self._token is None:
            await self.authenticate(None)
        return (("hasleader", "true"), ("token", self._token)) if self._token else (("hasleader", "true"),)

    async def authenticate(self, refused: str | None) -> None:
        """Get a new token in place of the `refused` one; many callers at once get one. Raises Unauthenticated,
        Unreachable."""
        async with self._token_lock:
            if self._token != refused:
                return
            member = self.members.current
            request = rpc.AuthenticateRequest(name=self.settings.user, password=self.settings.password)
            try:
                answer = await member.auth.Authenticate(request, timeout=TRY_TIMEOUT_S)
            except grpc.aio.AioRpcError as failure:
                if "authentication is not enabled" in (failure.details() or ""):
                    log.warning("a user is given, but authentication is not enabled in etcd at %s", member.address)
                    self._token = ""
                    return
                error = messages.error_of(failure, member.address)
                if isinstance(error, Unreachable):
                    error.sent = False
                raise error from None
            self._token = answer.token


def _being_cancelled() -> bool:
    """Whether the running task itself was cancelled, and not only the call that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
