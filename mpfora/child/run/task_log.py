"""The logger that a handler gets as ctx.log. Imported at its first use: most runs never need `logging`.

`logging.config.dictConfig` and `fileConfig` disable every logger that exists when they are called, unless they are
told not to. A handler that sets up its logging would lose ctx.log by that. So this logger is not registered: no
configuration finds it. The registered logger of the same name is its parent: what is set there holds.
"""

from __future__ import annotations

import logging
import sys

_fallback = logging.StreamHandler(sys.stderr)
_fallback.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))


class TaskLogger(logging.Logger):
    """Logs to the handlers that the process has. Without any it writes to stderr, from INFO on."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"mpfora.task.{task_id}")
        self.parent = logging.getLogger(self.name)

    def getEffectiveLevel(self) -> int:
        level = super().getEffectiveLevel()
        is_set_up = self.hasHandlers() or level != logging.WARNING  # the root's, if nobody has set any
        return level if is_set_up else logging.INFO

    def isEnabledFor(self, level: int) -> bool:
        """Not kept, as `Logger` does: the configuration of this logger changes without its knowledge."""
        return self.manager.disable < level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:
        if self.hasHandlers():
            super().callHandlers(record)
            return
        _fallback.setStream(sys.stderr)  # the handler may have replaced it
        _fallback.handle(record)
