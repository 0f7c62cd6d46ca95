"""Files that are still open when a run ends: what was written to them is flushed, as a plain program's end does.

A child leaves by os._exit, and what stands in the buffers of Python's file objects and of C's streams would be lost.
The file objects of the handlers' modules are noted once, in the zygote. A child looks for others only where it has
descriptors that it did not begin with: to go through its objects takes time.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import weakref
from _io import _IOBase
from collections.abc import Iterable, Iterator
from typing import Any

from mpfora.linux import syscalls

_BUFFERS = (io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)
#: these hold nothing back, or nothing that is missed
_UNBUFFERED = (io.RawIOBase, io.BufferedReader, io.StringIO, io.BytesIO)

#: file objects of the modules, and where those stood that are to be closed: a child closes none that it has not written
#: to
_of_modules: list[tuple[weakref.ref[Any], object]] = []


def note_open() -> None:
    """Called once in the zygote, before the first fork. What stands in the buffers is written now, once; otherwise
    each child would write it again."""
    found = sorted(_among(gc.get_objects()), key=_depth)
    for file in found:
        _finish(file, at_end=False)
    syscalls.flush_c_streams()
    _of_modules.extend((weakref.ref(file), _place(file)) for file in found)


def flush_all(known: Iterable[int]) -> None:
    """Called in a child that is about to leave, with all descriptors that it began with. stderr tells of what cannot be
    written."""
    syscalls.flush_c_streams()
    _flush([(file, place) for ref, place in _of_modules if (file := ref()) is not None])
    if _has_more_than(known):
        _flush([(file, None) for file in _among(gc.get_objects())])  # what the zygote froze is not among them


def _flush(files: Iterable[tuple[Any, object]]) -> None:
    """Text first, which stands before other buffers; then what is complete only when it is closed, as an archive;
    then what stands before the descriptors."""
    for file, place in sorted(files, key=lambda pair: _depth(pair[0])):
        if place is None or _place(file) != place:
            _finish(file, at_end=True)


def _finish(file: Any, at_end: bool) -> None:
    try:
        if not file.closed and file.writable():
            file.close() if at_end and _depth(file) == 1 else file.flush()
    except Exception as error:  # noqa: BLE001 - a file object's own code; the others are still to be flushed
        name = getattr(file, "name", type(file).__name__)
        print(f"mpfora: what was written to {name!r:.200} is not complete: {error!r:.200}", file=sys.stderr)


def _place(file: Any) -> object:
    """Where the next byte of a file goes that has to be closed. None: it need not be closed, or that is not known."""
    if _depth(file) != 1:
        return None
    try:
        return file.tell()
    except Exception:  # noqa: BLE001 - closed, or a file object's own code
        return None


def _depth(file: object) -> int:
    if isinstance(file, io.TextIOWrapper):
        return 0
    return 2 if isinstance(file, _BUFFERS) else 1


def _among(objects: Iterable[object]) -> Iterator[Any]:
    """File objects that may keep something back. type() is asked: an object may lie about its class."""
    for item in objects:
        cls = type(item)
        if issubclass(cls, _IOBase) and not issubclass(cls, _UNBUFFERED):
            yield item


def _has_more_than(known: Iterable[int]) -> bool:
    """From Linux 6.2 on the size of /proc/self/fd is the number of descriptors; before, it is 0."""
    most = len(set(known))
    try:
        count = os.stat("/proc/self/fd").st_size
        return count > most if count else len(os.listdir("/proc/self/fd")) - 1 > most  # one reads the list
    except OSError:
        return True
