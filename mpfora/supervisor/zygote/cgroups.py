"""The control groups of a node's runs, as far as it may have any: made before it joins, removed when it leaves."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from pathlib import Path

from mpfora.linux import node_cgroup
from mpfora.linux.cgroup import Unusable
from mpfora.linux.node_cgroup import Base
from mpfora.supervisor.zygote.startup import not_executed

log = logging.getLogger(__name__)


class Groups:
    """may_move: this process is the node's own program, and may go to another group for the sake of controllers."""

    def __init__(self, namespace: str, node: str, *, may_move: bool) -> None:
        self._namespace, self._node, self._may_move = namespace, node, may_move
        self._base: Base | None = None
        self._is_told = False

    @property
    def path(self) -> Path | None:
        """The folder that runs get their groups in; None: there are none."""
        return None if self._base is None else self._base.path

    async def open(self) -> None:
        """Called before each start of a zygote; the first time it kills what a former life of this node has left.

        Raises ZygoteStartError where this process has not even what it takes to look for them."""
        if self._base is not None or self._is_told:
            return
        try:
            self._base, left = await asyncio.to_thread(
                node_cgroup.open_base, self._namespace, self._node, may_move=self._may_move
            )
        except (Unusable, RuntimeError) as error:  # no thread can be had
            self._tell(str(error))
            return
        except (OSError, MemoryError) as error:
            raise not_executed(error) from error
        _held.add(self)
        if left:
            log.warning("killed %d processes that a former life of this node has left", left)

    def used(self, why_not: str) -> tuple[str, ...]:
        """What control groups do for the runs, as Member.groups has it. why_not: why the zygote cannot use them, "" if
        it can."""
        if self._base is None:
            return ()
        if why_not:
            self.close()
            self._tell(why_not)
            return ()
        what = ("kill", *self._base.controllers)
        if not self._is_told:
            self._is_told = True
            log.info("each run has a control group of its own, for: %s (%s)", ", ".join(what), self._base.path)
        return what

    def close(self) -> None:
        """What lives in there, if anything, is left to the next life of this node."""
        if self._base is not None:
            _held.discard(self)
            base, self._base = self._base, None
            base.close()

    def close_in_copy(self) -> None:
        """In a forked process: the lock is the supervisor's alone."""
        if self._base is not None:
            self._base.close_in_copy()
            self._base = None

    def _tell(self, why: str) -> None:
        self._is_told = True
        log.info("runs have no control groups; they are killed by signals alone: %s", why)


#: those that hold a lock
_held: weakref.WeakSet[Groups] = weakref.WeakSet()


def _close_in_copy() -> None:
    for groups in list(_held):
        groups.close_in_copy()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_copy)
