"""The shared-memory table: one slot per running task, written by the child's beats, read by zygote and supervisor.

A memfd made by the supervisor and inherited by the zygote. A slot is a page of it: a child inherits its own, and has no
way to another's. A slot has one writer per field:

    offset 0   u64  beats        child: grows with every ctx.beat
           8   f64  progress     child: 0.0 to 1.0; NaN: not told
          16   u64  stop         supervisor: 0, or CLOCK_BOOTTIME in nanoseconds when the run was last asked to stop
          24   u64  note length  child: bytes of the note that are valid; written after the text
          32   ...  note         child: UTF-8, cut to NOTE_BYTES
         256   u64  listens      child: 1 once its code has asked for what tells it of a stop

Each field is stored by one aligned 8-byte write, so that a reader sees an old or a new value and never half of one.
The note may be torn when it is read while it is written; it is for people.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import time
from dataclasses import dataclass

SLOT_BYTES = mmap.PAGESIZE
NOTE_BYTES = 224
#: only slots that were written to take memory
MAX_SLOTS = 65_536

#: the words of a slot
BEATS, PROGRESS, STOP, NOTE_LENGTH, LISTENS = 0, 1, 2, 3, 32
_NOTE_AT = 32
_WORDS = SLOT_BYTES // 8


@dataclass(frozen=True, slots=True)
class Beat:
    """What a slot says: number of beats, progress (None: not told) and the note."""

    beats: int
    progress: float | None
    note: str


class SlotTable:
    """The whole table, mapped by supervisor and zygote; a child inherits of the mapping its slot."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, SLOT_BYTES * MAX_SLOTS)
        self._map.madvise(mmap.MADV_DONTFORK)
        view = memoryview(self._map)
        self._words = view.cast("Q")
        self._floats = view.cast("d")
        self._bytes = view

    @classmethod
    def create(cls) -> SlotTable:
        """A new, zeroed table in a memfd. Called by the supervisor once per zygote."""
        fd = os.memfd_create("mpfora-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, SLOT_BYTES * MAX_SLOTS)
            # the kernel kills whoever reads a page that another process has cut off
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    def fork(self, slot: int) -> int:
        """os.fork() of a child that inherits this slot, and no other. (To map it itself would cost the child thirty
        pages more.) Raises OSError: there is none."""
        at = slot * SLOT_BYTES
        self._map.madvise(mmap.MADV_DOFORK, at, SLOT_BYTES)
        try:
            pid = os.fork()
        except OSError:
            self._map.madvise(mmap.MADV_DONTFORK, at, SLOT_BYTES)
            raise
        if pid:
            try:
                self._map.madvise(mmap.MADV_DONTFORK, at, SLOT_BYTES)
            except OSError:  # the child is there, whatever comes: later ones have this page, too
                return pid
        return pid

    def clear(self, slot: int) -> None:
        """Make a slot ready for a new run. Called by the supervisor before the fork."""
        base = slot * _WORDS
        self._words[base + BEATS] = 0
        self._floats[base + PROGRESS] = math.nan
        self._words[base + STOP] = 0
        self._words[base + NOTE_LENGTH] = 0
        self._words[base + LISTENS] = 0

    def ask_stop(self, slot: int) -> None:
        """Called by the supervisor just before it sends a Stop frame. The time tells a child that reads the frame
        late how much of its within_s is left."""
        self._words[slot * _WORDS + STOP] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def listens(self, slot: int) -> bool:
        """Whether it makes sense to ask this run to stop, before it is killed."""
        return self._words[slot * _WORDS + LISTENS] != 0

    def beats(self, slot: int) -> int:
        return self._words[slot * _WORDS + BEATS]

    def read(self, slot: int) -> Beat:
        base = slot * _WORDS
        progress = self._floats[base + PROGRESS]
        length = min(self._words[base + NOTE_LENGTH], NOTE_BYTES)
        start = slot * SLOT_BYTES + _NOTE_AT
        note = bytes(self._bytes[start : start + length]).decode(errors="replace")
        return Beat(self._words[base + BEATS], None if math.isnan(progress) else progress, note)

    def close(self) -> None:
        """Unmap and close."""
        self._words.release()
        self._floats.release()
        self._bytes.release()
        self._map.close()
        os.close(self.fd)


class Slot:
    """One slot, as its child has it; see SlotTable.fork.

    words, floats: the page as such, for ctx.beat, which stores without a further call."""

    def __init__(self, table: SlotTable, number: int) -> None:
        first = number * _WORDS
        self._bytes = table._bytes[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]
        self.words, self.floats = table._words[first : first + _WORDS], table._floats[first : first + _WORDS]

    def write_note(self, note: str) -> None:
        data = note.encode(errors="replace")[:NOTE_BYTES]
        self._bytes[_NOTE_AT : _NOTE_AT + len(data)] = data
        self.words[NOTE_LENGTH] = len(data)
