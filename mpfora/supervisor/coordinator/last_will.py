"""The last will of a node: the program that the zygote runs when the supervisor is gone and every child is dead.

Releases every claim that still hangs on the node's lease, marked clean, since its process is known to be dead; then
revokes the lease. So the tasks move at once and wait neither for the lease's end nor for a grace. It reads from stdin
the JSON that EtcdCoordinator.will() wrote, takes at most WILL_S, and exits 0: released; 1: not (the text on stderr
says why; the lease then runs out by itself); 2: stdin does not hold a will.
"""

from __future__ import annotations

import asyncio
import json
import sys

from mpfora.config.settings import EtcdSettings
from mpfora.store.claim_records import format_lost
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Delete, Get, LeaseNotFound, Put, StoreError, Txn, Unreachable, created_at, lease_is

WILL_S = 5.0
#: a claim is gone, whoever took it away
_TRIES = 3


async def carry_out(etcd: Etcd, layout: Layout, node: str, lease: int) -> int:
    """Release what hangs on the lease and revoke it. Returns the number of claims released. Raises StoreError."""
    try:
        keys = await etcd.lease_keys(lease)
        tasks = [task_id for key in keys if (task_id := owned_task(layout, key))]
        released = await asyncio.gather(*(release(etcd, layout, node, lease, task_id) for task_id in tasks))
        await etcd.revoke(lease)
    except LeaseNotFound:
        return 0
    return sum(released)


def owned_task(layout: Layout, key: str) -> str | None:
    """The task whose owner key this is."""
    task_id, _, last = key.removeprefix(layout.tasks).partition("/")
    return task_id if key.startswith(layout.tasks) and last == "owner" else None


async def release(etcd: Etcd, layout: Layout, node: str, lease: int, task_id: str) -> bool:
    """Whether the claim was still there and is now released. Safe to repeat, so a lost answer is asked for again."""
    (owner,) = (await etcd.submit(Txn((), (Get(layout.owner(task_id)),)), task_id)).answers
    if not isinstance(owner, KV) or owner.lease != lease:
        return False
    txn = release_txn(layout, node, owner, task_id)
    for tries_left in reversed(range(_TRIES)):
        try:
            return (await etcd.submit(txn, task_id)).succeeded
        except Unreachable:
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def release_txn(layout: Layout, node: str, owner: KV, task_id: str) -> Txn:
    mark = Put(layout.released(task_id), format_lost(node, owner.create_revision))
    return Txn(
        (created_at(owner.key, owner.create_revision), lease_is(owner.key, owner.lease)), (Delete(owner.key), mark)
    )


async def run(will: str) -> int:
    """The exit code."""
    try:
        values = json.loads(will)
        settings = EtcdSettings(**values["etcd"] | {"endpoints": tuple(values["etcd"]["endpoints"])})
        layout, node, lease = Layout(values["namespace"]), values["node"], int(values["lease"])
    except (ValueError, KeyError, TypeError) as error:
        print(f"mpfora will: stdin does not hold a will: {error!r}", file=sys.stderr)
        return 2
    etcd = Etcd(settings)
    try:
        async with asyncio.timeout(WILL_S):
            released = await carry_out(etcd, layout, node, lease)
    except (StoreError, TimeoutError) as error:
        reason = str(error) or f"not within {WILL_S:g} s"
        print(f"mpfora will of {node}: its claims end with its lease: {reason}", file=sys.stderr)
        return 1
    finally:
        await etcd.close()
    print(f"mpfora will of {node}: released {released} claims", file=sys.stderr)
    return 0


def main() -> int:
    return asyncio.run(run(sys.stdin.read()))


if __name__ == "__main__":
    sys.exit(main())
