"""The nemesis: faults by kind, drawn by a seeded generator, each with what heals it.

A kind is a function (scene, generator) -> Fault, or None where it cannot be done now. What is done to the processes of
one node is done one after another, and at most one member of etcd is ill at a time: beyond that nothing is promised.
One node is left well, so that there is somebody who may take over what is not yet dead.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from etcd_server import EtcdServer, encoded

from mpfora.errors import MpforaError
from mpfora.linux.syscalls import boot_ns
from mpfora.model.state import Message

from .scene import TTL_S, Host, Scene, send

Heal = Callable[[], None]

#: how many kinds are drawn before the nemesis gives up for now
TRIES = 5
#: when the lease is over, the grace too, and others run what was run under it
BEYOND_S = TTL_S + 2.5
#: between two illnesses of etcd
CONVALESCENCE_S = 6.0


@dataclass(slots=True)
class Fault:
    """kind    for the report;  node  the one that it was done to, "" if none
    at        boot time, just before
    lasts_s   after which `heal` is to be called
    later     what else is to be done before that: (seconds after its beginning, the deed)
    strikes   the processes of the node are dead, or soon will be: a failover is to follow
    disables  the node can take no tasks while it lasts"""

    kind: str
    node: str = ""
    at: int = 0
    lasts_s: float = 0.0
    heal: Heal | None = None
    note: str = ""
    strikes: bool = False
    disables: bool = False
    later: list[tuple[float, Heal]] = field(default_factory=list)

    @property
    def is_fatal(self) -> bool:
        """The node's supervisor is dead."""
        return self.kind == "node killed" or ("supervisor" in self.kind and "killed" in self.kind)


#: so much later a node sees what happens to it: well within the grace
SLOW_S = 0.6
#: so much later each answer comes, just within the patience of a renewal, and so long before the supervisor is stopped
ANSWER_S, LATE_FOR_S = 0.6, 4.0

#: so long after a lease was revoked its node is left alone, and the observer has seen it
REVOKED_S = 3.0
#: so long a node's claims are on the way: others claim after a second, and its own request is given up after two
HELD_S = 1.9


Kind = Callable[[Scene, random.Random], Fault | None]


def _healthy_host(scene: Scene, rng: random.Random) -> Host | None:
    """One whose processes and links nothing is being done to."""
    return _choose(scene, rng, [host for host in scene.hosts.values() if host.is_well and host.zygote() is not None])


def _choose(scene: Scene, rng: random.Random, hosts: list[Host]) -> Host | None:
    """One with tasks, the rather the more it has. None: there is none, or it would be the last one that is well."""
    if sum(host.is_well for host in scene.hosts.values()) < 2:
        return None
    tasks = [len(scene.observer.owned_by(host.name)) for host in hosts]
    return rng.choices(hosts, tasks if any(tasks) else None)[0] if hosts else None


def _length(rng: random.Random, longest_s: float, short: float) -> float:
    """A moment (short: how often), or long enough for other nodes to take over the tasks."""
    return rng.uniform(0.3, 3) if rng.random() < short else rng.uniform(min(BEYOND_S, longest_s), longest_s)


def _strike(kind: str, victims: Callable[[Host], list[int | None]]) -> Kind:
    """SIGKILL to processes of one node, and none of them can do anything about the death of another."""

    def strike(scene: Scene, rng: random.Random) -> Fault | None:
        host = _healthy_host(scene, rng)
        if host is None:
            return None
        assert host.node is not None
        pids = victims(host)
        host.busy = True
        lasts = rng.uniform(0.5, 3)
        fault = Fault(kind, host.name, boot_ns(), lasts, lambda: _free(host), strikes=True, disables=True)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                send(pid, number)
        return fault

    return strike


def _free(host: Host) -> None:
    host.busy = False


def _supervisor(host: Host) -> int | None:
    return host.node.pid if host.node is not None else None


