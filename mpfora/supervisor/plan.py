"""The plan: which tasks should pass from which node to which, so that every node holds its share. Pure.

Every node makes the same plan of the same books and carries out what concerns its own tasks. Two steps:

- shares: the tasks that the fewest nodes can run are shared out first, then the others on top of them, each time so
  that the fullest and the emptiest of those nodes differ least (by weight). Tasks that rest are shared out last, on top
  of all, and take no room.
- transfers: from nodes above their share to nodes below it, directly where one can run what the other has, else by way
  of nodes between. Nodes give and take in one fixed order, and what is left of a plan that was half carried out is what
  a new plan says: nodes that plan at different times do not cross each other.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpfora.model import Wants
from mpfora.supervisor.prices import AVERAGE

#: shares are computed in floating point: a share this little under a whole number is that number
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Seat:
    """A node that takes part. room: the most tasks that need a process; None: no limit."""

    name: str
    weight: float = 1.0
    room: int | None = None

    @property
    def order(self) -> tuple[int, str]:
        """The fixed order of nodes, unrelated to their names."""
        return zlib.crc32(self.name.encode()), self.name


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that the same nodes can run. key: whatever tells them from others, and can be ordered.

    able    the names of the nodes that can run them;  held  node -> how many of them it has
    points  node -> what one of them costs there that is not known by itself: for the plan by cost"""

    key: tuple[object, ...]
    able: frozenset[str]
    held: Mapping[str, int]
    resting: bool = False
    points: Mapping[str, int] = field(default_factory=dict)

    def points_on(self, node: str) -> int:
        """What one of these tasks costs there, if it is not known by itself."""
        return self.points.get(node, AVERAGE)


@dataclass(frozen=True, slots=True)
class Transfer:
    """So many tasks of a group should pass from one node to another."""

    group: tuple[object, ...]
    source: str
    target: str
    count: int


def shares(seats: Sequence[Seat], groups: Sequence[Group], *, resting: bool = False) -> dict[str, int]:
    """How many tasks each node should hold: of those that need a process, or of those that rest.

    Within each set of equal nodes the exact share by weight, rounded; the one more goes to nodes that hold more than
    the rounded share, so that nothing moves for a rounding. No share is above a node's room. A node keeps what no node
    can take from it."""
    base = dict.fromkeys((seat.name for seat in seats), 0)
    if resting:
        base = shares(seats, groups)
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
    """What water does: every node is filled to one level (by weight), but for those that stand above it and those that
    are full before."""
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
    return _transfers(seats, groups, resting=False) + _transfers(seats, groups, resting=True)


def _transfers(seats: Sequence[Seat], groups: Sequence[Group], *, resting: bool) -> list[Transfer]:
    names = frozenset(seat.name for seat in seats)
    share = shares(seats, groups, resting=resting)
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
        """Where nothing of what one has too many can run where something is lacking: by a chain of nodes."""
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
            made += _match(group.key, gives, takes)
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


def _match(key: tuple[object, ...], gives: list[list[Any]], takes: list[list[Any]]) -> list[Transfer]:
    made: list[Transfer] = []
    while gives and takes:
        count = min(gives[0][1], takes[0][1])
        made.append(Transfer(key, gives[0][0], takes[0][0], count))
        for side in (gives, takes):
            side[0][1] -= count
            if side[0][1] == 0:
                side.pop(0)
    return made


def _trace(came: Mapping[str, tuple[int, str, str] | None], end: str) -> list[tuple[int, str, str]]:
    path: list[tuple[int, str, str]] = []
    while (step := came[end]) is not None:
        path.append(step)
        end = step[1]
    return path[::-1]


#: handler, labels, whether it names a handler, whether its props cannot be read, whether it rests
Kind = tuple[str, tuple[tuple[str, str], ...], bool, bool, bool]


def group_key(wants: Wants, resting: bool) -> Kind:
    """What tells tasks apart for placing them: tasks alike in this may run on the same nodes. The last is `resting`."""
    if wants.problem is not None:
        return "", (), False, True, resting
    return wants.handler or "", tuple(sorted(wants.labels.items())), wants.handler is not None, False, resting
