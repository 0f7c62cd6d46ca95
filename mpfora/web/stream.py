"""The live stream: sends what a page shows, and then what has changed of that, once a second at most. Server-sent
events: `view` is a patch of the page's JSON, `gone` says that what it shows is not there any more."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from mpfora.errors import BadValue, MpforaError
from mpfora.web.page_data import PageData
from mpfora.web.views import Params, Views

#: between two events of one stream
EVERY_S = 1.0
#: so often a silent stream tells the browser and proxies that it lives
_HEARTBEAT_S = 10.0
#: how often values that depend on the time alone are looked at
_LOOK_S = 5.0
#: lists of which only the rows that changed are sent: name -> what identifies a row
_LISTS = {"tasks": "id", "nodes": "name", "groups": "group", "schedules": "name", "events": "n"}


def patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What of `after` differs. Of long lists {"keys": [...], "rows": {key: row}} with the rows that differ alone."""
    changes: dict[str, Any] = {}
    for name, value in after.items():
        if name in before and before[name] == value:
            continue
        if name in _LISTS and isinstance(value, list):
            key, old = _LISTS[name], before.get(name, ())
            known = {row[key]: row for row in old}
            rows = {row[key]: row for row in value if known.get(row[key]) != row}
            changes[name] = {"key": key, "keys": [row[key] for row in value], "rows": rows}
        else:
            changes[name] = value
    return changes


def event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def live(data: PageData, views: Views, name: str, params: Params) -> AsyncGenerator[bytes, None]:
    """Until whoever looks goes, or the server ends."""
    clock = asyncio.get_running_loop().time
    shown: dict[str, Any] = {}
    told_at = version = -1.0
    gone = ""
    async with data.looking():
        yield b"retry: 1000\n\n"
        while not data.closing.is_set():
            version = data.mirror.version
            try:
                now = views.show(name, params)
                changes, gone = patch(shown, now), ""
            except BadValue as error:
                yield event("refused", {"error": str(error)})
                return
            except MpforaError as error:
                now, changes = {}, {}
                if str(error) != gone:
                    gone = str(error)
                    yield event("gone", {"error": gone})
            shown = now
            if changes:
                yield event("view", changes)
                told_at = clock()
            elif clock() - told_at > _HEARTBEAT_S:
                yield b": \n\n"
                told_at = clock()
            await _next(data, int(version))


async def _next(data: PageData, version: int) -> None:
    """At least EVERY_S, then until something changes, or for _LOOK_S."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(data.closing.wait(), EVERY_S)
        return
    changed = asyncio.ensure_future(data.mirror.changed(version, _LOOK_S))
    closing = asyncio.ensure_future(data.closing.wait())
    try:
        await asyncio.wait((changed, closing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (changed, closing):
            one.cancel()
        await asyncio.gather(changed, closing, return_exceptions=True)
