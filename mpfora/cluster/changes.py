"""What changed in the namespace: the closed set of changes that a Coordinator's watch reports. Pure.

They are facts of the cluster, free of keys and JSON, in revision order; every node sees the same ones in the same
order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.model.state import Message, State
from mpfora.model.task import Cost, Member, NodeUsage, Wants


@dataclass(frozen=True, slots=True)
class TaskPut:
    """A task exists. Reported again when its key is put again (a Go client may touch it to have it looked at).
    created: the create revision of its key, by which it is told from an earlier task of this id."""

    task_id: str
    created: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class TaskGone:
    """The task's key was deleted: it is done, or a client deleted it."""

    task_id: str


@dataclass(frozen=True, slots=True)
class WantsPut:
    """The task's props were put, or deleted; `wants` is what they ask of a node."""

    task_id: str
    wants: Wants


@dataclass(frozen=True, slots=True)
class OwnerPut:
    """The task was claimed by `node`. fence is the owner key's create revision; missed names the node that should
    have claimed it and did not."""

    task_id: str
    node: str
    fence: int
    missed: str | None = None


@dataclass(frozen=True, slots=True)
class OwnerGone:
    """The claim is gone. clean: its owner said in the same revision that its process is dead; to: and which node should
    have the task; cost: and what it costs, where that node measures."""

    task_id: str
    clean: bool
    to: str | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class RemovalPut:
    """A client wants the task deleted whose key was created at `created`: its owner removes all of it."""

    task_id: str
    created: int = 0


@dataclass(frozen=True, slots=True)
class RemovalGone:
    task_id: str


@dataclass(frozen=True, slots=True)
class StatePut:
    """The task's kept state, as far as others need it."""

    task_id: str
    state: State
    until: float | None = None


@dataclass(frozen=True, slots=True)
class StateGone:
    task_id: str


@dataclass(frozen=True, slots=True)
class TaskCommandPut:
    """A command for the task; the last one wins. revision is its key's mod revision, given back when it is taken."""

    task_id: str
    message: Message
    revision: int


@dataclass(frozen=True, slots=True)
class TaskCommandGone:
    task_id: str


@dataclass(frozen=True, slots=True)
class MemberPut:
    member: Member


@dataclass(frozen=True, slots=True)
class MemberGone:
    name: str


@dataclass(frozen=True, slots=True)
class NodeCommandPut:
    """A command for a node. key_id names the command's key; verb is "freeze", "unfreeze", "balance", "stop_task",
    "drain" or "undrain"; parameters are its JSON parameters ({"task": ID} for stop_task)."""

    node: str
    key_id: str
    verb: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class ReaderPut:
    """Somebody wants to see progress: nodes publish it while at least one reader exists."""

    reader_id: str


@dataclass(frozen=True, slots=True)
class ReaderGone:
    reader_id: str


@dataclass(frozen=True, slots=True)
class UsagePut:
    """What a node says its tasks cost."""

    node: str
    usage: NodeUsage


@dataclass(frozen=True, slots=True)
class UsageGone:
    node: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody asks a node something, or (is_gone) does so no more. It is no fact of the cluster: nothing is decided
    from it."""

    node: str
    number: str
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Malformed:
    """A key or value that cannot be understood; nothing else is affected by it.

    key      as it stands in the store
    problem  one line: what is wrong and what would be right
    discard  it is a command, which its addressee deletes: (node, key_id) or (task id, revision) in the fields below
    state_of it is the kept state of this task, which is neither run nor given a state of its own until that is mended
    """

    key: str
    problem: str
    revision: int
    node: str | None = None
    key_id: str | None = None
    task_id: str | None = None
    state_of: str | None = None


Change = (
    TaskPut | TaskGone | WantsPut | OwnerPut | OwnerGone | RemovalPut | RemovalGone | StatePut | StateGone
    | TaskCommandPut | TaskCommandGone | MemberPut | MemberGone | NodeCommandPut | ReaderPut | ReaderGone
    | UsagePut | UsageGone | Malformed
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that changed at one revision, in the order of the keys.

    One batch is one revision, so that every node decides from the same states of the cluster, whatever its lag.

    reset  the changes are the whole content (of an empty cluster), and whatever was known before is void: at the
    start of
           a watch, and when the store could not continue it (compaction)
    more   further parts of the same revision follow. Of a reset in parts what was known before holds until the last has
           come, which has no more; of any other nothing is decided for its tasks before that
    asked  questions to nodes, for whoever answers them
    scheduled  a schedule has changed, or how far one has come
    """

    revision: int
    changes: tuple[Change, ...]
    reset: bool = False
    more: bool = False
    asked: tuple[Asked, ...] = ()
    scheduled: bool = False


def place_in_revision(change: Change) -> int:
    """A task comes before what is known of it: a Go client puts the props first. A node goes before its claims: by that
    it is seen that its lease took them. What a node says of its tasks goes after them."""
    return 0 if type(change) in (TaskPut, MemberGone) else 2 if type(change) is UsageGone else 1
