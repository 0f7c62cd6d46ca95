"""Submission: what says that a client submits a group, while it does, and what is noted of the group."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from mpfora.client.groups.ids import IdPattern
from mpfora.client.tasks.held_key import HeldKey
from mpfora.store.group_records import GroupRecord, format_group, parse_group
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Get, Put, Store, Txn, absent

#: the record of a group goes by itself after this: longer than anybody keeps finished tasks and runs a group
_KEPT_S = 100 * 86_400.0
_REVOKE_WITHIN_S = 2.0


class Submission:
    """Held from enter to exit. Raises what the store raises."""

    def __init__(self, store: Store, layout: Layout, name: str, record: GroupRecord) -> None:
        self._store, self._layout, self.name = store, layout, name
        self.record = record
        self._key = HeldKey(store, layout.group_submitting(name))

    async def __aenter__(self) -> Self:
        await self._key.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._key.let_go()

    async def note(self, record: GroupRecord, is_new: bool) -> GroupRecord | None:
        """Write what is known of the group. is_new: only where nothing is noted yet. Returns what was noted before,
        and is in the way; None: it is written."""
        key = self._layout.group(self.name)
        lease = (await self._store.grant(_KEPT_S)).id
        put = Put(key, format_group(record), lease)
        result = await self._store.txn(Txn((absent(key),) if is_new else (), (put,), (Get(key),)))
        if result.succeeded:
            self.record = record
            return None
        await self._store.revoke(lease, _REVOKE_WITHIN_S)
        found = result.answers[0]
        return read_record(found if isinstance(found, KV) else None) or GroupRecord()


def read_record(found: KV | None) -> GroupRecord | None:
    """None: nothing is noted, or nothing that can be meant."""
    try:
        record = None if found is None else parse_group(found.value)
        if record is not None and record.ids:
            IdPattern(record.ids)
    except ValueError:  # BadValue is one
        return None
    return record
