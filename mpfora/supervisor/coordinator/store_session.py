"""The node's session in the store: its lease, its member record, and what else it publishes on that lease.

A session is one opening. A late answer about the lease of a former one says nothing about the present one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mpfora.model.task import Member, NodeUsage
from mpfora.store import kv
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Get, Put, Store, Txn, absent, lease_is
from mpfora.store.node_records import format_member, format_progress, parse_member
from mpfora.store.usage_records import format_usage
from mpfora.supervisor.coordinator.interface import LeaseNotFound, NameTaken, StoreError, Unreachable
from mpfora.supervisor.coordinator.transactions import Session, proof_txn

log = logging.getLogger("mpfora.etcd")

#: close() takes no longer; and where etcd has to remove a hundred thousand claims
CLOSE_S, CLOSE_WITH_CLAIMS_S = 2.0, 5.0


class StoreSession:
    """current: the session; None: it is not open."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store, self._layout = store, layout
        self.current: Session | None = None
        #: the record as it was put last
        self._member: Member | None = None

    @property
    def opened(self) -> Session:
        """The session. Raises StoreError where there is none."""
        if self.current is None:
            raise StoreError("the coordinator is not open: call open() first")
        return self.current

    async def open(self, member: Member, ttl_s: float) -> float:
        await self._revoke_former()
        lease = await self._store.grant(ttl_s)
        session = Session(member.name, lease.id, lease.ttl_s)
        try:
            await self._join(member, session)
        except BaseException:
            await self._revoke_quietly(session)
            raise
        self.current, self._member = session, member
        return session.ttl_s

    async def _revoke_former(self) -> None:
        """End the lease of an earlier opening: it may live on although it was called lost, and hold our name."""
        if self.current is not None:
            former, self.current = self.current, None
            try:
                await self._store.revoke(former.lease, CLOSE_S)
            except LeaseNotFound:
                pass
            except Unreachable:
                self.current = former
                raise

    async def _join(self, member: Member, session: Session) -> None:
        """Put the member record if the name is free. A lost answer is settled by looking whose record is there."""
        key = self._layout.member(member.name)
        value = format_member(member)
        puts = [Put(marker, value, session.lease) for marker in self._layout.markers(member.name)]
        txn = Txn((absent(key),), (Put(key, value, session.lease), *puts), (Get(key),))
        try:
            result = await self._store.txn(txn)
        except Unreachable as error:
            if not error.sent:
                raise
            result = await self._store.txn(txn)
        found = None if result.succeeded else result.answers[0]
        if isinstance(found, KV) and found.lease != session.lease:
            raise NameTaken(_member_of(member.name, found))

    async def _say_ended(self, session: Session) -> None:
        """Best effort: others leave the claims alone for the grace where this was not written."""
        if self._member is None:
            return
        key, value = self._layout.member(session.node), format_member(replace(self._member, ended=True))
        try:
            await self._store.txn(Txn((lease_is(key, session.lease),), (Put(key, value, session.lease),)))
        except StoreError as error:
            log.info("others are not told that this node has ended all: %s", error)

    async def _revoke_quietly(self, session: Session, within_s: float = CLOSE_S) -> None:
        """Best effort: a lease that is left behind runs out."""
        try:
            await self._store.revoke(session.lease, within_s / 2)
        except StoreError as error:
            log.info("the lease %x could not be revoked, and runs out: %s", session.lease, error)

    @contextmanager
    def _news_of(self, session: Session) -> Iterator[None]:
        """Note an answer about the lease. An answer about the lease of a former session is ignored."""
        try:
            yield
        except LeaseNotFound as error:
            if self.current is session:
                raise
            raise Unreachable(f"of a former session: {error}", sent=False) from None

    async def renew(self) -> float:
        session = self.opened
        with self._news_of(session):
            return await self._store.keepalive(session.lease, _renewal_s(session))

    async def prove(self) -> None:
        session = self.opened
        with self._news_of(session):
            try:
                await self._store.txn(proof_txn(self._layout, session), _renewal_s(session))
            except kv.OutOfSpace:
                # nobody's writes are taken: to give up the lease would end what runs, and help nobody
                return

    async def publish(self, member: Member) -> None:
        session = self.opened
        key = self._layout.member(member.name)
        with self._news_of(session):
            txn = Txn((lease_is(key, session.lease),), (Put(key, format_member(member), session.lease),))
            if not (await self._store.txn(txn)).succeeded:
                raise LeaseNotFound(f"the member record of {member.name} is gone or another's")
        self._member = member

    async def publish_progress(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        session = self.opened
        with self._news_of(session):
            key = self._layout.live(session.node)
            await self._store.txn(Txn((), (Put(key, format_progress(rows), session.lease),)))

    async def publish_usage(self, usage: NodeUsage) -> None:
        session = self.opened
        with self._news_of(session):
            key = self._layout.usage(session.node)
            await self._store.txn(Txn((), (Put(key, format_usage(usage), session.lease),)))

    async def close(self, within_s: float, *, has_claims: bool) -> None:
        """Revoke the lease. has_claims: others are told before that they are given back by that."""
        session, self.current = self.current, None
        if session is not None and has_claims:
            await self._say_ended(session)
        if session is not None:
            await self._revoke_quietly(session, within_s)


def _renewal_s(session: Session) -> float:
    """How long one request of a renewal may take."""
    return max(1.0, session.ttl_s / 5)


def _member_of(name: str, found: KV) -> Member:
    try:
        return parse_member(name, found.value)
    except ValueError:
        return Member(name)
