"""Values of modules and classes that are replaced for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: (a module or class, the name of its attribute, the value that takes its place)
Patch = tuple[Any, str, Any]


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    former = [(where, what, vars(where)[what]) for where, what, _ in patches]
    for where, what, value in patches:
        setattr(where, what, value)
    try:
        yield
    finally:
        for where, what, value in former:
            setattr(where, what, value)
