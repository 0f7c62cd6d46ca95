"""A parcel: a pickle with its large buffers beside it, in a memfd that one process fills and another one maps.

    offset 0    u64  count of segments: the pickle, and the buffers that its protocol 5 leaves out
           8    u64  the length of each
    then        each segment, at a multiple of 64 bytes

What is in a buffer is copied once, into the memfd; the reader's objects stand on its pages. A parcel of a child may
be hostile: `Parcel` raises ValueError where it does not hold what it says.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence

_WORD = 8
_ALIGNED = 64
#: shorter parcels are read, longer ones mapped
_MAPPED = 64 * 1024
#: the most bytes that Linux writes at once
_WRITE = 1 << 30
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
#: the most buffers; a pickle names each one
_MOST_SEGMENTS = 1_000_000


def create() -> int:
    """The descriptor of an empty one. Raises OSError."""
    return os.memfd_create("mpfora-parcel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def fill(fd: int, segments: Sequence[bytes | memoryview]) -> None:
    """Write the segments, the pickle first. Raises OSError where there is no memory for them."""
    views = [memoryview(segment).cast("B") for segment in segments]
    header = struct.pack(f"={1 + len(views)}Q", len(views), *(view.nbytes for view in views))
    at = len(header)
    _write(fd, memoryview(header), 0)
    for view in views:
        at = _aligned(at)
        _write(fd, view, at)
        at += view.nbytes
    os.ftruncate(fd, at)


def _write(fd: int, view: memoryview, at: int) -> None:
    while view:
        written = os.pwrite(fd, view[:_WRITE], at)
        view, at = view[written:], at + written


def take(fd: int, *, shared: bool) -> list[memoryview] | None:
    """The segments, writable where the parcel is long; None if nothing was put in. The descriptor may be closed.

    shared: nobody else has it any more, and writing to it is writing to its pages; else they are copied when written
    to. Raises ValueError for what is not a parcel, OSError."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)  # else another process that has the descriptor could take the pages away
    size = os.fstat(fd).st_size
    if size == 0:
        return None
    if size < _MAPPED:
        whole = memoryview(os.pread(fd, size, 0))
    else:
        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        whole = memoryview(mmap.mmap(fd, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    return _segments(whole)


def _segments(whole: memoryview) -> list[memoryview]:
    if whole.nbytes < 2 * _WORD:
        raise ValueError("a parcel without its first lines")
    (count,) = struct.unpack_from("=Q", whole)
    if not 1 <= count <= min(_MOST_SEGMENTS, whole.nbytes // _WORD - 1):
        raise ValueError(f"a parcel that says that it has {count} segments")
    lengths = struct.unpack_from(f"={count}Q", whole, _WORD)
    found, at = [], _WORD * (1 + count)
    for length in lengths:
        at = _aligned(at)
        if at + length > whole.nbytes:
            raise ValueError("a parcel that is shorter than what it says")
        found.append(whole[at : at + length])
        at += length
    return found


def _aligned(at: int) -> int:
    return -(-at // _ALIGNED) * _ALIGNED
