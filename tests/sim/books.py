"""What is in the fake etcd, read from its revisions by the checkers alone, and what they know to have happened.

Nothing of a node's own state is looked at here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mpfora.config.props import parse_wants
from mpfora.model.needs import NOTHING, Needs, is_met, subtract
from mpfora.model.outcome import Said, SaidError, SaidMessage, SaidResult
from mpfora.model.state import State, TaskState, Verb
from mpfora.model.task import Member, Wants
from mpfora.store.claim_records import parse_owner
from mpfora.store.keys import Layout
from mpfora.store.kv import Event, Revision
from mpfora.store.node_records import parse_member
from mpfora.store.state_records import parse_state

from .kernel import UNHOLDABLE, Proc


@dataclass(slots=True)
class Owned:
    node: str
    fence: int


@dataclass(slots=True)
class Evidence:
    """Of one task, over its whole life.

    said      (fence, what a process said)
    errors    ends that were the task's own fault
    forks     processes that nodes ordered
    deaths    nodes that it took down
    commands  verbs that a client asked for; last_command: what it put last, also what was none
    last_fence, last_node   of the process of the newest claim
    """

    said: list[tuple[int, Said]] = field(default_factory=list)
    errors: int = 0
    forks: int = 0
    deaths: int = 0
    commands: dict[Verb, None] = field(default_factory=dict)
    last_command: str = ""
    deleted: bool = False
    last_fence: int = 0
    last_node: str = ""

    def has_said(self, verb: Verb, fence: int | None) -> bool:
        """fence None: whichever run it was."""
        for at, said in self.said:
            if fence is not None and at != fence:
                continue
            if isinstance(said, SaidResult) and verb is Verb.COMPLETE:
                return True
            if isinstance(said, SaidMessage) and said.message.verb is verb:
                return True
        return False


@dataclass(slots=True)
class TaskBook:
    """state None: no state key. command: mod revision of the command that waits, 0: none."""

    id: str
    exists: bool = False
    wants: Wants = field(default_factory=Wants)
    owner: Owned | None = None
    state: TaskState | None = None
    command: int = 0
    checkpoint_fence: int = 0
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def resting(self) -> bool:
        if self.state is None:
            return self.wants.sleeps_first
        return self.state.state in (State.SLEEPING, State.PAUSED)

    @property
    def asleep_until(self) -> float | None:
        """Unix seconds, by its kept state or its props; None: it does not sleep."""
        if self.state is None:
            return self.wants.not_before
        return self.state.until if self.state.state is State.SLEEPING else None


class Books:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tasks: dict[str, TaskBook] = {}
        self.members: dict[str, Member] = {}
        #: command key -> node
        self.node_commands: dict[str, str] = {}
        #: node -> how often it told what its tasks cost
        self.tells: Counter[str] = Counter()
        #: owner keys put, by nodes
        self.claims = 0

    def task(self, task_id: str) -> TaskBook:
        book = self.tasks.get(task_id)
        if book is None:
            book = self.tasks[task_id] = TaskBook(task_id)
        return book

    def take(self, revision: Revision) -> list[str]:
        """Returns the tasks that were claimed."""
        claimed: list[str] = []
        for event in revision.events:
            parts = event.key[len(self.layout.root) :].split("/")
            if parts[0] == "tasks" and len(parts) > 1:
                self._take_task(parts, event)
                claimed += [parts[1]] if parts[2:] == ["owner"] and not event.deleted else []
            elif parts[0] == "state":
                self.task(parts[1]).state = None if event.deleted else parse_state(event.value)
            elif parts[0] == "nodes" and parts[-1] == "_metafora" and len(parts) == 3:
                self._take_member(parts[1], event)
            elif parts[0] == "resources" and not event.deleted:
                self.tells[parts[1]] += 1
            elif parts[0] == "nodes" and len(parts) == 4 and parts[3] != "_metafora":
                self._take_node_command(parts[1], event)
        return claimed

    def _take_task(self, parts: list[str], event: Event) -> None:
        if parts[1] == "_metafora":
            return
        book = self.task(parts[1])
        if len(parts) == 2:
            book.exists = not event.deleted
        elif parts[2] == "owner":
            book.owner = None if event.deleted else Owned(parse_owner(event.value)[0], event.create_revision)
            self.claims += not event.deleted
        elif parts[2] == "props" and not event.deleted:
            book.wants = parse_wants(event.value)
        elif parts[2] == "commands":
            book.command = 0 if event.deleted else event.mod_revision

    def _take_member(self, name: str, event: Event) -> None:
        if event.deleted:
            self.members.pop(name, None)
        else:
            self.members[name] = parse_member(name, event.value)

    def _take_node_command(self, node: str, event: Event) -> None:
        if event.deleted:
            self.node_commands.pop(event.key, None)
        else:
            self.node_commands[event.key] = node

    # -- questions ----------------------------------------------------------------------------------------------------

    def active(self, node: str) -> int:
        """How many tasks the node owns that need a process."""
        return len(self.held(node))

    def owned(self, node: str) -> int:
        return sum(1 for task in self.tasks.values() if task.owner is not None and task.owner.node == node)

    def held(self, node: str) -> list[TaskBook]:
        """Tasks that the node owns and that need a process."""
        holds = (one for one in self.tasks.values() if one.owner is not None and one.owner.node == node)
        return [one for one in holds if not one.resting]

    def is_fit(self, member: Member, task: TaskBook) -> bool:
        """Whether a node is willing, and has what a task asks for, if nobody else has it."""
        if member.frozen or member.draining:
            return False
        handler = task.wants.handler
        if handler is None and len(member.handlers) != 1:
            return False
        if handler is not None and handler not in member.handlers:
            return False
        if any(member.labels.get(key) != value for key, value in task.wants.labels.items()):
            return False
        return is_met(task.wants.needs or NOTHING, member.has)

    def can_take(self, member: Member, task: TaskBook) -> bool:
        """Whether a node has what a task asks for, is willing, and has room."""
        if not self.is_fit(member, task):
            return False
        has_slot = member.capacity is None or self.active(member.name) < member.capacity
        return task.resting or (has_slot and is_met(task.wants.needs or NOTHING, self.free(member, task)))

    def free(self, member: Member, task: TaskBook) -> Needs:
        """What is left of a node's resources for a task, beside what it owns and what it keeps for another."""
        kept = self.tasks.get(member.reserves)
        holds = [one for one in self.tasks.values() if one.owner is not None and one.owner.node == member.name]
        holds += [kept] if kept is not None and kept is not task and kept.owner is None and kept.exists else []
        free = dict(member.has)
        for one in holds:
            free = subtract(free, NOTHING if one.resting else one.wants.needs or NOTHING)
        return tuple((name, amount) for name, amount in free.items())


def is_own_error(proc: Proc) -> bool:
    """Whether a dead process ended by a fault of its own."""
    if proc.said is not None and proc.act.kind in UNHOLDABLE:
        return True
    if proc.said is None:
        return not (proc.killed and proc.signal == 9) or proc.is_over_its_limits()
    if isinstance(proc.said, SaidError):
        return True
    return isinstance(proc.said, SaidMessage) and proc.said.message.verb is Verb.ERROR
