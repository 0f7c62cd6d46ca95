"""Claims a second: EtcdCoordinator.claim in batches of 60, beside one claim per transaction, in the same run.

    python bench/claims.py [--tasks N] [--etcd HOST:PORT] [--json]

Without --etcd it starts an etcd of its own that does not sync to disk, so that the client is measured and not the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from common import machine, own_etcd

from mpfora.model.state import State, TaskState
from mpfora.model.task import Claim, Member
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import Put, Txn
from mpfora.supervisor.coordinator.etcd import EtcdCoordinator
from mpfora.supervisor.coordinator.interface import ClaimRequest, Update, Won
from mpfora.supervisor.coordinator.transactions import claim_txn

BATCH = 60
IN_FLIGHT = 4
SINGLE_IN_FLIGHT = 64
ROUNDS = 3


async def put_tasks(etcd: Etcd, layout: Layout, names: Sequence[str]) -> dict[str, int]:
    """Returns the create revision of each, by which nodes claim it."""

    async def put(name: str) -> int:
        txn = Txn((), (Put(layout.task(name), ""), Put(layout.props(name), '{"below":1000}')))
        return (await etcd.submit(txn, name)).revision

    created: dict[str, int] = {}
    for first in range(0, len(names), 1000):
        some = names[first : first + 1000]
        created |= zip(some, await asyncio.gather(*map(put, some)), strict=True)
    return created


async def in_lanes(lanes: int, items: Sequence[Sequence[str]], do: Callable[[Sequence[str]], Awaitable[None]]) -> float:
    """Items a second over all, when `lanes` workers take one group after another."""
    groups = iter(items)

    async def lane() -> None:
        for group in groups:
            await do(group)

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    return sum(map(len, items)) / (time.perf_counter() - began)


def cut(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[first : first + size] for first in range(0, len(names), size)]


async def measure_round(endpoint: str, count: int) -> dict[str, float]:
    namespace = f"bench-{secrets.token_hex(4)}"
    node, layout = EtcdCoordinator(endpoint, namespace=namespace), Layout(namespace)
    etcd = Etcd(endpoint)
    await node.open(Member("bench"), 60)
    batched = [f"batched-{index}" for index in range(count)]
    single = [f"single-{index}" for index in range(count // 4)]
    created = await put_tasks(etcd, layout, batched + single)
    fences: dict[str, int] = {}

    async def claim(names: Sequence[str]) -> None:
        for answer in await node.claim([ClaimRequest(name, created=created[name]) for name in names]):
            assert isinstance(answer, Won)
            fences[answer.claim.task_id] = answer.claim.fence

    async def claim_alone(names: Sequence[str]) -> None:
        request = ClaimRequest(names[0], created=created[names[0]])
        assert (await etcd.txn(claim_txn(layout, node.session, request))).succeeded

    async def done(names: Sequence[str]) -> None:
        update = Update(state=TaskState(State.COMPLETED, result=1))
        assert all(await asyncio.gather(*(node.done(Claim(name, fences[name]), update) for name in names)))

    try:
        return {
            f"claims/s, in batches of {BATCH}": await in_lanes(IN_FLIGHT, cut(batched, BATCH), claim),
            "claims/s, one per transaction": await in_lanes(SINGLE_IN_FLIGHT, cut(single, 1), claim_alone),
            f"done/s, {BATCH * IN_FLIGHT} at once": await in_lanes(IN_FLIGHT, cut(batched, BATCH), done),
        }
    finally:
        await node.close()
        await etcd.close()


async def measure(endpoint: str, count: int) -> dict[str, float]:
    """The best of the rounds: what else runs on the machine only takes away."""
    rounds = [await measure_round(endpoint, count) for _ in range(ROUNDS)]
    return {row: max(one[row] for one in rounds) for row in rounds[0]}


@contextlib.contextmanager
def served(endpoint: str | None) -> Iterator[str]:
    if endpoint is not None:
        yield endpoint
        return
    with own_etcd() as etcd:
        yield etcd.endpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--etcd")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print(machine())
    with served(options.etcd) as endpoint:
        rows = asyncio.run(measure(endpoint, options.tasks))
    if options.json:
        print(json.dumps(rows))
        return
    for name, value in rows.items():
        print(f"{name:32} {value:10,.0f}")


if __name__ == "__main__":
    main()
