"""The values that say whose a task is: its owner, the mark of a release, and a removal. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mpfora.model.task import Cost
from mpfora.store.json_format import format_json, parse_object, read_field, read_whole, short
from mpfora.store.usage_records import cost_values, parse_cost


@lru_cache(maxsize=256)
def format_owner(node: str, missed: str | None = None) -> str:
    return format_json({"node": node} if missed is None else {"node": node, "missed": missed})


@lru_cache(maxsize=256)
def parse_owner(value: bytes | str) -> tuple[str, str | None]:
    """(node, the node that should have claimed the task and did not, or None). There are as many values as nodes, and
    very many keys that have them."""
    values = parse_object(value, "owner")
    node = read_field(values, "node", str, "", "owner")
    if not node:
        raise ValueError(f'owner needs the node\'s name, like {{"node":"NAME"}}: {short(value)}')
    return node, read_field(values, "missed", str, None, "owner")


def format_released(node: str, fence: int, to: str | None = None, cost: Cost | None = None) -> str:
    """The mark of a clean release: whose claim it was, which node should have the task, and what it costs."""
    values: dict[str, Any] = {"node": node, "fence": fence}
    if to is not None:
        values["to"] = to
    if cost is not None:
        values["cost"] = cost_values(cost)
    return format_json(values)


def format_lost(node: str, fence: int) -> str:
    """The same mark, written in the name of an owner that has died: its process is dead, and its run never ended."""
    return format_json({"node": node, "fence": fence, "lost": True})


def parse_lost_run(value: bytes | str) -> tuple[str, int] | None:
    """(node, fence) of the claim whose owner died; None where the mark does not say that. Never raises."""
    try:
        lost = parse_object(value, "released").get("lost") is True
        return parse_released(value) if lost else None
    except ValueError:
        return None


def parse_released_to(value: bytes | str) -> str | None:
    """The node that should get a released task; None: whoever is next. Raises ValueError."""
    to: str | None = read_field(parse_object(value, "released"), "to", str, None, "released")
    return to


def parse_released_cost(value: bytes | str) -> Cost | None:
    """The cost of a released task, if its node knew it. Raises ValueError."""
    values = parse_object(value, "released").get("cost")
    return None if values is None else parse_cost(values, "released")


def parse_released(value: bytes | str) -> tuple[str, int]:
    values = parse_object(value, "released")
    return read_field(values, "node", str, "", "released"), read_whole(values, "fence", 0, "released")


def format_removal(created: int) -> str:
    """The wish to delete the task whose key was created at this revision, and no later one of its id."""
    return format_json({"task": created})


def parse_removal(value: bytes | str) -> int:
    """The create revision of the task's key."""
    values = parse_object(value, "removal")
    created: int = read_whole(values, "task", 0, "removal")
    if created <= 0:
        raise ValueError(f'removal needs the create revision of the task\'s key, like {{"task":42}}: {short(value)}')
    return created