def _freeze(
    kind: str, victim: Callable[[Host], int | None], longest_s: float, cut: bool = False, short: float = 0.3
) -> Kind:
    """SIGSTOP to a process of one node, and SIGCONT later. cut: its links to etcd are cut meanwhile."""

    def freeze(scene: Scene, rng: random.Random) -> Fault | None:
        host = _healthy_host(scene, rng)
        pid = None if host is None else victim(host)
        if host is None or pid is None:
            return None
        host.busy = True
        lasts = _length(rng, longest_s, short)

        def thaw() -> None:
            send(pid, signal.SIGCONT)
            if cut:
                _mend(host)
            host.busy = False

        note, strikes = f"{lasts:.1f} s", lasts > TTL_S
        fault = Fault(kind, host.name, boot_ns(), lasts, thaw, note, strikes=strikes, disables=True)
        send(pid, signal.SIGSTOP)
        if cut:
            for link in host.links:
                link.cut()
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


def _mend(host: Host) -> None:
    for link in host.links:
        link.mend()


def _cut(how: str, short: float = 0.3, part: float = 0.2) -> Kind:
    """All links of a node to etcd, or (part: how often) all but one."""

    def cut(scene: Scene, rng: random.Random) -> Fault | None:
        host = _healthy_host(scene, rng)
        if host is None:
            return None
        host.busy = True
        links = host.links if rng.random() >= part else rng.sample(host.links, len(host.links) - 1)
        lasts = _length(rng, 10, short)

        def mend() -> None:
            _mend(host)
            host.busy = False

        disables = len(links) == len(host.links) and how != "slow"
        fault = Fault(f"node {how}", host.name, boot_ns(), lasts, mend, f"{lasts:.1f} s, {len(links)} links")
        fault.disables, fault.strikes = disables, disables and lasts > TTL_S
        delay = rng.uniform(0.02, 0.3)
        for link in links:
            if how == "cut":
                link.cut()
            elif how == "slow":
                link.delay(delay)
            else:
                link.stall(*{"stalled": ("up", "down"), "stalled up": ("up",), "stalled down": ("down",)}[how])
        return fault

    return cut


def answer_late(scene: Scene, rng: random.Random) -> Fault | None:
    """Each answer of etcd takes its time; then the supervisor is stopped: only what it had said before counts."""
    host = _healthy_host(scene, rng)
    if host is None or host.node is None:
        return None
    host.busy, pid, lasts = True, host.node.pid, LATE_FOR_S + rng.uniform(TTL_S + 1, TTL_S + 3)
    for link in host.links:
        link.delay(ANSWER_S, "down")

    def heal() -> None:
        send(pid, signal.SIGCONT)
        _mend(host)
        host.busy = False

    fault = Fault("answers late, then stopped", host.name, boot_ns(), lasts, heal, f"{lasts:.1f} s", disables=True)
    fault.later.append((LATE_FOR_S, lambda: send(pid, signal.SIGSTOP)))
    return fault


def hold_claims(scene: Scene, rng: random.Random) -> Fault | None:
    """What a node sends stays on the way for a moment, and another's tasks are let go meanwhile: its claims arrive when
    others have claimed."""
    hosts = [host for host in scene.hosts.values() if host.is_well and host.zygote() is not None]
    if len(hosts) < 3:
        return None
    # who has the least is to claim what the one with the most lets go
    hosts.sort(key=lambda host: len(scene.observer.owned_by(host.name)))
    slow, drained = hosts[0], hosts[-1]
    slow.busy = drained.busy = True
    for link in slow.links:
        link.stall("up")

    def tell(verb: str) -> None:
        with suppress(MpforaError):
            scene.client.node_command(drained.name, verb)

    def mend() -> None:
        _mend(slow)
        tell("undrain")
        slow.busy = drained.busy = False

    fault = Fault("claims held back", slow.name, boot_ns(), HELD_S, mend, f"{drained.name} drained", disables=True)
    tell("drain")
    return fault


# -- etcd -------------------------------------------------------------------------------------------------------------


def _is_ill(scene: Scene) -> bool:
    """Whether a member of etcd is ill, or was a moment ago."""
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
            scene.observer.returns.append(boot_ns())
            if "stopped" in kind:
                scene.observer.thaws.append(scene.observer.returns[-1])
            ill.thaw()
        scene.etcd_is_ill, scene.etcd_well_since = False, time.monotonic()

    fault = Fault(kind, "", boot_ns(), rng.uniform(0.5, longest_s), heal)
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

    fault = Fault("etcd without quorum", "", boot_ns(), rng.uniform(0.5, 9), heal)
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


