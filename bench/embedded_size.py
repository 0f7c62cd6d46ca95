"""How large the embedded etcd gets over many task lives, as a node and its clients write them.

    python bench/embedded_size.py [--lives N] [--kept N] [--every N] [--json]

A life is four transactions: submitted with its props, claimed, done with a state and a history, and removed when newer
lives have pushed it out of the last `--kept`, as --keep-finished does. They are made as mpfora makes them (the same
transactions, many in a request), by a client that runs no tasks, so that a million takes minutes. The keeper compacts
and defragments as it does for users. Printed: the database's file, what of it is in use, and all of the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections import deque
from pathlib import Path

from common import machine, own_etcd

from mpfora.client.tasks.submit import NewTask, submit_txn
from mpfora.embedded import Embedded
from mpfora.model.history import Run
from mpfora.model.state import State, TaskState
from mpfora.model.task import Claim, Member
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Get, Txn, TxnResult, Unreachable
from mpfora.supervisor.coordinator.etcd import EtcdCoordinator
from mpfora.supervisor.coordinator.interface import ClaimRequest, Update, Won
from mpfora.supervisor.coordinator.interface import Unreachable as CoordinatorUnreachable
from mpfora.supervisor.coordinator.transactions import sweep_txn

BATCH = 60
IN_FLIGHT = 8
PROPS = {"below": 1000, "path": "/data/customers/0123456789/input.parquet"}


class Lives:
    """kept: the finished tasks whose states stay."""

    def __init__(self, etcd: Etcd, node: EtcdCoordinator, layout: Layout, kept: int) -> None:
        self._etcd, self._node, self._layout, self._kept = etcd, node, layout, kept
        self._finished: deque[str] = deque()
        self.count = 0

    async def live(self, first: int) -> None:
        """BATCH lives, from their submission to their end; and the end of what was kept of as many others."""
        names = [f"t{first + index:08d}" for index in range(BATCH)]
        txns = [submit_txn(self._layout, NewTask(name, PROPS, "count")) for name in names]
        await asyncio.gather(*(self._submit(txn, name) for txn, name in zip(txns, names, strict=True)))
        answers = await self._node.claim([ClaimRequest(name) for name in names])
        now = time.time()
        await asyncio.gather(*(self._end(answer.claim, now) for answer in answers if isinstance(answer, Won)))
        self.count += BATCH
        await self._sweep()

    async def _submit(self, txn: Txn, subject: str) -> TxnResult:
        """However busy the machine is."""
        while True:
            try:
                return await self._etcd.submit(txn, subject)
            except Unreachable:
                await asyncio.sleep(1.0)

    async def _end(self, claim: Claim, now: float) -> None:
        run = Run("n1", 1, claim.fence, now - 1, now, "completed", "", 1.0, 50_000_000)
        state = TaskState(
            State.COMPLETED, result={"found": 168}, node="n1", started=now - 1, ended=now, cause="completed",
            attempt=1, kept_until=_kept_until(claim.task_id),
        )  # fmt: skip
        update = Update(state=state, history=(run,))
        while True:
            try:
                await self._node.done(claim, update)
                break
            except CoordinatorUnreachable:
                await asyncio.sleep(1.0)
        self._finished.append(claim.task_id)

    async def _sweep(self) -> None:
        gone = [self._finished.popleft() for _ in range(min(BATCH, len(self._finished) - self._kept))]
        keys = [self._layout.finished_until(_kept_until(name), name) for name in gone]
        found = await self._submit(Txn((), tuple(map(Get, keys))), keys[0]) if keys else None
        kvs = [kv for kv in (found.answers if found is not None else ()) if isinstance(kv, KV)]
        await asyncio.gather(*(self._submit(sweep_txn(self._layout, kv), kv.key) for kv in kvs))


def _kept_until(task_id: str) -> float:
    """Any time, as long as it is known again."""
    return 1.8e9 + int(task_id[1:])


async def measure(embedded: Embedded, lives: int, kept: int, every: int) -> list[dict[str, float]]:
    layout, etcd, node = Layout("bench"), Etcd(embedded.endpoint), EtcdCoordinator(embedded.endpoint, "bench")
    await node.open(Member("n1"), 300.0)
    running = Lives(etcd, node, layout, kept)
    firsts = iter(range(0, lives, BATCH))
    rows: list[dict[str, float]] = []
    began = time.monotonic()

    async def work() -> None:
        for first in firsts:
            await running.live(first)
            if running.count // every > len(rows):
                rows.append({})
                rows[-1] |= _look(embedded, running.count, time.monotonic() - began)

    async def renew() -> None:
        while True:
            await asyncio.sleep(10)
            with contextlib.suppress(CoordinatorUnreachable):
                await node.renew()

    renewing = asyncio.ensure_future(renew())
    try:
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await node.close()
        await etcd.close()
    return rows


def _look(embedded: Embedded, lives: int, seconds: float) -> dict[str, float]:
    from mpfora.embedded.gateway import Gateway

    status = Gateway(embedded.endpoint.removeprefix("unix:")).status(10.0)
    row = {
        "lives": lives,
        "seconds": round(seconds, 1),
        "file_mib": round(status.size / 2**20, 1),
        "in_use_mib": round(status.in_use / 2**20, 1),
        "folder_mib": round(_size(Path(embedded.data_dir)) / 2**20, 1),
        "revision": status.revision,
    }
    print(_row(row), flush=True)
    return row


def _size(folder: Path) -> int:
    """Of what it takes on the disk."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue  # renamed meanwhile
    return total


def _row(row: dict[str, float]) -> str:
    return (
        f"{row['lives']:>10,} lives {row['seconds']:>8,.0f} s {row['file_mib']:>8,.1f} MiB file"
        f" {row['in_use_mib']:>8,.1f} MiB in use {row['folder_mib']:>8,.1f} MiB folder, revision {row['revision']:,}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=100_000)
    parser.add_argument("--kept", type=int, default=10_000, help="finished tasks whose states are kept")
    parser.add_argument("--every", type=int, default=0, help="lives between two rows; default: a twentieth")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print(machine())
    with own_etcd() as embedded:
        rows = asyncio.run(measure(embedded, options.lives, options.kept, options.every or options.lives // 20))
        log = (Path(embedded.data_dir) / "etcd.log").read_text(errors="replace")
        said = [line for line in log.splitlines() if line.startswith("keeper: upkeep")]
    if options.json:
        print(json.dumps({"rows": rows, "upkeep": said}))
        return
    print(f"largest file: {max(row['file_mib'] for row in rows):,.1f} MiB")
    print("\n".join(said))


if __name__ == "__main__":
    main()
