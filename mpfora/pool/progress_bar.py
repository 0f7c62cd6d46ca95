"""The bar of Pool.map(progress=True): rich's in a terminal; in a notebook one display that is updated."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

_EVERY_S = 0.2


class _Bar(Protocol):
    def show(self, done: int) -> None: ...
    def close(self) -> None: ...


def with_bar(results: Iterator[Any], total: int | None) -> Iterator[Any]:
    """The same results, with a bar that counts those that were taken."""
    bar: _Bar = _Notebook(total) if _is_notebook() else _Terminal(total)
    done, shown_at = 0, -_EVERY_S
    try:
        for result in results:
            done += 1
            if (now := time.monotonic()) - shown_at >= _EVERY_S:
                bar.show(done)
                shown_at = now
            yield result
        bar.show(done)
    finally:
        bar.close()


class _Terminal:
    """On standard error; where that is no terminal nothing is shown."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True)
        self._progress = Progress(
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("map", total=total)
        self._progress.start()

    def show(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        self._progress.stop()


class _Notebook:
    def __init__(self, total: int | None) -> None:
        from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

        self._total = total
        self._began = time.monotonic()
        self._handle = display(_Html(0, total, 0.0), display_id=True)  # type: ignore[no-untyped-call,unused-ignore]

    def show(self, done: int) -> None:
        self._handle.update(_Html(done, self._total, time.monotonic() - self._began))

    def close(self) -> None:
        pass


class _Html:
    def __init__(self, done: int, total: int | None, took_s: float) -> None:
        self._done, self._total, self._took_s = done, total, took_s

    def _repr_html_(self) -> str:
        of = "" if self._total is None else f" of {self._total}"
        bar = "" if not self._total else f'<progress value="{self._done}" max="{self._total}"></progress> '
        return f"{bar}{self._done}{of}, {self._took_s:.0f} s"

    def __repr__(self) -> str:
        return f"{self._done} of {self._total or '?'}"


def _is_notebook() -> bool:
    """Whether this program is a kernel of Jupyter."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
