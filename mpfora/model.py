"""The nouns of mpfora. Pure: no I/O, no clock, standard library only (children import it)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: what a task id and a node name may look like (shared with Metafora's keys: an id is one part of a key)
NAME_PATTERN = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
#: last parts of keys that mean something of their own below a task or a node
RESERVED_NAMES = frozenset({"owner", "props", "commands", "released", "_metafora"})


class InvalidName(ValueError):
    """A task id or a node name that cannot be part of a key. The text says what is allowed."""


def check_name(name: str, what: str = "task id") -> str:
    """Return `name` if it can be a task id or a node name, else raise InvalidName."""
    if not NAME_PATTERN.match(name):
        raise InvalidName(f"{what} {name[:160]!r}: use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -")
    if name in RESERVED_NAMES:
        raise InvalidName(f"{what} {name!r} is a reserved word: choose another name")
    return name


@dataclass(frozen=True, slots=True)
class Task:
    """What a handler gets of its task.

    id       its name in the namespace
    props    the parsed JSON that was submitted with it, {} if there was none
    handler  the name under which the node knows the handler, e.g. "primes:count" or "train"
    config   what the handler's spec of its props (@mpfora.handler(props=...)) has made of them; None: it has none
    """

    id: str
    props: Mapping[str, Any]
    handler: str
    config: Any = None


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
class Member:
    """A node's record, published at NS/nodes/NAME/_metafora and hung on its lease.

    created  RFC 3339, when this process joined
    capacity the most tasks it runs at once; None: no limit
    full     its balancer takes no more for now, whatever the capacity; it keeps what it has
    balancer by which it moves tasks, as Balancer.name has it; "": it does not tell
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
    sleeps_first  it is not to run before a time of its own (`not_before`): while it is new it needs no process
    """

    handler: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    sleeps_first: bool = False
