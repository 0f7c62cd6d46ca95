"""Allocations: which of the node's GPUs and cores each run has. Pure.

What a run was given is its own until its end is told, and that is told when nothing of its process tree is left:
whatever becomes of its task, its claim or its zygote meanwhile. A node that starts anew has killed before what a former
life of it has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpfora.model.needs import CPUS, GPUS, NOTHING, Needs, amount_of, json_amount, subtract
from mpfora.model.run_spec import Given

#: variables by which libraries know how many threads they may start
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: and which GPUs there are
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


class Allocations:
    """has: what the node has.  gpus: what CUDA calls its GPUs, where that is not their numbers.  cores: those that runs
    may be pinned to; (): they are not pinned."""

    def __init__(self, has: Needs = NOTHING, gpus: Sequence[str] = (), cores: Iterable[int] = ()) -> None:
        self.has = has
        self._names = tuple(gpus) or tuple(map(str, range(amount_of(has, GPUS))))
        self._free: dict[str, int] = dict(has)
        self._free_gpus = list(range(amount_of(has, GPUS)))
        self._free_cores = list(cores)[: amount_of(has, CPUS) // 1000]
        self._pins = bool(self._free_cores)
        #: run -> what it needs, its GPUs and its cores
        self._held: dict[int, tuple[Needs, list[int], list[int]]] = {}
        #: tasks that were to be started when the node had too little left
        self._waiting: dict[str, None] = {}
        self._is_eased = False

    def may_start(self, task_id: str, needs: Needs) -> bool:
        """Whether what a task needs is there. If not, the task is looked at again when a run has ended."""
        if any(self._free.get(name, 0) < amount for name, amount in needs):
            self._waiting[task_id] = None
            return False
        self._waiting.pop(task_id, None)
        return True

    def give(self, run: int, needs: Needs) -> Given | None:
        """Called once for each run of a task, when it may start. None: the node has nothing to give."""
        if not (needs or self._names):
            return None
        self._free = subtract(self._free, needs)
        gpus = _take(self._free_gpus, amount_of(needs, GPUS))
        cpus = amount_of(needs, CPUS)
        whole = cpus // 1000 if self._pins and cpus % 1000 == 0 else 0
        cores = _take(self._free_cores, whole) if whole <= len(self._free_cores) else []
        if needs:
            self._held[run] = needs, gpus, cores
        return Given(_shown(needs, gpus), self._environment(needs, gpus), cores)

    def take_back(self, run: int) -> None:
        """Free the resources of a run of which nothing is left. Called for every run, with resources or without."""
        held = self._held.pop(run, None)
        if held is None:
            return
        needs, gpus, cores = held
        for name, amount in needs:
            self._free[name] += amount
        self._free_gpus = sorted(self._free_gpus + gpus)
        self._free_cores = sorted(self._free_cores + cores)
        self._is_eased = True

    def waits(self, task_id: str) -> bool:
        """Whether the task was to be started, and found too little."""
        return task_id in self._waiting

    def waiting(self) -> Mapping[str, None]:
        return self._waiting

    def take_released(self) -> Iterable[str]:
        """The tasks to look at, since a run has ended. Each is named once, and waits again if it finds too little."""
        if not (self._is_eased and self._waiting):
            return ()
        self._is_eased = False
        released, self._waiting = self._waiting, {}
        return released

    def forget(self, task_id: str) -> None:
        """The task is not claimed any more."""
        self._waiting.pop(task_id, None)

    def of(self, run: int) -> dict[str, Any]:
        """The resources of a run, as people see them."""
        held = self._held.get(run)
        return {} if held is None else _shown(held[0], held[1])

    def _environment(self, needs: Needs, gpus: Sequence[int]) -> dict[str, str]:
        """A run sees the GPUs that it was given. Where the node has GPUs, a run that was given none sees none."""
        found: dict[str, str] = {}
        if self._names:
            found |= dict.fromkeys(GPU_VARIABLES, ",".join(self._names[gpu] for gpu in gpus))
        if cpus := amount_of(needs, CPUS):
            found |= dict.fromkeys(THREAD_VARIABLES, str(max(1, cpus // 1000)))
        return found


def _shown(needs: Needs, gpus: Sequence[int]) -> dict[str, Any]:
    """The resources of a run, as ctx.given has them."""
    return {name: list(gpus) if name == GPUS else json_amount(name, amount) for name, amount in needs}


def _take(free: list[int], count: int) -> list[int]:
    taken = free[:count]
    del free[:count]
    return taken
