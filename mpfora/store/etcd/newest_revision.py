"""The newest revision that any answer of etcd told. An older answer comes from a member that is behind."""

from __future__ import annotations

import logging
import time

from mpfora.store.kv import Unreachable

log = logging.getLogger("mpfora.etcd")

#: for so many seconds an older answer counts as that of a member that is behind; after that, as a store put back
REWOUND_AFTER_S = 10.0


class NewestRevision:
    """Told of the revision of each answer."""

    def __init__(self) -> None:
        self.seen = 0
        #: when an answer was first refused for being older
        self._behind_since: float | None = None

    def note(self, revision: int) -> None:
        self.seen = max(self.seen, revision)

    def check(self, revision: int, seen: int) -> None:
        """Raises Unreachable for an answer from before what had been `seen` when it was asked for, but not for ever: a
        store that was restored from a backup or wiped stays older."""
        now = time.monotonic()
        if revision >= seen:
            self.note(revision)
            self._behind_since = None
            return
        self._behind_since = self._behind_since or now
        if now - self._behind_since < REWOUND_AFTER_S:
            raise Unreachable(f"etcd answers with revision {revision}, older than {seen} seen before", sent=False)
        log.error("etcd's history went back from revision %d to %d: its data was restored or wiped", seen, revision)
        self.seen, self._behind_since = revision, None
