"""What a pool's zygotes import ahead of the calls, so that no call has to. The pool learns the modules from its calls,
for speed alone: it gives up a module whose import ends or hangs a zygote."""

from __future__ import annotations

import logging
import sys

from mpfora.config.handler_spec import Preload, running_script
from mpfora.pool.work import Work

log = logging.getLogger(__name__)

_MAIN = "__main__"
#: modules that every zygote has imported
_THERE = frozenset({_MAIN, *sys.builtin_module_names})


class Ahead:
    """needed: modules that somebody has asked to preload. is_outdated: a zygote that is started now has more than the
    last one that was started."""

    def __init__(self, needed: tuple[str, ...]) -> None:
        self.needed = needed
        self.is_outdated = False
        #: names of modules, _MAIN for the running script: what is tried; what the last zygote was told of it, and the
        #: last one that started; what is given up
        self._tried: dict[str, None] = {}
        self._told: frozenset[str] = frozenset()
        self._had: frozenset[str] = frozenset()
        self._never: set[str] = set()

    def learn(self, work: Work) -> None:
        """Learn from a call that comes."""
        if work.needs_main:
            self._try(_MAIN)
        if work.module and work.module not in _THERE and work.module not in self.needed:
            self._try(work.module)

    def preload(self) -> Preload:
        """What a zygote imports that is started now."""
        self.is_outdated, self._told = False, frozenset(self._tried)
        path, module = running_script() if _MAIN in self._tried else (None, None)
        return Preload(self.needed, tuple(name for name in self._tried if name != _MAIN), path, module)

    def started(self) -> None:
        """The zygote that was told last has started."""
        self._had = self._told

    def gives_up(self, error: Exception) -> bool:
        """The zygote that was told last has not started. Whether that may be for something new: that is tried no
        more."""
        new = [name for name in self._tried if name in self._told - self._had]
        if not new:
            return False
        log.warning("the pool goes on without importing %s ahead of the calls: %s", ", ".join(new), error)
        self._never.update(new)
        self._tried = {name: None for name in self._tried if name not in new}
        return True

    def _try(self, name: str) -> None:
        if name not in self._tried and name not in self._never:
            self._tried[name] = None
            self.is_outdated = True
