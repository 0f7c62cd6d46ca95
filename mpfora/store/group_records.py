"""The values of groups: how a group was submitted, so that whoever comes later knows its tasks and their order. Pure.

NS/groups/NAME             written by the client that submits the group; on a lease of months, so that it goes by itself
NS/groups/NAME/submitting  is there while a client submits: on that client's short lease, which ends with it

A task belongs to a group by the group in its props, and a finished one by its state. Without a record a group is what
has its name, in the order of ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpfora.model.units import format_time
from mpfora.store.json_format import format_json, parse_object, read_field, read_time, read_whole

#: the most tasks of one group: whoever waits for them holds their ids
MOST_TASKS = 10_000_000


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """ids      the pattern of its tasks' ids, like "t{n}"; "": they have none
    size     how many tasks it has; None: it is not known yet, or the client was ended before it was
    created  Unix seconds;  by  user@host
    """

    ids: str = ""
    size: int | None = None
    created: float = 0.0
    by: str = ""


def format_group(record: GroupRecord) -> str:
    values: dict[str, Any] = {"ids": record.ids} if record.ids else {}
    if record.size is not None:
        values["size"] = record.size
    return format_json(values | {"created": format_time(record.created), "by": record.by})


def parse_group(value: bytes | str) -> GroupRecord:
    """Raises ValueError."""
    values = parse_object(value, "group")
    size = read_whole(values, "size", 0, "group") if values.get("size") is not None else None
    if size is not None and size > MOST_TASKS:
        raise ValueError(f'group: "size" must be at most {MOST_TASKS:,}, not {size}')
    return GroupRecord(
        ids=read_field(values, "ids", str, "", "group"),
        size=size,
        created=read_time(values, "created", "group") or 0.0,
        by=read_field(values, "by", str, "", "group"),
    )
