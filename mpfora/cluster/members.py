"""The live nodes: their records, and which process stands behind each. Pure."""

from __future__ import annotations

from mpfora.cluster.task_view import Owner
from mpfora.model.task import Member

#: how many nodes that are gone are remembered: new names may come for ever
GONE_KEPT = 1000


class Members:
    """Written by Mirror.

    by_name  node -> its record
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Member] = {}
        #: of each node by name: its newest process (created, pid), and the revision at which it was first seen. Those
        #: of nodes that are gone are kept, since one that has lost its lease comes back as the process that it was
        self._lives: dict[str, tuple[tuple[str, int], int]] = {}
        #: nodes whose lease went in the newest revision that took one, and that had ended all before
        self._ended: tuple[int, dict[str, None]] = 0, {}

    def put(self, member: Member, revision: int) -> None:
        life = member.created, member.pid
        if self._lives.get(member.name, (None, 0))[0] != life:
            self._lives[member.name] = life, revision
        self.by_name[member.name] = member

    def gone(self, name: str, revision: int) -> bool:
        """Returns whether the node was there."""
        member = self.by_name.pop(name, None)
        if member is not None and member.ended:
            others = self._ended[1] if self._ended[0] == revision else {}
            self._ended = revision, {**others, name: None}
        if (life := self._lives.pop(name, None)) is not None:
            self._lives[name] = life  # the newest of those that are gone
        if len(self._lives) - len(self.by_name) > GONE_KEPT:
            del self._lives[next(name for name in self._lives if name not in self.by_name)]
        return member is not None

    def lives(self, node: str, fence: int) -> bool:
        """Whether the process that made a claim is a live node, as far as is known: a node that comes back as another
        process began later than that."""
        return node in self.by_name and self._lives[node][1] < fence

    def lease_s(self, node: str) -> float:
        """How long its lease is; 0: nobody knows."""
        member = self.by_name.get(node)
        return 0.0 if member is None else member.lease_s

    def has_ended(self, owner: Owner | None, revision: int) -> bool:
        """Whether the owner's lease goes in this revision, and it said before that it has ended all that it ran."""
        return owner is not None and self._ended[0] == revision and owner.node in self._ended[1]

    def is_go(self, owner: Owner | None) -> bool:
        member = None if owner is None else self.by_name.get(owner.node)
        return member is not None and member.is_go

    def begin_as(self, other: Members) -> None:
        """Called for a listing: nodes that were there before are no new processes."""
        self._lives = dict(other._lives)

    def take_over(self, other: Members) -> None:
        """Replace all by what a listing has said."""
        self.by_name = other.by_name
        self._lives = {node: life for node, life in other._lives.items() if node in self.by_name}
