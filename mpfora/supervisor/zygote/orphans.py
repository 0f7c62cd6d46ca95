"""What a dead zygote leaves behind, seen from the supervisor: killed, and waited for by the run that it belongs to.

Its children die with it (PR_SET_PDEATHSIG), and what those leave becomes the guard's (child/zygote/guard.py): what is
below the guard was left by the zygote. If the guard is dead too, the supervisor inherits. Then only what bears a mark
of the zygote (see ipc/marks.py), or was known before, counts as left by it.
A process that does not die holds up the run that it belongs to, and no other. Where nothing tells whose it is, it holds
up all of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mpfora.ipc.marks import RUN_MARK, ZYGOTE_MARK, as_found, run_name, tagged_run, zygote_tag
from mpfora.linux import cgroup, procfs
from mpfora.linux.procfs import ProcStat, Snapshot
from mpfora.linux.tag import tag_of
from mpfora.model.lasting_condition import LastingCondition

log = logging.getLogger(__name__)

_PAUSE_S = 0.005
_PAUSE_MOST_S = 1.0
_TELL_AFTER_S = 5.0


class Guard(Protocol):
    """A subprocess.Popen, as far as this module uses it."""

    pid: int

    def poll(self) -> int | None: ...


class OrphanCleanup:
    """mark: the value of ZYGOTE_MARK in the environment of the zygote. guard: the process that the supervisor has
    executed. groups: the folder of the runs' control groups."""

    def __init__(self, mark: str, guard: Guard, groups: Path | None = None) -> None:
        self._name = mark
        self._tag = zygote_tag(mark)
        self._groups = groups
        self._guard = guard
        #: pids of leaders by run, for the runs that are not cleared; None: not known
        self._runs: dict[int, int | None] = {}
        #: identity -> the runs that the process may belong to: the environment of a dying one cannot be read
        self._owners: dict[tuple[int, int], frozenset[int]] = {}
        #: the folders of the control groups of the runs, where they have any
        self._paths: dict[int, str] = {}
        self._refusals: dict[int, str] = {}
        self._told: set[int] = set()
        self._blind = LastingCondition()

    async def clear(
        self, leaders: Mapping[int, int | None], on_cleared: Callable[[int], None], slots: Mapping[int, int] = {}
    ) -> None:
        """Called once, when the zygote is dead; `leaders` are the pids of its children by run, `slots` the runs' slots,
        by which their control groups are called. Calls `on_cleared` for
        each run when nothing of it is left, and returns when nothing at all is left; whatever that takes."""
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), _PAUSE_S
        self._runs = dict(leaders)
        if self._groups is not None:
            self._paths = {run: cgroup.run_path(self._groups, self._name, slot) for run, slot in slots.items()}
        while True:
            try:
                held = self._look_twice()
                for run in self._runs.keys() - held:
                    del self._runs[run]
                    on_cleared(run)
                if not self._runs and not self._left():
                    self._remove_groups()
                    return
                if loop.time() - began > _TELL_AFTER_S:
                    self._tell()
            except OSError as error:
                self._tell_blind(error, loop.time())
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MOST_S)

    def _look_twice(self) -> set[int]:
        """One look may see a stray before, and its parent after that parent's death; two do not."""
        return self._look() | self._look()

    def _look(self) -> set[int]:
        """Kill what is left. Returns the runs that it may belong to."""
        held = self._kill_groups()
        left = self._left()
        for stat in left:
            held |= self._owners.setdefault(stat.identity, self._owners_of(stat))
            if refusal := procfs.kill_other(stat):
                self._refusals[stat.pid] = refusal
        return held & self._runs.keys()

    def _kill_groups(self) -> set[int]:
        """The runs in whose groups something lives."""
        held = {run for run, path in self._paths.items() if run in self._runs and not cgroup.is_empty(path)}
        for run in held:
            for pid in cgroup.pids(self._paths[run]):
                if (stat := procfs.read_stat(pid)) is not None:
                    self._owners[stat.identity] = frozenset({run})
            with suppress(OSError):  # signals follow, and the log names what does not die
                cgroup.kill(self._paths[run])
        return held

    def _remove_groups(self) -> None:
        if self._groups is not None:
            with suppress(OSError):  # the next life of this node removes them
                cgroup.remove_all(self._groups, self._name)

    def _left(self) -> list[ProcStat]:
        """What the zygote has left and still lives."""
        newest = procfs.last_pid()
        snapshot = Snapshot(procfs.processes())
        if self._guard.poll() is None:
            return [stat for stat in snapshot.tree(self._guard.pid)[1:] if not stat.is_zombie]
        children = snapshot.children(os.getpid())
        strays = [stat for stat in children if self._is_stray(stat)]
        # the zygote itself may be the one that is exiting, and its tasks not yet be this process's children
        roots = strays + [stat for stat in children if stat.is_exiting and stat not in strays]
        found = [below for stat in roots for below in snapshot.tree(stat.pid)]
        for stat in strays:
            _reap(stat.pid)
        if found:
            procfs.chase(newest, lambda stat: stat.ppid == os.getpid() and self._is_stray(stat), procfs.kill_other)
        return found

    def _is_stray(self, stat: ProcStat) -> bool:
        is_known = stat.pid in self._runs.values() or stat.identity in self._owners
        is_tagged = tagged_run(self._tag, tag_of(stat.pid)) is not None
        return is_known or is_tagged or as_found(ZYGOTE_MARK, self._name) in procfs.environment(stat.pid)

    def _owners_of(self, stat: ProcStat) -> frozenset[int]:
        tagged = tagged_run(self._tag, tag_of(stat.pid))
        if tagged in self._runs:
            return frozenset({tagged})
        environment = procfs.environment(stat.pid)
        owners = {run for run, leader in self._runs.items() if self._owns(run, leader, stat, environment)}
        owners |= {run for run in self._runs if run in self._paths and stat.pid in cgroup.pids(self._paths[run])}
        return frozenset(owners or self._runs)

    def _owns(self, run: int, leader: int | None, stat: ProcStat, environment: Container[bytes]) -> bool:
        is_near = leader is not None and leader in (stat.pid, stat.ppid, stat.pgid, stat.sid)
        return is_near or as_found(RUN_MARK, run_name(self._name, run)) in environment

    def _tell_blind(self, error: OSError, now_s: float) -> None:
        """This node is out of descriptors, mostly. What it cannot look at may live: no run ends by that."""
        if (report := self._blind.seen(now_s)) is not None:
            text = "cannot look for what a dead zygote has left, trying again; its runs have not ended before%s: %s"
            log.error(text, report, error)

    def _tell(self) -> None:
        for stat in self._left():
            if stat.pid not in self._told:
                self._told.add(stat.pid)
                runs = ", ".join(str(run) for run in sorted(self._owners.get(stat.identity, ()) & self._runs.keys()))
                why = self._refusals.get(stat.pid) or procfs.describe_hang(stat.pid)
                log.error("process %d, left by run %s, does not die of SIGKILL: %s", stat.pid, runs or "?", why)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
