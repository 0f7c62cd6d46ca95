"""What handler authors import to declare handlers: the Handler class and the @handler decorator. Standard library
only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mpfora.model import Task
from mpfora.retry import Retry
from mpfora.units import parse_duration, parse_size

F = TypeVar("F", bound=Callable[..., Any])

#: the attributes under which @handler leaves its settings, and the spec of props, on what it decorates
SETTINGS_ATTRIBUTE = "__mpfora__"
PROPS_ATTRIBUTE = "__mpfora_props__"


class Handler(ABC):
    """A handler as a class, Metafora's form: made with the task in the child's main thread, then `run` once and only
    once.

    class Train(mpfora.Handler):
        def __init__(self, task, ctx): ...       # both are passed; a class that takes the task alone gets it alone
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def run(self) -> bool:
        """Do the work, in the main thread. True: done for ever. False: released, to be run again, perhaps elsewhere.
        Any exception is an error of the task."""

    @abstractmethod
    def stop(self) -> None:
        """Make `run` return soon. Called from another thread when the run is to end, perhaps more than once, never
        two at a time, and perhaps before `run` was entered."""


@dataclass(frozen=True, slots=True)
class HandlerSettings:
    """Settings of one handler, over the node's; None: the node's holds.

    stall_by  what counts as life for stall_timeout: "beats", or "cpu" (any CPU time used by the task's tree)
    """

    stop_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    stall_by: str | None = None
    memory_limit: int | None = None
    retry: Retry | None = None


def handler(
    *,
    stop_timeout: float | str | None = None,
    stall_timeout: float | str | None = None,
    stall_by: str | None = None,
    memory_limit: int | str | None = None,
    retry: Retry | None = None,
    props: type | None = None,
) -> Callable[[F], F]:
    """Declare settings of a handler function or class, over the node's.

    props: what a task's props must be: a dataclass, a TypedDict or a pydantic model. They are checked before the run,
    which finds them built as `task.config`; a task whose props do not fit fails at once, with the fields named.

    Durations are seconds or texts like "90s", "10m", "4h"; sizes are bytes or texts like "2GiB". Raises ValueError at
    import for what cannot be meant, naming the setting.
    """
    if stall_by not in (None, "beats", "cpu"):
        raise ValueError(f"handler(stall_by={stall_by!r}): use 'beats' or 'cpu'")
    settings = HandlerSettings(
        stop_timeout_s=None if stop_timeout is None else parse_duration(stop_timeout, "stop_timeout"),
        stall_timeout_s=None if stall_timeout is None else parse_duration(stall_timeout, "stall_timeout"),
        stall_by=stall_by,
        memory_limit=None if memory_limit is None else parse_size(memory_limit, "memory_limit"),
        retry=retry,
    )

    def mark(target: F) -> F:
        setattr(target, SETTINGS_ATTRIBUTE, settings)
        if props is not None:
            setattr(target, PROPS_ATTRIBUTE, props)
        return target

    return mark
