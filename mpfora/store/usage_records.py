"""The values that say what tasks cost. Pure."""

from __future__ import annotations

from typing import Any

from mpfora.model.task import Cost, NodeUsage
from mpfora.store.json_format import format_json, parse_object, read_field, shown_json

#: the largest cost of a task: a million cores, or an EiB
_MOST_COST = 10**12


def cost_values(cost: Cost) -> list[int]:
    return [cost.cpu, cost.memory]


def parse_cost(values: Any, what: str) -> Cost:
    numbers = values if isinstance(values, list) and len(values) == 2 else ()
    if not numbers or not all(type(n) is int and 0 <= n <= _MOST_COST for n in numbers):
        raise ValueError(f"{what}: a cost is [thousandths of a core, MiB], not {shown_json(values)}")
    return Cost(*numbers)


def format_usage(usage: NodeUsage) -> str:
    """What a node's tasks cost: {"tasks":{ID:[CPU,MEMORY]},"others":{HANDLER:[COUNT,CPU,MEMORY]}}."""
    return format_json(
        {
            "tasks": {task_id: cost_values(cost) for task_id, cost in usage.tasks.items()},
            "others": {name: [count, *cost_values(mean)] for name, (count, mean) in usage.others.items()},
        }
    )


def parse_usage(value: bytes | str) -> NodeUsage:
    values = parse_object(value, "usage")
    tasks = read_field(values, "tasks", dict, {}, "usage")
    others = read_field(values, "others", dict, {}, "usage")
    return NodeUsage(
        {task_id: parse_cost(cost, "usage") for task_id, cost in tasks.items()},
        {name: _parse_mean(mean) for name, mean in others.items()},
    )


def _parse_mean(values: Any) -> tuple[int, Cost]:
    if not isinstance(values, list) or not values or type(values[0]) is not int or not 0 < values[0] <= _MOST_COST:
        raise ValueError(f'usage: "others" are [count, CPU, memory], not {shown_json(values)}')
    return values[0], parse_cost(values[1:], "usage")
