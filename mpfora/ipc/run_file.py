"""The file of a run: its newest checkpoint, its answers and its stacks, in memory that three processes share.

A memfd that the supervisor makes for each run, and that the child has as one of its descriptors:

    offset 0         u64  published   child: how many checkpoints it has published
           8         u64  told        child: 1 when it has told the supervisor; supervisor: 0 before it looks
          16, 24     u64  lengths     child: of the two buffers
          64         words of questions and answers, see look_area.py
          4096       two buffers of CHECKPOINT_BYTES; checkpoint n is in buffer n % 2
          ANSWERS_AT ANSWERS_BYTES for the texts of answers
          STACKS_AT  STACKS_BYTES of text, written at the file's offset, which all three share

So a child may save as often as it likes. The newest checkpoint is here at once, whatever becomes of the child; the
supervisor is told at most once until it has looked; and nobody waits for anybody. A checkpoint is whole: it is written
into the buffer that is not the newest one's, and published then. The file is sealed against growing.
"""

from __future__ import annotations

import fcntl
import os
import struct

#: the longest checkpoint, in bytes of JSON
CHECKPOINT_BYTES = 512 * 1024
STACKS_BYTES = 64 * 1024
_BUFFERS_AT = 4096
ANSWERS_AT = _BUFFERS_AT + 2 * CHECKPOINT_BYTES
ANSWERS_BYTES = 2 * 1024 * 1024
#: the last part of the file: a dump that is longer loses its end, and spoils nothing else
STACKS_AT = ANSWERS_AT + ANSWERS_BYTES
_PUBLISHED_AT, _TOLD_AT, _LENGTHS_AT = 0, 8, 16
_WORD = struct.Struct("=Q")
#: how often a reader looks again when a writer has overtaken it
_TRIES = 4


def create() -> int:
    """The descriptor of a new one. Called by the supervisor. Raises OSError."""
    fd = os.memfd_create("mpfora-run", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, STACKS_AT + STACKS_BYTES)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        os.lseek(fd, STACKS_AT, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


# -- the child ---------------------------------------------------------------------------------------------------------


def publish(fd: int, checkpoint: bytes) -> bool:
    """Make this the newest checkpoint. True: the supervisor is to be told of it. Called by one thread at a time. Raises
    OSError, and ValueError for a checkpoint that is too long."""
    if len(checkpoint) > CHECKPOINT_BYTES:
        raise ValueError(f"a checkpoint of {len(checkpoint)} bytes: the limit is {CHECKPOINT_BYTES}")
    number = _word(fd, _PUBLISHED_AT) + 1
    buffer = number % 2
    os.pwrite(fd, checkpoint, _BUFFERS_AT + buffer * CHECKPOINT_BYTES)
    os.pwrite(fd, _WORD.pack(len(checkpoint)), _LENGTHS_AT + buffer * _WORD.size)
    os.pwrite(fd, _WORD.pack(number), _PUBLISHED_AT)
    if _word(fd, _TOLD_AT):
        return False
    os.pwrite(fd, _WORD.pack(1), _TOLD_AT)
    return True


# -- the supervisor ----------------------------------------------------------------------------------------------------


def newest(fd: int, seen: int) -> tuple[int, bytes] | None:
    """(number, bytes) of the newest checkpoint, if it is not number `seen`. From now on the child tells of the next.
    None also if the child publishes faster than can be read: it tells again."""
    os.pwrite(fd, _WORD.pack(0), _TOLD_AT)
    for _ in range(_TRIES):
        number = _word(fd, _PUBLISHED_AT)
        if number == seen:
            return None
        buffer = number % 2
        length = min(_word(fd, _LENGTHS_AT + buffer * _WORD.size), CHECKPOINT_BYTES)
        data = os.pread(fd, length, _BUFFERS_AT + buffer * CHECKPOINT_BYTES)
        if _word(fd, _PUBLISHED_AT) == number:
            return number, data
    return None


def stacks(fd: int) -> bytes:
    """The stacks as they were written, b"" if none were."""
    if os.lseek(fd, 0, os.SEEK_CUR) == STACKS_AT:
        return b""
    return os.pread(fd, STACKS_BYTES, STACKS_AT).strip(b"\0\n").replace(b"\0", b"")


# -- the zygote --------------------------------------------------------------------------------------------------------


def wipe_stacks(fd: int) -> None:
    """What is dumped from now on stands at the beginning. Raises OSError."""
    if os.lseek(fd, 0, os.SEEK_CUR) != STACKS_AT:
        os.pwrite(fd, bytes(STACKS_BYTES), STACKS_AT)
        os.lseek(fd, STACKS_AT, os.SEEK_SET)


def stacks_size(fd: int) -> int:
    """How many bytes of stacks were written. Raises OSError."""
    return os.lseek(fd, 0, os.SEEK_CUR) - STACKS_AT


def _word(fd: int, at: int) -> int:
    (word,) = _WORD.unpack(os.pread(fd, _WORD.size, at))
    return int(word)
