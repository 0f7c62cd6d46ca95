"""Tasks that sleep, under a zygote without a node: for figures of processes. Not a benchmark itself."""

from __future__ import annotations

import asyncio

from mpfora.config.handler_spec import parse_spec
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes


async def start_sleepers(count: int) -> tuple[NodeZygotes, list[int]]:
    """The zygotes, and the pids of their children."""
    started: asyncio.Queue[int] = asyncio.Queue()
    zygotes = NodeZygotes(
        [parse_spec("sleep=handlers:sleep")],
        "bench",
        lambda event: None,
        lambda *_: None,
        on_started=lambda run, pid: started.put_nowait(pid),
    )
    await zygotes.start()
    for run in range(count):
        zygotes.fork(run, RunSpec(f"task-{run}", "sleep", "{}", 1, 1, None, RunLimits(stop_timeout_s=10)))
    return zygotes, [await started.get() for _ in range(count)]
