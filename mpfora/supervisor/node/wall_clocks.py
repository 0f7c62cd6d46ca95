"""What the records of other nodes say of this machine's wall clock. Pure.

etcd has no clock that could be asked. But a record holds the time at which its node was started, by the clock of that
node. A start that lies in the future shows that one of the two clocks is wrong. A start in the past shows nothing: the
node may have run for long. So the node whose clock is behind can know it, whichever of the two started first. A lone
node cannot. About once an hour nodes compare their clocks directly (cluster/clocks.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from mpfora.cluster.mirror import Mirror
from mpfora.model.lasting_condition import format_span
from mpfora.model.task import Member
from mpfora.model.units import parse_time
from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now
from mpfora.supervisor.reports import Reports

#: clocks that differ by less are good enough
TOLERATED_S = 60.0


class WallClocks:
    """node: this node's name."""

    def __init__(self, node: str, mirror: Mirror, reports: Reports) -> None:
        self._node, self._mirror, self._reports = node, mirror, reports

    def compare(self, names: Iterable[str], now: Now) -> list[do.Action]:
        """Hold this machine's clock against the records of these nodes, which were put just now."""
        members = self._mirror.members
        others = (members[name] for name in names if name in members and name != self._node)
        if ahead := ahead_of(others, now.wall_s):
            return self._reports.lasting("wall clock", "warning", format_ahead(ahead), now.boot_s)
        return []


def ahead_of(members: Iterable[Member], wall_s: float) -> dict[str, float]:
    """The nodes whose clocks are ahead of this machine's, and by how many seconds at least."""
    found = {member.name: _started_s(member) - wall_s for member in members}
    return {name: by_s for name, by_s in sorted(found.items()) if by_s > TOLERATED_S}


def _started_s(member: Member) -> float:
    """What cannot be read says nothing."""
    try:
        return parse_time(member.created)
    except ValueError:
        return 0.0


def format_ahead(ahead: dict[str, float]) -> str:
    """For the log."""
    told = ", ".join(f"{name} by {format_span(by_s)}" for name, by_s in list(ahead.items())[:5])
    more = f" and {len(ahead) - 5} more" if len(ahead) > 5 else ""
    return (
        f"the clocks of these nodes are ahead of this node's, or this one is behind: {told}{more}. Each node starts"
        " what sleeps or has a not_before by its own clock: set the clock that is wrong"
    )
