"""The limits of a call, as `Pool(...)` and `pool.options(...)` take them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from mpfora.model.run_spec import RunLimits
from mpfora.model.units import parse_duration, parse_size, shown
from mpfora.retry import Retry

STALL_BY = ("beats", "cpu")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """In seconds and bytes; None: not limited.

    timeout        from the beginning of the call, after which it is killed
    stall_timeout  without a sign of life (`stall_by` "beats" or "cpu"), after which it is killed
    stop_timeout   how long a call that looks whether it is to stop has for that
    pids_limit     processes and threads of the call's tree
    retry          when a call that failed is tried again
    """

    timeout: float | None = None
    stall_timeout: float | None = None
    stall_by: str = "beats"
    memory_limit: int | None = None
    pids_limit: int | None = None
    stop_timeout: float = 5.0
    retry: Retry | None = None

    def over(self, **given: Any) -> CallLimits:
        """These limits with others in their place. Raises ValueError and TypeError that name the one that is wrong."""
        names = [field.name for field in fields(self)]
        for name in given:
            if name not in names:
                raise TypeError(f"there is no limit called {name!r}: there are {', '.join(names)}")
        return replace(self, **{name: _checked(name, value) for name, value in given.items()})

    def of_run(self) -> RunLimits:
        """What the zygote is told."""
        return RunLimits(self.stop_timeout, self.stall_timeout, self.stall_by, self.memory_limit, self.pids_limit)


def _checked(name: str, value: Any) -> Any:
    if name == "stall_by":
        if value not in STALL_BY:
            raise ValueError(f"stall_by: {shown(value)}: use 'beats' or 'cpu'")
        return value
    if name == "stop_timeout":
        return parse_duration(value, name)
    if value is None:
        return None
    if name == "retry":
        if not isinstance(value, Retry):
            raise TypeError(f"retry: {shown(value)}: an mpfora.Retry is needed")
        return value
    if name == "memory_limit":
        return parse_size(value, name)
    if name == "pids_limit":
        if type(value) is not int or value < 1:
            raise ValueError(f"pids_limit: {shown(value)}: a number of processes and threads is needed, 1 or more")
        return value
    seconds = parse_duration(value, name)
    if seconds <= 0:
        raise ValueError(f"{name}: {shown(value)}: must be over 0; None sets no limit")
    return seconds
