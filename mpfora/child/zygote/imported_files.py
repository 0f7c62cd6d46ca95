"""The files that the handlers' modules come from, for a node that reloads when they change. No other asks for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator


def imported_files() -> list[str]:
    """Of all modules that are imported now."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return [file for file in files if isinstance(file, str)]


def files_of(error: BaseException) -> list[str]:
    """Those in which an import has failed. The modules that they hold are imported no more, so that `imported_files`
    does not name them."""
    return [file for link in _chain(error) for file in _files(link) if not file.startswith("<")]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or link.__context__


def _files(error: BaseException) -> Iterator[str]:
    if isinstance(error, SyntaxError) and isinstance(error.filename, str):
        yield error.filename
    frames = error.__traceback__
    while frames is not None:
        yield frames.tb_frame.f_code.co_filename
        frames = frames.tb_next
