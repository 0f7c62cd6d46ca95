"""A run that is being cleared: its leader was killed or has ended, and what is left of its tree is hunted."""

from __future__ import annotations

from dataclasses import dataclass

from mpfora.child.run.resource_trackers import is_tracker_pid
from mpfora.child.zygote.leader import Leader


@dataclass(slots=True)
class Clearing:
    """is_reaped: the leader is; is_looked: a look has been made since."""

    leader: Leader
    is_reaped: bool = False
    is_looked: bool = False

    def has_empty_group(self) -> bool:
        """Whatever lives in its group is killed. Looked at again and again: what was forked while it was killed is
        killed by the kernel. Raises OSError where that can be done later."""
        group = self.leader.group
        if group is None or group.is_empty():
            return True
        group.kill(is_tracker_pid)
        return group.is_empty()
