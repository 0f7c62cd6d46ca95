"""Tells which runs an orphan belongs to.

The tag shows it for every process that has not taken its tag off on purpose, for zombies too. For the others there is
weaker evidence: the session or group of a leader, an earlier place below a leader, the control group, and the
environment. Where these contradict each other, the process belongs to all runs that they name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from mpfora.child.zygote.leader import Leader
from mpfora.ipc.marks import RUN_MARK, ZYGOTE_MARK, as_found, run_name, tagged_run, zygote_tag
from mpfora.linux import procfs
from mpfora.linux.cgroup import is_within
from mpfora.linux.procfs import ProcStat
from mpfora.linux.tag import tag_of


class Owners:
    """leaders: those that live, by pid."""

    def __init__(self, leaders: Mapping[int, Leader]) -> None:
        self._living = leaders
        self._zygote = os.environ.get(ZYGOTE_MARK, "")
        self._tag = zygote_tag(self._zygote)
        self._name = as_found(RUN_MARK, run_name(self._zygote, 0))[:-1]
        #: leaders of runs that are being cleared, by run
        self.ended: dict[int, Leader] = {}
        #: run -> identities of the processes that were below its leader when that was looked at last
        self._below: dict[int, set[tuple[int, int]]] = {}

    def saw_below(self, run: int, processes: Iterable[ProcStat]) -> None:
        """These are below the leader of the run."""
        self._below[run] = {stat.identity for stat in processes}

    def forget(self, run: int) -> None:
        """Nothing of the run is left."""
        self.ended.pop(run, None)
        self._below.pop(run, None)

    def of(self, stat: ProcStat) -> frozenset[int]:
        """The numbers of the runs; empty where nothing tells."""
        run = tagged_run(self._tag, tag_of(stat.pid))
        if run is not None:
            return frozenset({run})
        found = {run for run, seen in self._below.items() if stat.identity in seen}
        groups = procfs.control_groups(stat.pid)
        for leader in (*self._living.values(), *self.ended.values()):
            is_near = leader.pid in (stat.sid, stat.pgid)
            if is_near or (leader.group is not None and is_within(leader.group.path, groups)):
                found.add(leader.run)
        return frozenset(found | self._named(procfs.environment(stat.pid)))

    def _named(self, environment: Iterable[bytes]) -> set[int]:
        names = (each.removeprefix(self._name) for each in environment if each.startswith(self._name))
        return {int(name) for name in names if name.isdigit()}
