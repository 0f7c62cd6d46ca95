"""Claims of tasks of which something stands there that seldom does: the claim compares it to be absent, is refused, and
is made once more."""

from __future__ import annotations

import pytest

from mpfora.model.task import Member
from mpfora.store.claim_records import format_removal
from mpfora.store.keys import Layout
from mpfora.store.kv import Op, Put, Txn, TxnResult, Unreachable
from mpfora.store.memory import MemoryConnection, MemoryKV
from mpfora.supervisor.coordinator.interface import ClaimAnswer, ClaimRequest, Outdated, Won
from mpfora.supervisor.coordinator.store import StoreCoordinator

KEYS = Layout("ns")


class Losing(MemoryConnection):
    """A store that loses some answers, after it has done what they answer."""

    def __init__(self, store: MemoryKV, lost: int = 0) -> None:
        super().__init__(store)
        self.lost, self.claims = lost, 0

    async def submit(self, txn: Txn, subject: str) -> TxnResult:  # type: ignore[override]
        result = await super().submit(txn, subject)
        self.claims += any(isinstance(op, Put) and op.key.endswith("/owner") for op in txn.success)
        if self.claims == self.lost:
            self.lost = 0
            raise Unreachable("the answer was lost", sent=True)
        return result


def put(kv: MemoryKV, *ops: Op) -> int:
    return kv.run(Txn((), ops)).revision


async def claimed(kv: MemoryKV, created: int, lost: int = 0) -> tuple[ClaimAnswer, int]:
    """The answer to a claim, and how many transactions the claim took."""
    connection = Losing(kv, lost)
    node = StoreCoordinator(connection, "ns")
    await node.open(Member("n1"), 15.0)
    [answer] = await node.claim([ClaimRequest("t", created=created)])
    await node.close(has_claims=True)
    return answer, connection.claims


async def test_a_plain_claim_is_one_transaction() -> None:
    kv = MemoryKV()
    created = put(kv, Put(KEYS.task("t"), ""), Put(KEYS.props("t"), '{"a":1}'))
    answer, claims = await claimed(kv, created)
    assert isinstance(answer, Won)
    assert (answer.props_json, answer.created, answer.is_removed, claims) == ('{"a":1}', created, False, 1)


async def test_a_mark_of_a_former_version_is_gone_with_the_claim() -> None:
    """Else it would vouch for a later owner that vanishes."""
    kv = MemoryKV()
    created = put(kv, Put(KEYS.task("t"), ""))
    put(kv, Put(KEYS.released_before("t"), '{"node":"n0","fence":1}'))
    answer, claims = await claimed(kv, created)
    assert isinstance(answer, Won)
    assert (answer.created, claims, kv.get(KEYS.released_before("t"))) == (created, 2, None)


async def test_a_wish_that_stands_there_comes_with_the_claim() -> None:
    kv = MemoryKV()
    created = put(kv, Put(KEYS.task("t"), ""))
    put(kv, Put(KEYS.removal("t"), format_removal(created)))
    answer, _ = await claimed(kv, created)
    assert isinstance(answer, Won)
    assert answer.is_removed


@pytest.mark.parametrize("wish", ["not JSON", format_removal(1)], ids=["malformed", "of an earlier task"])
async def test_a_wish_that_is_not_for_this_task_is_none(wish: str) -> None:
    kv = MemoryKV()
    created = put(kv, Put(KEYS.task("t"), ""))
    put(kv, Put(KEYS.removal("t"), wish))
    answer, _ = await claimed(kv, created)
    assert isinstance(answer, Won)
    assert not answer.is_removed


@pytest.mark.parametrize("lost", [1, 2])
async def test_an_answer_that_is_lost_is_found_by_the_claim_that_it_made(lost: int) -> None:
    kv = MemoryKV()
    created = put(kv, Put(KEYS.task("t"), ""))
    put(kv, Put(KEYS.removal("t"), format_removal(created)))
    answer, _ = await claimed(kv, created, lost)
    assert isinstance(answer, Won)
    assert (answer.created, answer.was_claimed) == (created, False)


async def test_another_task_of_the_id_with_a_wish_is_outdated() -> None:
    kv = MemoryKV()
    created = put(kv, Put(KEYS.task("t"), ""))
    put(kv, Put(KEYS.removal("t"), format_removal(created)))
    answer, claims = await claimed(kv, created - 1)
    assert (answer, claims) == (Outdated("t"), 1)
