"""Overview: what a node knows of all nodes and of some tasks, for those who look and do not read all tasks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Overview:
    """loads    node -> tasks that it owns, and those of them that need a process
    shares      node -> how many tasks it should hold, by their number
    points      node -> what its tasks cost; {}: nobody measures that
    assignee    of the tasks that were asked for: who is to claim it now
    free        node -> what is left of its resources
    most_ahead  how many tasks a node is assigned that it has not claimed yet
    """

    loads: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, int] = field(default_factory=dict)
    assignee: Mapping[str, str] = field(default_factory=dict)
    most_ahead: int = 0
    free: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def window(self) -> int:
        return self.most_ahead


def format_overview(overview: Overview) -> dict[str, Any]:
    """The JSON of a node's answer."""
    return {
        "loads": {name: list(load) for name, load in overview.loads.items()},
        "shares": dict(overview.shares),
        "points": dict(overview.points),
        "assignee": dict(overview.assignee),
        "window": overview.most_ahead,
        **({"free": {name: dict(free) for name, free in overview.free.items()}} if overview.free else {}),
    }


def parse_overview(answer: Mapping[str, Any]) -> Overview:
    """The overview in a node's answer. Raises ValueError where it cannot be read."""
    try:
        loads = {str(name): (int(load[0]), int(load[1])) for name, load in answer["loads"].items()}
        counts = [{str(name): int(count) for name, count in answer[what].items()} for what in ("shares", "points")]
        assignee = {str(task_id): str(node) for task_id, node in answer["assignee"].items()}
        free = {
            str(name): {str(resource): int(amount) for resource, amount in left.items()}
            for name, left in answer.get("free", {}).items()
        }
        return Overview(loads, counts[0], counts[1], assignee, int(answer["window"]), free)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"what a node says of all nodes cannot be read: {error!r}") from None
