"""What must hold once all faults are healed: questions to the fake kernel and the fake etcd."""

from __future__ import annotations

from mpfora.model.state import State
from mpfora.supervisor.tasks.waking import LATE_S

from .books import TaskBook
from .cluster import Cluster
from .kernel import DEADLY, Proc


def unsettled(cluster: Cluster) -> str:
    """The first thing that is not yet as it must be in the end; "" if all is."""
    books = cluster.checks.books
    for name, machine in cluster.machines.items():
        if machine.supervisor is None or name not in books.members:
            return f"node {name} is not a member"
    for key, node in books.node_commands.items():
        if node in cluster.machines:
            return f"command {key} is not answered"
    for book in books.tasks.values():
        if book.exists and not _is_held_up(cluster, book) and (why := _unsettled_task(cluster, book)):
            return f"task {book.id} {why}; it is {book}"
    return _stray_process(cluster)


def _is_held_up(cluster: Cluster, book: TaskBook) -> bool:
    """Whether a killed process of the task does not die: the task cannot go on before that process is gone."""
    return any(proc.undying and proc.leader_dead for proc in cluster.checks.live.get(book.id, ()))


def _unsettled_task(cluster: Cluster, book: TaskBook) -> str:
    if _is_deadly(cluster, book):
        return "takes its nodes down and has not failed"
    if book.owner is None and book.asleep_until is not None and not book.command:
        return "should have been woken" if _is_overdue(cluster, book.asleep_until) else ""
    if book.owner is None:
        able = [m.name for m in cluster.checks.books.members.values() if cluster.checks.books.can_take(m, book)]
        if not able and (could := cluster.checks.making_room.who_could(book)):
            return f"waits, though less urgent ones on {could} could make room"
        return f"is not claimed, though {able} could" if able else ""
    if book.command:
        return "has a command that is not answered"
    if book.evidence.last_command == "kill":
        return "was to be killed"
    if book.owner.node not in cluster.machines:
        return "is owned by nobody who lives"
    procs = [proc for proc in cluster.checks.live.get(book.id, ()) if _is_of(proc, book)]
    if book.resting:
        if book.state is None:
            return "has not gone to sleep"
        machine = cluster.machines[book.owner.node]
        is_due = book.state.state is State.SLEEPING and (book.state.until or 0.0) < machine.wall_s() - 1.0
        return "should have woken" if is_due else "rests, and has a process" if procs else ""
    if not procs:
        return "is owned and not run"
    return ""


def _is_overdue(cluster: Cluster, until: float) -> bool:
    """By the clock of every node that is there, and by the time that each of them has before the next one tries."""
    clocks = [machine.wall_s() for machine in cluster.machines.values() if machine.supervisor is not None]
    return until < min(clocks, default=0.0) - len(clocks) * LATE_S - 1.0


def _is_deadly(cluster: Cluster, book: TaskBook) -> bool:
    """Whether all of its runs are the end of their nodes. In the end it is not there any more."""
    plan = next(plan for plan in cluster.scenario.tasks if plan.id == book.id)
    return all(act.kind in DEADLY for act in plan.acts)


def _is_of(proc: Proc, book: TaskBook) -> bool:
    """Whether a process is that of the claim. One that has outlived its own claim has an older fence."""
    owner = book.owner
    if owner is None or proc.machine != owner.node:
        return False
    return proc.fence == owner.fence or (proc.outlives and proc.fence < owner.fence)


def _stray_process(cluster: Cluster) -> str:
    for procs in cluster.checks.live.values():
        for proc in procs:
            book = cluster.checks.books.task(proc.task)
            owner = book.owner
            if not (_is_of(proc, book) or (proc.undying and proc.leader_dead)):
                return f"{proc.task} runs on {proc.machine} with fence {proc.fence}, and its owner is {owner}"
    return ""


def lost_tasks(cluster: Cluster) -> list[str]:
    """Tasks that were submitted, and are neither there, nor ended, nor deleted by a client."""
    lost = []
    for plan in cluster.scenario.tasks:
        book = cluster.checks.books.task(plan.id)
        is_ended = book.state is not None and book.state.terminal
        if not (book.exists or is_ended or book.evidence.deleted) and plan.at < cluster.world.now:
            lost.append(f"{plan.id}: {book}")
    return lost


def is_still(cluster: Cluster) -> bool:
    """Whether nothing will change by itself: every process runs for ever, nobody sleeps."""
    live = [proc for procs in cluster.checks.live.values() for proc in procs]
    books = cluster.checks.books
    sleeps = any(book.exists and book.asleep_until is not None for book in books.tasks.values())
    return not sleeps and all(_is_endless(proc) for proc in live)


def _is_endless(proc: Proc) -> bool:
    return proc.act.kind == "forever" and proc.act.saves_s is None


def spread(cluster: Cluster) -> int | None:
    """The difference between the fullest node and the emptiest, where all are alike; None where they are not."""
    if not are_alike(cluster):
        return None
    counts = [cluster.checks.books.owned(node.name) for node in cluster.scenario.nodes]
    return max(counts) - min(counts)


def are_alike(cluster: Cluster) -> bool:
    """Whether every node is there, willing, and can do what any other can."""
    nodes, books = cluster.scenario.nodes, cluster.checks.books
    alike = len({(node.capacity, node.label, node.handlers) for node in nodes}) == 1
    alike = alike and not any(node.has for node in nodes)
    willing = all(not (member.frozen or member.draining) for member in books.members.values())
    return alike and willing and len(books.members) >= len(nodes)
