"""Work: a call as it waits for its process, pickled by who has submitted it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from mpfora.config.handler_spec import running_script
from mpfora.ipc import frames, parcel, pickling
from mpfora.pool.limits import CallLimits
from mpfora.pool.mapping import Chunk

#: a thread copies segments that are larger than this into the parcel
LARGE = 1 << 20
_NAME = 80


@dataclass(frozen=True, slots=True)
class Work:
    """name     of the function, for people
    module      that the function is imported from, "" if it is not
    segments    of the parcel. The buffers are still those of the arguments
    size        of the segments together
    """

    name: str
    module: str
    call: frames.Call
    segments: Sequence[bytes | memoryview]
    size: int
    limits: CallLimits

    @property
    def needs_main(self) -> bool:
        """Whether it names objects of the running script."""
        return self.call.main_path is not None or self.call.main_module is not None

    def files(self) -> tuple[int, int]:
        """The descriptors in frames.CALL_FDS order: the filled parcel, and the one for the result. Raises OSError."""
        result = parcel.create()
        call = -1
        try:
            call = parcel.create()
            parcel.fill(call, self.segments)
        except BaseException:
            close_files(result, *(() if call < 0 else (call,)))
            raise
        return call, result


def close_files(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def make_work(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], limits: CallLimits) -> Work:
    """Pickle a call. Raises pickling.CannotPickle, and what the arguments' own code raises."""
    path, module = _script()
    has_script = path is not None or module is not None
    is_typed = not has_script and getattr(function, "__module__", None) == "__main__"
    segments = pickling.pack((function, tuple(args), dict(kwargs)), by_value=is_typed)
    needs_main = has_script and b"__main__" in segments[0]
    call = frames.Call(path, module) if needs_main else frames.Call()
    if b"multiprocessing.managers" in segments[0]:
        call = replace(call, authkey=sys.modules["multiprocessing.process"].current_process().authkey.hex())
    size = sum(memoryview(segment).nbytes for segment in segments)
    function = _innermost(function)
    home = getattr(function, "__module__", None)
    return Work(_name(function), home if isinstance(home, str) else "", call, segments, size, limits)


@cache
def _script() -> tuple[str | None, str | None]:
    """The path of the running script. It is cached: to look for it takes as long as a small call."""
    return running_script()


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of partials, and of what map makes: the function that they call."""
    while isinstance(function, partial | Chunk):
        function = function.func
    return function


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None)
    return (name if isinstance(name, str) else type(function).__qualname__)[:_NAME]
