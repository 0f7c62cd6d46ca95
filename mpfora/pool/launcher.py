"""How a call of a pool gets its process: its parcels are filled, and the zygote forks. All of it runs in the pool's
loop, but for the filling of large parcels."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mpfora.model.outcome import Cause, Outcome
from mpfora.pool.running import Running
from mpfora.pool.work import LARGE, close_files
from mpfora.pool.zygotes import Zygotes

#: how often a call is tried for which the machine has no process or no memory
TRIES = 20


class Launcher:
    """tell: as Engine.tell. on_failed: called in the loop with the number of a call that has no process and gets none,
    and why."""

    def __init__(self, zygotes: Zygotes, tell: Callable[..., bool], on_failed: Callable[[int, Outcome], None]) -> None:
        self._zygotes, self._tell, self._on_failed = zygotes, tell, on_failed

    def launch(self, running: Running) -> None:
        """To copy a gigabyte takes a while, so a thread of its own does that."""
        if running.entry.work.size > LARGE:
            threading.Thread(target=self._fill, args=(running,), name="mpfora-pool-copy", daemon=True).start()
            return
        try:
            files = running.entry.work.files()
        except Exception as error:  # noqa: BLE001 - buffers are objects of the user's
            self._fail(running, error)
        else:
            self._fork(running, files)

    def _fill(self, running: Running) -> None:
        try:
            files = running.entry.work.files()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told in the loop
            self._tell(self._fail, running, error)
        else:
            if not self._tell(self._fork, running, files):
                close_files(*files)

    def _fork(self, running: Running, files: tuple[int, int]) -> None:
        zygote = self._zygotes.current
        if zygote is None or not running.is_wanted:
            close_files(*files)
            self._on_failed(running.number, Outcome(Cause.STOP_TIMEOUT, error=running.why, made=False))
            return
        self._zygotes.use(zygote)
        running.launch(zygote, files, self._zygotes.new_path(zygote))

    def _fail(self, running: Running, error: Exception) -> None:
        """The call gets no process, mostly because the machine has no memory or no descriptors for it now."""
        if not isinstance(error, OSError):
            running.entry.tries = TRIES
        outcome = Outcome(Cause.NO_PROCESS, error=f"the call could not begin: {error}", made=False)
        self._on_failed(running.number, outcome)
