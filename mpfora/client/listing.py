"""What users see of tasks and nodes: rows, made of a listing of the namespace. Pure.

`Picture` is the content of the watched range at one revision; `task_rows` and `node_rows` join it with what nodes say
of their running tasks (NS/live/NODE). Values that cannot be read make no row vanish: such a task says so in its note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mpfora.client.pending import Place, why_pending
from mpfora.history import Run
from mpfora.keys import (
    MARKER,
    Layout,
    parse_member,
    parse_object,
    parse_owner,
    parse_progress,
    parse_state,
    parse_usage,
    parse_wants,
)
from mpfora.kv import KV
from mpfora.model import InvalidName, Member, NodeUsage, Wants, check_name
from mpfora.states import TERMINAL, State, TaskError, TaskState
from mpfora.task_settings import BadSetting, read_task_settings
from mpfora.units import format_time, parse_time

#: a task that is runnable and that nobody owns
PENDING = "pending"
#: a task whose kept state cannot be read
UNREADABLE = "unreadable"
FINISHED = frozenset(state.value for state in TERMINAL)

#: node -> task id -> what the node says of the run: "progress", "note", "attempt", "started", "handler"
Live = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task, as it stands in etcd. Times are Unix seconds.

    state     Metafora's name of it; "pending": runnable, and nobody owns it; "sleeping" also by the not_before of its
              props, before a node has claimed it for the first time; "unreadable": see the note
    node      who owns it; of a finished task, where its last run ended
    handler   the name in its props, None: it names none
    progress  0.0 to 1.0, None: not told;  note: what the handler says of itself
    attempt   the number of its run; of a task that does not run, how many runs it had
    fence     of the claim, None: nobody owns it
    started   of the current or the last run
    until     when a sleeping task is to run again
    cause     how its last run ended;  stack: of every thread where that run hung
    ended     when its last run ended
    reason    why it does not run, where that is not plain: what keeps a task from being claimed that nobody owns, or
              what its node says of why it holds it
    history   its last runs, oldest first; None: not looked at, as in listings of many
    kept_until  when what is kept of a finished task goes; None: it stays until it is purged
    """

    id: str
    state: str
    node: str | None = None
    handler: str | None = None
    progress: float | None = None
    note: str | None = None
    attempt: int = 0
    fence: int | None = None
    started: float | None = None
    until: float | None = None
    errors: tuple[TaskError, ...] = ()
    result: Any = None
    cause: str | None = None
    stack: str | None = None
    ended: float | None = None
    reason: str | None = None
    history: tuple[Run, ...] | None = None
    kept_until: float | None = None

    @property
    def finished(self) -> bool:
        """Completed, failed or killed: nothing will change any more."""
        return self.state in FINISHED

    @property
    def completed(self) -> bool:
        return self.state == State.COMPLETED

    def to_json(self) -> dict[str, Any]:
        """The fields in their order, times as RFC 3339."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("started", "until", "ended", "kept_until"):
            values[name] = _format_optional_time(values[name])
        values["history"] = None if self.history is None else [run.to_json() for run in self.history]
        values["errors"] = [
            {"timestamp": format_time(e.at), "error": e.text, "cause": e.cause or None, "stack": e.stack or None}
            for e in self.errors
        ]
        return values


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One live node. `started` is RFC 3339, as the node wrote it; capacity None: no limit; pid 0: it does not tell.

    why       why it takes no tasks; "": it does
    balancer  by which it moves tasks; "": it does not tell
    share     how many tasks it should hold beside the others; None: it takes no part in that, or has another balancer
              than `fair` (`cost` is as that as long as nobody has measured anything)
    cost      what its tasks that need a process cost, in average tasks; None: no node measures that (balancer `cost`)
    cost_share  what they would if it were spread by weight; None: it takes no part in that
    counts  what it did for the balance since it started: "attempts", "won", "lost", "late", "was_missed", "moves",
            "suspects"; None: not asked, or not told"""

    name: str
    host: str
    pid: int
    tasks: int
    capacity: int | None
    frozen: bool
    draining: bool
    labels: Mapping[str, str]
    started: str
    handlers: tuple[str, ...]
    share: int | None = None
    why: str = ""
    cost: float | None = None
    cost_share: float | None = None
    balancer: str = ""
    counts: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return values | {"labels": dict(self.labels), "handlers": list(self.handlers)}


@dataclass(slots=True)
class TaskKeys:
    """What stands in etcd of one task; None: there is no such key."""

    exists: bool = False
    props: bytes | None = None
    owner: bytes | None = None
    fence: int = 0
    state: bytes | None = None
    #: its last owner said that it let go
    released: bool = False

    @property
    def rests(self) -> bool:
        """It needs no process now, by the rule of nodes (mpfora/supervisor/mirror.py, TaskView.resting)."""
        if self.state is None:
            props = self.props or b""
            return b"not_before" in props and parse_wants(props).sleeps_first
        kept, problem = _read_state(self.state)
        return problem is not None or _is_resting(kept)


