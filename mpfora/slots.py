"""The shared-memory table: one slot per running task, written by the child's beats, read by zygote and supervisor.

A memfd made by the supervisor, inherited by the zygote and by every child through it. A slot has one writer per
field:

    offset 0   u64  beats        child: grows with every ctx.beat
           8   f64  progress     child: 0.0 to 1.0; NaN: not told
          16   u64  stop         supervisor: 0, or CLOCK_BOOTTIME in nanoseconds when the run was last asked to stop
          24   u64  note length  child: bytes of the note that are valid; written after the text
          32   ...  note         child: UTF-8, cut to NOTE_BYTES

Each field is stored by one aligned 8-byte write, so that a reader sees an old or a new value and never half of one.
The note may be torn when it is read while it is written; it is for people.
"""

from __future__ import annotations

import math
import mmap
import os
import time
from dataclasses import dataclass

SLOT_BYTES = 256
NOTE_BYTES = SLOT_BYTES - 32
#: memory is taken only of slots that were written to
MAX_SLOTS = 65_536

_BEATS, _PROGRESS, _STOP, _NOTE_LENGTH = 0, 1, 2, 3
_WORDS = SLOT_BYTES // 8


@dataclass(frozen=True, slots=True)
class Beat:
    """What a slot says: number of beats, progress (None: not told) and the note."""

    beats: int
    progress: float | None
    note: str


class SlotTable:
    """The mapped table. `fd` is inheritable to whom it is passed to by number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, SLOT_BYTES * MAX_SLOTS)
        view = memoryview(self._map)
        self.words = view.cast("Q")
        self.floats = view.cast("d")
        self._bytes = view

    @classmethod
    def create(cls) -> SlotTable:
        """A new, zeroed table in a memfd. Called by the supervisor once per zygote."""
        fd = os.memfd_create("mpfora-slots")
        os.ftruncate(fd, SLOT_BYTES * MAX_SLOTS)
        return cls(fd)

    def clear(self, slot: int) -> None:
        """Make a slot ready for a new run. Called by the supervisor before the fork."""
        base = slot * _WORDS
        self.words[base + _BEATS] = 0
        self.floats[base + _PROGRESS] = math.nan
        self.words[base + _STOP] = 0
        self.words[base + _NOTE_LENGTH] = 0

    def ask_stop(self, slot: int) -> None:
        """Called by the supervisor just before it sends a Stop frame. The time tells a child that reads the frame
        late how much of its within_s is left."""
        self.words[slot * _WORDS + _STOP] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def stop_asked(self, slot: int) -> bool:
        return self.words[slot * _WORDS + _STOP] != 0

    def beats(self, slot: int) -> int:
        return self.words[slot * _WORDS + _BEATS]

    def read(self, slot: int) -> Beat:
        base = slot * _WORDS
        progress = self.floats[base + _PROGRESS]
        length = min(self.words[base + _NOTE_LENGTH], NOTE_BYTES)
        start = slot * SLOT_BYTES + 32
        note = bytes(self._bytes[start : start + length]).decode(errors="replace")
        return Beat(self.words[base + _BEATS], None if math.isnan(progress) else progress, note)

    def word_index(self, slot: int) -> int:
        """Index of the slot's first word in `words` and `floats`: for ctx.beat, which stores without a further
        call."""
        return slot * _WORDS

    def write_note(self, slot: int, note: str) -> None:
        data = note.encode(errors="replace")[:NOTE_BYTES]
        start = slot * SLOT_BYTES + 32
        self._bytes[start : start + len(data)] = data
        self.words[slot * _WORDS + _NOTE_LENGTH] = len(data)

    def close(self) -> None:
        """Unmap and close. Views handed out must be gone."""
        self.words.release()
        self.floats.release()
        self._bytes.release()
        self._map.close()
        os.close(self.fd)
