"""Resources: what a node has, what a task needs of it, and the room that is left. Pure; children import it.

Amounts are whole numbers, so that their sums are exact in any order: cpus in thousandths of a core, memory in bytes,
everything else in units. The units of `gpus` have numbers, those of other resources are alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mpfora.model.units import format_size, parse_size, shown

CPUS, MEMORY, GPUS = "cpus", "memory", "gpus"
#: (resource, amount) in the order of names; each amount is over 0, each name stands there once
Needs = tuple[tuple[str, int], ...]
NOTHING: Needs = ()

#: the most units of a resource, cores, and GPUs of one node; the most resources that one node or task names
MOST_UNITS, MOST_CPUS, MOST_GPUS, MOST_NAMES = 1_000_000, 100_000, 1024, 32
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}\Z")
_WHOLE = re.compile(r"\s*\d{1,12}\s*\Z")
_CORES = re.compile(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*(m?)\s*\Z")


class Room(NamedTuple):
    """What is left of a node. slots: how many more tasks that need a process; free: of each resource that it has. Less
    than nothing: it holds more than it has."""

    slots: float
    free: Mapping[str, int]

    def takes(self, needs: Needs) -> bool:
        """Whether one more task that needs so much has room."""
        return self.slots >= 1 and all(self.free.get(name, 0) >= amount for name, amount in needs)

    def how_many(self, needs: Needs) -> float:
        """How many more tasks that need so much have room."""
        counts = [self.slots, *(self.free.get(name, 0) // amount for name, amount in needs)]
        return max(0, min(counts))

    def less(self, needs: Needs) -> Room:
        """The room beside one more task, whether or not it has room."""
        return Room(self.slots - 1, subtract(self.free, needs) if needs else self.free)

    def more(self, needs: Needs) -> Room:
        """The room when a task that needs so much is gone."""
        return Room(self.slots + 1, subtract(self.free, needs, -1) if needs else self.free)

    def is_eased_by(self, leaves: Needs, needs: Needs) -> bool:
        """Whether a task that needs `leaves` sets free, when it goes, what is short for one that needs `needs`."""
        short = [name for name, amount in needs if self.free.get(name, 0) < amount]
        return self.slots < 1 or any(amount_of(leaves, name) for name in short)

    @property
    def is_exceeded(self) -> bool:
        return self.slots < 0 or any(amount < 0 for amount in self.free.values())


def subtract(free: Mapping[str, int], needs: Needs, count: int = 1) -> dict[str, int]:
    """What is left of these amounts beside so many tasks."""
    left = dict(free)
    for name, amount in needs:
        left[name] = left.get(name, 0) - count * amount
    return left


def is_met(needs: Needs, has: Needs) -> bool:
    """Whether a node that has this, and gives it to nobody else, can run the task."""
    if not needs:
        return True
    amounts = dict(has)
    return all(amounts.get(name, 0) >= amount for name, amount in needs)


def amount_of(needs: Needs, name: str) -> int:
    """The amount of one resource; 0 where it is not named."""
    return next((amount for one, amount in needs if one == name), 0)


def make_needs(amounts: Iterable[tuple[str, int]]) -> Needs:
    """Needs in their order, without amounts of 0."""
    return tuple(sorted((name, amount) for name, amount in amounts if amount))


def parse_needs(values: object, what: str) -> Needs:
    """The amounts of an object like {"gpus": 2, "memory": "8GiB"}. Raises ValueError that names `what` and the
    resource."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{what}: {shown(values)}: an object of resources is needed, like {{'gpus': 2}}")
    if len(values) > MOST_NAMES:
        raise ValueError(f"{what}: {len(values)} resources: at most {MOST_NAMES} can be named")
    return make_needs((check_resource(name, what), parse_amount(name, each, what)) for name, each in values.items())


def check_resource(name: object, what: str) -> str:
    """The name of a resource. Raises ValueError."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(
            f"{what}: {shown(name)}: the name of a resource begins with a letter, and goes on with up to 62 of the"
            " characters A-Z a-z 0-9 . _ -"
        )
    return name


def parse_amount(name: str, value: object, what: str) -> int:
    """The amount of a resource, 0 or more, in its whole units. Raises ValueError naming `what` and the resource."""
    what = f"{what}.{name}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{what}: {shown(value)} is not an amount: use {_example(name)}")
    if name == MEMORY:
        return 0 if value in (0, "0") else parse_size(value, what)  # type: ignore[arg-type]  # it refuses floats
    amount = _cores(value) if name == CPUS else _units(value)
    if amount is None:
        raise ValueError(f"{what}: {shown(value)} is not an amount: use {_example(name)}")
    most = MOST_CPUS * 1000 if name == CPUS else MOST_GPUS if name == GPUS else MOST_UNITS
    if amount > most:
        raise ValueError(f"{what}: {shown(value)}: at most {format_amount(name, most)}")
    return amount


def _example(name: str) -> str:
    return {CPUS: "a number of cores like 4 or 0.5", MEMORY: "bytes or a text like '8GiB'"}.get(
        name, "a whole number, 0 or more"
    )


def _units(value: float | str) -> int | None:
    if isinstance(value, str):
        return int(value) if _WHOLE.match(value) else None
    is_whole = isinstance(value, int) or (math.isfinite(value) and value.is_integer())
    return int(value) if is_whole and value >= 0 else None


def _cores(value: float | str) -> int | None:
    """Cores in thousandths. A finer amount is rounded, but never to 0."""
    if isinstance(value, str):
        match = _CORES.match(value)
        if match is None:
            return None
        value = float(match[1]) / (1000 if match[2] else 1)
    if not 0 <= value < math.inf:
        return None
    return max(1 if value else 0, round(min(value, MOST_UNITS * 1000) * 1000))


def to_json(needs: Needs) -> dict[str, Any]:
    """As parse_needs reads it, and as people write it: cores as a number."""
    return {name: json_amount(name, amount) for name, amount in needs}


def json_amount(name: str, amount: int) -> int | float:
    if name != CPUS:
        return amount
    return amount // 1000 if amount % 1000 == 0 else amount / 1000


def format_amount(name: str, amount: int) -> str:
    """For people: "1.5", "64.0 GiB", "2"."""
    return format_size(amount) if name == MEMORY else f"{json_amount(name, amount)}"


def format_needs(needs: Needs) -> str:
    """For people: "2 gpus, 8.0 GiB memory"."""
    return ", ".join(format_of(name, amount) for name, amount in needs)


def format_of(name: str, amount: int) -> str:
    """So much of a resource, for people: "2 gpus", "1 gpu"."""
    is_one = amount == (1000 if name == CPUS else 1)
    plain = name[:-1] if is_one and name in (CPUS, GPUS) else name
    return f"{format_amount(name, amount)} {plain}"
