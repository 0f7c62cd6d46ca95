"""The fake etcd of the simulation is the real one in miniature: the same operations on both have the same answers, the
same revisions, the same content and the same history."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from etcd_server import EtcdServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim.clock import World
from sim.fake_etcd import FakeEtcd

from mpfora.store.etcd import Etcd
from mpfora.store.kv import (
    KV,
    Answer,
    Compacted,
    Compare,
    Delete,
    DeletePrefix,
    Event,
    Get,
    Op,
    Put,
    Revision,
    StoreError,
    Take,
    Txn,
    TxnResult,
)

#: some are prefixes of others, some lie on both sides of a slash
KEYS = ("t", "t1", "t1/a", "t1/b", "t1/b/c", "t10", "t10/a", "t1-", "t10", "u/")
VALUES = ("", "x", "y")
NAMES = itertools.count()
#: no lease ends by itself while another example runs
TTL_S = 3600.0


@dataclass(frozen=True)
class Condition:
    """Of a Compare whose number depends on what is there: `off` from what the key has."""

    key: str
    target: str
    relation: str
    off: int


@dataclass(frozen=True)
class Asking:
    """A Txn yet to be made. Lease numbers are indexes into those granted; -1: none; -2: one that never was."""

    conditions: tuple[Condition, ...]
    success: tuple[Any, ...]
    failure: tuple[Any, ...]


@dataclass(frozen=True)
class PutOn:
    key: str
    value: str
    lease: int


@dataclass(frozen=True)
class Step:
    """ "txn", or with a lease "grant", "keepalive", "revoke"."""

    kind: str
    lease: int = 0
    asking: Asking | None = None


keys = st.sampled_from(KEYS)
conditions = st.builds(
    Condition,
    keys,
    st.sampled_from(("version", "create_revision", "mod_revision", "value", "lease")),
    st.sampled_from(("==", "!=", ">", "<")),
    st.sampled_from((0, 0, 0, 1, -1)),
)
plain_ops = st.one_of(
    st.builds(PutOn, keys, st.sampled_from(VALUES), st.sampled_from((-1, -1, -1, 0, 1, -2))),
    st.builds(Delete, keys),
    st.builds(Take, keys),
    st.builds(DeletePrefix, st.sampled_from(("t1/", "t10/", "u/"))),
    st.builds(Get, keys),
)


def askings(ops: st.SearchStrategy[Any]) -> st.SearchStrategy[Asking]:
    some = st.lists(ops, max_size=3).map(tuple)
    return st.builds(Asking, st.lists(conditions, max_size=2).map(tuple), some, some)


nested = askings(st.one_of(plain_ops, plain_ops, askings(plain_ops)))
steps = st.lists(
    st.one_of(
        st.builds(Step, st.just("txn"), st.just(0), nested),
        st.builds(Step, st.just("txn"), st.just(0), nested),
        st.builds(Step, st.just("txn"), st.just(0), askings(plain_ops)),
        st.builds(Step, st.sampled_from(("grant", "keepalive", "revoke")), st.integers(0, 1)),
    ),
    max_size=12,
)


class Pair:
    """Both stores, in a folder of their own. Revisions of the real one are counted as the fake one counts them."""

    def __init__(self, etcd: Etcd) -> None:
        self.real, self.fake = etcd, FakeEtcd(World(), random.Random(1), "pair")
        self.root = f"/pair-{next(NAMES)}/"
        self.leases: list[tuple[int, int]] = []
        self.first = 0

    async def start(self) -> None:
        self.first = (await self.real.txn(Txn((), ()))).revision - self.fake.ledger.revision

    async def clear(self) -> None:
        for _, lease in self.leases:
            await outcome(self.real.revoke(lease))

    # -- one step on both ---------------------------------------------------------------------------------------------

    async def carry_out(self, step: Step) -> None:
        match step.kind:
            case "txn":
                assert step.asking is not None
                both = self._made(step.asking)
                real = await outcome(self.real.txn(both[1]))
                assert self._as_fake(real) == tried(lambda: self.fake.txn("n", both[0]))
            case "grant":
                self.leases.append((self.fake.grant("n", TTL_S).id, (await self.real.grant(TTL_S)).id))
            case "keepalive" | "revoke" if step.lease < len(self.leases):
                fake, real = self.leases[step.lease]
                answer = await outcome(getattr(self.real, step.kind)(real))
                assert answer == tried(lambda: getattr(self.fake, step.kind)(fake))

    async def compare_content(self) -> None:
        end = self.root[:-1] + "0"
        found = await self.real.list(self.root, end)
        assert [self._kv_as_fake(kv) for kv in found.kvs] == list(self.fake.listing(self.root, end).kvs)

    async def compare_history(self) -> None:
        wanted = self.fake.revisions_from(2)
        if not wanted:
            return
        seen: list[Revision] = []
        async with asyncio.timeout(10), aclosing(self._watch()) as revisions:
            async for revision in revisions:
                seen.append(revision)
                if revision.revision >= wanted[-1].revision:
                    break
        assert seen == wanted

    async def _watch(self) -> AsyncIterator[Revision]:
        end = self.root[:-1] + "0"
        async with aclosing(self.real.watch(self.root, end, self.first + 2)) as revisions:
            async for revision in revisions:
                events = tuple(self._event_as_fake(event) for event in revision.events)
                yield Revision(revision.revision - self.first, events)

    # -- what is asked of each ----------------------------------------------------------------------------------------

    def _made(self, asking: Asking) -> tuple[Txn, Txn]:
        made = [self._compare(condition) for condition in asking.conditions]
        success = [self._op(op) for op in asking.success]
        failure = [self._op(op) for op in asking.failure]
        fake, real = (
            Txn(
                tuple(compare[side] for compare in made),
                tuple(op[side] for op in success),
                tuple(op[side] for op in failure),
            )
            for side in (0, 1)
        )
        return fake, real

    def _op(self, op: Any) -> tuple[Op, Op]:
        match op:
            case Asking():
                return self._made(op)
            case PutOn(key, value, lease):
                fake, real = self._lease(lease)
                return Put(self.root + key, value, fake), Put(self.root + key, value, real)
            case DeletePrefix(prefix):
                return (DeletePrefix(self.root + prefix),) * 2
            case _:
                return (type(op)(self.root + op.key),) * 2

    def _lease(self, index: int) -> tuple[int, int]:
        if index == -2:
            return 987_654_321, 987_654_321
        return self.leases[index] if 0 <= index < len(self.leases) else (0, 0)

    def _compare(self, condition: Condition) -> tuple[Compare, Compare]:
        key, target, relation, off = self.root + condition.key, condition.target, condition.relation, condition.off
        there = self.fake.ledger.get(key)
        if target == "value":
            value = there.value if there is not None and not off else b"x"
            return (Compare(key, "value", relation, value),) * 2  # type: ignore[arg-type]
        number = (0 if there is None else getattr(there, target)) + off
        real = number
        if target == "lease":
            number, real = next((pair for pair in self.leases if pair[0] == number), (0, 0))
        elif target != "version" and number > 0:
            real = number + self.first
        number, real = max(number, 0), max(real, 0)
        return Compare(key, target, relation, number), Compare(key, target, relation, real)  # type: ignore[arg-type]

    # -- what the real one answered, as the fake one would have said it -----------------------------------------------

    def _as_fake(self, answer: Any) -> Any:
        match answer:
            case TxnResult(succeeded, revision, answers):
                return TxnResult(succeeded, revision - self.first, tuple(map(self._as_fake, answers)))
            case KV():
                return self._kv_as_fake(answer)
            case _:
                return answer

    def _kv_as_fake(self, kv: KV) -> KV:
        lease = next((fake for fake, real in self.leases if real == kv.lease), 0)
        return kv._replace(
            create_revision=kv.create_revision - self.first, mod_revision=kv.mod_revision - self.first, lease=lease
        )

    def _event_as_fake(self, event: Event) -> Event:
        created = event.create_revision - self.first if event.create_revision else 0
        return event._replace(create_revision=created, mod_revision=event.mod_revision - self.first)


async def outcome(answer: Any) -> Answer | str:
    """An answer, or the kind of refusal."""
    try:
        return await answer  # type: ignore[no-any-return]
    except StoreError as error:
        return type(error).__name__


def tried(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except StoreError as error:
        return type(error).__name__


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_same_operations_have_the_same_answers_and_leave_the_same(
    runner: asyncio.Runner, etcd: EtcdServer, steps: list[Step]
) -> None:
    async def compare() -> None:
        client = Etcd(etcd.endpoint)
        pair = Pair(client)
        try:
            await pair.start()
            for step in steps:
                await pair.carry_out(step)
            await pair.compare_content()
            await pair.compare_history()
        finally:
            await pair.clear()
            await client.close()

    runner.run(compare())


def test_a_history_that_was_compacted_is_refused() -> None:
    fake = FakeEtcd(World(), random.Random(1), "pair")
    fake.txn("n", Txn((), (Put("/pair/a", "1"),)))
    assert [revision.revision for revision in fake.revisions_from(2)] == [2]
    fake.compact()
    assert fake.revisions_from(3) == []
    with pytest.raises(Compacted):
        fake.revisions_from(2)


def test_a_lease_ends_after_its_time_and_a_new_leader_begins_it_anew() -> None:
    world = World()
    fake = FakeEtcd(world, random.Random(1), "pair")
    lease = fake.grant("n", 5.0)
    fake.txn("n", Txn((), (Put("/pair/a", "1", lease.id),)))
    world.run_until(4.9)
    fake.lose_leader()
    world.run_until(20.0)
    assert fake.ledger.get("/pair/a") is not None, "nobody is there to end it"
    fake.elect()
    world.run_until(24.99)
    assert fake.ledger.get("/pair/a") is not None
    world.run_until(25.6)
    assert fake.ledger.get("/pair/a") is None
