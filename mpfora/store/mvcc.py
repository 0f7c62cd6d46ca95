"""Ledger: keys, values, revisions and transactions, as etcd has them. Pure: no threads, no clock, no leases' lives.

`MemoryKV` puts a lock, leases and watches round it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Container

from mpfora.store.kv import (
    KV,
    Answer,
    Compare,
    Delete,
    DeletePrefix,
    Event,
    Get,
    LeaseNotFound,
    Listing,
    Op,
    Put,
    Rejected,
    Revision,
    Take,
    Txn,
    TxnResult,
    prefix_end,
)

_RELATIONS: dict[str, Callable[[int | bytes, int | bytes], bool]] = {
    "==": lambda found, to: found == to,
    "!=": lambda found, to: found != to,
    ">": lambda found, to: found > to,  # type: ignore[operator]
    "<": lambda found, to: found < to,  # type: ignore[operator]
}


class Ledger:
    """The content at the newest revision."""

    def __init__(self) -> None:
        self._kvs: dict[str, KV] = {}
        #: the keys of _kvs in order
        self._keys: list[str] = []
        #: as etcd's: it begins at 1 and counts transactions that changed something
        self.revision = 1

    def get(self, key: str) -> KV | None:
        return self._kvs.get(key)

    def listing(self, start: str, end: str) -> Listing:
        first, last = bisect_left(self._keys, start), bisect_left(self._keys, end)
        return Listing(self.revision, tuple(self._kvs[key] for key in self._keys[first:last]))

    def run(self, txn: Txn, leases: Container[int]) -> tuple[TxnResult, Revision | None]:
        """The answer, and the revision that the transaction made, if it changed anything. leases: the live ones.
        Raises, having changed nothing, what etcd answers to a request that it refuses as a whole."""
        taken = self._judge(txn)
        self._check(txn, taken, leases)
        events: list[Event] = []
        answers = self._apply(txn, taken, self.revision + 1, events)
        made = self._made(events)
        return _with_revision(TxnResult(taken[id(txn)], self.revision, answers), self.revision), made

    def drop_lease(self, lease: int) -> Revision | None:
        """Delete every key on a lease, in one revision."""
        events: list[Event] = []
        for key in [key for key in self._keys if self._kvs[key].lease == lease]:
            self._delete(key, self.revision + 1, events)
        return self._made(events)

    def _made(self, events: list[Event]) -> Revision | None:
        if not events:
            return None
        self.revision += 1
        return Revision(self.revision, tuple(events))

    def _judge(self, txn: Txn) -> dict[int, bool]:
        """id() of each transaction -> the branch that it takes. All compares are judged before anything is changed."""
        taken = {id(txn): all(map(self._holds, txn.compares))}
        for op in _branch(txn, taken):
            if isinstance(op, Txn):
                taken |= self._judge(op)
        return taken

    def _holds(self, compare: Compare) -> bool:
        kv = self._kvs.get(compare.key)
        if compare.target == "value":
            # as in etcd, a missing key has no value to compare: no such compare holds
            return kv is not None and _RELATIONS[compare.relation](kv.value, compare.to)
        return _RELATIONS[compare.relation](0 if kv is None else getattr(kv, compare.target), compare.to)

    def _check(self, txn: Txn, taken: dict[int, bool], leases: Container[int]) -> None:
        """Raises for what etcd refuses as a whole: a key put twice, or put and deleted, on whichever branch; and a
        lease that is not there."""
        _changed_keys(txn.success)
        _changed_keys(txn.failure)
        for op in _flat(txn, taken):
            if isinstance(op, Put) and op.lease and op.lease not in leases:
                raise LeaseNotFound(f"lease {op.lease:x} has run out or was revoked")

    def _apply(self, txn: Txn, taken: dict[int, bool], revision: int, events: list[Event]) -> tuple[Answer, ...]:
        return tuple(self._apply_op(op, taken, revision, events) for op in _branch(txn, taken))

    def _apply_op(self, op: Op, taken: dict[int, bool], revision: int, events: list[Event]) -> Answer:
        match op:
            case Put():
                self._put(op, revision, events)
                return None
            case Delete(key):
                return self._delete(key, revision, events)
            case Take(key):
                taken_kv = self._kvs.get(key)
                self._delete(key, revision, events)
                return taken_kv
            case DeletePrefix(prefix):
                first, last = bisect_left(self._keys, prefix), bisect_left(self._keys, prefix_end(prefix))
                return sum(self._delete(key, revision, events) for key in self._keys[first:last])
            case Get(key):
                return self._kvs.get(key)
            case Txn():
                return TxnResult(taken[id(op)], 0, self._apply(op, taken, revision, events))

    def _put(self, put: Put, revision: int, events: list[Event]) -> None:
        former = self._kvs.get(put.key)
        value = put.value.encode() if isinstance(put.value, str) else put.value
        created, version = (revision, 1) if former is None else (former.create_revision, former.version + 1)
        if former is None:
            insort(self._keys, put.key)
        self._kvs[put.key] = KV(put.key, value, created, revision, version, put.lease)
        events.append(Event(put.key, value, False, created, revision))

    def _delete(self, key: str, revision: int, events: list[Event]) -> int:
        if self._kvs.pop(key, None) is None:
            return 0
        del self._keys[bisect_left(self._keys, key)]
        events.append(Event(key, b"", True, 0, revision))
        return 1


def _branch(txn: Txn, taken: dict[int, bool]) -> tuple[Op, ...]:
    return txn.success if taken[id(txn)] else txn.failure


def _flat(txn: Txn, taken: dict[int, bool]) -> list[Op]:
    """The operations of the branches that are taken, nested ones included."""
    return [inner for op in _branch(txn, taken) for inner in (_flat(op, taken) if isinstance(op, Txn) else [op])]


def _changed_keys(ops: tuple[Op, ...]) -> tuple[set[str], list[Op]]:
    """What these operations put, and what they delete. Raises Rejected where etcd finds that they conflict. As in etcd,
    a nested put conflicts with a deletion nested before it, and not with one nested after it."""
    deletions: list[Op] = [op for op in ops if isinstance(op, Delete | Take | DeletePrefix)]
    put: set[str] = set()
    for op in ops:
        if isinstance(op, Txn):
            on_success, on_failure = _changed_keys(op.success), _changed_keys(op.failure)
            for key in on_success[0]:
                _check_free(key, put, deletions)
            for key in on_failure[0]:
                _check_free(key, put, deletions)
            put |= on_success[0] | on_failure[0]
            deletions += on_success[1] + on_failure[1]
    for op in ops:
        if isinstance(op, Put):
            _check_free(op.key, put, deletions)
            put.add(op.key)
    return put, deletions


def _check_free(key: str, put: set[str], deletions: list[Op]) -> None:
    """Raises Rejected if the key is put or deleted already."""
    if key in put or any(_deletes(op, key) for op in deletions):
        raise Rejected(f"duplicate key given in txn request: {key}")


def _deletes(op: Op, key: str) -> bool:
    return (
        key.startswith(op.prefix) if isinstance(op, DeletePrefix) else isinstance(op, Delete | Take) and op.key == key
    )


def _with_revision(result: TxnResult, revision: int) -> TxnResult:
    answers = tuple(_with_revision(each, revision) if isinstance(each, TxnResult) else each for each in result.answers)
    return TxnResult(result.succeeded, revision, answers)
