"""What groups need to know of their tasks, read from the store: by many in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mpfora.client.calls.task_calls import TaskCalls
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.snapshot.rows import task_info
from mpfora.client.snapshot.snapshot import TaskKeys
from mpfora.client.tasks import arguments
from mpfora.config.props import named_in
from mpfora.model.task import InvalidName, check_name
from mpfora.store.kv import KV, Get, OutOfSpace, Txn
from mpfora.store.state_records import parse_state

#: of so many tasks the keys are read in one request
_IDS_PER_READ = 50


class GroupReads(TaskCalls):
    """forget_group; the others are for groups themselves."""

    async def forget_group(self, name: str) -> None:
        """Remove what is noted of how a group was submitted. Its tasks stay, and are a group by its name. For whoever
        has deleted the tasks himself; AsyncGroup.delete does both."""
        arguments.text(name, "group")
        if may_be_noted(name):
            with self._errors(writes=True):
                await self._etcd.delete(self._layout.group(name))

    async def _ids_of(self, name: str) -> list[str]:
        from mpfora.client.groups.ids import in_order
        from mpfora.client.groups.mirror import GroupMirror

        await self.ping()
        async with self.mirror() as mirror:
            await mirror.ready()
            return in_order(GroupMirror(mirror).having("group", name))

    async def _is_submitting(self, name: str) -> bool:
        """Whether a client submits the group now."""
        if not may_be_noted(name):
            return False
        with self._errors():
            return await self._etcd.get(self._layout.group_submitting(name)) is not None

    async def _finished(self, ids: Sequence[str]) -> dict[str, TaskInfo]:
        """Those of these tasks that there are, with all that is kept of them."""
        found: dict[str, TaskInfo] = {}
        for task_id, task, state in await self._keys_of(ids):
            if task is not None or state is not None:
                keys = TaskKeys(exists=task is not None, state=None if state is None else state.value)
                found[task_id] = task_info(task_id, keys, {})
        return found

    async def _members(self, name: str, ids: Sequence[str]) -> set[str]:
        """Those of these tasks that belong to the group."""
        found = set()
        for task_id, props, state in await self._keys_of(ids, of_props=True):
            if (props is not None and named_in(props.value)[1] == name) or _group_in(state) == name:
                found.add(task_id)
        return found

    async def _keys_of(self, ids: Sequence[str], of_props: bool = False) -> list[tuple[str, KV | None, KV | None]]:
        """(id, its key or its props, its state)"""
        rows: list[tuple[str, KV | None, KV | None]] = []
        first_key = self._layout.props if of_props else self._layout.task
        for start in range(0, len(ids), _IDS_PER_READ):
            some = ids[start : start + _IDS_PER_READ]
            with self._errors():
                found = await self._values([key(one) for one in some for key in (first_key, self._layout.state)])
            rows += zip(some, found[0::2], found[1::2], strict=True)
        return rows

    async def _values(self, keys: Sequence[str]) -> list[KV | None]:
        try:
            answers = (await self._etcd.txn(Txn((), tuple(map(Get, keys))))).answers
        except OutOfSpace:  # etcd refuses transactions that write nothing, too
            return list(await asyncio.gather(*map(self._etcd.get, keys)))
        return [one if isinstance(one, KV) else None for one in answers]


def may_be_noted(name: str) -> bool:
    """A task's props may name any text as their group; only such names are submitted as groups."""
    try:
        check_name(name)
    except InvalidName:
        return False
    return True


def _group_in(state: KV | None) -> str:
    try:
        return parse_state(state.value).group if state is not None else ""
    except ValueError:
        return ""
