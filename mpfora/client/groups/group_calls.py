"""The calls for groups: many tasks of one handler, submitted together and looked at together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpfora.client.groups.reads import GroupReads
from mpfora.handlers import Submittable

if TYPE_CHECKING:
    from mpfora.client.groups.group import AsyncGroup

P = TypeVar("P")


class GroupCalls(GroupReads):
    """map, group, groups."""

    @overload
    async def map(
        self,
        handler: Submittable[P],
        props_list: Iterable[P],
        *,
        group: str,
        ids: str | Iterable[str] | None = ...,
        resume: bool = ...,
        on_submitted: Callable[[int], None] | None = ...,
    ) -> AsyncGroup: ...

    @overload
    async def map(
        self,
        handler: str | None,
        props_list: Iterable[Mapping[str, Any] | None],
        *,
        group: str,
        ids: str | Iterable[str] | None = ...,
        resume: bool = ...,
        on_submitted: Callable[[int], None] | None = ...,
    ) -> AsyncGroup: ...

    async def map(
        self,
        handler: Submittable[Any] | str | None,
        props_list: Iterable[Any],
        *,
        group: str,
        ids: str | Iterable[str] | None = None,
        resume: bool = False,
        on_submitted: Callable[[int], None] | None = None,
    ) -> AsyncGroup:
        """Submit a task for each props of a list (or of any iterable, which is read as it is submitted), and return
        their group when all are submitted.

        handler  its name, for nodes with several; or the handler itself, if it declares its props
                 (@mpfora.handler(props=Job)): the list is of Jobs then, and each is checked before it is written
        group    the name of the group: every task has it in its props as "group"
        ids      a pattern of ids, in which {n} is the number of the task: "t{n}", "t{n:05}"; or an iterable of ids.
                 None: the group's name, a dash and the number
        resume   go on where a client was ended before all was submitted: tasks of these ids that belong to the group
                 already are left as they are
        on_submitted  is called with how many there are, after each part

        Raises GroupExists where tasks of a group of this name are there (without `resume`), TaskExists where an id is
        taken by another task, InvalidTask, BadValue. What was submitted before an error stays."""
        from mpfora.client.groups.maker import GroupMaker  # who shows one task needs none of it

        return await GroupMaker(self).map(handler, props_list, group, ids, resume, on_submitted)

    async def group(self, name: str) -> AsyncGroup:
        """A group that was submitted before, by whomever: what was noted of it, or else all tasks that have its name as
        their group, in the order of their ids. Raises GroupNotFound."""
        from mpfora.client.groups.maker import GroupMaker

        return await GroupMaker(self).group(name)

    async def groups(self) -> dict[str, dict[str, int]]:
        """Group -> state -> how many tasks. Reads the namespace once."""
        await self.ping()
        async with self.mirror() as mirror:
            await mirror.ready()
            return mirror.groups()
