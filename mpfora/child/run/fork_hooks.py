"""What threading, logging and random have done at every fork, held back while the zygote forks.

Their hooks are Python code that every child would run first of all, for nothing: they reset locks and forget other
threads, and the zygote has one thread, which holds no lock. Each page that they write to is copied in every child. So
the zygote registers none of them, and `random` is seeded by C alone. A process that forks and is not the zygote gets
them back just before that fork: a child that forks itself, a module that forks at its import.

Where a module has started a thread at its import, all is as Python has it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

_OWNERS = frozenset({"threading", "logging", "random"})
_register: Callable[..., None] = os.register_at_fork
_held: list[dict[str, Callable[[], Any]]] = []
#: the process that forks without the hooks that are held
_exempt = 0
#: who forked last: after a fork, the parent's pid as it was before
forker = 0


def hold_back() -> None:
    """Called first of all in the program that the supervisor executes, before those modules are imported. This process
    may fork without hooks until they are; after that `settle` is to be called."""
    global _exempt
    _exempt = os.getpid()
    os.register_at_fork = _register_some  # type: ignore[assignment]


def settle() -> None:
    """Called in the zygote when the handlers are imported: from now on it forks without the hooks that were held."""
    global _exempt
    os.register_at_fork = _register
    if len(sys._current_frames()) > 1:
        give_back()
    _exempt = os.getpid()
    if (random := sys.modules.get("random")) is not None:
        random._inst.gauss_next = None  # the rest of what its seed() does, beside the seeding itself


def give_back() -> None:
    """Register the hooks that were held, and run those of them that come before the fork that is under way."""
    for hooks in _held:
        _register(**hooks)
        if "before" in hooks:
            hooks["before"]()
    _held.clear()


def _register_some(**hooks: Callable[[], Any]) -> None:
    """os.register_at_fork, but for hooks of the modules above."""
    in_child = hooks.get("after_in_child")
    owner = getattr(in_child, "__module__", None)
    if owner not in _OWNERS:
        _register(**hooks)
        return
    _held.append(hooks)
    generator = getattr(in_child, "__self__", None)
    if generator is not None:
        _register(after_in_child=super(type(generator), generator).seed)


def _before_fork() -> None:
    global forker
    forker = os.getpid()
    if forker != _exempt and _held:
        give_back()


_register(before=_before_fork)
