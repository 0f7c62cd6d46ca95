"""Pages: a part of a sorted list of tasks, and from where the next part goes on. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mpfora.client.filters.matching import Facts, GaugesOf, since_of
from mpfora.client.info.task_info import TaskInfo
from mpfora.errors import BadValue
from mpfora.model.units import shown

#: by what lists are sorted: ids from the first, all others from the newest or the greatest. With "-" before it the
#: other way round
SORTS = ("id", "since", "progress", "cpu", "rss", "attempt", "priority")
#: the most tasks that one page may have
MOST_ROWS = 1_000_000


class Page(list[TaskInfo]):
    """The tasks of a page. total: how many match the filter; next: what `after` has to be for the next page, None: this
    is the last; revision: of the store when they were read."""

    def __init__(self, tasks: Iterable[TaskInfo] = (), total: int = 0, next: str | None = None, revision: int = 0):
        super().__init__(tasks)
        self.total, self.next, self.revision = total, next, revision


class Place(NamedTuple):
    """Where a task stands in a list; those without a value come last."""

    key: float
    id: str


@dataclass(frozen=True, slots=True)
class Order:
    """by: one of SORTS; is_turned: the other way round."""

    by: str = "id"
    is_turned: bool = False

    def place(self, gauges: GaugesOf) -> Callable[[Facts], Place]:
        """Makes the place of a task in this order."""
        if self.by == "id":
            return lambda facts: Place(0.0, facts.id)
        sign = 1.0 if self.is_turned else -1.0
        get: Callable[[Facts], float | None]
        match self.by:
            case "since":
                get = lambda facts: since_of(facts, gauges)  # noqa: E731
            case "attempt":
                get = lambda facts: facts.attempt or None  # noqa: E731
            case "priority":
                get = lambda facts: facts.priority  # noqa: E731
            case by:
                get = lambda facts: getattr(gauges(facts.id), by)  # noqa: E731

        def place(facts: Facts) -> Place:
            value = get(facts)
            return Place(math.inf if value is None else sign * value, facts.id)

        return place


def parse_order(text: str) -> Order:
    """The order of a text like "since" or "-since". Raises BadValue."""
    name = text.removeprefix("-") if isinstance(text, str) else ""
    if name not in SORTS:
        raise BadValue(f"sort: must be one of {', '.join(SORTS)}, with - before it to reverse it, not {shown(text)}")
    return Order(name, text.startswith("-"))


def format_place(place: Place, order: Order) -> str:
    """The cursor behind this place. In the order of ids it is the id."""
    return place.id if order.by == "id" else f"{place.key!r},{place.id}"


def parse_place(text: str, order: Order) -> Place:
    """Raises BadValue."""
    if order.by == "id" and isinstance(text, str):
        return Place(0.0, text)
    try:
        key, comma, task_id = text.partition(",")
        if not comma or (number := float(key)) != number:
            raise ValueError(text)
        return Place(number, task_id)
    except (ValueError, AttributeError):
        raise BadValue(f"after: {shown(text)} is not what a page in this order has as its `next`") from None


def page_of(
    places: Iterable[Place], order: Order, limit: int | None, after: Place | None
) -> tuple[list[Place], str | None]:
    """The places of one page, and what the next begins after."""
    if order.by == "id" and order.is_turned:
        following = sorted((one for one in places if after is None or one.id < after.id), reverse=True)
    elif limit is None:
        following = sorted(one for one in places if after is None or one > after)
    else:
        following = heapq.nsmallest(limit + 1, (one for one in places if after is None or one > after))
    if limit is None or len(following) <= limit:
        return following, None
    return following[:limit], format_place(following[limit - 1], order)
