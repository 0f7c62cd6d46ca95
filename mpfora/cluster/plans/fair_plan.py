"""The plan: which tasks should pass from which node to which, so that every node holds its share. Pure.

Every node makes the same plan of the same loads and carries out what concerns its own tasks. Two steps:

- shares: the tasks that the fewest nodes can run are shared out first, then the others on top of them, each time so
  that the fullest and the emptiest of those nodes differ least (by weight). Tasks that rest are shared out last, on top
  of all, and take no room.
- transfers: from nodes above their share to nodes below it, directly where one can run what the other has, else by way
  of nodes between. Nodes give and take in one fixed order, and what is left of a plan that was half carried out is what
  a new plan says: nodes that plan at different times do not cross each other.

Where tasks need resources of their nodes another plan is made for those that need a process: see resource_plan.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from mpfora.cluster.plans.plan_terms import Group as Group
from mpfora.cluster.plans.plan_terms import Seat as Seat
from mpfora.cluster.plans.plan_terms import Transfer as Transfer
from mpfora.cluster.plans.plan_terms import match
from mpfora.cluster.plans.resource_plan import ResourcePlan

#: shares are computed in floating point: a share this little under a whole number is that number
_EPSILON = 1e-6


def shares(seats: Sequence[Seat], groups: Sequence[Group], *, resting: bool = False) -> dict[str, int]:
    """How many tasks each node should hold: of those that need a process, or of those that rest.

    Within each set of equal nodes the exact share by weight, rounded; the one more goes to nodes that hold more than
    the rounded share, so that nothing moves for a rounding. No share is above a node's room. A node keeps what no node
    can take from it."""
    if resting:
        return _resting_shares(seats, groups, shares(seats, groups))
    if any(group.needs for group in groups):
        return ResourcePlan(seats, groups).loads()
    return _shares(seats, groups, dict.fromkeys((seat.name for seat in seats), 0), resting=False)


def _resting_shares(seats: Sequence[Seat], groups: Sequence[Group], base: Mapping[str, int]) -> dict[str, int]:
    """On top of what each node should hold of the others."""
    return _shares(seats, groups, dict(base), resting=True)


def _shares(seats: Sequence[Seat], groups: Sequence[Group], base: dict[str, int], *, resting: bool) -> dict[str, int]:
    share = dict.fromkeys(base, 0)
    names = frozenset(base)
    held = _held(names, [group for group in groups if group.resting == resting])
    for able, count in _by_freedom(names, groups, resting):
        part = _level(count, [seat for seat in seats if seat.name in able], base, share, held, limited=not resting)
        for name, more in part.items():
            base[name] += more
            share[name] += more
    return share


def _held(names: frozenset[str], groups: Sequence[Group]) -> dict[str, int]:
    held = dict.fromkeys(names, 0)
    for group in groups:
        for name, count in group.held.items():
            if name in held:
                held[name] += count
    return held


def _by_freedom(names: frozenset[str], groups: Sequence[Group], resting: bool) -> list[tuple[frozenset[str], int]]:
    """(nodes that can run them, how many tasks), those with the least choice first. What no node can run stays where it
    is, as if only its holder could."""
    counts: dict[frozenset[str], int] = {}
    for group in groups:
        if group.resting != resting:
            continue
        able = group.able & names
        for name, count in group.held.items():
            if name in names and count:
                where = able or frozenset((name,))
                counts[where] = counts.get(where, 0) + count
    return sorted(counts.items(), key=lambda item: (len(item[0]), sorted(item[0])))


def _level(
    count: int,
    seats: Sequence[Seat],
    base: Mapping[str, int],
    given: Mapping[str, int],
    held: Mapping[str, int],
    *,
    limited: bool,
) -> dict[str, int]:
    """Share `count` tasks out on top of `base` so that the nodes are as level as can be. Where the rooms do not suffice
    the rest is nobody's."""
    room = {s.name: None if s.room is None or not limited else max(0, s.room - base[s.name]) for s in seats}
    if all(most is not None for most in room.values()):
        count = min(count, sum(most for most in room.values() if most is not None))
    exact = _pour(count, seats, base, room)
    part = {name: int(share + _EPSILON) for name, share in exact.items()}
    rest = count - sum(part.values())
    takers = [s for s in seats if exact[s.name] > part[s.name] + _EPSILON]
    takers.sort(key=lambda s: (held[s.name] <= given[s.name] + part[s.name], s.order))
    for seat in takers[:rest]:
        part[seat.name] += 1
    return part


def _pour(
    count: int, seats: Sequence[Seat], base: Mapping[str, int], room: Mapping[str, int | None]
) -> dict[str, float]:
    """Fill all nodes to one level (by weight), as water does. Nodes that stand above the level get nothing, and nodes
    that are full before get what fits."""
    exact: dict[str, float] = {}
    open_, left = list(seats), float(count)
    while open_:
        level = (left + sum(base[s.name] for s in open_)) / sum(s.weight for s in open_)
        want = {s.name: level * s.weight - base[s.name] for s in open_}
        over = {name: want[name] - most for name in want if (most := room[name]) is not None and want[name] > most}
        under = {name: -share for name, share in want.items() if share < 0}
        if not over and not under:
            return exact | want
        # the side that is further off is right about its nodes, whatever becomes of the other
        fixed = {name: float(room[name] or 0) for name in over} if sum(over.values()) >= sum(under.values()) else {}
        fixed = fixed or dict.fromkeys(under, 0.0)
        exact |= fixed
        left -= sum(fixed.values())
        open_ = [s for s in open_ if s.name not in fixed]
    return exact


