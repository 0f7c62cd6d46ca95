"""Claims in the store: many in one request, each answered by won, lost, outdated or unknown. And sleeping tasks that
are woken up.

A claim whose answer was lost is made once more: the owner key tells what happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from mpfora.model.task import Claim
from mpfora.store import kv
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Store, Txn, TxnResult
from mpfora.store.slices import Slices
from mpfora.supervisor.coordinator.interface import (
    ClaimAnswer,
    ClaimRequest,
    LeaseNotFound,
    Lost,
    Outdated,
    Sleeper,
    StoreError,
    Unknown,
    Unreachable,
    WakeResult,
    Won,
)
from mpfora.supervisor.coordinator.transactions import (
    Session,
    claim_txn,
    is_outdated,
    is_rare,
    node_of,
    plainly_won,
    rare_claim_txn,
    reread,
    reread_txn,
    state_read,
    wake_txn,
)

log = logging.getLogger("mpfora.etcd")


class ClaimBatches:
    """Of one node. It remembers nothing.

    Whoever asks may ask for many batches at once. The transactions of one are built in a turn of the loop: sixty take
    some milliseconds."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store, self._layout = store, layout
        self._building = asyncio.Lock()

    async def claim(self, session: Session, claims: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
        """See Coordinator.claim."""
        submit = self._store.submit
        async with self._a_turn():
            txns = [claim_txn(self._layout, session, request) for request in claims]
            asked = [submit(txn, request.task_id) for txn, request in zip(txns, claims, strict=True)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        answers: list[ClaimAnswer | None] = []
        slices = Slices()
        for request, result in zip(claims, results, strict=True):
            answers.append(_plainly_won(request, result))
            await slices.spend(_size_of(result))
        rest = [index for index, answer in enumerate(answers) if answer is None]
        others = iter(await asyncio.gather(*(self._answer(session, claims[i], txns[i], results[i]) for i in rest)))
        return [answer or next(others) for answer in answers]

    @asynccontextmanager
    async def _a_turn(self) -> AsyncGenerator[None, None]:
        """In here is one batch in each turn of the loop."""
        async with self._building:
            await asyncio.sleep(0)
            yield

    async def _answer(
        self, session: Session, request: ClaimRequest, txn: Txn, result: TxnResult | BaseException
    ) -> ClaimAnswer:
        """The answer to a claim that did not plainly succeed. If the store's answer was lost the claim is made once
        more: the owner key tells what happened."""
        task_id = request.task_id
        try:
            if isinstance(result, Unreachable) and result.sent:
                result = await self._store.submit(txn, task_id)
            if isinstance(result, BaseException):
                raise result
            if not result.succeeded and is_rare(request, *result.answers):
                result = await self._submit_twice(rare_claim_txn(self._layout, session, request), task_id)
            if (answer := _plainly_won(request, result)) is not None:
                return answer
            owner, task = result.answers
            return (
                Outdated(task_id) if is_outdated(request, owner, task) else await self._adopt(session, task_id, owner)
            )
        except LeaseNotFound:
            raise
        except StoreError as error:
            return Unknown(task_id, str(error))
        except Exception as error:
            log.exception("task %s: its claim failed: this is a bug in mpfora", task_id)
            return Unknown(task_id, f"{type(error).__name__}: {error}"[:1000])

    async def _submit_twice(self, txn: Txn, task_id: str) -> TxnResult:
        """Once more if the answer was lost: it then finds what the first has made."""
        try:
            return await self._store.submit(txn, task_id)
        except Unreachable as error:
            if not error.sent:
                raise
            return await self._store.submit(txn, task_id)

    async def _adopt(self, session: Session, task_id: str, owner: kv.Answer) -> ClaimAnswer:
        """Whose claim was found. It is ours if it hangs on our lease, whatever became of the answer to it."""
        if not isinstance(owner, KV) or owner.lease != session.lease or node_of(owner) != session.node:
            return Lost(task_id)
        claim = Claim(task_id, owner.create_revision)
        result = await self._store.submit(reread_txn(self._layout, session, claim), task_id)
        return _won(claim, lambda claim: reread(claim, result.answers)) if result.succeeded else Lost(task_id)

    # -- waking up ----------------------------------------------------------------------------------------------------

    async def wake(self, session: Session, sleepers: Sequence[Sleeper]) -> list[WakeResult]:
        """See Coordinator.wake."""
        kept = [sleeper for sleeper in sleepers if not sleeper.is_new]
        reads = await asyncio.gather(*(self._store.submit(state_read(self._layout, s), s.task_id) for s in kept))
        found = {sleeper.task_id: read.answers[0] for sleeper, read in zip(kept, reads, strict=True)}
        results = [WakeResult.REFUSED] * len(sleepers)
        async with self._a_turn():
            made = [(i, self._wake_txn(session, s, found.get(s.task_id))) for i, s in enumerate(sleepers)]
            sent = [(index, txn) for index, txn in made if txn is not None]
            asked = [self._store.submit(txn, sleepers[index].task_id) for index, txn in sent]
        for (index, _), answer in zip(sent, await asyncio.gather(*asked), strict=True):
            results[index] = WakeResult.WOKEN if answer.succeeded else WakeResult.REFUSED
        return results

    def _wake_txn(self, session: Session, sleeper: Sleeper, found: kv.Answer) -> Txn | None:
        """None: it is not to be woken. One task whose state cannot be read is no other's trouble: every node sees
        that, and one claims it."""
        try:
            return wake_txn(self._layout, session.node, sleeper, found)
        except ValueError as error:
            log.warning("task %s: it cannot be woken up: %s", sleeper.task_id, error)
            return None


def _plainly_won(request: ClaimRequest, result: TxnResult | BaseException) -> Won | None:
    if isinstance(result, TxnResult) and result.succeeded:
        claim = Claim(request.task_id, result.revision)
        return _won(claim, lambda claim: plainly_won(claim, request.created, result.answers))
    return None


def _won(claim: Claim, read: Callable[[Claim], Won]) -> Won:
    """The claim is ours, whatever stands in the task's keys. A task whose keys cannot be read is held. Other tasks are
    not affected."""
    try:
        return read(claim)
    except Exception as error:
        log.exception("task %s: its keys cannot be read: this is a bug in mpfora", claim.task_id)
        return Won(claim, "", None, None, f"its keys cannot be read: {type(error).__name__}: {error}"[:1000])


def _size_of(result: TxnResult | BaseException) -> int:
    """How many bytes a claim has read of its task."""
    answers = result.answers if isinstance(result, TxnResult) else ()
    return sum(len(answer.value) for answer in answers if isinstance(answer, KV))
