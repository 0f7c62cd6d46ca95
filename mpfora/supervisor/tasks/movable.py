"""Which claimed tasks a balancer is shown. Pure.

All that need a process, and all that are being given back. Of those that rest there may be very many, and one costs as
much to move as another: some of each kind are shown. Moves are paced, and the balancer is asked again after the last.
So a plan costs a turn the same however many tasks rest on the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from mpfora.cluster.assignment.kinds import Kind, kind_of_task
from mpfora.cluster.mirror import Mirror
from mpfora.supervisor.tasks.claimed_task import ClaimedTask

#: about so many of those that rest are shown, and so many of one kind at least
SHOWN, OF_A_KIND = 1000, 10


class _Place(NamedTuple):
    """Where tasks stand that are alike to a balancer. kind: of those that rest; None: of others."""

    kind: Kind | None
    ids: dict[str, None]


class MovableTasks:
    """by_id: the claimed tasks, which it reads. `look_at` is called when something has happened to one of them."""

    def __init__(self, mirror: Mirror, by_id: Mapping[str, ClaimedTask]) -> None:
        self._mirror, self._by_id = mirror, by_id
        self._active, self._leaving = _Place(None, {}), _Place(None, {})
        self._at_rest: dict[Kind, _Place] = {}
        #: task id -> where it stands
        self._places: dict[str, _Place] = {}

    def look_at(self, task_id: str) -> None:
        claimed, before = self._by_id.get(task_id), self._places.get(task_id)
        place = None if claimed is None else self._place_of(claimed)
        if place is before:
            return
        if before is not None:
            del before.ids[task_id], self._places[task_id]
            if before.kind is not None and not before.ids:
                del self._at_rest[before.kind]
        if place is not None:
            self._places[task_id] = place
            place.ids[task_id] = None

    def shown(self) -> list[ClaimedTask]:
        """What a balancer is shown now. Where there are more kinds than can be shown others are the next time."""
        found = [*self._leaving.ids, *self._active.ids]
        each = max(OF_A_KIND, SHOWN // max(1, len(self._at_rest)))
        for kind in list(islice(self._at_rest, SHOWN // OF_A_KIND)):
            place = self._at_rest[kind] = self._at_rest.pop(kind)
            found += islice(place.ids, each)
        return [self._by_id[task_id] for task_id in found]

    def _place_of(self, claimed: ClaimedTask) -> _Place:
        if claimed.leave or claimed.giving_back or not claimed.is_held:
            return self._leaving
        task = self._mirror.tasks.get(claimed.task_id)
        if task is None or not claimed.resting:
            return self._active
        kind = kind_of_task(task)
        place = self._at_rest.get(kind)
        if place is None:
            place = self._at_rest[kind] = _Place(kind, {})
        return place
