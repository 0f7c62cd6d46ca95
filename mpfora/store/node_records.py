"""The values by which nodes tell of themselves: the member record, and the progress of their running tasks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mpfora.model.needs import parse_needs, to_json
from mpfora.model.task import MOST_WEIGHT, Member, Trouble
from mpfora.model.units import shown
from mpfora.store.json_format import format_json, parse_object, read_field, read_strings, read_whole, shown_json

if TYPE_CHECKING:
    from mpfora.model.code import Code, Reload

#: what a node says of itself stands among what it says of its tasks under this, which no task can have as its id
NODE_ROW = "/node"
#: no lease is longer: ten years
_MOST_LEASE_S = 315_360_000


def format_member(member: Member) -> str:
    return format_json(
        {
            "host": member.host,
            "created": member.created,
            "node": member.name,
            "pid": member.pid,
            "capacity": member.capacity,
            "weight": member.weight,
            "frozen": member.frozen,
            "draining": member.draining,
            **({"full": True} if member.full else {}),
            "labels": dict(member.labels),
            "handlers": list(member.handlers),
            **({"balancer": member.balancer} if member.balancer else {}),
            **({"trouble": asdict(member.trouble)} if member.trouble else {}),
            **({"lease": member.lease_s} if member.lease_s else {}),
            **({"groups": list(member.groups)} if member.groups else {}),
            **({"ended": True} if member.ended else {}),
            **({"code": format_code(member.code)} if member.code else {}),
            **({"has": to_json(member.has)} if member.has else {}),
            **({"needs": {name: to_json(needs) for name, needs in member.needs.items()}} if member.needs else {}),
            **({"reserves": member.reserves} if member.reserves else {}),
        }
    )


def parse_member(name: str, value: bytes | str) -> Member:
    """The member record that stands at the key of the node `name`. A Go node's has only host, created and node."""
    what = f"member record of {name}"
    values = parse_object(value, what)
    handlers = read_field(values, "handlers", list, [], what)
    if not all(isinstance(handler, str) for handler in handlers):
        raise ValueError(f'{what}: "handlers" must be a list of names, not {shown_json(handlers)}')
    weight = read_field(values, "weight", (int, float), 1.0, what)
    if not 0 < weight <= MOST_WEIGHT:
        raise ValueError(f'{what}: "weight" must be over 0 and at most {MOST_WEIGHT:g}, not {shown(weight)}')
    lease = read_field(values, "lease", (int, float), 0.0, what)
    if not 0 <= lease <= _MOST_LEASE_S:
        raise ValueError(f'{what}: "lease" must be seconds, at most {_MOST_LEASE_S}, not {shown(lease)}')
    groups = read_field(values, "groups", list, [], what)
    if not all(isinstance(group, str) for group in groups):
        raise ValueError(f'{what}: "groups" must be a list of words, not {shown_json(groups)}')
    return Member(
        name=name,
        host=read_field(values, "host", str, "", what),
        pid=read_whole(values, "pid", 0, what),
        created=read_field(values, "created", str, "", what),
        capacity=read_whole(values, "capacity", None, what),
        weight=float(weight),
        frozen=read_field(values, "frozen", bool, False, what),
        draining=read_field(values, "draining", bool, False, what),
        full=read_field(values, "full", bool, False, what),
        labels=read_strings(values, "labels", what),
        handlers=tuple(handlers),
        balancer=read_field(values, "balancer", str, "", what),
        trouble=_parse_trouble(read_field(values, "trouble", dict, None, what), what),
        lease_s=float(lease),
        groups=tuple(groups),
        ended=read_field(values, "ended", bool, False, what),
        code=_parse_code(read_field(values, "code", dict, None, what), what),
        has=parse_needs(read_field(values, "has", dict, {}, what), f"{what}: has"),
        needs={
            name: parse_needs(needs, f"{what}: needs.{name}")
            for name, needs in read_field(values, "needs", dict, {}, what).items()
        },
        reserves=read_field(values, "reserves", str, "", what),
    )


def _parse_trouble(values: Mapping[str, Any] | None, what: str) -> Trouble | None:
    """A node that says that it is in trouble is in trouble, whatever else it says."""
    if values is None:
        return None
    why, since, detail = (read_field(values, name, str, "", f"{what}: trouble") for name in ("why", "since", "detail"))
    return Trouble(why, since, detail)


def format_code(code: Code) -> dict[str, Any]:
    """The object of a member record, and of what is shown of a node."""
    reload = {} if code.reload is None else {"reload": {**asdict(code.reload), "state": code.reload.state.value}}
    return {"generation": code.generation, "former": list(code.former), **reload}


def _parse_code(values: Mapping[str, Any] | None, what: str) -> Code | None:
    if values is None:
        return None
    from mpfora.model.code import Code  # few nodes tell of it

    what = f"{what}: code"
    former = read_field(values, "former", list, [], what)
    if not all(isinstance(number, int) for number in former):
        raise ValueError(f'{what}: "former" must be a list of numbers, not {shown_json(former)}')
    reload = _parse_reload(read_field(values, "reload", dict, None, what), f"{what}: reload")
    return Code(read_whole(values, "generation", 0, what) or 0, tuple(former), reload)


def _parse_reload(values: Mapping[str, Any] | None, what: str) -> Reload | None:
    if values is None:
        return None
    from mpfora.model.code import Reload, ReloadState

    try:
        state = ReloadState(read_field(values, "state", str, "", what))
    except ValueError as error:
        raise ValueError(f'{what}: "state": {error}') from None
    told: dict[str, Any] = {
        name: read_field(values, name, str, "", what) for name in ("why", "since", "error", "detail")
    }
    told |= {name: read_whole(values, name, 0, what) or 0 for name in ("command", "staying", "renewed")}
    return Reload(state, **told)


def format_progress(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What a node's running tasks say of themselves, by task id; and the node of itself, under NODE_ROW."""
    return format_json({task_id: dict(row) for task_id, row in rows.items()})


def parse_progress(value: bytes | str) -> dict[str, dict[str, Any]]:
    rows = parse_object(value, "progress")
    return {task_id: row for task_id, row in rows.items() if isinstance(row, dict)}
