"""GroupBook: which tasks of a group a waiting caller has still to hear of. Pure.

A look says which tasks of the group there are, and which of them have finished. Each task is told of once: as finished,
or as gone, if it was there and nothing of it is left. What was never there is missing: its client is still at it, or
was ended before it had submitted it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class News:
    """What one look has shown that was not told before: ids that have finished, and ids of which nothing is left."""

    finished: list[str]
    gone: list[str]


class GroupBook:
    """ids: of all tasks of the group; None: not known, so that the group is what looks show."""

    def __init__(self, ids: Iterable[str] | None = None) -> None:
        self._is_open = ids is None
        self._pending: set[str] = set(ids or ())
        self._seen: set[str] = set()
        #: told, in an open group: they are not pending again
        self._told: set[str] = set()
        self.gone: list[str] = []

    @property
    def pending(self) -> Collection[str]:
        """The ids that were not told yet."""
        return self._pending

    @property
    def missing(self) -> set[str]:
        """The ids that no look has shown."""
        return self._pending - self._seen

    @property
    def is_waiting(self) -> bool:
        """Whether a task is there that has not finished."""
        return not self._pending.isdisjoint(self._seen)

    def look(self, present: Collection[str], finished: Collection[str]) -> News:
        """finished: some of those that are present."""
        there = self._pending.intersection(present)
        if self._is_open:
            new = set(present) - self._told - self._pending
            self._pending |= new
            there |= new
        news = News(sorted(there.intersection(finished)), sorted((self._pending & self._seen) - there))
        self._seen |= there
        self._take(news.finished)
        self._take(news.gone)
        self.gone += news.gone
        return news

    def again(self, task_id: str) -> None:
        """A task that was told as finished is there again: it was submitted anew meanwhile."""
        self._pending.add(task_id)

    def lost(self, task_id: str) -> None:
        """What a finished task has left was gone before anybody had read it."""
        self.gone.append(task_id)

    def _take(self, ids: Iterable[str]) -> None:
        self._pending.difference_update(ids)
        if self._is_open:
            self._told.update(ids)
