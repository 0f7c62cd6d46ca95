"""Slices: long work of an event loop, cut so that no turn of the loop takes long. Knows nothing of what the work is."""

from __future__ import annotations

import asyncio

#: the size of one slice in bytes, and in pieces: some milliseconds of work
SLICE_BYTES, SLICE_PIECES = 256 * 1024, 500


class Slices:
    """One per piece of long work: `spend` is awaited after each piece and lets others run when a slice is used up."""

    def __init__(self, size: int = SLICE_BYTES, pieces: int = SLICE_PIECES) -> None:
        self._size, self._pieces = size, pieces
        self._bytes = self._count = 0

    async def spend(self, size: int = 0) -> None:
        """A piece of `size` bytes was handled."""
        self._bytes += size
        self._count += 1
        if self._bytes >= self._size or self._count >= self._pieces:
            self._bytes = self._count = 0
            await asyncio.sleep(0)
