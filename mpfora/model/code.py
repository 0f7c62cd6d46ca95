"""Which code a node runs: the generations of its zygotes, and what became of the last reload. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ReloadState(Enum):
    """IMPORTING  the new code is being imported;  DONE  new runs are forked of it;  FAILED  it cannot be imported, and
    the old code goes on"""

    IMPORTING = "importing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reload:
    """The last reload of a node.

    why      who asked for it: a signal, a command, changed files
    since    RFC 3339: when it began
    command  the revision of the newest command that asked for this reload or for one before it; 0: none has
    error    why it failed, in one line; "": it did not
    detail   more on that, such as the traceback of an import
    staying  how many tasks ran in former code when it was done, and run on there
    renewed  how many did, and were asked to save and go on in the new code
    """

    state: ReloadState
    why: str = ""
    since: str = ""
    command: int = 0
    error: str = ""
    detail: str = ""
    staying: int = 0
    renewed: int = 0

    @property
    def of_running(self) -> str:
        """What becomes of the tasks that ran when it was done: "2 running tasks stay in the former code until they
        end". "": there were none."""
        if self.renewed:
            return f"{_tasks(self.renewed, 'is', 'are')} asked to save and go on in the new code"
        if self.staying:
            until = "it ends" if self.staying == 1 else "they end"
            return f"{_tasks(self.staying, 'stays', 'stay')} in the former code until {until}"
        return ""


@dataclass(frozen=True, slots=True)
class Code:
    """What a node tells of its code.

    generation  of the zygote that forks its runs: how many have imported the handlers so far
    former      the generations of those that still have runs, and fork no more
    """

    generation: int
    former: tuple[int, ...] = ()
    reload: Reload | None = None

    @property
    def text(self) -> str:
        """For a column: "3", or "3 (1, 2)" while runs of former generations go on."""
        return f"{self.generation}{f' ({_listed(self.former)})' if self.former else ''}"

    @property
    def in_words(self) -> str:
        """For who has asked for a reload: "generation 3 of its code; 1 running task stays in the former code until it
        ends"."""
        running = "" if self.reload is None else self.reload.of_running
        return f"generation {self.generation} of its code{f'; {running}' if running else ''}"


def _tasks(count: int, one: str, many: str) -> str:
    return f"{count:,} running task{f' {one}' if count == 1 else f's {many}'}"


def _listed(generations: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in generations)
