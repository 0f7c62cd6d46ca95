"""The nemesis: faults by kind, drawn by a seeded generator, each with what heals it.

A kind is a function (scene, generator) -> Fault, or None where it cannot be done now. What is done to the processes of
one node is done one after another, and at most one member of etcd is ill at a time: beyond that nothing is promised.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from etcd_server import EtcdServer, encoded

from mpfora.errors import MpforaError
from mpfora.linux import boot_ns
from mpfora.states import Message

from .scene import TTL_S, Host, Scene, send

Heal = Callable[[], None]

#: so long after its return a member that led may still revoke leases that it thinks have run out
DEPOSED_NS = 2_000_000_000
#: between two illnesses of etcd
CONVALESCENCE_S = 6.0


@dataclass(slots=True)
class Fault:
    """kind    for the report;  node  the one that it was done to, "" if none
    at        boot time, just before
    lasts_s   after which `heal` is to be called
    strikes   the processes of the node are dead, or soon will be: a failover is to follow
    of_etcd   etcd is ill by it"""

    kind: str
    node: str = ""
    at: int = 0
    lasts_s: float = 0.0
    heal: Heal | None = None
    note: str = ""
    strikes: bool = False
    of_etcd: bool = False


Kind = Callable[[Scene, random.Random], Fault | None]


def _healthy_host(scene: Scene, rng: random.Random) -> Host | None:
    """One whose processes nothing is being done to; rather one that has tasks."""
    host = _choose(scene, rng, [host for host in scene.hosts.values() if host.lives and not host.busy and host.wanted])
    return host if host is not None and host.zygote() is not None else None


def _choose(scene: Scene, rng: random.Random, hosts: list[Host]) -> Host | None:
    working = [host for host in hosts if scene.observer.owned_by(host.name)]
    return rng.choice(working or hosts) if hosts else None


def _length(rng: random.Random, longest_s: float) -> float:
    """A moment, or longer than a lease and the grace after it."""
    return rng.uniform(0.3, 3) if rng.random() < 0.4 else rng.uniform(min(TTL_S + 1.5, longest_s), longest_s)


def _strike(kind: str, victims: Callable[[Host], list[int | None]]) -> Kind:
    """SIGKILL to processes of one node."""

    def strike(scene: Scene, rng: random.Random) -> Fault | None:
        host = _healthy_host(scene, rng)
        if host is None:
            return None
        assert host.node is not None
        pids = victims(host)
        host.busy = True
        fault = Fault(kind, host.name, boot_ns(), rng.uniform(0.5, 3), lambda: _free(host), strikes=True)
        for pid in pids:
            send(pid, signal.SIGKILL)
        return fault

    return strike


def _free(host: Host) -> None:
    host.busy = False


def _supervisor(host: Host) -> int | None:
    return host.node.pid if host.node is not None else None


def _freeze(kind: str, victim: Callable[[Host], int | None], longest_s: float) -> Kind:
    """SIGSTOP to a process of one node, and SIGCONT later."""

    def freeze(scene: Scene, rng: random.Random) -> Fault | None:
        host = _healthy_host(scene, rng)
        pid = None if host is None else victim(host)
        if host is None or pid is None:
            return None
        host.busy = True
        lasts = _length(rng, longest_s)

        def thaw() -> None:
            send(pid, signal.SIGCONT)
            host.busy = False

        fault = Fault(kind, host.name, boot_ns(), lasts, thaw, f"{lasts:.1f} s", strikes=lasts > 4)
        send(pid, signal.SIGSTOP)
        return fault

    return freeze


def kill_child(scene: Scene, rng: random.Random) -> Fault | None:
    host = _healthy_host(scene, rng)
    children = host.children() if host is not None else []
    if host is None or not children:
        return None
    fault = Fault("child killed", host.name, boot_ns())
    send(rng.choice(children), signal.SIGKILL)
    return fault


def stop_child(scene: Scene, rng: random.Random) -> Fault | None:
    host = _healthy_host(scene, rng)
    children = host.children() if host is not None else []
    if host is None or not children:
        return None
    pid = rng.choice(children)
    fault = Fault("child stopped", host.name, boot_ns(), rng.uniform(0.2, 5), lambda: send(pid, signal.SIGCONT))
    send(pid, signal.SIGSTOP)
    return fault


# -- the network ------------------------------------------------------------------------------------------------------


def cut_node(scene: Scene, rng: random.Random) -> Fault | None:
    """All links of a node to etcd, or all but one."""
    host = _choose(scene, rng, [host for host in scene.hosts.values() if host.lives])
    if host is None:
        return None
    links = host.links if rng.random() < 0.7 else rng.sample(host.links, len(host.links) - 1)
    how = rng.choice(["cut", "stalled", "stalled up", "stalled down", "slow"])
    lasts = _length(rng, 10)

    def mend() -> None:
        for link in links:
            link.mend()

    whole = len(links) == len(host.links)
    fault = Fault(f"node {how}", host.name, boot_ns(), lasts, mend, f"{lasts:.1f} s, {len(links)} links")
    fault.strikes = whole and how != "slow" and lasts > 4
    delay = rng.uniform(0.02, 0.3)
    for link in links:
        if how == "cut":
            link.cut()
        elif how == "slow":
            link.delay(delay)
        else:
            link.stall(*{"stalled": ("up", "down"), "stalled up": ("up",), "stalled down": ("down",)}[how])
    return fault


# -- etcd -------------------------------------------------------------------------------------------------------------


def _is_ill(scene: Scene) -> bool:
    """Or was a moment ago."""
    return scene.etcd_is_ill or time.monotonic() < scene.etcd_well_since + CONVALESCENCE_S


def _ill(scene: Scene, kind: str, member: EtcdServer | None, rng: random.Random, longest_s: float) -> Fault | None:
    """One member (None: the leader) is ill for a while."""
    if _is_ill(scene):
        return None
    member = member or scene.cluster.leader()
    if member is None or member.pid is None:
        return None
    scene.etcd_is_ill = True
    ill = member

    def heal() -> None:
        scene.cluster.mend(ill)
        if ill.pid is None:
            ill.launch()
        else:
            scene.observer.doubted_until = boot_ns() + DEPOSED_NS
            ill.thaw()
        scene.etcd_is_ill, scene.etcd_well_since = False, time.monotonic()

    fault = Fault(kind, "", boot_ns(), rng.uniform(0.5, longest_s), heal, of_etcd=True)
    if "killed" in kind:
        ill.kill()
    elif "stopped" in kind:
        ill.freeze()
    else:
        scene.cluster.cut_off(ill)
    return fault


def _member(how: str, longest_s: float = 8) -> Kind:
    return lambda scene, rng: _ill(scene, f"etcd member {how}", rng.choice(scene.cluster.members), rng, longest_s)


def _leader(how: str, longest_s: float = 8) -> Kind:
    return lambda scene, rng: _ill(scene, f"etcd leader {how}", None, rng, longest_s)


def lose_quorum(scene: Scene, rng: random.Random) -> Fault | None:
    """Two of three members are killed, and come back."""
    if _is_ill(scene):
        return None
    scene.etcd_is_ill = True
    members = rng.sample(scene.cluster.members, 2)

    def heal() -> None:
        for member in members:
            member.launch()
        scene.etcd_is_ill, scene.etcd_well_since = False, time.monotonic()

    fault = Fault("etcd without quorum", "", boot_ns(), rng.uniform(0.5, 9), heal, of_etcd=True)
    for member in members:
        member.kill()
    return fault


def compact(scene: Scene, rng: random.Random) -> Fault | None:
    for member in scene.cluster.members:
        with suppress(AssertionError, OSError, KeyError, ValueError):
            answer = member.post("kv/range", {"key": encoded(b"-"), "serializable": True})
            member.compact(int(answer["header"]["revision"]))
            return Fault("compaction", "", boot_ns())
    return None


def take_lease(scene: Scene, rng: random.Random) -> Fault | None:
    """Revoke a node's lease behind its back, as some versions of etcd do by themselves."""
    hosts = [host for host in scene.hosts.values() if host.lives]
    if not hosts:
        return None
    host = rng.choice(hosts)
    for member in scene.cluster.members:
        with suppress(AssertionError, OSError, KeyError, ValueError, IndexError):
            key = scene.layout.member(host.name).encode()
            lease = member.post("kv/range", {"key": encoded(key)})["kvs"][0]["lease"]
            scene.observer.taken_nodes.add(host.name)
            fault = Fault(
                "lease revoked", host.name, boot_ns(), 1.5, lambda: scene.observer.taken_nodes.discard(host.name)
            )
            member.post("lease/revoke", {"ID": lease})
            return fault
    return None


