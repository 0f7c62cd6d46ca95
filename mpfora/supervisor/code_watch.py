"""Watches the files that the handlers were imported from, and has the node reload when one has changed. For
development: it looks at all of them twice a second, and only where `--reload-on-change` is given.

A save is often several changes: the reload comes when nothing has changed any more from one look to the next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("mpfora.node")

EVERY_S = 0.5
#: how many of the changed files a reload's reason names
_NAMED = 3
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name))) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_MPFORA = str(Path(__file__).parents[1]) + os.sep

#: of a file: its time, size and number; of a folder: which modules may be in it; None: there is none
Stamp = tuple[int, int, int] | None


class CodeWatch:
    """reload: called with the reason, when files have changed."""

    def __init__(self, reload: Callable[[str], None]) -> None:
        self._reload = reload
        #: the files, each as it was seen last
        self._stamps: dict[str, Stamp] = {}

    def imported(self, files: Iterable[str], is_whole: bool) -> None:
        """A zygote has imported its modules from these files. One that was seen to change meanwhile is known as it was
        before. is_whole: there are no others; else the import has failed. Then those of before are watched, too, and
        the folders of all."""
        own = {file for file in files if is_own(file)}
        if not is_whole:
            own |= _folders(own)
        kept = {file: stamp for file, stamp in self._stamps.items() if file in own or not is_whole}
        self._stamps = {**stamps_of(own - kept.keys()), **kept}

    async def run(self) -> None:
        """Look for ever; the node cancels it when it leaves."""
        changed: set[str] = set()
        while True:
            await asyncio.sleep(EVERY_S)
            news = self._take_news(await asyncio.to_thread(stamps_of, list(self._stamps)))
            changed |= news
            if changed and not news:
                self._reload(f"changed: {_listed(changed)}")
                changed = set()

    def _take_news(self, seen: Mapping[str, Stamp]) -> set[str]:
        """The files that are not as they were, and note how they are."""
        news = {file for file, stamp in seen.items() if file in self._stamps and self._stamps[file] != stamp}
        self._stamps |= {file: seen[file] for file in news}
        return news


def is_own(file: str) -> bool:
    """Whether a file is of the handlers' code, and not of Python, of an installed library, or of mpfora."""
    return not file.startswith((*_LIBRARIES, _MPFORA))


def stamps_of(files: Iterable[str]) -> dict[str, Stamp]:
    return {file: _stamp(file) for file in files}


def _stamp(file: str) -> Stamp:
    """The stamp of a file. One that cannot be looked at counts as missing."""
    try:
        found = os.stat(file)
        if stat.S_ISDIR(found.st_mode):
            return found.st_ino, *_modules_of(file)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _modules_of(folder: str) -> tuple[int, int]:
    """How many modules and packages may be in it, and a sum of their names. Whatever else is made there is no code."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".py") or "." not in name)
    return len(names), zlib.crc32("\0".join(names).encode(errors="surrogateescape"))


def _folders(files: Iterable[str]) -> set[str]:
    """Where a module may be made that an import lacks."""
    folders = {str(Path(file).parent) for file in files}
    with suppress(OSError):  # a deploy has removed the file
        folders.add(str(Path.cwd()))
    return folders


def _listed(files: set[str]) -> str:
    some = sorted(files)
    more = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
    return ", ".join(some[:_NAMED]) + more
