"""Watching a namespace: its whole content as a reset, then every revision as Changes, for ever. Over any kv.Store.

However much is kept there, it is read, parsed and passed on in slices.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from mpfora.cluster.changes import Asked, Changes
from mpfora.cluster.decode import Row, in_order, is_finished, parse_in_parts, parse_key, parse_request, parse_revision
from mpfora.model.lasting_condition import LastingCondition, format_span
from mpfora.store.keys import Layout
from mpfora.store.kv import Compacted, Sparse, Store, Unauthenticated, Unreachable, prefix_end
from mpfora.store.slices import Slices

log = logging.getLogger("mpfora.etcd")

#: pauses between tries to list the namespace, the last for ever
LIST_PAUSES_S = (0.1, 0.3, 1.0)
#: the same while etcd does not let this user in: a login costs it much
LOGIN_PAUSES_S = (1.0, 2.0, 5.0, 10.0)
#: a reset is passed on in parts of so many changes
PART = 500


async def watch_namespace(store: Store, layout: Layout) -> AsyncGenerator[Changes, None]:
    """Raises StoreError for what does not heal: the user may not read the namespace.

    A user or password that is not accepted may be mended. A node that cannot log in cannot write either, and for that
    gives its lease up; it watches again when it can."""
    start, end = layout.watched
    # one that comes and goes, as listings that work and watches that do not, is one condition
    unreachable, refused = LastingCondition(), LastingCondition()
    refusals = 0
    while True:
        async with aclosing(_read_patiently(store, layout, unreachable)) as listing:
            async for part in listing:
                following = part.revision + 1
                yield part
                await asyncio.sleep(0)
        try:
            async with aclosing(store.watch(start, end, following)) as revisions:
                slices = Slices()
                async for revision in revisions:
                    refusals = 0
                    if len(revision.events) > PART:
                        for some in parse_in_parts(layout, revision, PART):
                            if some is not None:
                                yield some
                            await asyncio.sleep(0)
                        continue
                    changes = parse_revision(layout, revision)
                    if changes.changes or changes.asked or changes.scheduled:
                        yield changes
                    await slices.spend(sum(len(event.value) for event in revision.events))
        except Compacted as error:
            log.warning("changes were missed, reading everything again: %s", error)
        except Unauthenticated as error:
            if (report := refused.seen(time.monotonic())) is not None:
                log.warning("the watch ended, and is begun again when etcd lets this user in: %s%s", error, report)
            await asyncio.sleep(_pause_s(error, refusals))
            refusals += 1


async def _read_patiently(store: Store, layout: Layout, unreachable: LastingCondition) -> AsyncGenerator[Changes, None]:
    """Everything as a reset in parts, however long the store is away. Parts of a listing that was not read to its end
    are void, and those of the next one begin anew."""
    failures = 0
    while True:
        failure: Exception | None = None
        try:
            async with aclosing(_read(store, layout)) as parts:
                async for part in parts:
                    yield part
        except Compacted as error:
            log.info("a listing took longer than its revision was kept, reading it again: %s", error)
        except (Unreachable, Unauthenticated) as error:
            failure = error
            if (report := unreachable.seen(time.monotonic())) is not None:
                log.warning("cannot read the namespace, trying again: %s%s", error, report)
        else:
            if (lasted_s := unreachable.over(time.monotonic())) is not None:
                log.info("the namespace can be read again, after %s", format_span(lasted_s))
            return
        await asyncio.sleep(_pause_s(failure, failures))
        failures += 1


def _pause_s(failure: Exception | None, failures: int) -> float:
    """Before the next try, after so many that have failed already."""
    pauses = LOGIN_PAUSES_S if isinstance(failure, Unauthenticated) else LIST_PAUSES_S
    return pauses[min(failures, len(pauses) - 1)]


async def _read(store: Store, layout: Layout) -> AsyncGenerator[Changes, None]:
    """The reset in parts as its pages come, the last without `more` and with the questions that stand there: they may
    have been put while nobody watched. Nothing of it is kept here."""
    slices, revision = Slices(), 0
    rows: list[Row] = []
    asked: list[Asked] = []
    async with aclosing(store.pages(*layout.watched, _states_of_tasks(layout))) as pages:
        async for page in pages:
            revision = page.revision
            for kv in page.kvs:
                if (question := parse_request(layout, kv.key)) is not None and len(asked) < PART:
                    asked.append(question)
                if not is_finished(layout, kv) and (row := parse_key(layout, kv)) is not None:
                    if len(rows) == PART:
                        yield _part(revision, rows, more=True)
                        rows = []
                    rows.append(row)
                await slices.spend(len(kv.value))
    yield replace(_part(revision, rows, more=False), asked=tuple(asked))


def _states_of_tasks(layout: Layout) -> Sparse:
    """A million finished tasks may be kept. A node needs only the states of those that are not finished."""

    def wanted(key: str) -> str | None:
        task_id = key[len(layout.tasks) :] if key.startswith(layout.tasks) else "/"
        return None if "/" in task_id else layout.state(task_id)

    return Sparse(layout.states, prefix_end(layout.states), wanted)


def _part(revision: int, rows: list[Row], *, more: bool) -> Changes:
    rows.sort(key=in_order)
    return Changes(revision, tuple(row.change for row in rows), reset=True, more=more)
