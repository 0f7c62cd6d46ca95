"""GroupMaker: submits a group, or finds one that was submitted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mpfora.client.groups.errors import GroupExists, GroupNotFound
from mpfora.client.groups.group import AsyncGroup
from mpfora.client.groups.ids import IdPattern, given_ids
from mpfora.client.groups.reads import may_be_noted
from mpfora.client.groups.submission import Submission, read_record
from mpfora.client.tasks import arguments
from mpfora.client.tasks.declared import declaration_of, handler_name, props_of
from mpfora.client.tasks.submit import NewTask
from mpfora.errors import BadValue
from mpfora.handlers import Submittable
from mpfora.model.task import InvalidName, check_name
from mpfora.store.group_records import GroupRecord

if TYPE_CHECKING:
    from mpfora.client.groups.reads import GroupReads

#: so many tasks are submitted at once
_WINDOW = 500


class GroupMaker:
    """Made for one call of a client."""

    def __init__(self, client: GroupReads) -> None:
        self._client = client

    async def map(
        self,
        handler: Submittable[Any] | str | None,
        props_list: Iterable[Any],
        group: str,
        ids: str | Iterable[str] | None,
        resume: bool,
        on_submitted: Callable[[int], None] | None,
    ) -> AsyncGroup:
        """See AsyncClient.map."""
        name = group_name(group)
        arguments.flag(resume, "resume")
        arguments.callback(on_submitted, "on_submitted")
        chosen = given_ids(ids, name)
        rows: Iterator[Any] = iter(arguments.items(props_list, "props_list", "props"))
        if not isinstance(handler, str | None):
            declared = declaration_of(handler)
            handler, rows = handler_name(declared), map(partial(props_of, declared), rows)
        size = len(props_list) if isinstance(props_list, Sized) else None
        pattern = chosen if isinstance(chosen, IdPattern) else None
        record = GroupRecord(pattern.text if pattern else "", size, time.time(), self._client._commander.by)
        with self._client._errors(writes=True):
            async with Submission(self._client._etcd, self._client._layout, name, record) as submission:
                await self._begin(submission, record, resume)
                given = await self._submit_all(_tasks(chosen, rows, handler, name), name, resume, on_submitted)
                count = len(given)
                if count != size:
                    await submission.note(replace(record, size=count), is_new=False)
        return AsyncGroup(self._client, name, count, pattern, None if pattern else given)

    async def _begin(self, submission: Submission, record: GroupRecord, resume: bool) -> None:
        """Raises GroupExists."""
        before = await submission.note(record, is_new=True)
        if before is None:
            return
        if resume:
            if before.ids != record.ids:
                raise BadValue(
                    f"ids: group {submission.name!r} was submitted with {before.ids or 'a list of ids'!r}, not with"
                    f" {record.ids or 'a list of ids'!r}: go on as it was begun"
                )
        elif some := await self._client._ids_of(submission.name):
            raise GroupExists(submission.name, before.by, len(some))
        await submission.note(record, is_new=False)

    async def _submit_all(
        self, tasks: Iterator[NewTask], name: str, resume: bool, on_submitted: Callable[[int], None] | None
    ) -> list[str]:
        """Returns the ids of all. Raises TaskExists."""
        ids: list[str] = []
        while some := list(itertools.islice(tasks, _WINDOW)):
            taken = [error for error in await self._client._submit_window(some, replace=False) if error is not None]
            if taken:
                ours = await self._client._members(name, [error.task_id for error in taken]) if resume else set()
                if left := [error for error in taken if error.task_id not in ours]:
                    raise left[0]
            ids += [task.id for task in some]
            if on_submitted is not None:
                on_submitted(len(ids))
        return ids

    async def group(self, name: str) -> AsyncGroup:
        """See AsyncClient.group."""
        arguments.text(name, "group")
        with self._client._errors():
            noted = await self._client._etcd.get(self._client._layout.group(name)) if may_be_noted(name) else None
            record = read_record(noted)
        pattern = IdPattern(record.ids) if record is not None and record.ids else None
        if record is not None and record.size is not None and pattern is not None:
            return AsyncGroup(self._client, name, record.size, pattern)
        found = await self._client._ids_of(name)
        if not found and record is None:
            raise GroupNotFound(name)
        if record is None:
            return AsyncGroup(self._client, name, len(found), is_whole=True)
        if record.size is not None:
            return AsyncGroup(self._client, name, record.size, is_whole=len(found) >= record.size)
        return AsyncGroup(self._client, name, len(found), pattern, is_whole=False)


def group_name(value: Any) -> str:
    """The name of a group that is to be submitted. Raises BadValue."""
    try:
        return check_name(arguments.text(value, "group"), "group")
    except InvalidName as error:
        raise BadValue(str(error)) from None


def _tasks(
    ids: IdPattern | Iterator[str], rows: Iterator[Mapping[str, Any] | None], handler: str | None, group: str
) -> Iterator[NewTask]:
    """Raises BadValue where there are fewer ids than props."""
    each = iter(ids)
    for number, props in enumerate(rows):
        try:
            task_id = next(each)
        except StopIteration:
            raise BadValue(f"ids: there are {number:,} ids, and more props: give an id for each") from None
        yield NewTask(task_id, props, handler, group)
    if not isinstance(ids, IdPattern) and next(each, None) is not None:
        raise BadValue("ids: there are more ids than props: give one for each")
