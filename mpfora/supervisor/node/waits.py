"""Waits: how long each task has waited for resources, and for which of them others have their turn. Pure.

A task keeps the wait that it has collected for as long as it waits, also behind a more urgent one of its kind.
"""

from __future__ import annotations

from collections.abc import Iterable

from mpfora.cluster.assignment.scarcity import Scarcity


class Waits:
    """As this node has seen them. Read and written by Reservations."""

    def __init__(self, scarcity: Scarcity) -> None:
        self._scarcity = scarcity
        #: tasks that wait for resources, by id: since when this node has seen that
        self._since: dict[str, float] = {}
        #: those for which this node has reserved in vain: until when it lets others have what is free
        self._rests: dict[str, float] = {}

    def note(self, starved: Iterable[str], now_s: float) -> None:
        """These wait for resources now. Those that wait no more are forgotten."""
        is_waiting = self._scarcity.is_waiting
        kept = {task_id: since for task_id, since in self._since.items() if is_waiting(task_id)}
        self._since = dict.fromkeys(starved, now_s) | kept
        self._rests = {task_id: until for task_id, until in self._rests.items() if task_id in kept}

    def waited_s(self, task_id: str, now_s: float) -> float:
        """Called for one that was noted."""
        return now_s - self._since[task_id]

    def rest(self, task_id: str, until_s: float) -> None:
        """What was kept for it was kept in vain."""
        self._rests[task_id] = until_s

    def rests(self, task_id: str, now_s: float) -> bool:
        """Whether others have their turn."""
        return now_s < self._rests.get(task_id, now_s)
