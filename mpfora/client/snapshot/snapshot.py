"""Snapshot: what stands in etcd of a namespace at one revision, sorted by task and by node. Pure.

`read_live` reads what the nodes say of their running tasks (NS/live/NODE), which is not in the watched range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.client.snapshot.why_pending import NodeLoad
from mpfora.cluster.assignment.fitting import needs_on
from mpfora.config.props import parse_wants
from mpfora.model.needs import subtract
from mpfora.model.state import State, TaskState
from mpfora.model.task import Member, NodeUsage
from mpfora.store.claim_records import parse_owner
from mpfora.store.keys import MARKER, Layout
from mpfora.store.kv import KV
from mpfora.store.node_records import parse_member, parse_progress
from mpfora.store.state_records import parse_state
from mpfora.store.usage_records import parse_usage

#: node -> task id -> what the node says of the run: "progress", "note", "attempt", "started", "handler"
Live = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(slots=True)
class TaskKeys:
    """What stands in etcd of one task; None: there is no such key."""

    exists: bool = False
    #: the create revision of the task's key
    created: int = 0
    props: bytes | None = None
    owner: bytes | None = None
    fence: int = 0
    state: bytes | None = None
    #: its last owner said that its process was dead when it let go
    released: bool = False
    #: a client wants it deleted
    removed: bool = False

    @property
    def rests(self) -> bool:
        """Whether the task needs no process now. Nodes have the same rule (mpfora/cluster/mirror.py,
        TaskView.resting)."""
        if self.state is None:
            props = self.props or b""
            return b"not_before" in props and parse_wants(props).sleeps_first
        kept, problem = read_state(self.state)
        return problem is not None or is_resting(kept)

    @property
    def asleep_until(self) -> float | None:
        """Until when the task sleeps, by its kept state, or by its props where there is none; None: it does not."""
        if self.state is None:
            props = self.props or b""
            return parse_wants(props).not_before if b"not_before" in props else None
        kept, _ = read_state(self.state)
        return kept.until if kept.state is State.SLEEPING else None


@dataclass(slots=True)
class Snapshot:
    """The tasks and the live nodes by name. A finished task, of which only a state is left, is a task here, too."""

    layout: Layout = field(default_factory=lambda: Layout("mpfora"))
    #: the store's revision at which this was so
    revision: int = 0
    tasks: dict[str, TaskKeys] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    #: what nodes say that their tasks cost
    usages: dict[str, NodeUsage] = field(default_factory=dict)

    def owners(self, among: Iterable[str] | None = None) -> set[str]:
        """The live nodes that own tasks (one of these) and tell of progress (Go nodes do not: their records have no
        pid)."""
        some = self.tasks.values() if among is None else [self.tasks[task_id] for task_id in among]
        owners = {owner_node(keys) for keys in some if keys.owner is not None}
        return {name for name, member in self.members.items() if name in owners and member.pid}

    def loads(self) -> list[NodeLoad]:
        """The live nodes by name, each with how many of its tasks need a process, and what these leave of its
        resources."""
        active = dict.fromkeys(sorted(self.members), 0)
        free = {name: dict(member.has) for name, member in self.members.items()}
        for keys in self.tasks.values():
            node = owner_node(keys)
            if node is not None and node in active and not keys.rests:
                active[node] += 1
                if free[node]:
                    needs = needs_on(self.members[node], parse_wants(keys.props or b""))
                    free[node] = subtract(free[node], needs)
        return [NodeLoad(self.members[name], count, free[name]) for name, count in active.items()]


def read_snapshot(layout: Layout, kvs: Iterable[KV], revision: int = 0) -> Snapshot:
    """The snapshot of these keys of the watched range. Passes other keys over."""
    snapshot = Snapshot(layout, revision)
    for kv in kvs:
        put_key(snapshot, kv.key, kv.value, kv.create_revision)
    return snapshot


def put_key(snapshot: Snapshot, key: str, value: bytes, created: int) -> str | None:
    """Take in a key with this value. Returns the id of its task, if it has one."""
    match key[len(snapshot.layout.root) :].split("/"):
        case ["nodes", name, last] if last == MARKER:
            snapshot.members[name] = _read_member(name, value)
            return None
        case ["resources", name]:
            snapshot.usages.update(_read_usage(name, value))
            return None
        case ["state", task_id] if task_id != MARKER:
            snapshot.tasks.setdefault(task_id, TaskKeys()).state = value
        case ["tasks", task_id] if task_id != MARKER:
            keys = snapshot.tasks.setdefault(task_id, TaskKeys())
            keys.exists, keys.created = True, created
        case ["tasks", task_id, "props"]:
            snapshot.tasks.setdefault(task_id, TaskKeys()).props = value
        case ["tasks", task_id, "owner"]:
            keys = snapshot.tasks.setdefault(task_id, TaskKeys())
            keys.owner, keys.fence = value, created
        case ["tasks", task_id, "released"] | ["released", task_id]:
            snapshot.tasks.setdefault(task_id, TaskKeys()).released = True
        case ["removals", task_id]:
            snapshot.tasks.setdefault(task_id, TaskKeys()).removed = True
        case _:
            return None
    return task_id


def drop_key(snapshot: Snapshot, key: str) -> str | None:
    """Take out a deleted key. Returns the id of its task, if it has one."""
    match key[len(snapshot.layout.root) :].split("/"):
        case ["nodes", name, last] if last == MARKER:
            snapshot.members.pop(name, None)
            return None
        case ["resources", name]:
            snapshot.usages.pop(name, None)
            return None
        case [first, task_id, *rest] if (fields := _DROPPED.get((first, *rest))) and task_id in snapshot.tasks:
            for name, empty in fields.items():
                setattr(snapshot.tasks[task_id], name, empty)
            if snapshot.tasks[task_id] == _NO_KEYS:
                del snapshot.tasks[task_id]
            return task_id
    return None


_NO_KEYS = TaskKeys()
#: what a deletion of a task's key takes away
_DROPPED: Mapping[tuple[str, ...], Mapping[str, object]] = {
    ("state",): {"state": None},
    ("tasks",): {"exists": False, "created": 0},
    ("tasks", "props"): {"props": None},
    ("tasks", "owner"): {"owner": None, "fence": 0},
    ("tasks", "released"): {"released": False},
    ("released",): {"released": False},
    ("removals",): {"removed": False},
}


def _read_member(name: str, value: bytes) -> Member:
    """The node of a member record. A record that cannot be read is still that of a live node."""
    try:
        return parse_member(name, value)
    except ValueError:
        return Member(name)


def _read_usage(name: str, value: bytes) -> dict[str, NodeUsage]:
    """The usage that a node has published; {} where it cannot be read."""
    try:
        return {name: parse_usage(value)}
    except ValueError:
        return {}


def read_live(layout: Layout, kvs: Iterable[KV]) -> dict[str, dict[str, dict[str, Any]]]:
    """What each node says of its running tasks. A value that cannot be read says nothing."""
    live: dict[str, dict[str, dict[str, Any]]] = {}
    for kv in kvs:
        try:
            live[kv.key[len(layout.live_nodes) :]] = parse_progress(kv.value)
        except ValueError:
            continue
    return live


def owner_node(keys: TaskKeys) -> str | None:
    """The node that owns the task; None: nobody does, or the owner key cannot be read."""
    if keys.owner is None:
        return None
    try:
        return parse_owner(keys.owner)[0]
    except ValueError:
        return None


def read_state(value: bytes | None) -> tuple[TaskState, str | None]:
    if value is None:
        return TaskState(), None
    try:
        return parse_state(value), None
    except ValueError as error:
        return TaskState(), str(error)


def is_resting(kept: TaskState) -> bool:
    return kept.state in (State.SLEEPING, State.PAUSED)
