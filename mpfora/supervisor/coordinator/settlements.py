"""Settlements: what is written for a task that is ours, while the claim is kept and when it is given back.

Each is one transaction that compares the claim. If its answer was lost the node asks once more; the traces show what
had happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mpfora.model.task import Claim
from mpfora.store.claim_records import format_released
from mpfora.store.keys import Layout
from mpfora.store.kv import Put, Store, Txn
from mpfora.supervisor.coordinator.interface import Unreachable, Unwritable, Update, Won
from mpfora.supervisor.coordinator.store_session import StoreSession
from mpfora.supervisor.coordinator.transactions import (
    Session,
    Written,
    done_txn,
    found_written,
    keep_txn,
    kept_before,
    release_txn,
    remove_txn,
    settled_before,
)


class _ClaimKeys:
    """What is known of the keys of one claim.

    written  their revisions;  turn  each write waits for the one before, whose revision it compares"""

    __slots__ = ("turn", "written")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.written: Written | None = None


class Settlements:
    """by_claim: what is known of the claims of the session."""

    def __init__(self, store: Store, layout: Layout, session: StoreSession) -> None:
        self._store, self._layout, self._session = store, layout, session
        self.by_claim: dict[Claim, _ClaimKeys] = {}

    def session_opened(self) -> None:
        """The claims of the former session are gone."""
        self.by_claim = {}

    def won(self, answer: Won) -> None:
        """The claim is ours, and its keys are as the answer says."""
        self._keys_of(answer.claim).written = Written(answer.state_revision, answer.checkpoint_revision)

    def _keys_of(self, claim: Claim) -> _ClaimKeys:
        keys = self.by_claim.get(claim)
        if keys is None:
            keys = self.by_claim[claim] = _ClaimKeys()
        return keys

    def forget(self, claim: Claim) -> None:
        self.by_claim.pop(claim, None)

    async def keep(self, claim: Claim, update: Update) -> bool:
        keys = self._keys_of(claim)
        async with keys.turn:
            return await self._keep(keys, claim, update)

    async def _keep(self, keys: _ClaimKeys, claim: Claim, update: Update) -> bool:
        for _ in range(2):
            kept = await self._keep_once(self._session.opened, keys, claim, update)
            if kept is not None:
                return kept
        raise Unreachable("somebody else writes the state of this task, too", sent=False)

    async def _keep_once(self, session: Session, keys: _ClaimKeys, claim: Claim, update: Update) -> bool | None:
        """Whether it was written. None: the claim is ours, but its keys had changed. Now it is known how they are."""
        written = keys.written
        txn = _encoded(lambda: keep_txn(self._layout, session, claim, update, written))
        result = await self._store.submit(txn, claim.task_id)
        if result.succeeded:
            if written is not None:
                keys.written = written.after(update, result.revision)
            return True
        found = found_written(session, claim, result)
        if found is None:
            return False
        keys.written = found
        return True if kept_before(update, result) else None

    async def release(self, claim: Claim, update: Update) -> bool:
        session = self._session.opened
        mark = format_released(session.node, claim.fence, update.to, update.cost)
        txn = _encoded(lambda: release_txn(self._layout, session, claim, update))
        return await self._settle(txn, claim, update, mark.encode())

    async def done(self, claim: Claim, update: Update) -> bool:
        txn = _encoded(lambda: done_txn(self._layout, self._session.opened, claim, update))
        return await self._settle(txn, claim, update, None)

    async def remove(self, claim: Claim, update: Update) -> bool:
        return await self._settle(remove_txn(self._layout, self._session.opened, claim), claim, Update(), None)

    async def _settle(self, txn: Txn, claim: Claim, update: Update, mark: bytes | None) -> bool:
        """Give a claim back. If the answer is lost, ask once more: the traces show what happened."""
        async with self._keys_of(claim).turn:
            try:
                result = await self._store.submit(txn, claim.task_id)
            except Unreachable as error:
                if not error.sent:
                    raise
                result = await self._store.submit(txn, claim.task_id)
        self.forget(claim)
        return result.succeeded or settled_before(result, claim, update, mark)


def _encoded(make: Callable[[], Txn]) -> Txn:
    """A transaction, with all of its values as bytes. Raises Unwritable where one has no form in the store."""
    try:
        txn = make()
        for op in txn.success:
            if isinstance(op, Put) and isinstance(op.value, str) and not op.value.isascii():
                op.value.encode()
    except Exception as error:
        raise Unwritable(f"it cannot be encoded: {type(error).__name__}: {error}"[:1000]) from error
    return txn
