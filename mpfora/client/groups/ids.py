"""GroupIds: the ids of a group's tasks, in the order in which they were submitted. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from typing import Any

from mpfora.client.tasks.submit import check_task_id
from mpfora.errors import BadValue, InvalidTask
from mpfora.model.units import shown

_DIGITS = re.compile(r"(\d+)")


class IdPattern:
    """A pattern like "t{n}" or "t{n:05}": {n} is the number of the task, from 0."""

    def __init__(self, text: str) -> None:
        """Raises BadValue."""
        self.text = text
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
            first, last = text.format(n=0), text.format(n=10**9)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            raise BadValue(f"ids: {shown(text)} is not a pattern of ids like 't{{n}}': {error}") from None
        if set(fields) != {"n"} or first == last:
            raise BadValue(
                f"ids: {shown(text)}: a pattern of ids names the task's number, as in 't{{n}}' or 't{{n:05}}'"
            )
        for task_id in (first, last):
            try:
                check_task_id(task_id)
            except InvalidTask as error:
                raise BadValue(f"ids: {shown(text)}: {error}") from None

    def id(self, number: int) -> str:
        return self.text.format(n=number)

    def __iter__(self) -> Iterator[str]:
        """All of them, without an end."""
        number = 0
        while True:
            yield self.id(number)
            number += 1


def given_ids(value: Any, group: str) -> IdPattern | Iterator[str]:
    """The ids of a call: a pattern, or an iterable with an id for each task. Raises BadValue."""
    if value is None:
        return IdPattern(f"{group}-{{n}}")
    if isinstance(value, str):
        return IdPattern(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return iter(value)
    raise BadValue(f"ids: a pattern like 't{{n}}' or an iterable of ids is needed, not {shown(value)}")


def in_order(ids: Iterable[str]) -> list[str]:
    """Ids as people count: t2 comes before t10."""
    return sorted(ids, key=_natural)


def _natural(task_id: str) -> tuple[list[tuple[str, int]], str]:
    parts = _DIGITS.split(task_id)  # every second one is of digits
    return [("", int(part)) if number % 2 else (part, 0) for number, part in enumerate(parts)], task_id
