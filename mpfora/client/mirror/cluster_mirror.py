"""ClusterMirror: all tasks and nodes of a namespace, kept by one watch, for those who look on: `-w`, `top`, a page.

It costs the store one listing and one watch, and answers from memory. What nodes say of their runs is asked for only
inside `progress`: while nobody looks, nodes publish nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from mpfora.client.loop.lifetime import Lifetime
from mpfora.client.mirror.cluster_copy import ClusterCopy
from mpfora.client.mirror.mirror_reads import MirrorReads
from mpfora.client.mirror.progress_watch import ProgressWatch
from mpfora.client.mirror.run_gauges import RunGauges
from mpfora.client.tasks.wait import watching
from mpfora.errors import ClientClosed, EtcdUnreachable, MpforaError
from mpfora.store.keys import Layout
from mpfora.store.kv import Compacted, Revision, Store, StoreError, Unreachable

log = logging.getLogger("mpfora.client")

Explain = Callable[[StoreError], MpforaError]

#: pauses between tries to read everything
_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
#: how long a sign of life of etcd may take
_PROBE_S = 2.0


class ClusterMirror(MirrorReads):
    """Use it as `async with client.mirror() as mirror`, in the client's event loop; `ready` first.

    version   grows with whatever changes
    revision  of the store, up to which it is true
    trouble   why it may be behind, "" while it is not known to be
    """

    def __init__(self, store: Store, layout: Layout, life: Lifetime, explain: Explain) -> None:
        """explain: what users see of a store's error."""
        self._store, self._layout = store, layout
        self._life, self._explain = life, explain
        self._copy, self._gauges = ClusterCopy(layout), RunGauges()
        self._progress = ProgressWatch(store, layout, self._gauges, self._began, self._tell)
        self._watching: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()
        self._failure: Exception | None = None
        self._news = asyncio.Event()
        #: called for each revision of the watch, when it is taken in; must not raise
        self.on_revision: Callable[[Revision], None] = lambda _: None
        self.version = 0
        self.trouble = ""

    async def __aenter__(self) -> Self:
        self._life.at_end.add(self._closed)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._life.at_end.discard(self._closed)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._progress.close()

    async def ready(self, timeout_s: float | None = None) -> None:
        """Wait until everything is read. Raises EtcdUnreachable when the time is up, EtcdRefused, and ClientClosed."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_ready.wait()
        except TimeoutError:
            raise EtcdUnreachable(self.trouble or f"etcd has not told everything within {timeout_s:g} s") from None
        self._check()

    async def changed(self, version: int, timeout_s: float | None = None) -> int:
        """Wait until there is a newer version than this, or the time is up. Returns the version. Raises as `ready`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.version <= version and self._failure is None:
                    self._news.clear()
                    await self._news.wait()
        self._check()
        return self.version

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    @property
    def revision(self) -> int:
        return self._copy.revision

    def progress(self) -> AbstractAsyncContextManager[None]:
        """Inside, nodes tell of their runs about once a second: progress, notes, CPU and memory."""
        return self._progress.open()

    def _began(self, task_id: str, started: float | None, now: float) -> None:
        self._table.began(task_id, started, now)

    # -- the watch ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        failures = 0
        while True:
            try:
                following = await self._read() + 1
                failures = 0
                self._is_ready.set()
                self._tell()
                async with watching(self._store, *self._layout.watched, following) as revisions:
                    async for revision in revisions:
                        await self._absorb(revision)
            except Compacted:
                continue
            except Unreachable as error:
                self._set_trouble(str(self._explain(error)))
            except StoreError as error:
                return self._fail(self._explain(error))
            except Exception as bug:
                log.exception("the mirror failed: this is a bug in mpfora")
                return self._fail(MpforaError(f"the mirror of the cluster failed, by a bug in mpfora: {bug!r}"))
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            failures += 1

    def _closed(self) -> None:
        self._fail(ClientClosed("this AsyncClient was closed, and its mirror with it"))
        if self._watching is not None:
            self._watching.cancel()

    def _fail(self, error: MpforaError) -> None:
        """End for good: whoever waits or asks gets the error."""
        self._failure = error
        self._is_ready.set()
        self._tell()

    async def _read(self) -> int:
        """Read everything, and then replace what was known by it. Returns its revision."""
        now = time.time()
        copy = await ClusterCopy.read(self._store, self._layout, now)
        copy.wait_since(self._table)
        self._copy, self.trouble = copy, ""
        self._progress.tell_again(now)
        return copy.revision

    async def _absorb(self, revision: Revision) -> None:
        await self._copy.absorb(revision, time.time())
        self.trouble = ""
        self.on_revision(revision)
        self._tell()

    def _tell(self) -> None:
        self.version += 1
        self._news.set()

    def _set_trouble(self, text: str) -> None:
        if text != self.trouble:
            self.trouble = text
            self._tell()

    async def probe(self) -> str:
        """Ask etcd for a sign of life, so that `trouble` is true now; returns it. For a page that somebody looks at: a
        watch is silent both when nothing happens and when etcd is away."""
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._store.list(self._layout.root, self._layout.root + "\0")
        except TimeoutError:
            self._set_trouble(f"etcd has not answered within {_PROBE_S:g} s")
        except StoreError as error:
            self._set_trouble(f"etcd does not answer: {error}")
        else:
            self._set_trouble("")
        return self.trouble
