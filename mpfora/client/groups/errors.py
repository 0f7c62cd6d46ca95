"""What goes wrong with groups, of the family in mpfora/errors.py."""

from __future__ import annotations

from collections.abc import Sequence

from mpfora.errors import MpforaError


class TaskFailed(MpforaError):
    """A task has no result: it failed or was killed.

    state, cause   "failed" or "killed", and of what the last run ended
    error, stack   its last error, and where it hung; "" where there are none
    """

    def __init__(self, task_id: str, state: str, cause: str = "", error: str = "", stack: str = "") -> None:
        what = f" ({cause})" if cause and cause != state else ""
        super().__init__(f"task {task_id!r} has no result: it is {state}{what}{f': {error}' if error else ''}")
        self.task_id, self.state, self.cause = task_id, state, cause
        self.error, self.stack = error, stack


class GroupNotFound(MpforaError):
    """No task belongs to a group of this name, and nothing is kept of one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"group {name!r}: no task belongs to it, and nothing is kept of one of this name")
        self.name = name


class GroupExists(MpforaError):
    """A group of this name was submitted before, and tasks of it are there."""

    def __init__(self, name: str, by: str, tasks: int) -> None:
        who = f" by {by}" if by else ""
        super().__init__(
            f"group {name!r} was submitted before{who}, and has {tasks:,} tasks: use another name, go on with its"
            f" submission (resume=True), or delete it first (mpfora delete --group {name})"
        )
        self.name = name


class GroupIncomplete(MpforaError):
    """Every task that is there was told, and some of the group's tasks are not there: the tasks `gone` were deleted or
    are not kept any more; the tasks `missing` were never submitted, as far as is known."""

    def __init__(self, name: str, gone: Sequence[str], missing: Sequence[str], cut_off: bool = False) -> None:
        said = []
        if gone:
            said.append(f"{len(gone):,} are gone ({_some(gone)}): they were deleted, or are not kept any more")
        if missing or cut_off:
            some = f"{len(missing):,} were never submitted ({_some(missing)})" if missing else "there may be more"
            said.append(f"{some}: the client that submitted them was ended before it was done (resume=True goes on)")
        super().__init__(f"group {name!r} is incomplete: {'; '.join(said)}")
        self.name, self.gone, self.missing = name, tuple(gone), tuple(missing)


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")
