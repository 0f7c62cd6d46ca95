"""The spawner: forks the leaders of runs, each with its descriptors, its lifeline and its control group."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from mpfora.child.run import process
from mpfora.child.run.loaded_handler import LoadedHandler
from mpfora.child.run.process import ForkFds
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.leaders import Leaders
from mpfora.child.zygote.own_limits import OwnLimits
from mpfora.child.zygote.watch_list import Limits
from mpfora.ipc import frames
from mpfora.ipc.slots import SlotTable
from mpfora.linux import syscalls
from mpfora.linux.run_cgroups import RunGroup, RunGroups
from mpfora.linux.run_cgroups import enter as enter_group
from mpfora.model.outcome import Cause

#: bytes between a memory limit, with an eighth of it, and what the kernel lets a run have
_HEADROOM = 16 << 20


class ForkRequest(NamedTuple):
    """A run to be forked: the frame, the descriptors that came with it, the handler that it names, its limits, the
    reading and the writing end of its lifeline, and its control group."""

    frame: frames.Fork
    fds: ForkFds
    handler: LoadedHandler
    limits: Limits = Limits()
    lifeline: tuple[int, int] | None = None
    group: RunGroup | None = None


class Spawner:
    """leaders: to which it adds those that it has forked.  slots: the table that they get their slots of.
    groups: where the control groups of runs are made.  notice: called with a level and a text for the node's log."""

    def __init__(
        self,
        leaders: Leaders,
        slots: SlotTable,
        groups: RunGroups | None = None,
        notice: Callable[[str, str], None] = lambda level, text: None,
    ) -> None:
        self._leaders, self._slots, self._groups, self._notice = leaders, slots, groups, notice
        self._limits = OwnLimits()

    def spawn(
        self, requests: Sequence[ForkRequest], own: Sequence[int], why_not: Callable[[int], str | None]
    ) -> list[Leader | frames.StartFailed]:
        """Start runs, one after the other, and say for each what became of it. The descriptors of the requests are
        taken over; `own` are the zygote's, which no child must keep. `why_not` is asked before each fork, with the
        time, whether it may be.

        To fork write-protects all the memory that the zygote has, and each page that it touches before the next fork is
        faulted in anew: so nothing is done between the forks that can be done before or after all of them."""
        slots = self._slots
        for line in self._limits.restore():
            self._notice("warning", f"somebody has changed the zygote's limits, which every run gets: {line}")
        pids: list[tuple[int, int] | frames.StartFailed] = []
        requests = [self._prepared(request) for request in requests]
        mask = syscalls.block_signals()  # a child unblocks them when it is set up
        try:
            for request in requests:
                now = syscalls.boot_ns()
                reason = why_not(now)
                if reason is not None:
                    pids.append(frames.StartFailed(request.frame.run, reason, Cause.LOST_CLAIM.value))
                    continue
                try:
                    pid = slots.fork(request.frame.slot)
                except OSError as error:  # no process to be had
                    pids.append(frames.StartFailed(request.frame.run, str(error), Cause.NO_PROCESS.value))
                    continue
                if pid == 0:
                    _enter(request, slots, self._close_in_child(request, requests, own))
                if request.lifeline is not None:
                    syscalls.tie_to_lifeline(request.lifeline[0], pid)
                pids.append((pid, now))
        finally:
            syscalls.restore_signals(mask)
        return [self._settle(request, forked) for request, forked in zip(requests, pids, strict=True)]

    def _prepared(self, request: ForkRequest) -> ForkRequest:
        """The request with a pipe for its lifeline and a control group. Where these cannot be had it goes without:
        signals do most of the work."""
        lifeline = group = None
        try:
            lifeline = syscalls.make_lifeline()
            if self._groups is not None:
                group = _group(self._groups, request)
        except OSError as error:
            self._notice("warning", f"run {request.frame.run} has no lifeline or no control group: {error}")
        # _replace would do, by way of functions whose pages each fork has the zygote copy
        return ForkRequest(request.frame, request.fds, request.handler, request.limits, lifeline, group)

    def _close_in_child(
        self, request: ForkRequest, requests: Sequence[ForkRequest], own: Sequence[int]
    ) -> Sequence[int]:
        """Descriptors that a child must close even if a handler's module has opened the same numbers."""
        if not request.handler.open_files:
            return ()
        of_others = [fd for other in requests if other is not request for fd in (*other.fds, *(other.lifeline or ()))]
        of_others += [each.group.entry for each in requests if each.group is not None]
        of_leaders = [fd for leader in self._leaders.by_run.values() for fd in leader.fds()]
        return [*own, *(request.lifeline or ())[1:], *of_others, *of_leaders]

    def _settle(
        self, request: ForkRequest, forked: tuple[int, int] | frames.StartFailed
    ) -> Leader | frames.StartFailed:
        reader, writer = request.lifeline or (None, None)
        _close_all(request.fds.control, request.fds.output, reader)
        if request.group is not None:
            request.group.entered()
        if isinstance(forked, frames.StartFailed):
            _close_all(request.fds.stacks, writer)
            if request.group is not None:
                request.group.close()
            return forked
        pid, at = forked
        leader = Leader(request.frame.run, pid, request.frame.slot, request.fds.stacks, at, writer, request.group)
        leader.memory_limit = request.limits.memory_limit
        self._leaders.add(leader)
        return leader


def _group(groups: RunGroups, request: ForkRequest) -> RunGroup:
    """Raises OSError, with nothing left."""
    group = groups.open(request.frame.slot)
    try:
        if request.limits.memory_limit is not None:
            # the kernel's bound stands above the zygote's, which tells where the memory went, and is quicker
            group.limit("memory.max", request.limits.memory_limit + request.limits.memory_limit // 8 + _HEADROOM)
        if request.limits.pids_limit is not None:
            group.limit("pids.max", request.limits.pids_limit + 1)  # one more for the sampler of a profile
        given = request.frame.spec.given
        if given is not None and (cores := given.amounts.get("cpus")):
            group.limit("cpu.weight", min(10_000, max(1, round(100 * cores))))  # a run that needs none has 100
    except OSError:
        group.entered()
        group.close()
        raise
    return group


def _close_all(*fds: int | None) -> None:
    for fd in fds:
        if fd is not None:
            os.close(fd)


def _enter(request: ForkRequest, slots: SlotTable, close_fds: Sequence[int]) -> NoReturn:
    """In the child. Whatever happens, it does not return into the zygote's code."""
    try:
        # else the child's signals would wake the zygote, through the pipe that both have
        signal.set_wakeup_fd(-1)
        if request.group is not None:
            with suppress(OSError):  # it was tried when the zygote started; the tree is killed by signals all the same
                enter_group(request.group.entry)
        reader = None if request.lifeline is None else request.lifeline[0]
        process.enter(request.frame, request.fds, request.handler, slots, close_fds, reader)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        process.leave(70)
