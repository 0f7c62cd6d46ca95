"""What clients, the command line and the embedded etcd raise: one family. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence


class MpforaError(Exception):
    """The base of the family. The text is for people: it names the culprit and, where there is one, the remedy."""


class EtcdUnreachable(MpforaError):
    """etcd did not answer in time. A write that was under way may have happened."""


class EtcdRefused(MpforaError):
    """etcd answered, and refused for a reason that trying again will not change (no permission, no space)."""


class EmbeddedError(MpforaError):
    """The embedded etcd could not be found, started or joined."""


class InvalidTask(MpforaError):
    """A task that cannot be submitted: its id, its props or its handler's name."""


class TaskExists(MpforaError):
    """The id is taken. `what` says what is there: "a task", "the state of a finished task", or what else is kept."""

    def __init__(self, task_id: str, what: str, remedy: str) -> None:
        super().__init__(f"task {task_id!r}: {what} of this id exists already; {remedy}")
        self.task_id = task_id
        self.what = what


class TaskNotFound(MpforaError):
    """There is no such task, and no state is kept of one."""

    def __init__(self, task_id: str, text: str = "there is no such task, and no state is kept of one") -> None:
        super().__init__(f"task {task_id!r}: {text}")
        self.task_id = task_id


class AnsweredOtherwise(MpforaError):
    """A command has reached the task, and its handler has left with another transition."""

    def __init__(self, task_id: str, verb: str, state: str) -> None:
        super().__init__(f"task {task_id!r}: its handler has answered {verb} with another transition: it is {state}")
        self.task_id = task_id
        self.state = state


class NotTaken(MpforaError):
    """A task in this state takes no such command: nothing leads on from there by it."""

    def __init__(self, task_id: str, verb: str, state: str) -> None:
        super().__init__(f"task {task_id!r}: a {state} task takes no {verb}")
        self.task_id = task_id
        self.state = state


class NotOnNode(MpforaError):
    """The node that is to stop the task does not have it; `owner` is the one that has, None if nobody has."""

    def __init__(self, task_id: str, node: str, owner: str | None) -> None:
        where = f"node {owner!r} has it" if owner else "no node has it"
        super().__init__(f"task {task_id!r} is not on node {node!r}: {where}")
        self.task_id = task_id
        self.owner = owner


class UnreadableState(MpforaError):
    """What is kept of the task's state cannot be read, and a command would have it written over."""

    def __init__(self, task_id: str, verb: str, key: str, problem: str) -> None:
        super().__init__(
            f"task {task_id!r}: its state cannot be read ({problem}), and {verb} would write over it:"
            f" mend what stands at {key} in etcd, or delete the task (mpfora delete {task_id})"
        )
        self.task_id = task_id


class NodeNotFound(MpforaError):
    """No live node has this name; `nodes` are those that there are."""

    def __init__(self, name: str, nodes: Sequence[str]) -> None:
        listing = ", ".join(nodes) if nodes else "none"
        super().__init__(f"node {name!r}: no such node is live (there are: {listing})")
        self.name = name
        self.nodes = tuple(nodes)


class WaitTimeout(MpforaError, TimeoutError):
    """The time given to a wait is up; `pending` are the tasks that have not finished, `why` says how they stand."""

    def __init__(self, pending: Sequence[str], timeout_s: float, why: str) -> None:
        super().__init__(f"not finished within {timeout_s:g} s: {why}")
        self.pending = tuple(pending)
        self.why = why


class StillRunning(MpforaError, TimeoutError):
    """A task was deleted, and its node has not ended its process within the time given. The node goes on with that."""

    def __init__(self, task_id: str, node: str, timeout_s: float) -> None:
        super().__init__(
            f"task {task_id!r} is deleted, but node {node!r} has not ended its process within {timeout_s:g} s"
        )
        self.task_id = task_id
        self.node = node


class NotCarriedOut(MpforaError, TimeoutError):
    """A command was written, and within the time given nothing shows that it was carried out. It stays where it is."""
