"""The rows of listings: `task_rows` and `node_rows` make them of a snapshot.

A value that cannot be read makes no row vanish: the row of such a task says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mpfora.client.filters.matching import NO_GAUGES, Facts, Gauges
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import PENDING, UNREADABLE, TaskInfo
from mpfora.client.snapshot.snapshot import Live, Snapshot, TaskKeys, owner_node, read_state
from mpfora.client.snapshot.why_not_running import Reasons, asleep_until, text_of
from mpfora.cluster.assignment.fitting import needs_on
from mpfora.config.props import named_in, parse_wants
from mpfora.model.needs import json_amount, to_json
from mpfora.model.state import State, TaskError, TaskState
from mpfora.model.task import Member, Wants
from mpfora.model.units import held_time, parse_time
from mpfora.store.json_format import MOST_WHOLE

log = logging.getLogger("mpfora.client")


def task_rows(snapshot: Snapshot, live: Live, *, now: float) -> list[TaskInfo]:
    """The rows of all tasks by id. now: Unix seconds."""
    reasons = Reasons(snapshot, live, now)
    return [task_info(task_id, snapshot.tasks[task_id], live, reasons) for task_id in listed_ids(snapshot)]


def listed_ids(snapshot: Snapshot) -> list[str]:
    """The tasks that listings show, by id."""
    return [task_id for task_id, keys in sorted(snapshot.tasks.items()) if is_listed(keys, read_state(keys.state)[0])]


def is_listed(keys: TaskKeys, kept: TaskState) -> bool:
    """A state without a task is one if it says that the task has finished; any other is left over, and shown
    nowhere."""
    return keys.exists or kept.terminal


def task_info(task_id: str, keys: TaskKeys, live: Live, reasons: Reasons | None = None) -> TaskInfo:
    """The row of one task. If it cannot be made, it says so, and hides no other row."""
    try:
        return _task_info(task_id, keys, live, reasons)
    except Exception as bug:
        log.exception("task %s: its row cannot be made: this is a bug in mpfora", task_id)
        why = f"its row cannot be made, by a bug in mpfora ({type(bug).__name__}: {bug})"[:300]
        return TaskInfo(task_id, UNREADABLE, note=why, reason=why, fence=keys.fence if keys.owner else None)


def _task_info(task_id: str, keys: TaskKeys, live: Live, reasons: Reasons | None) -> TaskInfo:
    kept, problem = read_state(keys.state)
    reason = None if reasons is None else reasons.of(task_id, keys, kept)
    if reasons is not None and problem:
        held = f" ({reason})" if reason and keys.owner is not None else ""
        reason = (
            f"its state cannot be read: {problem}{held}; mend what stands at {reasons.key_of_state(task_id)} in etcd,"
            f" or delete the task (mpfora delete {task_id})"
        )
    if reasons is not None and (until := reasons.asleep_until(keys)) is not None:
        kept = replace(kept, state=State.SLEEPING, until=until)
    node = owner_node(keys)
    run = live.get(node, {}).get(task_id, {}) if node else {}
    owner = None if node is None or reasons is None else reasons.member(node)
    handler, group = _names(keys, kept, owner)
    gauges = NO_GAUGES if reasons is None else gauges_of(run, reasons.now)
    return TaskInfo(
        id=task_id,
        state=UNREADABLE if problem else _shown_state(kept, keys),
        node=node or (kept.node if kept.terminal else "") or None,
        handler=text_of(run, "handler") or handler or None,
        progress=_number(run, "progress"),
        note=problem or text_of(run, "note"),
        attempt=int(_number(run, "attempt") or 0) or kept.attempt,
        fence=keys.fence if keys.owner is not None else None,
        started=_time(run, "started") or kept.started,
        until=kept.until,
        errors=kept.errors,
        result=kept.result,
        cause=kept.cause or None,
        stack=kept.stack or _last_stack(kept.errors),
        ended=kept.ended,
        reason=text_of(run, "reason") or reason,
        kept_until=kept.kept_until,
        group=group or None,
        cpu=gauges.cpu,
        cpu_s=_number(run, "cpu_s"),
        rss=None if gauges.rss is None else int(gauges.rss),
        needs=_needs(keys, owner),
        given=run.get("given") if isinstance(run.get("given"), dict) else None,
        priority=_wants(keys).priority,
    )


def _wants(keys: TaskKeys) -> Wants:
    """Without parsing props that say nothing of it."""
    props = keys.props or b""
    return parse_wants(props) if b'"needs"' in props or b'"priority"' in props else Wants()


def _needs(keys: TaskKeys, owner: Member | None) -> dict[str, Any] | None:
    """By its props, or by what the node that has it says of its handler."""
    wants = _wants(keys)
    if wants.needs is None and owner is not None and owner.needs:
        return to_json(needs_on(owner, parse_wants(keys.props or b""))) or None
    return to_json(wants.needs) if wants.needs else None


def _shown_state(kept: TaskState, keys: TaskKeys) -> str:
    return PENDING if kept.state is State.RUNNABLE and keys.owner is None else kept.state.value


def _names(keys: TaskKeys, kept: TaskState, owner: Member | None) -> tuple[str, str]:
    """(handler, group) as the props name them. Where they name no handler: the only one of the node that has the task;
    of a finished task, whose props are gone, what its state keeps."""
    handler, group = ("", "") if keys.props is None else named_in(keys.props)
    only = owner.handlers[0] if owner is not None and len(owner.handlers) == 1 else ""
    return handler or only or kept.handler, group or kept.group


def task_facts(task_id: str, keys: TaskKeys, members: Mapping[str, Member], now: float) -> Facts | None:
    """What the task is filtered and sorted by; None: no listing shows it. now: Unix seconds."""
    kept, problem = read_state(keys.state)
    if not is_listed(keys, kept):
        return None
    if asleep_until(keys, now) is not None:
        state: str = State.SLEEPING.value
    else:
        state = UNREADABLE if problem else _shown_state(kept, keys)
    node = owner_node(keys) or ""
    handler, group = _names(keys, kept, members.get(node))
    labels = parse_wants(keys.props).labels if keys.props is not None and b'"labels"' in keys.props else None
    runs = state == State.RUNNABLE
    return Facts(
        task_id, state, node or (kept.node if kept.terminal else ""), handler, group, kept.cause, labels,
        since=None if runs else kept.ended, attempt=kept.attempt, props=keys.props,
    )  # fmt: skip


def gauges_of(run: Mapping[str, Any], now: float) -> Gauges:
    """What a node says of a run. Its cores are those since the run began."""
    used_s, started, rss = _number(run, "cpu_s"), _time(run, "started"), _number(run, "rss")
    cores = None if used_s is None or started is None or now <= started else used_s / (now - started)
    return Gauges(_number(run, "progress"), cores, rss, started)


def _last_stack(errors: tuple[TaskError, ...]) -> str | None:
    return errors[-1].stack or None if errors else None


def _number(values: Mapping[str, Any], name: str) -> float | None:
    """None for what is not a number, and for one that nothing can hold."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST_WHOLE <= value <= MOST_WHOLE:
        return None
    return float(value)


