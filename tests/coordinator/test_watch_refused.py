"""A store that lets a node in no more: it is asked ever more seldom, and the log is told so at growing distances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mpfora.store.keys import Layout
from mpfora.store.kv import Listing, Revision, Sparse, Unauthenticated
from mpfora.supervisor.coordinator import watch


class Enough(Exception):
    """The test has seen what it wanted."""


class Refusing:
    """lists: whether listings work, as they do for a while with a token that was given before the password changed."""

    def __init__(self, lists: bool) -> None:
        self._lists = lists

    async def pages(self, start: str, end: str, sparse: Sparse | None = None) -> AsyncGenerator[Listing, None]:
        if not self._lists:
            raise Unauthenticated("authentication failed, invalid user ID or password")
        yield Listing(7, [])

    async def watch(self, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
        raise Unauthenticated("authentication failed, invalid user ID or password")
        yield Revision(1, ())


@pytest.mark.parametrize("lists", [False, True], ids=["nothing works", "listings work"])
async def test_logins_that_are_refused_are_tried_and_told_ever_less(
    lists: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, pauses = [0.0], []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float, *_: Any) -> None:
        if seconds:
            pauses.append(seconds)
            clock[0] += seconds
        if clock[0] > 3600:
            raise Enough
        await real_sleep(0)

    monkeypatch.setattr(watch.asyncio, "sleep", sleep)
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    caplog.set_level(logging.INFO, logger="mpfora.etcd")
    with pytest.raises(Enough):
        async for _ in watch.watch_namespace(Refusing(lists), Layout("ns")):  # type: ignore[arg-type]
            pass
    assert pauses[:5] == [1.0, 2.0, 5.0, 10.0, 10.0]
    assert len(caplog.records) <= 8
