"""How cost grows with the number of tasks: python bench/scale.py [--to N] [--full] [--only PART,...]

    core      one node's books alone, no I/O: microseconds of CPU for each event, beside T waiting tasks and three nodes
    waiting   a node starts where T tasks wait for room
    asleep    a node starts where T tasks sleep for years
    due       T tasks are due at one instant, beside three nodes that have no room: until each is awake
    finished  a node starts where T finished tasks are kept
    held      a node claims T tasks that are paused, and is stopped
    together  ten nodes start at once beside T paused tasks, until each has its owner: attempts for each claim
    commands  `mpfora pause`, `release`, `kill` and `delete` with --state of T tasks that no node has room for
    revoked   T owner keys go with one lease: until a watch has seen it

Each row: seconds until it is done, CPU seconds of the node and of etcd, the longest turn of the node's loop, the node's
memory, and how far etcd's revision grew. By default up to 10,000 tasks (two minutes), --to 200000 in ten, --full to a
million. On a busy machine read CPU seconds, not wall time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil
from common import Node, machine, node, own_etcd, run, until

from mpfora.cluster.changes import Change, Changes, MemberPut, OwnerGone, OwnerPut, TaskGone, TaskPut
from mpfora.config.settings import Settings
from mpfora.embedded import Embedded
from mpfora.handlers import HandlerSettings
from mpfora.model.state import State, TaskState
from mpfora.model.task import Member
from mpfora.model.units import format_time
from mpfora.store.claim_records import parse_owner
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import Op, Put, Txn, Unreachable, prefix_end
from mpfora.store.state_records import format_state
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import FairBalancer
from mpfora.supervisor.core import Core

SIZES = (1_000, 10_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
PARTS = ("core", "waiting", "asleep", "due", "finished", "held", "together", "commands", "revoked")
#: events of each kind that are timed
EVENTS = 300
#: of the part `together`
TOGETHER = 10
_CLAIMS = re.compile(r"in all: (\d+) claims tried \((\d+) late\), (\d+) won")
_LONGEST = re.compile(r"longest of \d+ turns of the loop took (\d+) ms")


# -- the core alone ---------------------------------------------------------------------------------------------------


class Bystander:
    """The core of node "n0" of three, which have no room for what waits: what it costs to look on."""

    def __init__(self, tasks: int) -> None:
        self.core = Core(
            Settings(name="n0", max_tasks=4), FairBalancer(), host="h", pid=1, created="c", rng=random.Random(1)
        )
        self.boot_s = 1000.0
        self.revision = 10
        self.tell(ev.ZygoteReady(1, (("h", HandlerSettings()),), ()))
        self.tell(ev.SessionOpened(self.boot_s, 1e9))
        members = [MemberPut(_member(f"n{n}")) for n in range(3)]
        held = [f"held{n}" for n in range(12)]
        self.put(*members, *map(TaskPut, held), reset=True)
        for n, task_id in enumerate(held):
            self.put(OwnerPut(task_id, f"n{1 + n % 2}", self.revision + 1))
        for first in range(0, tasks, 500):
            self.put(*(TaskPut(f"t{n}", n + 1) for n in range(first, min(tasks, first + 500))))

    def tell(self, event: ev.Event) -> None:
        self.boot_s += 0.001
        self.core.handle(event, ev.Now(self.boot_s, 1.7e9))

    def put(self, *changes: Change, reset: bool = False) -> None:
        self.revision += 1
        self.tell(ev.ClusterChanged(Changes(self.revision, changes, reset)))


def _member(name: str, **fields: object) -> Member:
    return Member(name, **{"capacity": 4, "weight": 4.0, "handlers": ("h",), **fields})  # type: ignore[arg-type]


def each_us(count: int, do: Callable[[int], None]) -> float:
    began = time.process_time()
    for number in range(count):
        do(number)
    return (time.process_time() - began) / count * 1e6


def core_row(tasks: int) -> str:
    began = time.process_time()
    it = Bystander(tasks)
    built_us = (time.process_time() - began) / tasks * 1e6
    submit = each_us(EVENTS, lambda n: it.put(TaskPut(f"x{n}", it.revision)))
    # a task ends, another node claims what waits next, and ends it in its turn
    free = iter(range(12))

    def life(number: int) -> None:
        held = f"held{next(free)}"
        it.put(OwnerGone(held, clean=True), TaskGone(held))
        assigned = next(iter(it.core.assignments.assignee), None)
        if assigned is not None:
            it.put(OwnerPut(assigned, it.core.assignments.assignee[assigned], it.revision + 1))

    done = each_us(4, life)
    touch = each_us(5, lambda n: it.put(MemberPut(_member("n2", labels={"turn": str(n)}))))
    idle = each_us(EVENTS, lambda _: it.tell(ev.Tick()))
    return (
        f"{tasks:>9,}  each task told {built_us:7.1f}  submit {submit:9.1f}  done and claimed {done:11.1f}"
        f"  a member's record put {touch:12.1f}  an event of nothing {idle:8.1f}  us"
    )


# -- whole nodes ------------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """Of one step of a node's life."""

    seconds: float
    node_cpu: float
    etcd_cpu: float
    memory_mb: float
    revisions: int
    longest_ms: int = -1

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.1f} s  node {self.node_cpu:6.2f} s  etcd {self.etcd_cpu:6.2f} s of CPU"
            f"  longest turn {self.longest_ms:6} ms  {self.memory_mb:6.0f} MB  {self.revisions:8,} revisions"
        )


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def _revision(endpoint: str) -> int:
    etcd = Etcd(endpoint)
    revision = (await etcd.status()).revision
    await etcd.close()
    return revision


