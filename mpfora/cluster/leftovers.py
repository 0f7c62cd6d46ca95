"""Leftovers: what was known before a listing, freed in slices. Pure.

To forget a million tasks at once takes longer than a turn of a loop may.
"""

from __future__ import annotations

from typing import Any

#: how many entries are freed at once
SLICE = 2000


class Leftovers:
    """Containers to which nobody else refers any more."""

    def __init__(self) -> None:
        self._containers: list[dict[Any, Any] | list[Any]] = []

    def __bool__(self) -> bool:
        return bool(self._containers)

    def add(self, *containers: dict[Any, Any] | list[Any]) -> None:
        self._containers += [container for container in containers if len(container) > SLICE]

    def forget_some(self) -> None:
        """Free one slice. Called once a turn of the loop."""
        left = SLICE
        while self._containers and left > 0:
            container = self._containers[-1]
            if isinstance(container, dict):
                for _ in range(min(left, len(container))):
                    container.popitem()
                    left -= 1
            else:
                count = min(left, len(container))
                del container[len(container) - count :]
                left -= count
            if not container:
                self._containers.pop()
