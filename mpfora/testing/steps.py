"""What can be done to a handler under test, and when. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mpfora.model.state import Message


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of a run while it runs.

    seconds   since it was started;  beats, progress, note   what it told by ctx.beat
    checkpoints   what it saved, as JSON values;  lines   what it printed
    """

    seconds: float
    beats: int
    progress: float | None
    note: str
    checkpoints: tuple[Any, ...]
    lines: tuple[str, ...]


#: a number of seconds after the start, or a function that says of a Progress whether the time has come
When = float | Callable[[Progress], bool]


class Deed(Enum):
    STOP = "stop"
    ASK_CHECKPOINT = "ask_checkpoint"
    LOSE_CLAIM = "lose_claim"
    HANG = "hang"
    EXCEED_MEMORY = "exceed_memory"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done to the run, once, when its time has come; those after it wait for it."""

    deed: Deed
    when: When
    message: Message | None = None

    def is_due(self, progress: Progress) -> bool:
        return self.when(progress) if callable(self.when) else progress.seconds >= self.when


def stop(message: Message | None = None, when: When = 0.0) -> Step:
    """Ask it to stop, as a release unless `message` says otherwise (Message.pause(), Message.kill(), ...). One that
    does not within stop_timeout is killed, with a dump of its stacks."""
    return Step(Deed.STOP, when, message or Message.release())


def ask_checkpoint(when: When = 0.0) -> Step:
    """Ask it to save: ctx.checkpoint_wanted turns true."""
    return Step(Deed.ASK_CHECKPOINT, when)


def lose_claim(when: When = 0.0) -> Step:
    """Kill it at once, as a node does with a task whose claim is lost."""
    return Step(Deed.LOSE_CLAIM, when)


def hang(when: When = 0.0) -> Step:
    """Kill it where it is, with a dump of its stacks, as a node does with one that gives no sign of life for its
    stall_timeout."""
    return Step(Deed.HANG, when)


def exceed_memory(when: When = 0.0) -> Step:
    """Kill it where it is, as a node does with one whose process tree is over its memory_limit."""
    return Step(Deed.EXCEED_MEMORY, when)


def beats(count: int) -> Callable[[Progress], bool]:
    """When it has beaten that often."""
    return lambda progress: progress.beats >= count


def saved(count: int = 1) -> Callable[[Progress], bool]:
    """When it has saved that often (saves in quick succession count as one)."""
    return lambda progress: len(progress.checkpoints) >= count


def printed(text: str) -> Callable[[Progress], bool]:
    """When it has printed a line that holds `text`."""
    return lambda progress: any(text in line for line in progress.lines)