class UsageMeter:
    """Around one step; `over` is asked after it."""

    def __init__(self, etcd: Embedded) -> None:
        self._etcd = etcd
        self._etcd_pid = etcd.etcd_pid
        self._began = time.perf_counter()
        self._etcd_cpu, self._revision = cpu_s(self._etcd_pid), run(_revision(etcd.endpoint))

    def over(self, supervisor: int) -> Watched:
        return Watched(
            time.perf_counter() - self._began,
            cpu_s(supervisor),
            cpu_s(self._etcd_pid) - self._etcd_cpu,
            psutil.Process(supervisor).memory_info().rss / 1e6,
            run(_revision(self._etcd.endpoint)) - self._revision,
        )


def longest_ms(node: Node) -> int:
    found = _LONGEST.findall(node.log.read_text(errors="replace"))
    return int(found[-1]) if found else -1


async def put_all(endpoint: str, puts: Iterator[tuple[Op, ...]]) -> None:
    etcd = Etcd(endpoint)
    pending: list[asyncio.Future[object]] = []
    for number, ops in enumerate(puts):
        pending.append(etcd.submit(Txn((), ops), str(number)))  # type: ignore[arg-type]
        if len(pending) == 2000:
            await asyncio.gather(*pending)
            pending.clear()
    await asyncio.gather(*pending)
    await etcd.close()


def names(count: int) -> Iterator[str]:
    return (f"task-{number:07}" for number in range(count))


async def _owned(endpoint: str, layout: Layout, sample: Sequence[str]) -> bool:
    etcd = Etcd(endpoint)
    try:
        return all([await etcd.get(layout.owner(task_id)) for task_id in sample])
    except Unreachable:  # busy with the claims that are waited for: asked again
        return False
    finally:
        await etcd.close()


def start_beside(count: int, puts: Callable[[Layout], Iterator[tuple[Op, ...]]]) -> Watched:
    """A node starts beside what `puts` has left, and has listed all of it."""
    namespace = f"bench-{secrets.token_hex(4)}"
    layout = Layout(namespace)
    with own_etcd() as etcd:
        run(put_all(etcd.endpoint, puts(layout)))
        run(put_all(etcd.endpoint, iter([(Put(layout.task("first"), ""),)])))
        meter = UsageMeter(etcd)
        with node(etcd.endpoint, namespace, "handlers:wait", max_tasks=1, lease_ttl=60) as supervisor:
            until(
                lambda: len(supervisor.children()) == 1, "the node to run the one task that it has room for", 900, 0.1
            )
            watched = meter.over(supervisor.pid)
            supervisor.process.terminate()
            supervisor.process.wait(120)
            watched.longest_ms = longest_ms(supervisor)
    return watched


def waiting_row(count: int) -> str:
    props = json.dumps({"handler": "nobody has it"})
    return str(
        start_beside(
            count, lambda layout: ((Put(layout.task(t), ""), Put(layout.props(t), props)) for t in names(count))
        )
    )


