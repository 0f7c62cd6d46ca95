"""The clocks of the cluster's machines, held against this one's.

Fences and leases need no wall clock. But when a finished task's time is over, and how long ago it has finished, is told
by wall clocks: a machine whose clock is wrong by an hour or a week would remove what others keep. A node tells its time
with its progress, whenever somebody reads that; here is the one who reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from mpfora.model.units import format_age
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Put, Store, Txn, prefix_end
from mpfora.store.node_records import NODE_ROW, parse_progress

#: the field of a node's own row that has its time, in Unix seconds
TIME_FIELD = "time"
#: clocks that differ by less than this, in seconds, are good enough
TOLERATED_S = 60.0
#: nodes publish at once when a reader appears, and then once a second
_WITHIN_S = 1.6
_LOOK_EVERY_S = 0.2
_TTL_S = 8.0


async def read_clocks(
    store: Store, layout: Layout, expected: frozenset[str] | None = None, clock: Callable[[], float] = time.time
) -> dict[str, float]:
    """How many seconds the clock of each live node is ahead of this machine's, by name; of those that answer within
    about a second. expected: whose answers are all that is waited for. Raises what the store raises."""
    lease = await store.grant(_TTL_S)
    try:
        put = Put(layout.reader(str(lease.id)), b"", lease.id)
        revision = (await store.txn(Txn((), (put,)))).revision
        found: dict[str, float] = {}
        ends_s = time.monotonic() + _WITHIN_S
        while (expected is None or expected - found.keys()) and time.monotonic() < ends_s:
            await asyncio.sleep(_LOOK_EVERY_S)
            kvs = (await store.list(layout.live_nodes, prefix_end(layout.live_nodes))).kvs
            for kv in kvs:
                name, ahead_s = kv.key[len(layout.live_nodes) :], ahead_by(kv, clock())
                if kv.mod_revision > revision and ahead_s is not None:
                    found.setdefault(name, ahead_s)
        return found
    finally:
        await store.revoke(lease.id, _TTL_S)


def ahead_by(published: KV, now: float) -> float | None:
    """Seconds by which the clock of a node is ahead, from what it has just published; None: it tells no time."""
    try:
        at = parse_progress(published.value).get(NODE_ROW, {}).get(TIME_FIELD)
    except ValueError:
        return None
    return float(at) - now if isinstance(at, int | float) and not isinstance(at, bool) else None


def differing(ahead: Mapping[str, float]) -> dict[str, float]:
    """The nodes whose clocks differ from this machine's."""
    return {name: by_s for name, by_s in sorted(ahead.items()) if not abs(by_s) <= TOLERATED_S}


def is_own_wrong(ahead: Mapping[str, float]) -> bool:
    """Whether it may be this node's clock that is wrong: half of the nodes or more, it among them, have another time.
    Of two that differ nobody knows which is right."""
    return bool(ahead) and 2 * len(differing(ahead)) >= len(ahead)


def format_differing(ahead: Mapping[str, float]) -> str:
    """A text like: n1 is 1h00m ahead, n2 is 7d00h behind."""
    others = list(differing(ahead).items())
    told = [f"{name} is {format_age(abs(by_s))} {'ahead' if by_s > 0 else 'behind'}" for name, by_s in others[:5]]
    return ", ".join(told + ([f"and {len(others) - 5} more"] if len(others) > 5 else []))
