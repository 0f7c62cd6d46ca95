"""ForkRequests that the supervisor asks for, and kills that have overtaken them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mpfora.child.run.call_handler import try_process
from mpfora.child.run.loaded_handler import Form, LoadedHandler
from mpfora.child.run.process import ForkFds
from mpfora.child.zygote.kill_decisions import KillDecisions
from mpfora.child.zygote.link import Link
from mpfora.child.zygote.spawner import ForkRequest, Spawner
from mpfora.child.zygote.watch_list import Limits, S
from mpfora.handlers import HandlerSettings
from mpfora.ipc import frames
from mpfora.ipc.slots import MAX_SLOTS
from mpfora.linux import syscalls
from mpfora.model.outcome import Cause
from mpfora.model.units import MOST_S

#: the supervisor gets the pid of a run after this at the latest, or together with its end
_STARTED_BY_NS = 20_000_000
#: readings of the supervisor's socket in one turn of the loop, and so the most forks, at about a millisecond each. If
#: forks took longer than this, the next turn makes fewer: each turn reads the urgent socket
_READINGS, _FORKING_NS = 8, 50_000_000
#: a hundred years: whatever is added to it, the kernel's timers can hold
_LONGEST_NS = int(MOST_S) * S
#: of a run that only tries whether there can be one
SELF_TEST = LoadedHandler(frames.SELF_TEST, try_process, HandlerSettings(), Form.FUNCTION)


class ForkRequests:
    """readings: of the supervisor's socket in the next turn of the loop; each ends behind a Fork frame."""

    def __init__(
        self,
        link: Link,
        handlers: Mapping[str, LoadedHandler],
        spawner: Spawner,
        decisions: KillDecisions,
    ) -> None:
        self._link, self._spawner, self._decisions = link, spawner, decisions
        self._handlers = {**handlers, frames.SELF_TEST: SELF_TEST}
        self.readings = _READINGS
        #: the newest run that was to be forked, and kills of later ones, which have overtaken their Fork frames
        self._newest_run = 0
        self._early_kills: dict[int, frames.Kill] = {}

    def request(self, frame: frames.Fork) -> ForkRequest | None:
        """None: it cannot be carried out, and the supervisor is told. What could go wrong does so here, before there is
        a process."""
        self._newest_run = max(self._newest_run, frame.run)
        try:
            fds = ForkFds(*self._link.take_fds())
        except OSError as error:
            self._link.send(frames.StartFailed(frame.run, str(error), Cause.NO_PROCESS.value))
            return None
        try:
            return ForkRequest(frame, fds, self._handlers[frame.spec.handler], _limits(frame))
        except KeyError:
            why = f"this node has no handler called {frame.spec.handler!r}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is trouble of this run alone
            why = f"the request cannot be carried out: {type(error).__name__}: {error}"
        for fd in fds:
            os.close(fd)
        self._link.send(frames.StartFailed(frame.run, why))
        return None

    def fork(self, requests: Sequence[ForkRequest], own_fds: Sequence[int]) -> None:
        """Fork them all, and tell the supervisor what became of each. own_fds: what no child must keep."""
        if not requests:
            return
        began = syscalls.boot_ns()
        forked = self._spawner.spawn(requests, own_fds, self._decisions.why_no_fork)
        for request, leader in zip(requests, forked, strict=True):
            if isinstance(leader, frames.StartFailed):
                self._link.send(leader)
                continue
            self._decisions.add(leader.run, request.limits, leader.forked_at)
            self._link.send_by(frames.Started(leader.run, leader.pid), leader.forked_at + _STARTED_BY_NS)
        if self._early_kills:
            self._kill_early()
        is_slow = syscalls.boot_ns() - began > _FORKING_NS
        self.readings = max(1, self.readings // 2) if is_slow else min(_READINGS, 2 * self.readings)

    def kill(self, frame: frames.Kill) -> None:
        """Now, or when the run has been forked."""
        if frame.run > self._newest_run:
            self._early_kills[frame.run] = frame
        else:
            self._decisions.ask(frame.run, Cause(frame.cause), frame.dump)

    def _kill_early(self) -> None:
        """Carry out the early kills of runs that are forked by now. A kill of a run that has ended means nothing."""
        for run in [run for run in self._early_kills if run <= self._newest_run]:
            self.kill(self._early_kills.pop(run))


def _limits(frame: frames.Fork) -> Limits:
    """The limits in a Fork frame. Raises ValueError, TypeError or OverflowError for a frame that is not valid."""
    spec, limits = frame.spec, frame.spec.limits
    texts = spec.task_id, spec.props_json, spec.checkpoint_json or "", limits.stall_by
    numbers = frame.run, frame.slot, spec.fence, spec.attempt, limits.memory_limit or 0, limits.pids_limit or 0
    if {*map(type, texts)} != {str} or {*map(type, numbers)} != {int}:
        raise TypeError("a field is of another type")
    if not isinstance(limits.stall_timeout_s or 0, int | float):
        raise TypeError(f"a stall_timeout of {type(limits.stall_timeout_s).__name__}")
    if not 0 <= frame.slot < MAX_SLOTS:
        raise ValueError(f"slot {frame.slot}: there are {MAX_SLOTS}")
    stall_ns = None if limits.stall_timeout_s is None else min(int(limits.stall_timeout_s * S), _LONGEST_NS)
    return Limits(stall_ns, limits.stall_by, limits.memory_limit, limits.pids_limit)
