"""What this node is willing to do: frozen, draining, shutting down; and the node commands that change it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from mpfora.config.settings import Settings
from mpfora.model.code import Code
from mpfora.model.needs import Needs
from mpfora.model.task import Member, Trouble


class Shutdown(IntEnum):
    """NO; ASKED: stop and release everything, then leave; AT_ONCE: the same, but everything is killed without
    asking."""

    NO = 0
    ASKED = 1
    AT_ONCE = 2


@dataclass(slots=True)
class NodeStatus:
    """frozen, draining   by command;  shutdown  by signal;  full  by the balancer;
    trouble   it cannot start processes (health.py);  code  which generations of its code run (reloads.py)
    taken_revision    of the newest node command that was carried out;  taken_ids  the keys of those of that revision
    """

    settings: Settings
    host: str
    pid: int
    created: str
    balancer: str = ""
    handlers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    code: Code | None = None
    needs: Mapping[str, Needs] = field(default_factory=dict)
    reserves: str = ""
    frozen: bool = False
    draining: bool = False
    full: bool = False
    trouble: Trouble | None = None
    shutdown: Shutdown = Shutdown.NO
    taken_revision: int = 0
    taken_ids: tuple[str, ...] = ()
    #: boot time by which a shutdown ends, whatever is left
    shutdown_ends_s: float | None = None
    #: why tasks are given back, "" if they are kept
    leave: str = field(default="", init=False)
    _was_signalled: bool = field(default=False, init=False)

    def member(self) -> Member:
        """The record that others see."""
        return Member(
            name=self.settings.name,
            host=self.host,
            pid=self.pid,
            created=self.created,
            capacity=self.settings.capacity,
            weight=self._weight(),
            frozen=self.frozen,
            draining=self.draining or bool(self.shutdown),
            full=self.full,
            labels=dict(self.settings.labels),
            handlers=self.handlers,
            groups=self.groups,
            code=self.code,
            balancer=self.balancer,
            trouble=self.trouble,
            lease_s=self.settings.lease_ttl_s,
            has=self.settings.has,
            needs=dict(self.needs),
            reserves=self.reserves,
        )

    @property
    def takes_tasks(self) -> bool:
        return not (self.frozen or self.draining or self.shutdown or self.trouble)

    def take(self, revision: int, key_id: str) -> bool:
        """Note that a node command is carried out now. False: it was before. Revisions come in their order."""
        if revision < self.taken_revision or (revision == self.taken_revision and key_id in self.taken_ids):
            return False
        before = self.taken_ids if revision == self.taken_revision else ()
        self.taken_revision, self.taken_ids = revision, (*before, key_id)
        return True

    def obey(self, verb: str) -> bool:
        """Carry out freeze, unfreeze, drain or undrain. True if the record changed."""
        wanted: Mapping[str, tuple[bool, bool]] = {
            "freeze": (True, self.draining),
            "unfreeze": (False, self.draining),
            "drain": (self.frozen, True),
            "undrain": (self.frozen, False),
        }
        before = (self.frozen, self.draining)
        self.frozen, self.draining = wanted[verb]
        if not self.shutdown:
            self.leave = "the node is draining" if self.draining else ""
        return (self.frozen, self.draining) != before

    def shut_down(self, now_s: float, *, is_own: bool = False) -> None:
        """A signal came: the first asks, the second hurries. is_own: there was no signal; the node has decided it
        itself."""
        self.shutdown = Shutdown.AT_ONCE if self._was_signalled and not is_own else max(self.shutdown, Shutdown.ASKED)
        self._was_signalled = self._was_signalled or not is_own
        self.leave = "the node is shutting down"
        if self.shutdown_ends_s is None:
            self.shutdown_ends_s = now_s + self.settings.stop_timeout_s + 1.5

    def _weight(self) -> float:
        """As told, or by --max-tasks: a machine that runs twice as many gets twice as many."""
        return self.settings.weight or float(self.settings.capacity or 1)