def asleep_row(count: int) -> str:
    props = json.dumps({"not_before": "2099-01-01T00:00:00Z"})
    return str(
        start_beside(
            count, lambda layout: ((Put(layout.task(t), ""), Put(layout.props(t), props)) for t in names(count))
        )
    )


async def _awake(endpoint: str, layout: Layout, count: int, due: float, revision: int) -> list[float]:
    """How long after they were due tasks were woken, in the order of their waking."""
    etcd = Etcd(endpoint)
    late: list[float] = []
    async with asyncio.timeout(due - time.time() + 120):
        async for found in etcd.watch(*layout.watched, revision + 1):
            late += [time.time() - due for event in found.events if event.key.startswith(layout.states)]
            if len(late) >= count:
                break
    await etcd.close()
    return late


def due_row(count: int, nodes: int = 3) -> str:
    namespace = f"bench-{secrets.token_hex(4)}"
    layout = Layout(namespace)
    lead_s = 25 + count / 1000
    with own_etcd() as etcd, contextlib.ExitStack() as stack:
        due = float(int(time.time() + lead_s))
        props = json.dumps({"not_before": format_time(due)})
        run(put_all(etcd.endpoint, ((Put(layout.task(t), ""), Put(layout.props(t), props)) for t in names(count))))
        revision = run(_revision(etcd.endpoint))
        started = [
            stack.enter_context(node(etcd.endpoint, namespace, "handlers:wait", max_tasks=1, name=f"n{n}"))
            for n in range(nodes)
        ]
        meter = UsageMeter(etcd)
        before = sum(cpu_s(each.pid) for each in started)
        late = run(_awake(etcd.endpoint, layout, count, due, revision))
        used = sum(cpu_s(each.pid) for each in started) - before
        watched = meter.over(started[0].pid)
        for each in started:
            each.process.terminate()
            each.process.wait(60)
        turns = max(longest_ms(each) for each in started)
    return (
        f"all awake {late[-1]:5.2f} s after they were due, half {late[len(late) // 2]:5.2f} s;"
        f"  {nodes} nodes {used:6.2f} s  etcd {watched.etcd_cpu:6.2f} s of CPU  longest turn {turns:6} ms"
        f"  {watched.revisions:8,} revisions"
    )


def finished_row(count: int) -> str:
    state = format_state(TaskState(State.COMPLETED, result={"rows": 12345}))
    return str(start_beside(count, lambda layout: ((Put(layout.state(t), state),) for t in names(count))))


