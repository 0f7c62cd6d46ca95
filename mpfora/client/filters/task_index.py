"""TaskIndex: finds the tasks that a filter matches, by what filters name. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from mpfora.client.filters.filter import Bound, Filter, Term
from mpfora.client.filters.matching import NO_GAUGES, Facts, Gauges, GaugesOf, matcher, text_test
from mpfora.client.filters.pages import Order
from mpfora.client.filters.sorted_places import SortedPlaces
from mpfora.client.filters.term_cache import FIELDS as CACHED
from mpfora.client.filters.term_cache import LEAST_TASKS, TermCache

#: fields of which each value knows its tasks
INDEXED = ("state", "node", "handler", "group", "cause")
_NOTHING: frozenset[str] = frozenset()


class TaskIndex:
    """facts: of all tasks; whoever changes them says so.

    by  field -> value -> the ids of its tasks
    """

    def __init__(self, facts: Mapping[str, Facts]) -> None:
        self._facts = facts
        self.by: dict[str, dict[str, set[str]]] = {name: {} for name in INDEXED}
        self._orders: dict[Order, SortedPlaces] = {}
        self._terms = TermCache()

    def changed(self, task_id: str, before: Facts | None, after: Facts | None) -> None:
        """Called before the facts are replaced."""
        for order in self._orders.values():
            order.changed(before, after)
        for name, index in self.by.items():
            _move(index, task_id, *("" if facts is None else getattr(facts, name) for facts in (before, after)))
        self._terms.changed(task_id, after)

    def matching(self, which: Filter, now: float, gauges: GaugesOf) -> Collection[str]:
        """The ids of the tasks that a filter matches."""
        found: list[Collection[str]] = []
        without: list[Collection[str]] = []
        rest: list[Term] = []
        for term in which.terms:
            if term.field in INDEXED:
                self._indexed(term, found, without)
            elif (some := self._in_time(term, now)) is not None:
                found.append(some)
            else:
                rest.append(term)
        ids: Collection[str] = self._facts.keys()
        for some in sorted(found, key=len):
            ids = self._both(ids, some)
        if without:
            ids = set(ids).difference(*without)
        if not rest:
            return ids
        if len(ids) >= LEAST_TASKS and (cached := [term for term in rest if term.field in CACHED]):
            for term in cached:
                ids = self._both(ids, self._terms.matching(term, self._facts.values()))
            rest = [term for term in rest if term.field not in CACHED]
        if not rest:
            return ids
        matches, facts = matcher(rest, now, gauges), self._facts
        return {task_id for task_id in ids if matches(facts[task_id])}

    def _both(self, ids: Collection[str], some: Collection[str]) -> Collection[str]:
        """What is in both. Neither is changed."""
        if len(ids) == len(self._facts):
            return some
        fewer, more = sorted((ids, some), key=len)
        return {task_id for task_id in fewer if task_id in more}

    def _indexed(self, term: Term, found: list[Collection[str]], without: list[Collection[str]]) -> None:
        """The tasks that a term names, or, where it matches tasks that have no value, too, those that it does not."""
        test, index = text_test(term.values), self.by[term.field]
        excludes = test("")
        sets = [ids for value, ids in index.items() if test(value) != excludes]
        union: Collection[str] = sets[0] if len(sets) == 1 else _NOTHING.union(*sets)
        (without if excludes != term.is_not else found).append(union)

    def _in_time(self, term: Term, now: float) -> Collection[str] | None:
        """The tasks of one span of time; None: that cannot be told so."""
        if term.field != "since" or term.is_not or len(term.values) != 1:
            return None
        (bound,) = term.values
        assert isinstance(bound, Bound)
        if bound.relation == "=" or (not bound.is_time and bound.number == 0):
            return None
        at = bound.number if bound.is_time else now - bound.number
        is_later = bound.relation.startswith(">" if bound.is_time else "<")
        key, includes = -at, bound.relation.endswith("=")  # the newest come first
        if is_later:
            places = self.order(Order("since")).between(-math.inf, math.nextafter(key, math.inf) if includes else key)
        else:
            low = key if includes else math.nextafter(key, math.inf)
            places = self.order(Order("since")).between(low, math.inf)
        return {place.id for place in places}

    def order(self, order: Order) -> SortedPlaces:
        if order not in self._orders:
            self._orders[order] = SortedPlaces(order.place(no_gauges), self._facts.values())
        return self._orders[order]


def no_gauges(_: str) -> Gauges:
    """What a kept order goes by stands in the facts."""
    return NO_GAUGES


def _move(index: dict[str, set[str]], task_id: str, before: str, after: str) -> None:
    """From the tasks of one value to those of another; "" is none."""
    if before == after:
        return
    if before:
        index[before].discard(task_id)
        if not index[before]:
            del index[before]
    if after:
        index.setdefault(after, set()).add(task_id)