@dataclass(slots=True)
class Picture:
    """The tasks (with those of which only a state is left) and the live nodes, by name."""

    tasks: dict[str, TaskKeys] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    #: what nodes say that their tasks cost
    usages: dict[str, NodeUsage] = field(default_factory=dict)

    def owners(self) -> set[str]:
        """The live nodes that own tasks and tell of progress (Go nodes do not: their records have no pid)."""
        owners = {owner_node(keys) for keys in self.tasks.values() if keys.owner is not None}
        return {name for name, member in self.members.items() if name in owners and member.pid}

    def places(self) -> list[Place]:
        """The live nodes by name, with how many tasks of each need a process."""
        active = dict.fromkeys(sorted(self.members), 0)
        for keys in self.tasks.values():
            node = owner_node(keys)
            if node in active and not keys.rests:
                active[node] += 1
        return [Place(self.members[name], count) for name, count in active.items()]


def read_picture(layout: Layout, kvs: Iterable[KV]) -> Picture:
    """Of the keys of the watched range; others are passed over."""
    picture = Picture()
    for kv in kvs:
        parts = kv.key[len(layout.root) :].split("/")
        match parts:
            case ["nodes", name, last] if last == MARKER:
                picture.members[name] = _read_member(name, kv.value)
            case ["resources", name]:
                picture.usages.update(_read_usage(name, kv.value))
            case ["state", task_id] if task_id != MARKER:
                picture.tasks.setdefault(task_id, TaskKeys()).state = kv.value
            case ["tasks", task_id] if task_id != MARKER:
                picture.tasks.setdefault(task_id, TaskKeys()).exists = True
            case ["tasks", task_id, "props"]:
                picture.tasks.setdefault(task_id, TaskKeys()).props = kv.value
            case ["tasks", task_id, "owner"]:
                keys = picture.tasks.setdefault(task_id, TaskKeys())
                keys.owner, keys.fence = kv.value, kv.create_revision
            case ["tasks", task_id, "released"]:
                picture.tasks.setdefault(task_id, TaskKeys()).released = True
    return picture


def _read_member(name: str, value: bytes) -> Member:
    """A record that cannot be read is still a live node's."""
    try:
        return parse_member(name, value)
    except ValueError:
        return Member(name)


def _read_usage(name: str, value: bytes) -> dict[str, NodeUsage]:
    """One that cannot be read says nothing."""
    try:
        return {name: parse_usage(value)}
    except ValueError:
        return {}


def read_live(layout: Layout, kvs: Iterable[KV]) -> dict[str, dict[str, dict[str, Any]]]:
    """What each node says of its running tasks; what cannot be read counts as nothing said."""
    live: dict[str, dict[str, dict[str, Any]]] = {}
    for kv in kvs:
        try:
            live[kv.key[len(layout.live_nodes) :]] = parse_progress(kv.value)
        except ValueError:
            continue
    return live


def task_rows(picture: Picture, live: Live, state: str | None = None, *, now: float) -> list[TaskInfo]:
    """By id; with `state`, those in it. A state without a task that is not finished is a leftover, and no task.
    now: Unix seconds."""
    reasons = Reasons(picture, live, now)
    rows = (
        task_info(task_id, keys, live, reasons)
        for task_id, keys in sorted(picture.tasks.items())
        if keys.exists or keys.state
    )
    listed = (row for row in rows if picture.tasks[row.id].exists or row.finished)
    return [row for row in listed if state is None or row.state == state]


