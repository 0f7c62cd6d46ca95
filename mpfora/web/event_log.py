"""EventLog: what has happened in the cluster of late, for the page. The mirror's watch feeds the log, so that it costs
etcd nothing. It begins anew with the server."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from mpfora.client.info.cluster_events import EventFold
from mpfora.store.keys import Layout
from mpfora.store.kv import Revision

log = logging.getLogger("mpfora.web")

#: events that are kept, and those that a page shows
_KEPT, SHOWN = 2_000, 200


class EventLog:
    """`take` is called for each revision, in order."""

    def __init__(self, layout: Layout, since: float) -> None:
        self._fold = EventFold(layout, since)
        self._events: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._count = 0
        self._has_failed = False

    def take(self, revision: Revision, now: float) -> None:
        """Never raises: a change that cannot be told is left out, and the page goes on."""
        try:
            for event in self._fold.take(revision, now):
                self._count += 1
                self._events.append({"n": self._count, **event.to_json()})
        except Exception:
            if not self._has_failed:
                log.exception("the page's events miss something: this is a bug in mpfora")
            self._has_failed = True

    def last(self, about: str = "", most: int = SHOWN) -> list[dict[str, Any]]:
        """The newest first; about: those alone whose task, node, kind or text has this in it."""
        found = []
        for event in reversed(self._events):
            if not about or any(about in event[name] for name in ("task", "node", "kind", "by", "text")):
                found.append(event)
                if len(found) == most:
                    break
        return found
