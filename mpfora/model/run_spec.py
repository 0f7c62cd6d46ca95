"""What is started for one run of a task: made by the core, and handed on unopened until the zygote. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What a run must keep to. Times in seconds, sizes in bytes; None: not limited.

    stop_timeout_s   how long it may take to stop when it is asked to
    stall_timeout_s  how long it may show no sign of progress;  stall_by  what is such a sign: "beats" or "cpu"
    memory_limit     of the memory that its process tree has made dirty itself
    pids_limit       of the processes and threads of its tree
    """

    stop_timeout_s: float
    stall_timeout_s: float | None = None
    stall_by: str = "beats"
    memory_limit: int | None = None
    pids_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What a run was given of its node's resources.

    amounts      as ctx.given shows them: the numbers of its GPUs, how much of everything else
    environment  variables that say so to libraries
    cores        the only cores that it may run on; []: any
    """

    amounts: Mapping[str, Any]
    environment: Mapping[str, str]
    cores: list[int]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """handler     its name on the node
    fence       the fencing token of the claim
    attempt     counts from 1
    checkpoint_json  what the task saved last; None: nothing
    given       of the node's resources; None: the node has none
    """

    task_id: str
    handler: str
    props_json: str
    fence: int
    attempt: int
    checkpoint_json: str | None
    limits: RunLimits
    given: Given | None = None
