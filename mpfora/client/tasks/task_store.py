"""TaskStore: etcd as one task's removal or command sees it: gathered with others, and deleting where etcd is full.

Once its space is used up, etcd refuses every put and every transaction, whatever is in it, until an operator disarms
the alarm; it still reads and deletes. So nothing can be claimed, submitted or changed meanwhile, and a removal may
compare first and delete afterwards: what it has found cannot become another thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpfora.store.kv import KV, Answer, Compare, Delete, DeletePrefix, Get, Op, OutOfSpace, Txn, TxnResult, prefix_end

if TYPE_CHECKING:
    from mpfora.store.etcd import Etcd


class TaskStore:
    """A Store. subject: transactions go together with those of other subjects, for many tasks at once; "": alone."""

    def __init__(self, etcd: Etcd, subject: str = "") -> None:
        self._etcd = etcd
        self._subject = subject

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    async def txn(self, txn: Txn, timeout_s: float | None = None) -> TxnResult:
        return await self.submit(txn, self._subject)

    async def submit(self, txn: Txn, subject: str) -> TxnResult:
        try:
            return await (self._etcd.submit(txn, subject) if subject else self._etcd.txn(txn))
        except OutOfSpace:
            if not _only_removes(txn):
                raise
        return await self._one_by_one(txn)

    async def _one_by_one(self, txn: Txn) -> TxnResult:
        succeeded = all([_holds(compare, await self._etcd.get(compare.key)) for compare in txn.compares])
        answers = [await self._do(op) for op in (txn.success if succeeded else txn.failure)]
        return TxnResult(succeeded, (await self._etcd.status()).revision, tuple(answers))

    async def _do(self, op: Op) -> Answer:
        match op:
            case Get(key):
                return await self._etcd.get(key)
            case Delete(key):
                return int(await self._etcd.delete(key))
            case DeletePrefix(prefix):
                listing = await self._etcd.list(prefix, prefix_end(prefix))
                return sum([await self._etcd.delete(kv.key) for kv in listing.kvs])
        raise AssertionError(f"{op} is not a removal")


def _only_removes(txn: Txn) -> bool:
    return all(isinstance(op, Get | Delete | DeletePrefix) for op in (*txn.success, *txn.failure))


def _holds(compare: Compare, found: KV | None) -> bool:
    value: Any = getattr(found, compare.target) if found is not None else b"" if compare.target == "value" else 0
    to: Any = compare.to
    match compare.relation:
        case "==":
            return bool(value == to)
        case "!=":
            return bool(value != to)
        case ">":
            return bool(value > to)
        case "<":
            return bool(value < to)
