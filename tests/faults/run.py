"""One run: faults for a while, then everything is healed and must come to its end, then the record is looked at."""

from __future__ import annotations

import os
import random
import signal
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from etcd_server import EtcdServer, encoded

from mpfora.client.info.task_info import TaskInfo
from mpfora.config.settings import Settings
from mpfora.errors import MpforaError
from mpfora.linux.syscalls import boot_ns
from mpfora.model.state import Message

from .checker import Excuse, Violation, check, excuses
from .evidence import Evidence, S, TaskEnd, ZygoteHit, read_lives
from .nemesis import OVERTURE, Fault, Heal, draw
from .scene import TTL_S, Scene
from .trace import HANDLERS

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
    """Everything that a run has shown. began: boot time, just before the first task is submitted. load: the machine's
    load average over its last five minutes, other work included; 0: not known."""

    seed: int
    seconds: float
    plant: str = ""
    began: int = 0
    load: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    evidence: Evidence = field(default_factory=lambda: Evidence([]))
    violations: list[Violation] = field(default_factory=list)
    excuses: list[Excuse] = field(default_factory=list)
    liveness_s: float = 0.0
    logs: dict[str, str] = field(default_factory=dict)


def run(folder: Path, seed: int, seconds: float, say: Say = print, plant: str = "") -> Record:
    """Faults for `seconds`. The same seed draws the same faults as long as the same are possible. plant: the name of
    one of PLANTS, which every node has; "": none."""
    say(f"faults: seed {seed}, {seconds:g} s, {TASKS} tasks on {len(NODES)} nodes, in {folder}")
    record = Record(seed, seconds, plant)
    scene = Scene(folder, list(NODES), plant=plant)
    try:
        version = scene.cluster.members[0].version()
        record.began = boot_ns()
        for number in range(TASKS):
            scene.submit(f"t{number}", HANDLERS[number % len(HANDLERS)].__name__)
        _torment(scene, random.Random(seed), time.monotonic() + seconds, record, say)
        _bring_to_an_end(scene, record, say)
        ends = _ends(scene)
        left = _leave(scene, record, say)
    finally:
        record.logs = dict(scene.logs())
        observer = scene.observer
        scene.close()
    with (folder / "lines").open() as lines:
        lives, malformed = read_lives(lines)
    record.evidence = Evidence(
        lives,
        observer.gone,
        observer.claims,
        ends,
        observer.unseen,
        left,
        malformed,
        observer.writes,
        observer.states,
        observer.nodes,
        observer.silent,
        observer.returns,
        [
            ZygoteHit(fault.node, fault.at, fault.at + int(fault.lasts_s * S))
            for fault in record.faults
            if "zygote" in fault.kind or fault.kind == "node killed"
        ],
        version,
        TTL_S,
        Settings(lease_ttl_s=TTL_S).margin_s,
        observer.thaws,
    )
    record.load = os.getloadavg()[1]
    record.violations += check(record.evidence)
    record.excuses += excuses(record.evidence)
    return record


def _torment(scene: Scene, rng: random.Random, until: float, record: Record, say: Say) -> None:
    """The nemesis at work, and service managers that start again what has ended. In the end all is healed."""
    due: list[tuple[float, Heal]] = []
    heals: dict[int, Heal] = {}
    again: dict[str, float] = {}
    wave, fault_at = 0, time.monotonic() + 2
    while (now := time.monotonic()) < until:
        for at, deed in sorted((one for one in due if one[0] <= now), key=lambda one: one[0]):
            due.remove((at, deed))
            deed()
        _start_again(scene, again, rng, now)
        if now < fault_at:
            time.sleep(0.05)
            continue
        if wave < len(OVERTURE):
            kinds, pause_s = OVERTURE[wave]
            wave += 1
        else:
            kinds, pause_s = (draw,), rng.uniform(*PAUSE_S)
        for fault in [fault for kind in kinds if (fault := kind(scene, rng)) is not None]:
            record.faults.append(fault)
            say(f"  {fault.at / 1e9:.2f} {fault.kind} {fault.node} {fault.note}".rstrip())
            # doing it may have taken long, where etcd had to be asked
            due += _deeds(fault, time.monotonic(), heals)
        fault_at = time.monotonic() + pause_s
    for heal in list(heals.values()):
        heal()


def _deeds(fault: Fault, now: float, heals: dict[int, Heal]) -> list[tuple[float, Heal]]:
    """When what is done because of a fault. heals: those that are not done yet."""
    deeds = [(now + after, deed) for after, deed in fault.later]
    fault.later = []
    if fault.heal is None:
        return deeds
    heal, fault.heal = fault.heal, None
    heals[id(fault)] = heal

    def done() -> None:
        del heals[id(fault)]
        heal()

    return [*deeds, (now + fault.lasts_s, done)]


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
            waiting = [task for task in waiting if states.get(task) not in ("completed", "failed")]
    record.liveness_s = time.monotonic() - began
    say(f"  all ended after {record.liveness_s:.1f} s" if not waiting else f"  not ended: {waiting}")


def _let_run(scene: Scene) -> None:
    """What people had stopped goes on."""
    with suppress(MpforaError):
        for node in scene.client.nodes():
            for verb in ("unfreeze", "undrain"):
                scene.client.node_command(node.name, verb)
        for task in scene.client.tasks("paused"):
            scene.client.command(task.id, Message.run())


def _ends(scene: Scene) -> dict[str, TaskEnd]:
    tasks = {task.id: task for task in scene.client.tasks()}
    root = scene.layout.tasks
    present = {key.removeprefix(root) for key in _keys(scene.cluster.members[0], root)}
    return {task: _end(task in present, tasks.get(task)) for task in scene.submitted}


def _end(present: bool, task: TaskInfo | None) -> TaskEnd:
    if task is None:
        return TaskEnd(present, "gone")
    return TaskEnd(present, str(task.state), task.errors[-1].text if task.errors else "")


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
            # one that was just starting again dies of the signal, as every program does, and had done nothing yet
            was_starting = code == -signal.SIGTERM and not host.node.log.lines
            if was_alive and code and not was_starting:
                left.append(f"node {host.name} left with exit code {code}")
        if host.lives:
            left.append(f"node {host.name} did not leave within {LEAVE_S:g} s")
    while (found := scene.left()) and time.monotonic() < ends:
        time.sleep(0.1)
    say(f"  all nodes have left at {boot_ns() / 1e9:.2f}")
    return left + found
