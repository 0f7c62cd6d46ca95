"""A log whose node is on this machine: its files are read here, and nothing of it goes through the store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpfora.client.logs.log_lines import LineCutter, LogLine
from mpfora.errors import MpforaError, StoreError
from mpfora.run_logs.places import RunName
from mpfora.run_logs.reader import Piece, read_piece

#: bytes that are read at once, and how often it is looked whether there are more
_MOST, _LOOK_S = 1024 * 1024, 0.1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine() -> str:
    """What tells this machine from others; "" where it cannot be told."""
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def folder_here(answer: Mapping[str, Any]) -> Path | None:
    """The folder of the node's logs, where the node names it and it is the same one here: a container may see another
    under this path. None: it is not to be read here."""
    named = answer.get("folder")
    if not (isinstance(named, list) and len(named) == 3 and isinstance(named[0], str)):
        return None
    try:
        found = os.stat(named[0])
        os.listdir(named[0])
    except OSError:
        return None
    return Path(named[0]) if [found.st_dev, found.st_ino] == named[1:] else None


class LocalLog:
    """The log of one run, from where the cutter is. has_failed: it cannot be read here any more, and its node is to be
    asked for the rest."""

    def __init__(self, folder: Path, run: RunName, cutter: LineCutter) -> None:
        self._folder, self._run, self._cutter = folder, run, cutter
        self.has_failed = False

    async def lines(
        self, ended: Callable[[], Awaitable[Mapping[str, Any]]] | None
    ) -> AsyncGenerator[tuple[list[LogLine], bool], None]:
        """(lines, whether that is all for now). ended: waits for the end of the run, or for a while, and says which;
        None: what is there now is wanted, and no more."""
        asking = None if ended is None else asyncio.ensure_future(ended())
        try:
            while True:
                is_over = asking is None or asking.done()  # asked before the files are looked at
                piece = await self._read()
                if self.has_failed:
                    return
                if piece is not None and piece.data:
                    yield list(self._cutter.feed(piece.start, piece.data, piece.times)), self._is_level(piece)
                    continue
                if not is_over:
                    await asyncio.sleep(_LOOK_S)
                    continue
                if asking is None or self._has_ended(asking):
                    yield [], True
                    return
                if self.has_failed:
                    return
                assert ended is not None
                asking = asyncio.ensure_future(ended())
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    def _is_level(self, piece: Piece) -> bool:
        return self._cutter.position >= piece.size

    def _has_ended(self, asking: asyncio.Future[Mapping[str, Any]]) -> bool:
        """A node that does not answer is asked anew for all, as one on another machine is."""
        try:
            answer = asking.result()
        except (MpforaError, StoreError):
            self.has_failed = True
            return False
        if "ended" not in answer:
            self.has_failed = True
        return bool(answer.get("ended"))

    async def _read(self) -> Piece | None:
        try:
            return await asyncio.to_thread(read_piece, self._folder, self._run, self._cutter.position, _MOST)
        except OSError:
            self.has_failed = True
            return None
