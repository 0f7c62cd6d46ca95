"""What becomes of pools when the program ends, or forks."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpfora.pool.engine import Engine

#: for the zygote to leave, once its calls are killed; it is killed itself before that
_LEAVE_S = 10.0

#: True: the interpreter ends, and no pool takes a call any more
has_ended = False
#: engine -> how long its calls may go on when the interpreter ends
_engines: weakref.WeakKeyDictionary[Engine, float] = weakref.WeakKeyDictionary()


def watch(engine: Engine, grace_s: float) -> None:
    """Have the engine end when the interpreter does: its calls have so long to end, and are killed then."""
    _engines[engine] = grace_s


def _at_exit() -> None:
    global has_ended
    has_ended = True
    engines = [(engine, grace_s) for engine, grace_s in _engines.items() if engine.pid == os.getpid()]
    began = time.monotonic()
    for engine, _ in engines:
        engine.close()
    for engine, grace_s in engines:
        if not engine.join(max(0.0, began + grace_s - time.monotonic())):
            engine.cancel_all(at_once=True)
    for engine, _ in engines:
        engine.join(_LEAVE_S)


def _after_fork() -> None:
    for engine in list(_engines):
        engine.after_fork()


os.register_at_fork(after_in_child=_after_fork)
# as concurrent.futures has it: before the threads of the program are waited for, while new ones can be started
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
