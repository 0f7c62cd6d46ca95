"""TermCache: the tasks that a term of a filter matches, kept true while tasks change. Pure.

A page asks for the same filter again and again, and most fields of a filter have no index: to check the props of
100,000 tasks takes longer than a page may. So the cache checks all tasks once, and then each task that changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

from mpfora.client.filters.filter import Term
from mpfora.client.filters.matching import Facts, Matcher, matcher

#: fields that depend on a task's facts alone, and on no clock
FIELDS = ("id", "", "label", "props", "attempt")
#: the terms that are kept, the last used ones; and the fewest tasks for which a cache pays
_MOST, LEAST_TASKS = 8, 2_000


class TermCache:
    """`matching` asks, and `changed` is called for each task that comes, changes or goes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Term, tuple[Matcher, set[str]]] = OrderedDict()

    def matching(self, term: Term, tasks: Iterable[Facts]) -> Collection[str]:
        """The ids of the tasks that the term matches. tasks: all; not to be changed by the caller."""
        if term not in self._kept:
            matches = matcher([term], 0.0)
            self._kept[term] = matches, {facts.id for facts in tasks if matches(facts)}
        self._kept.move_to_end(term)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return self._kept[term][1]

    def changed(self, task_id: str, after: Facts | None) -> None:
        """after: None: the task is gone."""
        for matches, ids in self._kept.values():
            if after is not None and matches(after):
                ids.add(task_id)
            else:
                ids.discard(task_id)