def _time(values: Mapping[str, Any], name: str) -> float | None:
    """Unix seconds: of a number, or of an RFC 3339 text."""
    text = text_of(values, name)
    try:
        seconds = _number(values, name) if text is None else parse_time(text)
    except ValueError:
        return None
    return None if seconds is None else held_time(seconds)


def node_rows(snapshot: Snapshot) -> list[NodeInfo]:
    """The rows of all nodes by name. Each has the number of its tasks, and of those that need a process."""
    owned: dict[str, int] = dict.fromkeys(snapshot.members, 0)
    for keys in snapshot.tasks.values():
        node = owner_node(keys)
        if node in owned:
            owned[node] += 1
    return [node_info(place.member, owned[place.member.name], place.active, place.free) for place in snapshot.loads()]


def _free(member: Member, free: Mapping[str, int] | None) -> dict[str, Any] | None:
    if free is None and member.has:
        return None
    return {name: json_amount(name, amount) for name, amount in (free or {}).items()}


def node_info(member: Member, tasks: int, active: int, free: Mapping[str, int] | None = None) -> NodeInfo:
    """The row of one node, without its share. free: what is left of its resources; None: nobody knows."""
    return NodeInfo(
        name=member.name,
        host=member.host,
        pid=member.pid,
        tasks=tasks,
        capacity=member.capacity,
        frozen=member.frozen,
        draining=member.draining,
        labels=member.labels,
        started=member.created,
        handlers=member.handlers,
        balancer=member.balancer,
        cgroups=member.groups,
        trouble=member.trouble,
        active=active,
        code=member.code,
        has=to_json(member.has),
        free=_free(member, free),
        reserves=member.reserves,
    )
