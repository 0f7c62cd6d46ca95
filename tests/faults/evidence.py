"""What is known of a run of faults, afterwards: lives of processes by their lines, claims by etcd's word, the states of
tasks, and what each was in the end. Pure data; checker.py and failover.py judge it.

All times are nanoseconds of the boot clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

S = 1_000_000_000


@dataclass(slots=True)
class Life:
    """A process of a task, from its first line to its last. returned: the last one says that the handler returned."""

    task: str
    fence: int
    pid: int
    node: str
    first: int
    last: int
    lines: int = 1
    returned: bool = False

    def __str__(self) -> str:
        return (
            f"{self.task} fence {self.fence} pid {self.pid} on {self.node} [{self.first / S:.3f}, {self.last / S:.3f}]"
        )


class How(Enum):
    """How a claim came to its end.

    RELEASED  with the mark that its process is dead
    DELETED   together with its task, by whoever deleted that
    REVOKED   with its lease, which the nemesis took away behind its owner's back
    ENDED     with its lease"""

    RELEASED = "released"
    DELETED = "deleted"
    REVOKED = "revoked"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ClaimGone:
    """An owner key vanished. at: when the first observer saw it, which is never before it happened.

    promised  until when etcd's leader had said, before, that its lease would live without any further renewal; 0: it
              was not asked while the claim stood"""

    task: str
    fence: int
    at: int
    how: How = How.ENDED
    promised: int = 0

    @property
    def is_early(self) -> bool:
        """etcd broke its word: no renewal that came too late can be the reason."""
        return self.how is How.ENDED and self.at < self.promised


@dataclass(frozen=True, slots=True)
class Claimed:
    """An owner key was put. missed: the node that was to claim it, and was waited for in vain."""

    task: str
    fence: int
    node: str
    at: int
    missed: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Something was written for a task by a run that said its fence; what: "checkpoint" or "release".

    owner: the fence of the claim that stood then; 0: nobody owned it"""

    task: str
    what: str
    fence: int
    owner: int
    at: int


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task's kept state was put. losses: of zygotes under it, while it is suspected."""

    task: str
    state: str
    losses: int
    at: int


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node's member record was put or vanished. takes: it is there, and neither frozen nor draining nor full."""

    node: str
    takes: bool
    at: int


@dataclass(frozen=True, slots=True)
class ZygoteHit:
    """The nemesis killed or stopped a node's zygote, at `begins`; by `ends` it goes on."""

    node: str
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Span:
    """From `begins` to `ends`."""

    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """What a task was when all was over. present: its key exists; state: of its kept state, "runnable" if there is
    none; story: its last error."""

    present: bool
    state: str
    story: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run.

    ends      every task that was submitted and not deleted -> what became of it
    unseen    ranges of revisions, ends included, that no observer saw: claims made in them may be unknown
    left      descriptions of processes that were found when none may be
    malformed lines of the file that are none
    silent    when etcd answered nobody: it was without a leader, or without a quorum
    returns   when a member of etcd came back that had been stopped or cut off, and may have led before
    thaws     those of them when it had been stopped
    hits      what the nemesis did to zygotes
    etcd      the version of the server; () if it is not known
    ttl_s     of the nodes' leases;  margin_s: before the lease's end every process is to be dead"""

    lives: Sequence[Life]
    gone: Sequence[ClaimGone] = ()
    claims: Sequence[Claimed] = ()
    ends: Mapping[str, TaskEnd] = field(default_factory=dict)
    unseen: Sequence[tuple[int, int]] = ()
    left: Sequence[str] = ()
    malformed: Sequence[str] = ()
    writes: Sequence[Write] = ()
    states: Sequence[TaskState] = ()
    nodes: Sequence[NodeSeen] = ()
    silent: Sequence[Span] = ()
    returns: Sequence[int] = ()
    hits: Sequence[ZygoteHit] = ()
    etcd: tuple[int, ...] = ()
    ttl_s: float = 4.0
    margin_s: float = 1.0
    thaws: Sequence[int] = ()


def share_promises(gone: Sequence[ClaimGone], nodes: Mapping[tuple[str, int], str]) -> list[ClaimGone]:
    """Of claims that ended with one revision; nodes: (task, fence) -> whose they were. Those of one node that ended
    with the lease had one lease, so that what was promised of it holds for each, also for one that was made after the
    leader had been asked."""
    promised: dict[str, int] = defaultdict(int)
    ended = [one for one in gone if one.how is How.ENDED]
    for one in ended:
        node = nodes[one.task, one.fence]
        promised[node] = max(promised[node], one.promised)
    return [
        replace(one, promised=promised[nodes[one.task, one.fence]]) if one.how is How.ENDED else one for one in gone
    ]


def read_lives(lines: Iterable[str]) -> tuple[list[Life], list[str]]:
    """The lives in the order of their first line, and the lines that are none."""
    lives: dict[tuple[str, int, int], Life] = {}
    malformed: list[str] = []
    for line in lines:
        try:
            task, fence, pid, kind, at, node = line.split()
            key = task, int(fence), int(pid)
            now = int(at)
        except ValueError:
            malformed.append(line)
            continue
        life = lives.get(key)
        if life is None:
            life = lives[key] = Life(*key, node, now, now, 0)
        life.first, life.last = min(life.first, now), max(life.last, now)
        life.lines += 1
        life.returned = life.returned or kind == "E"
    return sorted(lives.values(), key=lambda life: life.first), malformed


def by_task(lives: Iterable[Life]) -> dict[str, list[Life]]:
    """The lives of each task, in the order of their first line."""
    found: dict[str, list[Life]] = defaultdict(list)
    for life in sorted(lives, key=lambda life: life.first):
        found[life.task].append(life)
    return found


def last_lives(lives: Iterable[Life]) -> dict[tuple[str, int], Life]:
    """(task, fence) -> the process of that claim that wrote last."""
    found: dict[tuple[str, int], Life] = {}
    for life in lives:
        known = found.get((life.task, life.fence))
        if known is None or known.last < life.last:
            found[life.task, life.fence] = life
    return found
