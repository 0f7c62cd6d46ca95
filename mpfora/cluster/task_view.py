"""What the mirror shows: each task, its owner, and what a batch of changes has touched. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mpfora.cluster import changes as c
from mpfora.model.state import State
from mpfora.model.task import Wants

NO_WANTS = Wants()
#: a task that is to be removed is any node's, whatever it asks for: no process is started for it
_ANY_NODE_S = Wants(problem="it is to be removed")


@dataclass(frozen=True, slots=True)
class Owner:
    node: str
    fence: int


class LostOwner(NamedTuple):
    """A claim that ended without its owner's word that nothing of the task runs.

    is_taken  its node's lease lives: somebody else has removed the key, and the process may live as long as that lease
    lease_s   how long that is; 0: its node does not tell"""

    node: str
    fence: int
    is_taken: bool
    lease_s: float


#: an owner that was gone before this node looked
UNKNOWN_OWNER = Owner("", 0)


class Kept(NamedTuple):
    """What stands at a task's state key. is_readable: False: nobody can tell what state that is."""

    state: State
    until: float | None = None
    is_readable: bool = True


@dataclass(slots=True)
class TaskView:
    """One task that exists. Written by Mirror only.

    state, until   of its kept state; runnable where there is none, or it cannot be read
    is_new         no state of it is kept
    is_unreadable  one is kept, and cannot be read: it is held and not run until that is mended
    command        the command that waits for its owner
    bad_command_revision   revision of what stands in a command's place and cannot be understood; 0: nothing does
    changed        revision of the last change to it
    ended_uncleanly   its last owner vanished without the mark that its process is dead
    lost_owner     that owner; it stays until an owner lets go cleanly. UNKNOWN_OWNER: whoever had the task before this
                   node looked has left no mark, if anybody had it
    handed_to      the node to which its last owner gave it
    created        the create revision of its key
    is_removed     a client wants it deleted: whoever owns it removes it
    """

    id: str
    wants: Wants = NO_WANTS
    owner: Owner | None = None
    state: State = State.RUNNABLE
    until: float | None = None
    command: c.TaskCommandPut | None = None
    bad_command_revision: int = 0
    changed: int = 0
    ended_uncleanly: bool = False
    lost_owner: Owner | None = None
    handed_to: str | None = None
    is_new: bool = True
    is_unreadable: bool = False
    created: int = 0
    is_removed: bool = False

    @property
    def asks(self) -> Wants:
        """What it asks of the node that is to claim it now."""
        return _ANY_NODE_S if self.is_removed else self.wants

    @property
    def order(self) -> int:
        """Among tasks that wait the least comes first: by priority, then by the age of its key."""
        return self.created - (self.wants.priority << 64)

    @property
    def resting(self) -> bool:
        """It needs no process now, so it takes none of its node's capacity. A new one with a time before which it is
        not to run sleeps first, whatever the time is: only its owner looks at a clock."""
        rests = self.state in (State.SLEEPING, State.PAUSED) or self.is_unreadable or self.is_removed
        return rests or (self.is_new and self.wants.sleeps_first)

    @property
    def asleep_until(self) -> float | None:
        """Unix seconds until which nobody has anything to do for it; None: somebody has, or it does not sleep."""
        if self.command is not None or self.bad_command_revision or self.is_unreadable or self.is_removed:
            return None
        if self.is_new:
            return self.wants.not_before
        return self.until if self.state is State.SLEEPING else None


@dataclass(slots=True)
class Touched:
    """What one batch of changes touched, in order: task ids (gone ones too), and the rest as it came.

    revision  of the batch
    more   further parts of the same revision follow
    reset  all is new, whatever was known before. Of a reset in parts the tasks are those of the part, which the mirror
           keeps aside until the last has come (without more); the rest comes with the last"""

    tasks: dict[str, None] = field(default_factory=dict)
    revision: int = 0
    members: bool = False
    readers: bool = False
    usages: bool = False
    node_commands: list[c.NodeCommandPut] = field(default_factory=list)
    owners: list[c.OwnerPut] = field(default_factory=list)
    touched_members: list[str] = field(default_factory=list)
    gone_members: list[str] = field(default_factory=list)
    #: claims that ended without a word, of tasks that may be gone too
    lost_owners: dict[str, LostOwner] = field(default_factory=dict)
    malformed: list[c.Malformed] = field(default_factory=list)
    reset: bool = False
    more: bool = False
