"""The slots of one zygote's runs: the table in shared memory, and which of its slots are free."""

from __future__ import annotations

from mpfora.ipc.slots import MAX_SLOTS, SlotTable


class RunSlots:
    """Made for each zygote; raises OSError. table: what supervisor, zygote and children share."""

    def __init__(self) -> None:
        self.table = SlotTable.create()
        #: those that were taken and are free again; and how many were taken at all, the first ones
        self._free: list[int] = []
        self._taken = 0

    def take(self) -> int:
        """A slot for a new run. Raises OSError where all are taken."""
        slot = self._free.pop() if self._free else self._fresh()
        self.table.clear(slot)
        return slot

    def _fresh(self) -> int:
        if self._taken == MAX_SLOTS:
            raise OSError(f"{MAX_SLOTS} runs are the most that a node can have")
        self._taken += 1
        return self._taken - 1

    def free(self, slot: int) -> None:
        self._free.append(slot)