def _take_lease(kind: str, slow: bool) -> Kind:
    """Revoke a node's lease behind its back, as some versions of etcd do by themselves. Nothing is promised of a node
    that cannot see that. slow: it sees it late."""

    def take(scene: Scene, rng: random.Random) -> Fault | None:
        host = None if _is_ill(scene) else _healthy_host(scene, rng)
        if host is None:
            return None
        lease = _lease_of(scene, host)
        if lease is None:
            return None
        host.busy = True
        scene.observer.revoking.add(host.name)
        if slow:
            for link in host.links:
                link.delay(SLOW_S, "down")

        def heal() -> None:
            _mend(host)
            host.busy = False
            scene.observer.revoking.discard(host.name)

        fault = Fault(kind, host.name, boot_ns(), REVOKED_S, heal, strikes=True, disables=True)
        with suppress(AssertionError, OSError):
            scene.cluster.members[0].post("lease/revoke", {"ID": lease})
        return fault

    return take


def _lease_of(scene: Scene, host: Host) -> str | None:
    """As etcd's gateway writes it."""
    key = scene.layout.member(host.name).encode()
    with suppress(AssertionError, OSError, KeyError, ValueError, IndexError):
        lease: str = scene.cluster.members[0].post("kv/range", {"key": encoded(key)})["kvs"][0]["lease"]
        return lease
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


_ORPHANED = _strike("supervisor killed", lambda host: [_supervisor(host)])
#: the zygote first: it is continued by the death of its supervisor
_BOTH = _strike("supervisor and zygote killed", lambda host: [host.zygote(), _supervisor(host)])
_SLOWLY = _take_lease("lease revoked, node slow", slow=True)


def _stopped(short: float = 0.3) -> Kind:
    return _freeze("supervisor stopped", _supervisor, 10, short=short)


def _stopped_and_cut(short: float = 0.3) -> Kind:
    return _freeze("zygote stopped, node cut", Host.zygote, 10, cut=True, short=short)


#: kind -> how often it is drawn, beside the others
KINDS: dict[Kind, int] = {
    _ORPHANED: 5,
    _strike("zygote killed", lambda host: [host.zygote()]): 3,
    _BOTH: 3,
    _strike("node killed", _everything): 3,
    _stopped(): 5,
    _freeze("zygote stopped", Host.zygote, 9): 3,
    _stopped_and_cut(): 2,
    answer_late: 2,
    hold_claims: 2,
    kill_child: 3,
    stop_child: 2,
    **{_cut(how): 2 for how in ("cut", "stalled", "stalled up", "stalled down")},
    _cut("slow"): 1,
    _member("killed"): 2,
    _member("stopped"): 2,
    _member("cut off"): 2,
    _leader("killed"): 2,
    _leader("stopped"): 2,
    _leader("cut off"): 2,
    lose_quorum: 1,
    compact: 2,
    _take_lease("lease revoked", slow=False): 1,
    _SLOWLY: 2,
    command_node: 3,
    command_task: 4,
    burst: 2,
    delete: 1,
    join: 2,
}

#: what every run begins with, so that a short one has seen it: each safeguard is needed once. The kinds of a wave are
#: done at one time, to different nodes, of which one is left well; then so many seconds pass
OVERTURE: tuple[tuple[tuple[Kind, ...], float], ...] = (
    ((_stopped(short=0), _BOTH, _stopped_and_cut(short=0)), 12.0),
    ((_SLOWLY,), 4.0),
    ((hold_claims,), 4.0),
    ((answer_late, _cut("stalled up", short=0, part=0), _ORPHANED), 12.0),
)


def draw(scene: Scene, rng: random.Random) -> Fault | None:
    """Do one thing. None: nothing of what was drawn can be done now."""
    for _ in range(TRIES):
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if (fault := kind(scene, rng)) is not None:
            return fault
    return None
