"""Reloads and restarts of nodes: asked for by a command, and waited for by what the record of the node says then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from mpfora.client.tasks.commands import Commander, live_nodes
from mpfora.client.tasks.wait import watching
from mpfora.errors import MpforaError, NodeNotFound, NotCarriedOut
from mpfora.model.code import Code, Reload, ReloadState
from mpfora.model.task import Member
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Get, Store, Txn
from mpfora.store.node_records import parse_member

T = TypeVar("T")


class ReloadFailed(MpforaError):
    """A node cannot import its handlers anew, and goes on with the code that it has. detail: the traceback of the
    import, "" if there is none."""

    def __init__(self, node: str, error: str, detail: str = "") -> None:
        told = f"\n{detail}" if detail else ""
        super().__init__(f"node {node!r} was not reloaded and goes on with the code that it has: {error}{told}")
        self.node, self.error, self.detail = node, error, detail


class NodeCode:
    """Made for each call. Raises what the store raises, and the errors named with each method."""

    def __init__(self, store: Store, layout: Layout, commander: Commander) -> None:
        self._store, self._layout, self._commander = store, layout, commander

    async def reload(self, name: str, within_s: float | None, timeout_s: float) -> Code:
        """Have a node import its handlers anew. Returns which code it runs then, when new runs are of the new code.
        Raises NodeNotFound, ReloadFailed and NotCarriedOut."""
        parameters = {} if within_s is None else {"within": within_s}
        _, revision = await self._commander.to_node(name, "reload", parameters)

        def answered(member: Member | None) -> Code | None:
            if member is None:
                raise MpforaError(f"node {name!r} has left before it said what became of its reload")
            code = member.code
            reload = None if code is None else code.reload
            if code is None or reload is None or reload.command < revision:
                return None
            return None if reload.state is ReloadState.IMPORTING else _reloaded(name, code, reload)

        why = f"node {name!r} has not reloaded within {timeout_s:g} s: it may still be importing its handlers"
        return await self._first(name, answered, timeout_s, why)

    async def restart(self, name: str, timeout_s: float | None) -> Member | None:
        """Have a node leave in order, to be started again by its service manager. Returns its record when it is back
        and can run tasks, frozen or draining if it was so; None at once where timeout_s is None. Raises NodeNotFound,
        NotCarriedOut and MpforaError."""
        before = await self._member(name)
        if before.is_go:
            raise MpforaError(f"node {name!r} is a Go node, which knows no restart: restart it where it was started")
        await self._commander.to_node(name, "restart", {"created": before.created})
        if timeout_s is None:
            return None
        state = "it has not left"

        def back(member: Member | None) -> Member | None:
            nonlocal state
            if member is None:
                state = "it has left, and was not started again: is there a service manager that does so?"
            elif _is_same_start(member, before):
                state = "it is stopping" if member.draining and not before.draining else "it has not left"
            elif member.trouble is not None:
                state = f"it is back, and {member.trouble.why}"
            else:
                return member
            return None

        member = await self._first(
            name, back, timeout_s, lambda: f"node {name!r} is not back within {timeout_s:g} s: {state}"
        )
        for verb, holds in (("freeze", before.frozen), ("drain", before.draining)):
            if holds:
                key, revision = await self._commander.to_node(name, verb, {})
                await self._commander.wait_node(name, verb, key, revision, timeout_s)
        return member

    async def _member(self, name: str) -> Member:
        """Raises NodeNotFound."""
        (found,) = (await self._store.txn(Txn((), (Get(self._layout.member(name)),)))).answers
        if not isinstance(found, KV):
            raise NodeNotFound(name, await live_nodes(self._store, self._layout))
        try:
            return parse_member(name, found.value)
        except ValueError as error:
            raise MpforaError(f"the record of node {name!r} cannot be read: {error}") from None

    async def _first(
        self, name: str, take: Callable[[Member | None], T | None], timeout_s: float, why: str | Callable[[], str]
    ) -> T:
        """What `take` makes of the first of the node's records of which it makes something, the present one first.
        None is given for a node that has none. Raises NotCarriedOut, with `why`, when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._taken(name, take)
        except TimeoutError:
            raise NotCarriedOut(why if isinstance(why, str) else why()) from None

    async def _taken(self, name: str, take: Callable[[Member | None], T | None]) -> T:
        key = self._layout.member(name)
        result = await self._store.txn(Txn((), (Get(key),)))
        (found,) = result.answers
        if (taken := _take_value(name, found.value if isinstance(found, KV) else None, take)) is not None:
            return taken
        async with watching(self._store, key, key + "\0", result.revision + 1) as revisions:
            async for revision in revisions:
                for event in revision.events:
                    value = None if event.deleted else event.value
                    if (taken := _take_value(name, value, take)) is not None:
                        return taken
        raise AssertionError("a watch does not end")


def _take_value(name: str, value: bytes | None, take: Callable[[Member | None], T | None]) -> T | None:
    """A record that cannot be read says nothing."""
    try:
        member = None if value is None else parse_member(name, value)
    except ValueError:
        return None
    return take(member)


def _reloaded(name: str, code: Code, reload: Reload) -> Code:
    if reload.state is ReloadState.FAILED:
        raise ReloadFailed(name, reload.error, reload.detail)
    return code


def _is_same_start(member: Member, before: Member) -> bool:
    return (member.created, member.pid, member.host) == (before.created, before.pid, before.host)
