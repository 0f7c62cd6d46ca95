"""Files of the user that have taken the place of modules of the standard library: a queue.py where the node is started.

Python finds them first, and what breaks then does not name them. Standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType


def describe_shadows() -> str:
    """Those that are loaded, and what to do; "" if there are none."""
    library = os.path.dirname(os.__file__) + os.sep
    found = []
    for name in sorted(sys.stdlib_module_names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and not file.startswith(library) and "lib-dynload" not in file:
            found.append(f"{file} stands in the place of the standard library's module {name!r}: rename it")
    return "; ".join(found)


def tell_at_exit() -> None:
    """From now on an error that ends the program names them. Called before anything else of mpfora is imported."""
    sys.excepthook = _Hook(sys.excepthook)


class _Hook:
    def __init__(self, before: Callable[..., object]) -> None:
        self._before = before

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        self._before(kind, error, traceback)
        if text := describe_shadows():
            sys.stderr.write(f"mpfora: {text}\n")
