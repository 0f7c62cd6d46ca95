"""The people who use the page, and what each role may do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each may do what those before it may.

    VIEW     look: lists, tasks, logs, events
    OPERATE  look into tasks that run (stack, profile); run, pause, sleep, release, checkpoint, complete and kill them,
             one or many; submit them again
    ADMIN    delete tasks, and command nodes
    """

    VIEW = 0
    OPERATE = 1
    ADMIN = 2

    @property
    def title(self) -> str:
        return self.name.lower()


ROLES = {role.title: role for role in Role}


@dataclass(frozen=True, slots=True)
class User:
    """name: as it stands in the log of actions."""

    name: str
    role: Role

    def at_most(self, role: Role) -> User:
        return User(self.name, min(self.role, role))