# -- people -----------------------------------------------------------------------------------------------------------


def command_node(scene: Scene, rng: random.Random) -> Fault | None:
    host = rng.choice(list(scene.hosts.values()))
    verb, back = rng.choice([("freeze", "unfreeze"), ("drain", "undrain"), ("balance", ""), ("stop_task", "")])
    parameters = {}
    if verb == "stop_task":
        owned = scene.observer.owned_by(host.name)
        if not owned:
            return None
        parameters["task"] = rng.choice(sorted(owned))

    def tell(verb: str, **parameters: str) -> None:
        with suppress(MpforaError):
            scene.client.node_command(host.name, verb, **parameters)

    fault = Fault(f"command {verb}", host.name, boot_ns(), rng.uniform(0.5, 4))
    fault.heal = (lambda: tell(back)) if back else None
    tell(verb, **parameters)
    return fault


def command_task(scene: Scene, rng: random.Random) -> Fault | None:
    task = rng.choice(sorted(scene.submitted))
    messages = {
        "release": Message.release(),
        "checkpoint": Message.checkpoint(),
        "pause": Message.pause(),
        "sleep": Message.sleep(time.time() + rng.uniform(0.2, 2)),
    }
    verb = rng.choice(sorted(messages))
    fault = Fault(f"command {verb}", "", boot_ns(), rng.uniform(0.5, 4))

    def tell(message: Message) -> None:
        with suppress(MpforaError):
            scene.client.command(task, message)

    fault.heal = (lambda: tell(Message.run())) if verb == "pause" else None
    tell(messages[verb])
    return fault


