"""AnswerRoom: whether the store has room for answers to people. They are written there, and what nodes write for tasks
comes first: while the store is nearly full, nobody's questions are answered."""

from __future__ import annotations

import logging

from mpfora.linux.syscalls import boot_ns
from mpfora.model.units import format_size
from mpfora.store.kv import Space
from mpfora.supervisor.coordinator.interface import Coordinator, StoreError

log = logging.getLogger("mpfora.node")

#: for so long it is believed what the store said last
_BELIEVED_S = 5.0


class AnswerRoom:
    """Asks the store when somebody asks the node, and no more often than every few seconds."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._why, self._asked_s = "", float("-inf")

    async def why_none(self) -> str:
        """Why nothing is answered now, for whoever asks; "": there is room, or it is not known."""
        now_s = boot_ns() / 1e9
        if now_s - self._asked_s > _BELIEVED_S:
            self._asked_s = now_s
            try:
                self._why = why_full(await self._coordinator.space())
            except StoreError as error:
                log.info("how full the store is cannot be told: %s", error)
                self._why = ""
        return self._why


def why_full(space: Space | None) -> str:
    if space is None or not space.is_nearly_full:
        return ""
    used, quota = format_size(space.used), format_size(space.quota)
    known = "" if space.is_told else ", as far as is known (MPFORA_ETCD_QUOTA tells mpfora another)"
    return (
        f"nodes answer no questions while etcd is nearly full: its database has {used}, {space.part:.0%} of its quota"
        f" of {quota}{known}. Make room: mpfora purge --older-than 1d; etcdctl compact REVISION; etcdctl defrag; or"
        " raise --quota-backend-bytes"
    )
