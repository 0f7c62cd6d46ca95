"""One run: faults for a while, then everything is healed and must come to its end, then the record is looked at."""

from __future__ import annotations

import random
import signal
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from etcd_server import EtcdServer, encoded

from mpfora.errors import MpforaError
from mpfora.linux import boot_ns
from mpfora.states import Message

from .checker import Evidence, TaskEnd, Violation, check, read_lives
from .nemesis import Fault, draw
from .scene import Scene

TASKS = 60
NODES = ("n1", "n2", "n3", "n4")
#: between two faults
PAUSE_S = (0.3, 2.5)
#: from the last healing until every task is completed
LIVENESS_S = 90.0
#: a node's own end after SIGTERM
LEAVE_S = 20.0

Say = Callable[[str], None]


@dataclass
class Record:
    """Everything that a run has shown."""

    seed: int
    seconds: float
    faults: list[Fault] = field(default_factory=list)
    evidence: Evidence = field(default_factory=lambda: Evidence([]))
    violations: list[Violation] = field(default_factory=list)
    liveness_s: float = 0.0
    logs: dict[str, str] = field(default_factory=dict)


def run(folder: Path, seed: int, seconds: float, say: Say = print) -> Record:
    """Faults for `seconds`. The same seed draws the same faults as long as the same are possible."""
    say(f"faults: seed {seed}, {seconds:g} s, {TASKS} tasks on {len(NODES)} nodes, in {folder}")
    record = Record(seed, seconds)
    scene = Scene(folder, list(NODES))
    try:
        for number in range(TASKS):
            scene.submit(f"t{number}", "stubborn" if number % 6 == 5 else "polite")
        began = time.monotonic()
        _torment(scene, random.Random(seed), began + seconds, record, say)
        _bring_to_an_end(scene, record, say)
        ends = _ends(scene)
        left = _leave(scene, record, say)
    finally:
        record.logs = dict(scene.logs())
        observer = scene.observer
        scene.close()
    with (folder / "lines").open() as lines:
        lives, malformed = read_lives(lines)
    record.evidence = Evidence(lives, observer.gone, observer.claims, ends, observer.unseen, left, malformed)
    record.violations += check(record.evidence)
    return record


def _torment(scene: Scene, rng: random.Random, until: float, record: Record, say: Say) -> None:
    """The nemesis at work, and service managers that start again what has ended. In the end all is healed."""
    sick: list[tuple[float, Fault]] = []
    again: dict[str, float] = {}
    fault_at = time.monotonic() + 2
    while (now := time.monotonic()) < until:
        for at, fault in [one for one in sick if one[0] <= now]:
            sick.remove((at, fault))
            _heal(fault)
        _start_again(scene, again, rng, now)
        if now >= fault_at:
            fault_at = now + rng.uniform(*PAUSE_S)
            drawn = draw(scene, rng)
            if drawn is not None:
                record.faults.append(drawn)
                say(f"  {drawn.at / 1e9:.2f} {drawn.kind} {drawn.node} {drawn.note}".rstrip())
                sick.append((now + drawn.lasts_s, drawn))
        time.sleep(0.05)
    for _, fault in sick:
        _heal(fault)


def _heal(fault: Fault) -> None:
    if fault.heal is not None:
        fault.heal()


def _start_again(scene: Scene, again: dict[str, float], rng: random.Random, now: float) -> None:
    for host in list(scene.hosts.values()):
        if host.lives or not host.wanted:
            again.pop(host.name, None)
        elif now >= again.setdefault(host.name, now + rng.uniform(0.5, 3)):
            del again[host.name]
            host.start()


def _bring_to_an_end(scene: Scene, record: Record, say: Say) -> None:
    """All is well again; every task must come to its end now."""
    for member in scene.cluster.members:
        if member.pid is None:
            member.launch()
    for member in scene.cluster.members:
        member.wait_healthy()
    (scene.folder / "finish").touch()
    began = time.monotonic()
    say("  healed; every task is to complete")
    told_at = 0.0
    waiting = list(scene.submitted)
    again: dict[str, float] = {}
    while waiting and time.monotonic() - began < LIVENESS_S:
        _start_again(scene, again, random.Random(0), time.monotonic())
        if time.monotonic() >= told_at:
            told_at = time.monotonic() + 5
            _let_run(scene)
        time.sleep(0.3)
        with suppress(MpforaError):
            states = {task.id: task.state for task in scene.client.tasks()}
            waiting = [task for task in waiting if states.get(task) != "completed"]
    record.liveness_s = time.monotonic() - began
    say(f"  all completed after {record.liveness_s:.1f} s" if not waiting else f"  not completed: {waiting}")


def _let_run(scene: Scene) -> None:
    """What people had stopped goes on."""
    with suppress(MpforaError):
        for node in scene.client.nodes():
            for verb in ("unfreeze", "undrain"):
                scene.client.node_command(node.name, verb)
        for task in scene.client.tasks("paused"):
            scene.client.command(task.id, Message.run())


def _ends(scene: Scene) -> dict[str, TaskEnd]:
    states = {task.id: str(task.state) for task in scene.client.tasks()}
    root = scene.layout.tasks
    present = {key.removeprefix(root) for key in _keys(scene.cluster.members[0], root)}
    return {task: TaskEnd(task in present, states.get(task, "gone")) for task in scene.submitted}


def _keys(member: EtcdServer, prefix: str) -> list[str]:
    body = {"key": encoded(prefix.encode()), "range_end": encoded((prefix[:-1] + "0").encode()), "keys_only": True}
    return [b64decode(kv["key"]).decode() for kv in member.post("kv/range", body).get("kvs", [])]


def _leave(scene: Scene, record: Record, say: Say) -> list[str]:
    """Every node leaves in order. What is left of any of them then."""
    left: list[str] = []
    for host in scene.hosts.values():
        host.wanted = False
        host.signal(signal.SIGTERM)
    ends = time.monotonic() + LEAVE_S
    for host in scene.hosts.values():
        if host.node is None:
            continue
        was_alive = host.lives
        with suppress(AssertionError):
            code = host.node.exit_code(max(0.1, ends - time.monotonic()))
            if was_alive and code:
                left.append(f"node {host.name} left with exit code {code}")
        if host.lives:
            left.append(f"node {host.name} did not leave within {LEAVE_S:g} s")
    while (found := scene.left()) and time.monotonic() < ends:
        time.sleep(0.1)
    say(f"  all nodes have left at {boot_ns() / 1e9:.2f}")
    return left + found
