"""The nouns of mpfora. Pure: no I/O, no clock, standard library only (children import it)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from mpfora.model.code import Code  # children import this module, and need none of that one

    #: what the handler's declaration of its props makes of them: Task is Task[Any]
    Config = TypeVar("Config", default=Any)
else:
    from typing import TypeVar

    Config = TypeVar("Config")

from mpfora.model.needs import NOTHING, Needs

#: what a task id and a node name may look like (shared with Metafora's keys: an id is one part of a key)
NAME_PATTERN = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
#: reserved words: as the last part of a key below a task or a node each has a meaning
RESERVED_NAMES = frozenset({"owner", "props", "commands", "released", "_metafora"})


#: the object among a task's props that keeps mpfora's names apart from the task's own
OWN_OBJECT = "mpfora"


def own_part(props: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a task's props that has mpfora's names: the object "mpfora" if there is one, else the props
    themselves. With that object, all other names are the task's own."""
    own = props.get(OWN_OBJECT)
    return own if isinstance(own, Mapping) else props


class InvalidName(ValueError):
    """A task id or a node name that cannot be part of a key. The text says what is allowed."""


def check_name(name: str, what: str = "task id") -> str:
    """Return `name` if it can be a task id or a node name, else raise InvalidName."""
    if not NAME_PATTERN.match(name):
        raise InvalidName(f"{what} {name[:160]!r}: use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -")
    if name in (".", ".."):
        raise InvalidName(f"{what} {name!r} means a folder: Go's clients would find it at another key; choose another")
    if name in RESERVED_NAMES:
        raise InvalidName(f"{what} {name!r} is a reserved word: choose another name")
    return name


@dataclass(frozen=True, slots=True)
class Task(Generic[Config]):
    """What a handler gets of its task: Task[Job] where it declares its props as a Job.

    id       its name in the namespace
    props    the parsed JSON object that was submitted with it, {} if there was none
    handler  the name under which the node knows the handler, e.g. "primes:count" or "train"
    config   what the handler's spec of its props (@mpfora.handler(props=...)) has made of them; None: it has none
    props_json  the text of what was submitted, whatever JSON that is: Go's plainest task has its id there, as a string
    """

    id: str
    props: Mapping[str, Any]
    handler: str
    config: Config = None  # type: ignore[assignment]
    props_json: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """This node's right to run one task.

    fence is the create revision of the owner key: it grows with every claim of the namespace and each write
    for the task compares it. A claim is worth nothing once its owner key is gone or changed.
    """

    task_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run's process tree has used: CPU seconds (user and system) and the peak of resident memory in bytes."""

    cpu_s: float = 0.0
    max_rss: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a node takes no tasks although it is willing to: it cannot start processes. Its running tasks go on.

    why     one line, after the node's name: "cannot start processes: ..."
    since   RFC 3339
    detail  more on it, such as the traceback of an import; "": nothing
    """

    why: str
    since: str = ""
    detail: str = ""


#: loads are divided by weights
MOST_WEIGHT = 1e9


@dataclass(frozen=True, slots=True)
class Member:
    """A node's record, published at NS/nodes/NAME/_metafora and hung on its lease.

    created  RFC 3339, when this process joined
    capacity the most tasks it runs at once; None: no limit
    full     its balancer takes no more for now, whatever the capacity; it keeps what it has
    balancer by which it moves tasks, as Balancer.name has it; "": it does not tell
    trouble  why it cannot start processes; None: it can
    lease_s  how long its lease is; 0: it does not tell
    groups   what the control groups of its runs do: "kill", and the controllers that they have; (): it has none
    code     which generations of its code run; None: the first, and none was ever reloaded
    ended    it has ended all that it ran and begins nothing more: claims that end with its lease are given back
    has      the resources that its tasks share
    needs    by handler: what a task of it needs that does not say so itself
    reserves  a waiting task for which it keeps what comes free; "": there is none
    """

    name: str
    host: str = ""
    pid: int = 0
    created: str = ""
    capacity: int | None = None
    weight: float = 1.0
    frozen: bool = False
    draining: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    handlers: tuple[str, ...] = ()
    full: bool = False
    balancer: str = ""
    trouble: Trouble | None = None
    lease_s: float = 0.0
    groups: tuple[str, ...] = ()
    ended: bool = False
    code: Code | None = None
    has: Needs = NOTHING
    needs: Mapping[str, Needs] = field(default_factory=dict)
    reserves: str = ""

    @property
    def is_go(self) -> bool:
        """Whether it is a Go node of Metafora's: their records have neither a pid nor handlers."""
        return not (self.pid or self.handlers)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a task's process tree uses, smoothed over minutes: CPU in thousandths of a core, memory in MiB. Whole
    numbers: a sum of them is the same in whatever order a node adds them up."""

    cpu: int = 0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """What a node that measures its tasks says of them, at NS/resources/NAME.

    tasks   those that cost much more or less than the others of their handler, the dearest of them only
    others  all others that were measured, by the handler that they name ("": none): how many, and their mean
    """

    tasks: Mapping[str, Cost] = field(default_factory=dict)
    others: Mapping[str, tuple[int, Cost]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wants:
    """What a task asks of the node that runs it, taken from its props when they are first seen.

    handler  the name it gives; None: it names none
    labels   the node must have each of these
    problem  why its props could not be read; such a task is claimed like any other and fails as its policy says
    not_before  Unix seconds before which it is not to run: while it is new it sleeps until then. None: no such time
    needs    of the node's resources while it has a process; None: what its handler declares
    priority  -100 to 100: tasks that wait are claimed in this order, the highest first
    """

    handler: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    not_before: float | None = None
    needs: Needs | None = None
    priority: int = 0

    @property
    def sleeps_first(self) -> bool:
        """While it is new it needs no process."""
        return self.not_before is not None