def burst(scene: Scene, rng: random.Random) -> Fault | None:
    """New tasks that end by themselves."""
    fault = Fault("burst of tasks", "", boot_ns())
    first = len(scene.submitted)
    for number in range(first, first + rng.randint(5, 20)):
        with suppress(MpforaError):
            scene.submit(f"b{number}", "polite", rng.uniform(0.1, 5))
    return fault


def delete(scene: Scene, rng: random.Random) -> Fault | None:
    """A task of a burst is deleted, wherever it is."""
    tasks = [task for task in scene.submitted if task.startswith("b")]
    if not tasks:
        return None
    task = rng.choice(tasks)
    fault = Fault("task deleted", "", boot_ns())
    scene.observer.deleted.add(task)
    del scene.submitted[task]
    with suppress(MpforaError):
        scene.client.delete(task, wait=False)
    return fault


def join(scene: Scene, rng: random.Random) -> Fault | None:
    """A node joins, and leaves in order later."""
    host = scene.host(f"j{rng.randint(1, 2)}")
    if host.lives or host.busy:
        return None
    host.wanted, host.busy = False, True

    def leave() -> None:
        host.signal(signal.SIGTERM)
        host.busy = False

    host.start()
    return Fault("node joins and leaves", host.name, boot_ns(), rng.uniform(4, 12), leave)


def _everything(host: Host) -> list[int | None]:
    return [_supervisor(host), host.zygote(), *host.children()]


#: kind -> how often it is drawn, beside the others
KINDS: dict[Kind, int] = {
    _strike("supervisor killed", lambda host: [_supervisor(host)]): 5,
    _strike("zygote killed", lambda host: [host.zygote()]): 3,
    _strike("supervisor and zygote killed", lambda host: [_supervisor(host), host.zygote()]): 3,
    _strike("node killed", _everything): 3,
    _freeze("supervisor stopped", _supervisor, 10): 4,
    _freeze("zygote stopped", Host.zygote, 9): 3,
    kill_child: 3,
    stop_child: 2,
    cut_node: 6,
    _member("killed"): 2,
    _member("stopped"): 2,
    _member("cut off"): 2,
    _leader("killed"): 2,
    _leader("stopped"): 2,
    _leader("cut off"): 2,
    lose_quorum: 1,
    compact: 2,
    take_lease: 2,
    command_node: 3,
    command_task: 4,
    burst: 2,
    delete: 1,
    join: 2,
}


def draw(scene: Scene, rng: random.Random) -> Fault | None:
    """Do one thing. None: what was drawn cannot be done now."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    return kind(scene, rng)


__all__ = ["KINDS", "Fault", "draw"]