class Reasons:
    """Why tasks do not run, by one picture; pending tasks alike have one answer."""

    def __init__(self, picture: Picture, live: Live, now: float) -> None:
        self._picture, self._live, self._now = picture, live, now
        self._places = picture.places()
        self._known: dict[tuple[object, ...], str] = {}

    def of(self, task_id: str, keys: TaskKeys, kept: TaskState) -> str | None:
        """None for one that runs, rests with its owner, has finished, or is no task."""
        if not keys.exists or kept.terminal:
            return None
        if keys.owner is not None:
            return None if self.asleep_until(keys) is not None else self._of_owned(task_id, keys, kept)
        try:
            check_name(task_id)
        except InvalidName as error:
            return f"no node takes it: {error}; remove its key with etcdctl"
        why = self._of_unowned(keys, kept)
        return why if self.asleep_until(keys) is None else f"by not_before in its props; not claimed yet: {why}"

    def asleep_until(self, keys: TaskKeys) -> float | None:
        """Until when a task without a kept state sleeps: its first owner will write that down."""
        if not keys.exists or keys.state is not None or b"not_before" not in (keys.props or b""):
            return None
        try:
            until = read_task_settings((keys.props or b"").decode(errors="replace")).not_before
        except BadSetting:
            return None  # it fails when it is claimed, and says why
        return until if until is not None and until > self._now else None

    def _of_unowned(self, keys: TaskKeys, kept: TaskState) -> str:
        vanished = kept.attempt > 0 and not keys.released
        wants, resting = Wants() if keys.props is None else parse_wants(keys.props), keys.rests
        key = wants.handler, *sorted(wants.labels.items()), wants.problem, resting, vanished
        if key not in self._known:
            self._known[key] = why_pending(wants, self._places, resting=resting, vanished=vanished)
        return self._known[key]

    def _of_owned(self, task_id: str, keys: TaskKeys, kept: TaskState) -> str | None:
        node = owner_node(keys)
        if node is None:
            return "whose claim it is cannot be read: delete the owner key if no node runs it"
        if node not in self._picture.members:
            return f"node {node} owns it and is gone: the claim ends with its lease"
        if (held := _named(self._live.get(node, {}).get(task_id, {}), "hold")) is not None:
            return f"node {node} holds it: {held}"
        if node not in self._live or task_id in self._live[node] or _is_resting(kept):
            return None
        return f"node {node} has claimed it and runs no process of it: not yet, or it holds it, as its log says"


def task_info(task_id: str, keys: TaskKeys, live: Live, reasons: Reasons | None = None) -> TaskInfo:
    """One task's row."""
    kept, problem = _read_state(keys.state)
    reason = None if reasons is None else reasons.of(task_id, keys, kept)
    if reasons is not None and problem:
        why = reason or f"its state cannot be read: {problem}"
        reason = f"{why}; mend the key state/{task_id} of its namespace in etcd, or delete the task"
    if reasons is not None and (until := reasons.asleep_until(keys)) is not None:
        kept = replace(kept, state=State.SLEEPING, until=until)
    node = owner_node(keys)
    run = live.get(node, {}).get(task_id, {}) if node else {}
    return TaskInfo(
        id=task_id,
        state=UNREADABLE if problem else _shown_state(kept, keys),
        node=node or (kept.node if kept.terminal else "") or None,
        handler=_named(run, "handler") or _props_handler(keys.props),
        progress=_number(run, "progress"),
        note=problem or _named(run, "note"),
        attempt=int(_number(run, "attempt") or kept.attempt),
        fence=keys.fence if keys.owner is not None else None,
        started=_time(run, "started") or kept.started,
        until=kept.until,
        errors=kept.errors,
        result=kept.result,
        cause=kept.cause or None,
        stack=kept.stack or _last_stack(kept.errors),
        ended=kept.ended,
        reason=_named(run, "reason") or reason,
        kept_until=kept.kept_until,
    )


def _is_resting(kept: TaskState) -> bool:
    return kept.state in (State.SLEEPING, State.PAUSED)


def _shown_state(kept: TaskState, keys: TaskKeys) -> str:
    return PENDING if kept.state is State.RUNNABLE and keys.owner is None else kept.state.value


def _read_state(value: bytes | None) -> tuple[TaskState, str | None]:
    if value is None:
        return TaskState(), None
    try:
        return parse_state(value), None
    except ValueError as error:
        return TaskState(), str(error)


def owner_node(keys: TaskKeys) -> str | None:
    """Who owns the task; None: nobody, or that cannot be read."""
    if keys.owner is None:
        return None
    try:
        return parse_owner(keys.owner)[0]
    except ValueError:
        return None


def _props_handler(props: bytes | None) -> str | None:
    try:
        return _named(parse_object(props or b"{}", "props"), "handler")
    except ValueError:
        return None


def _last_stack(errors: tuple[TaskError, ...]) -> str | None:
    return errors[-1].stack or None if errors else None


def _named(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) and value else None


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _time(values: Mapping[str, Any], name: str) -> float | None:
    """Unix seconds of a number of them, or of an RFC 3339 text."""
    text = _named(values, name)
    try:
        return _number(values, name) if text is None else parse_time(text)
    except ValueError:
        return None


def _format_optional_time(unix_s: float | None) -> str | None:
    return None if unix_s is None else format_time(unix_s)


def node_rows(picture: Picture) -> list[NodeInfo]:
    """By name, each with the number of tasks it owns."""
    owned: dict[str, int] = dict.fromkeys(picture.members, 0)
    for keys in picture.tasks.values():
        node = owner_node(keys)
        if node in owned:
            owned[node] += 1
    return [_node_info(member, owned[name]) for name, member in sorted(picture.members.items())]


def _node_info(member: Member, tasks: int) -> NodeInfo:
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
    )
