"""StoreCoordinator: the Coordinator over any transactional key-value store (mpfora.kv.Store), in Metafora's key layout.

Every promise of the interface is kept here, by compares inside transactions: EtcdCoordinator brings a real etcd,
MemoryCoordinator one in memory, and both run this same code.

A claim is ours while its owner key has the create revision that is the fence, and hangs on our lease. A write for a
task compares both, so that whatever arrives late, twice or from a former life of this node changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from mpfora import kv
from mpfora.keys import Layout, format_member, format_progress, format_released, format_usage, parse_member
from mpfora.kv import KV, Delete, Get, Put, Store, Txn, TxnResult, absent, lease_is
from mpfora.model import Claim, Member, NodeUsage
from mpfora.supervisor.changes import Changes
from mpfora.supervisor.coordinator import (
    ClaimAnswer,
    Coordinator,
    CoordinatorError,
    LeaseLost,
    Lost,
    NameTaken,
    TooLarge,
    Unknown,
    Unreachable,
    Update,
    Won,
)
from mpfora.supervisor.namespace_watch import watch_namespace
from mpfora.supervisor.transactions import (
    Session,
    Written,
    claim_txn,
    done_txn,
    found_written,
    keep_txn,
    kept_before,
    node_of,
    plainly_won,
    release_txn,
    reread_txn,
    settled_before,
    sweep_txn,
    take_command,
    won,
)

log = logging.getLogger("mpfora.etcd")

#: so many finished tasks are removed at once: nothing hurries
SWEPT_AT_ONCE = 50
#: close() takes no longer
CLOSE_S = 2.0


class StoreCoordinator(Coordinator):
    """See the module's docstring and the interface. One node's; used from one event loop."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._layout = Layout(namespace)
        self._session: Session | None = None
        #: of the claims of this session: what is known of their keys, and whose turn it is to write
        self._written: dict[Claim, Written] = {}
        self._turns: dict[Claim, asyncio.Lock] = {}

    @property
    def session(self) -> Session:
        if self._session is None:
            raise CoordinatorError("the coordinator is not open: call open() first")
        return self._session

    # -- joining and leaving ------------------------------------------------------------------------------------------

    async def open(self, member: Member, ttl_s: float) -> float:
        with _translated():
            await self._revoke_former()
            lease = await self._store.grant(ttl_s)
            session = Session(member.name, lease.id, lease.ttl_s)
            try:
                await self._join(member, session)
            except BaseException:
                await self._revoke_quietly(session)
                raise
        self._session, self._written, self._turns = session, {}, {}
        return session.ttl_s

    async def _revoke_former(self) -> None:
        """End the lease of an earlier opening: it may live on although it was called lost, and hold our name."""
        if self._session is not None:
            former, self._session = self._session, None
            try:
                await self._store.revoke(former.lease, CLOSE_S)
            except kv.LeaseNotFound:
                pass
            except kv.Unreachable:
                self._session = former
                raise

    async def _join(self, member: Member, session: Session) -> None:
        """Put the member record if the name is free. A lost answer is settled by looking whose record is there."""
        key = self._layout.member(member.name)
        value = format_member(member)
        puts = [Put(marker, value, session.lease) for marker in self._layout.markers(member.name)]
        txn = Txn((absent(key),), (Put(key, value, session.lease), *puts), (Get(key),))
        try:
            result = await self._store.txn(txn)
        except kv.Unreachable as error:
            if not error.sent:
                raise
            result = await self._store.txn(txn)
        found = None if result.succeeded else result.answers[0]
        if isinstance(found, KV) and found.lease != session.lease:
            raise NameTaken(_member_of(member.name, found))

    async def _revoke_quietly(self, session: Session) -> None:
        """Best effort: a lease that is left behind runs out."""
        try:
            await self._store.revoke(session.lease, CLOSE_S / 2)
        except kv.StoreError as error:
            log.info("the lease %x is left to run out: %s", session.lease, error)

    @contextmanager
    def _news_of(self, session: Session) -> Iterator[None]:
        """What is said late of a former session's lease is no news of the present one."""
        try:
            with _translated():
                yield
        except LeaseLost as error:
            if self._session is session:
                raise
            raise Unreachable(f"of a former session: {error}", sent=False) from None

    async def renew(self) -> float:
        session = self.session
        with self._news_of(session):
            return await self._store.keepalive(session.lease, max(1.0, session.ttl_s / 5))

    async def publish(self, member: Member) -> None:
        session = self.session
        key = self._layout.member(member.name)
        with self._news_of(session):
            txn = Txn((lease_is(key, session.lease),), (Put(key, format_member(member), session.lease),))
            if not (await self._store.txn(txn)).succeeded:
                raise LeaseLost(f"the member record of {member.name} is gone or another's")

    async def publish_progress(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        session = self.session
        with self._news_of(session):
            key = self._layout.live(session.node)
            await self._store.txn(Txn((), (Put(key, format_progress(rows), session.lease),)))

    async def publish_usage(self, usage: NodeUsage) -> None:
        session = self.session
        with self._news_of(session):
            key = self._layout.usage(session.node)
            await self._store.txn(Txn((), (Put(key, format_usage(usage), session.lease),)))

    async def close(self) -> None:
        session, self._session = self._session, None
        try:
            async with asyncio.timeout(CLOSE_S):
                if session is not None:
                    await self._revoke_quietly(session)
                await self._store.close()
        except TimeoutError:
            log.info("the store did not let go within %g s", CLOSE_S)

    # -- watching -----------------------------------------------------------------------------------------------------

    async def watch(self) -> AsyncGenerator[Changes, None]:
        with _translated():
            async with aclosing(watch_namespace(self._store, self._layout)) as batches:
                async for changes in batches:
                    yield changes

    # -- claiming -----------------------------------------------------------------------------------------------------

    async def claim(self, claims: Sequence[tuple[str, str | None]]) -> list[ClaimAnswer]:
        session, submit = self.session, self._store.submit
        txns = [claim_txn(self._layout, session, task_id, missed) for task_id, missed in claims]
        results = await asyncio.gather(
            *(submit(txn, task_id) for txn, (task_id, _) in zip(txns, claims, strict=True)), return_exceptions=True
        )
        answers = [_plainly_won(task_id, result) for (task_id, _), result in zip(claims, results, strict=True)]
        rest = [index for index, answer in enumerate(answers) if answer is None]
        others = iter(await asyncio.gather(*(self._answer(session, claims[i][0], txns[i], results[i]) for i in rest)))
        return [self._noted(session, answer or next(others)) for answer in answers]

    def _noted(self, session: Session, answer: ClaimAnswer) -> ClaimAnswer:
        if isinstance(answer, Won) and session is self._session:
            self._written[answer.claim] = Written(answer.state_revision, answer.checkpoint_revision)
        return answer

    async def _answer(self, session: Session, task_id: str, txn: Txn, result: TxnResult | BaseException) -> ClaimAnswer:
        """What a claim that did not plainly succeed is. One whose answer was lost is made once more: the owner key
        tells."""
        try:
            if isinstance(result, kv.Unreachable) and result.sent:
                result = await self._store.submit(txn, task_id)
            if isinstance(result, BaseException):
                raise result
            return _plainly_won(task_id, result) or await self._adopt(session, task_id, result.answers[0])
        except kv.LeaseNotFound as error:
            raise LeaseLost(str(error)) from None
        except kv.StoreError as error:
            return Unknown(task_id, str(error))

    async def _adopt(self, session: Session, task_id: str, owner: kv.Answer) -> ClaimAnswer:
        """Whose claim is it that was found? Ours it is by the lease, whatever became of the answer to it."""
        if not isinstance(owner, KV) or owner.lease != session.lease or node_of(owner) != session.node:
            return Lost(task_id)
        claim = Claim(task_id, owner.create_revision)
        result = await self._store.submit(reread_txn(self._layout, session, claim), task_id)
        return won(claim, result.answers) if result.succeeded else Lost(task_id)

    # -- settling -----------------------------------------------------------------------------------------------------

    def _turn(self, claim: Claim) -> asyncio.Lock:
        """Writes for one claim are made one after another: each depends on what the one before has left."""
        return self._turns.setdefault(claim, asyncio.Lock())

    def _forget(self, claim: Claim) -> None:
        self._written.pop(claim, None)
        self._turns.pop(claim, None)

    async def keep(self, claim: Claim, update: Update) -> bool:
        with _translated():
            async with self._turn(claim):
                return await self._keep(claim, update)

    async def _keep(self, claim: Claim, update: Update) -> bool:
        for _ in range(2):
            kept = await self._keep_once(self.session, claim, update)
            if kept is not None:
                return kept
        raise kv.Unreachable("somebody else writes the state of this task, too", sent=False)

    async def _keep_once(self, session: Session, claim: Claim, update: Update) -> bool | None:
        """None: the claim is ours, and its keys are not as we left them; now it is known how they are."""
        written = self._written.get(claim)
        result = await self._store.submit(keep_txn(self._layout, session, claim, update, written), claim.task_id)
        if result.succeeded:
            if written is not None:
                self._written[claim] = written.after(update, result.revision)
            return True
        found = found_written(session, claim, result)
        if found is None:
            return False
        self._written[claim] = found
        return True if kept_before(update, result) else None

    async def release(self, claim: Claim, update: Update) -> bool:
        session = self.session
        with _translated():
            mark = format_released(session.node, claim.fence, update.to, update.cost)
            return await self._settle(release_txn(self._layout, session, claim, update), claim, update, mark.encode())

    async def done(self, claim: Claim, update: Update) -> bool:
        with _translated():
            return await self._settle(done_txn(self._layout, self.session, claim, update), claim, update, None)

    async def _settle(self, txn: Txn, claim: Claim, update: Update, mark: bytes | None) -> bool:
        """Give a claim back. If the answer is lost ask once more: what has happened shows by the traces it left."""
        async with self._turn(claim):
            try:
                result = await self._store.submit(txn, claim.task_id)
            except kv.Unreachable as error:
                if not error.sent:
                    raise
                result = await self._store.submit(txn, claim.task_id)
        self._forget(claim)
        return result.succeeded or settled_before(result, claim, update, mark)

    async def sweep(self, now: float) -> int:
        removed = 0
        with _translated():
            kvs = (await self._store.list(self._layout.finished, self._layout.finished_until(now))).kvs
            for start in range(0, len(kvs), SWEPT_AT_ONCE):
                some = kvs[start : start + SWEPT_AT_ONCE]
                results = await asyncio.gather(
                    *(self._store.submit(sweep_txn(self._layout, found), found.key) for found in some)
                )
                removed += sum(result.succeeded for result in results)
        return removed

    async def take_node_command(self, node: str, key_id: str) -> None:
        with _translated():
            key = self._layout.node_command(node, key_id)
            await self._store.submit(Txn((), (Delete(key),)), key)

    async def take_task_command(self, task_id: str, revision: int) -> None:
        with _translated():
            await self._store.submit(take_command(self._layout, task_id, revision), task_id)


def _plainly_won(task_id: str, result: TxnResult | BaseException) -> Won | None:
    if isinstance(result, TxnResult) and result.succeeded:
        return plainly_won(Claim(task_id, result.revision), result.answers)
    return None


def _member_of(name: str, found: KV) -> Member:
    try:
        return parse_member(name, found.value)
    except ValueError:
        return Member(name)


# -- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def _translated() -> Iterator[None]:
    """The store's errors as those of the interface. A value that JSON cannot hold is a refusal too."""
    try:
        yield
    except kv.Unreachable as error:
        raise Unreachable(str(error), error.sent) from None
    except kv.LeaseNotFound as error:
        raise LeaseLost(str(error)) from None
    except kv.TooLarge as error:
        raise TooLarge(str(error)) from None
    except (kv.StoreError, ValueError, TypeError) as error:
        raise CoordinatorError(str(error)) from error