def held_row(count: int) -> str:
    namespace = f"bench-{secrets.token_hex(4)}"
    layout = Layout(namespace)
    with own_etcd() as etcd:
        run(put_all(etcd.endpoint, _paused(layout, count)))
        meter = UsageMeter(etcd)
        with node(etcd.endpoint, namespace, "handlers:wait", max_tasks=4, lease_ttl=60) as supervisor:
            sample = [f"task-{number:07}" for number in range(0, count, max(1, count // 50))]
            until(lambda: run(_owned(etcd.endpoint, layout, sample)), "all to be claimed", 900, 0.2)
            watched = meter.over(supervisor.pid)
            began = time.perf_counter()
            supervisor.process.terminate()
            supervisor.process.wait(120)
            left = time.perf_counter() - began
            watched.longest_ms = longest_ms(supervisor)
    return f"{watched}; stopped within {left:.1f} s"


def _paused(layout: Layout, count: int) -> Iterator[tuple[Op, ...]]:
    paused = format_state(TaskState(State.PAUSED))
    return ((Put(layout.task(t), ""), Put(layout.props(t), "{}"), Put(layout.state(t), paused)) for t in names(count))


async def _owned_by(endpoint: str, layout: Layout) -> Counter[str]:
    """How many tasks each node owns."""
    etcd = Etcd(endpoint)
    try:
        listing = await etcd.list(layout.tasks, prefix_end(layout.tasks))
        return Counter(parse_owner(kv.value)[0] for kv in listing.kvs if kv.key.endswith("/owner"))
    finally:
        await etcd.close()


def together_row(count: int) -> str:
    namespace = f"bench-{secrets.token_hex(4)}"
    layout = Layout(namespace)
    with own_etcd() as etcd, contextlib.ExitStack() as stack:
        run(put_all(etcd.endpoint, _paused(layout, count)))
        meter = UsageMeter(etcd)
        options = {"max_tasks": 1, "lease_ttl": 15}
        started = [
            stack.enter_context(node(etcd.endpoint, namespace, "handlers:wait", name=f"n{n}", **options))
            for n in range(TOGETHER)
        ]
        sample = [f"task-{number:07}" for number in range(0, count, max(1, count // 50))]
        until(lambda: run(_owned(etcd.endpoint, layout, sample)), "most to be claimed", 600, 0.5)
        until(lambda: run(_owned_by(etcd.endpoint, layout)).total() == count, "all to be claimed", 300, 1.0)
        watched = meter.over(started[0].pid)
        cpu = sum(cpu_s(each.pid) for each in started)
        owned = run(_owned_by(etcd.endpoint, layout)).values()
        for each in started:
            each.process.terminate()
        for each in started:
            each.process.wait(120)
        logs = [each.log.read_text(errors="replace") for each in started]
    found = [tuple(map(int, line)) for log in logs for line in _CLAIMS.findall(log)]
    tried, late, won = (sum(column) for column in zip(*found, strict=True))
    gone = sum(log.count("the lease") for log in logs)
    return (
        f"{watched.seconds:7.1f} s  {TOGETHER} nodes {cpu:6.1f} s  etcd {watched.etcd_cpu:6.2f} s of CPU"
        f"  {tried / max(won, 1):.3f} attempts for each claim ({late} late)  {min(owned)} to {max(owned)} each"
        f"  lines of a lease that ran out: {gone}"
    )


def commands_row(count: int) -> str:
    namespace = f"bench-{secrets.token_hex(4)}"
    layout = Layout(namespace)
    props = json.dumps({"handler": "handlers:wait"})
    took: list[str] = []
    with own_etcd() as etcd:
        waiting = ((Put(layout.task(t), ""), Put(layout.props(t), props)) for t in names(count))
        run(put_all(etcd.endpoint, waiting))
        with node(etcd.endpoint, namespace, "handlers:wait", max_tasks=1, lease_ttl=60):
            for verb, state in (("pause", "pending"), ("release", "paused"), ("kill", "paused"), ("delete", "killed")):
                program = [sys.executable, "-m", "mpfora.cli", "--etcd", etcd.endpoint, "--namespace", namespace]
                began = time.perf_counter()
                done = subprocess.run([*program, verb, "--state", state, "--yes"], capture_output=True, text=True)
                line = (done.stdout + done.stderr).strip().rpartition("\n")[2]
                took.append(f"{verb} --state {state} {time.perf_counter() - began:.1f} s ({line[:60]})")
    return "  ".join(took)


async def _revoke(endpoint: str, count: int) -> float:
    layout = Layout("revoked")
    etcd = Etcd(endpoint)
    lease = await etcd.grant(600)
    puts = [etcd.submit(Txn((), (Put(layout.owner(t), "{}", lease.id),)), t) for t in names(count)]
    await asyncio.gather(*puts)
    revision = (await etcd.status()).revision
    revoking = asyncio.ensure_future(etcd.revoke(lease.id, 60))
    began = time.perf_counter()
    seen = 0
    async with asyncio.timeout(120):
        async for found in etcd.watch(*layout.watched, revision + 1):
            seen += len(found.events)
            if seen >= count:
                break
    took = time.perf_counter() - began
    await revoking
    await etcd.close()
    return took


def revoked_row(count: int) -> str:
    with own_etcd() as etcd:
        try:
            return f"{run(_revoke(etcd.endpoint, count)):6.2f} s until the watch has seen it"
        except TimeoutError:
            return "not seen within 120 s"


ROWS = {
    "waiting": waiting_row,
    "asleep": asleep_row,
    "due": due_row,
    "finished": finished_row,
    "held": held_row,
    "together": together_row,
    "commands": commands_row,
    "revoked": revoked_row,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=int, default=10_000)
    parser.add_argument("--full", action="store_true", help="to a million")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...")
    options = parser.parse_args()
    most = SIZES[-1] if options.full else options.to
    print(machine())
    for part in options.only.split(","):
        for count in (size for size in SIZES if size <= most):
            row = core_row(count) if part == "core" else f"{count:>9,}  {ROWS[part](count)}"
            print(f"{part:9}{row}", flush=True)


if __name__ == "__main__":
    main()
