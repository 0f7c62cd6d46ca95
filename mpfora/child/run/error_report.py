"""Exceptions as texts: what a Failed frame says of one. Whatever the exception does, its texts are bounded and made.

An exception may be hostile: its __str__ may raise or return ten megabytes, its class may lie about its name, its text
may carry terminal escapes or lone surrogates. None of that may keep the report from being sent.
"""

from __future__ import annotations

import os
import traceback as tracebacks
from collections.abc import Iterator
from types import TracebackType

from mpfora.ipc import frames
from mpfora.linux import syscalls

#: bounds in bytes of UTF-8
TEXT_BYTES = 1024
TRACEBACK_BYTES = 16 * 1024
_KIND_BYTES = 256
#: of a class's bases so many are named
_BASES = 32
#: of a traceback that is too long, so much of the beginning is kept, and the rest of the room is the end's
_HEAD_BYTES = 5 * 1024
#: of one entry of a traceback: the exception's text is one, and may be long
_ENTRY_BYTES = 4 * 1024
#: so many exceptions are told of those that led to one
_LINKS = 30
#: read and set past whatever a class of the handler's makes of them
_CAUSE, _CONTEXT = BaseException.__dict__["__cause__"], BaseException.__dict__["__context__"]
#: escaping makes a character up to ten bytes: what is beyond this is not worth escaping
_CHARACTERS = 1_000_000

#: what errors mean that say little, by class and text
_REMEDIES = {
    ("bdb.BdbQuit", ""): "a task has no terminal for a debugger: take breakpoint() or pdb.set_trace() out, or set"
    " PYTHONBREAKPOINT to 0 or to a remote debugger",
    ("builtins.EOFError", "EOF when reading a line"): "a task has no terminal, its input() is empty: put what it needs"
    " to know into its props",
}

_LIBRARY = os.path.dirname(os.__file__)
#: files whose frames stand above the user's, and say nothing to them
_NOT_THEIRS = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    os.path.join(_LIBRARY, "asyncio", ""),
    os.path.join(_LIBRARY, "importlib", ""),
    "<frozen importlib",
)


def describe(error: BaseException, *, at_start: bool = False, of_node: bool = False) -> frames.Failed:
    """The frame that reports `error`. Its traceback begins where the handler's code does, not above."""
    _shorten(error)
    kind = kind_of(error)
    shown = kind.removeprefix("builtins.")
    message = _message(error)
    text = one_line(": ".join(filter(None, (shown, message, _REMEDIES.get((kind, message))))))
    return frames.Failed(text, _traceback(error, text), kind, at_start, kinds_of(error), of_node)


class _LeftOut(Exception):
    """Stands in a chain of exceptions for those before it."""


def _shorten(error: BaseException) -> None:
    """Cut the chain of what led to an exception behind its nearest _LINKS: a retry that recurses makes tens of
    thousands, and each exception that is raised from now on, by whatever formats them, would have Python walk them
    all."""
    last = error
    for _ in range(_LINKS):
        cause, context = _CAUSE.__get__(last), _CONTEXT.__get__(last)
        if (before := context if cause is None else cause) is None:
            return
        last = before
    _CONTEXT.__set__(last, None)
    _CAUSE.__set__(last, _LeftOut("what led to this is left out: it is too long"))


def is_of_node(error: BaseException) -> bool:
    """Whether it says that the node is out of processes, descriptors or memory. Asked of errors of mpfora's own calls
    alone: what a handler raises is its own."""
    if isinstance(error, OSError):
        return error.errno in syscalls.EXHAUSTED
    return isinstance(error, MemoryError) or (type(error) is RuntimeError and str(error) == "can't start new thread")


def kind_of(error: BaseException) -> str:
    """module.qualname of an exception's class, read past whatever its metaclass says of itself."""
    return class_name(type(error))


def kinds_of(error: BaseException) -> list[str]:
    """The names of an exception's class and its bases, nearest first, without running code of theirs. The last ones,
    which every exception has, are always there."""
    bases = type.__dict__["__mro__"].__get__(type(error))
    if len(bases) > _BASES:
        bases = (*bases[: _BASES - 3], *bases[-3:])
    return [class_name(cls) for cls in bases if cls is not object]


def class_name(cls: type) -> str:
    """module.qualname of a class, bounded, without running code of its own."""
    module, name = (type.__dict__[key].__get__(cls) for key in ("__module__", "__qualname__"))
    return cut(f"{module}.{name}" if isinstance(module, str) else str(name), _KIND_BYTES)


def one_line(text: str, limit: int = TEXT_BYTES) -> str:
    """`text` on one line of at most `limit` bytes: white space becomes one space, what cannot be printed an
    escape."""
    return cut(_printable(" ".join(text[: 8 * limit].split())), limit)


def cut(text: str, limit: int) -> str:
    """The beginning of `text`, as valid UTF-8 of at most `limit` bytes; that something was cut is seen."""
    data = text[: limit + 1].encode(errors="backslashreplace")
    return data.decode() if len(data) <= limit else data[: limit - 4].decode(errors="ignore") + " ..."


def cut_middle(text: str, limit: int, head: int) -> str:
    """`text` as valid UTF-8 of at most `limit` bytes: its first `head` bytes, how much is left out, and its end."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return data.decode()
    gap = f"\n... [{len(data) - limit} bytes left out] ...\n"
    tail = limit - head - len(gap)
    return data[:head].decode(errors="ignore") + gap + data[-tail:].decode(errors="ignore")


def _printable(text: str, keep: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def _message(error: BaseException) -> str:
    try:
        return str(error)[: 8 * TEXT_BYTES]
    except BaseException as second:  # noqa: BLE001 - the exception's own code; its report goes on without its text
        return f"<its __str__ raised {kind_of(second)}>"


def _traceback(error: BaseException, text: str) -> str:
    """As Python prints it, from the user's first frame on."""
    if isinstance(error, MemoryError):
        tracebacks.clear_frames(error.__traceback__)  # formatting needs some of what the handler's locals hold
    start = _first_of_theirs(error.__traceback__)
    try:
        entries = [cut_middle(entry, _ENTRY_BYTES, _ENTRY_BYTES // 2) for entry in _entries(error, start)]
    except BaseException:  # noqa: BLE001 - an attribute of the exception raised: the frames alone are told
        entries = ["Traceback (most recent call last):\n", *_frames(start), text, "\n"]
    full = "".join(entries)[-_CHARACTERS:]
    return cut_middle(_printable(full, "\n\t"), TRACEBACK_BYTES, _HEAD_BYTES)


def _entries(error: BaseException, start: TracebackType | None) -> Iterator[str]:
    told = tracebacks.TracebackException(type(error), error, start, compact=True, max_group_width=8, max_group_depth=5)
    has_story = start or error.__cause__ or error.__context__ or isinstance(error, BaseExceptionGroup)
    return told.format() if has_story else told.format_exception_only()


def _first_of_theirs(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_NOT_THEIRS):
        traceback = traceback.tb_next
    return traceback


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield f'  File "{code.co_filename}", line {traceback.tb_lineno}, in {code.co_name}\n'
        traceback = traceback.tb_next