def transfers(seats: Sequence[Seat], groups: Sequence[Group]) -> list[Transfer]:
    """What has to pass from whom to whom, of tasks that need a process and then of those that rest."""
    has_resting = any(group.resting for group in groups)
    if any(group.needs for group in groups):
        plan = ResourcePlan(seats, groups)
        active, base = plan.transfers(), plan.loads()
    else:
        base = shares(seats, groups)
        active = _transfers(seats, groups, base, resting=False)
    if not has_resting:
        return active
    return active + _transfers(seats, groups, _resting_shares(seats, groups, base), resting=True)


def _transfers(
    seats: Sequence[Seat], groups: Sequence[Group], share: Mapping[str, int], *, resting: bool
) -> list[Transfer]:
    names = frozenset(seat.name for seat in seats)
    ours = sorted((g for g in groups if g.resting == resting), key=lambda g: (len(g.able & names), g.key))
    held = _held(names, ours)
    if _is_no_better(seats, ours, held, share):
        return []
    order = [seat.name for seat in sorted(seats, key=lambda seat: seat.order)]
    work = _Work(ours, {name: held[name] - share[name] for name in order})
    work.oust()
    work.directly()
    work.by_way()
    return work.made()


def _is_no_better(
    seats: Sequence[Seat], groups: Sequence[Group], held: Mapping[str, int], share: Mapping[str, int]
) -> bool:
    """Whether what the nodes hold is as level as their shares. Where the sets of nodes that can run this and that cross
    each other, the shares need not be the only good ones, nor the best."""
    names = {seat.name for seat in seats}
    if len({group.able & names for group in groups}) < 2:
        return False
    if any(group.held.get(name, 0) for group in groups if group.able & names for name in names - group.able):
        return False
    if any(seat.room is not None and held[seat.name] > max(seat.room, share[seat.name]) for seat in seats):
        return False
    return _unevenness(seats, held) <= _unevenness(seats, share) + _EPSILON


def _unevenness(seats: Sequence[Seat], load: Mapping[str, int]) -> float:
    return sum(load[seat.name] ** 2 / seat.weight for seat in seats)


class _Work:
    """A plan in the making. above: node -> how many more than its share it holds (less than nothing: it lacks some)."""

    def __init__(self, groups: Sequence[Group], above: dict[str, int]) -> None:
        self._above = above
        self._groups = groups
        self._able = [group.able & above.keys() for group in groups]
        #: by group: what each node will hold
        self._will = [{name: group.held.get(name, 0) for name in above} for group in groups]

    def oust(self) -> None:
        """A task that its holder cannot run goes, whatever the shares say, to a node that lacks one."""
        for index, able in enumerate(self._able):
            for source in [name for name in self._above if name not in able and self._will[index][name]]:
                for target in [name for name in self._above if name in able and self._above[name] < 0]:
                    self._pass(index, source, target, min(self._will[index][source], -self._above[target]))

    def directly(self) -> None:
        lacking = [name for name, above in self._above.items() if above < 0]
        for source in [name for name, above in self._above.items() if above > 0]:
            for target in lacking:
                for index, able in enumerate(self._able):
                    if target in able:
                        most = min(self._above[source], -self._above[target], self._will[index][source])
                        self._pass(index, source, target, most)

    def by_way(self) -> None:
        """Move tasks along a chain of nodes, where no direct move is possible."""
        while (path := self._path()) is not None:
            most = min(self._will[index][source] for index, source, _ in path)
            most = min(most, self._above[path[0][1]], -self._above[path[-1][2]])
            for index, source, target in path:
                self._pass(index, source, target, most)

    def made(self) -> list[Transfer]:
        """What each node gives of each group, and to whom: in the fixed order of nodes on both sides."""
        made: list[Transfer] = []
        for group, will in zip(self._groups, self._will, strict=True):
            gives = [[name, more] for name in will if (more := group.held.get(name, 0) - will[name]) > 0]
            takes = [[name, more] for name in will if (more := will[name] - group.held.get(name, 0)) > 0]
            made += match(group.key, gives, takes)
        return made

    def _path(self) -> list[tuple[int, str, str]] | None:
        """The shortest chain of (group, from, to) between a node above its share and one below."""
        if all(above >= 0 for above in self._above.values()):
            return None
        came: dict[str, tuple[int, str, str] | None] = {n: None for n, above in self._above.items() if above > 0}
        queue = deque(came)
        while queue:
            source = queue.popleft()
            if self._above[source] < 0:
                return _trace(came, source)
            for index, able in enumerate(self._able):
                if self._will[index][source] > 0:
                    for target in self._above:
                        if target in able and target not in came:
                            came[target] = (index, source, target)
                            queue.append(target)
        return None

    def _pass(self, index: int, source: str, target: str, count: int) -> None:
        if count > 0:
            self._will[index][source] -= count
            self._will[index][target] += count
            self._above[source] -= count
            self._above[target] += count


def _trace(came: Mapping[str, tuple[int, str, str] | None], end: str) -> list[tuple[int, str, str]]:
    path: list[tuple[int, str, str]] = []
    while (step := came[end]) is not None:
        path.append(step)
        end = step[1]
    return path[::-1]
