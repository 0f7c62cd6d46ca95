"""The zygote's resource limits, which every run inherits: a task may change them (prlimit), and the next run undoes it.

What the kernel does not let it raise again (a hard limit, without CAP_SYS_RESOURCE) stays as it is.
"""

from __future__ import annotations

import resource
from contextlib import suppress

#: all that Python knows; RLIMIT_LOCKS, which holds the tag (linux/tag.py), is not among them
_KINDS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


class OwnLimits:
    """Taken when the zygote is ready to fork."""

    def __init__(self) -> None:
        self._limits = [(kind, resource.getrlimit(kind)) for kind in _KINDS]

    def restore(self) -> list[str]:
        """Make them what they were. Returns a line for each kind that had been changed."""
        changed = [(kind, was, now) for kind, was in self._limits if (now := resource.getrlimit(kind)) != was]
        return [f"{_name(kind)} was {now}, and is {_set(kind, was)} again" for kind, was, now in changed]


def _set(kind: int, limits: tuple[int, int]) -> tuple[int, int]:
    """As near to these as may be; returns what they are."""
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, limits)
        return limits
    _, hard = resource.getrlimit(kind)
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (hard, hard))
    return resource.getrlimit(kind)


def _name(kind: int) -> str:
    names = (name for name in dir(resource) if name.startswith("RLIMIT_"))
    return next(name for name in names if getattr(resource, name) == kind)
