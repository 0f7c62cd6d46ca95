"""What is wrong on the machines of nodes, by what these find there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mpfora.doctor.facts import ClusterFacts
from mpfora.doctor.findings import BAD, NOTE, Finding, fine
from mpfora.model.units import format_duration, format_size

#: so much longer than --stop-timeout a node takes to leave
AFTER_STOP_S = 2.0
#: what Kubernetes gives a pod where nobody says more
KUBERNETES_GRACE_S = 30.0
#: processes and threads of one task that has none of its own, and of a node beside its tasks
PIDS_PER_TASK, PIDS_OF_NODE = 8, 64
#: memory that a node needs beside its tasks
NODE_BYTES = 256 * 2**20
_LEAST_DISK = 0.05

Machine = Mapping[str, Any]


class Remark(NamedTuple):
    """A finding without the name of its check."""

    level: str
    what: str
    why: str
    mend: str


class Check(NamedTuple):
    """look: what is wrong on a node's machine, by its name;  all_fine: said where nothing is, anywhere"""

    name: str
    look: Callable[[str, Machine], Iterator[Remark]]
    all_fine: str


def machine_checks(facts: ClusterFacts) -> Iterator[Finding]:
    """Those of one kind together: one line says it of all nodes."""
    machines = [(name, machine) for name, machine in sorted(facts.machines.items()) if machine is not None]
    for check in CHECKS:
        found = [remark for name, machine in machines for remark in check.look(name, machine)]
        yield from (Finding(remark.level, check.name, remark.what, remark.why, remark.mend) for remark in found)
        if not found and any(machine for _, machine in machines):
            yield fine(check.name, check.all_fine)


def _grace(name: str, machine: Machine) -> Iterator[Remark]:
    needs_s = float(machine.get("stop_timeout_s") or 0.0) + AFTER_STOP_S
    grace_s = machine.get("grace_s")
    if grace_s is None and machine.get("in_kubernetes"):
        grace_s = KUBERNETES_GRACE_S
    if grace_s is None or grace_s >= needs_s or machine.get("is_notified"):
        return
    mend = (
        f"terminationGracePeriodSeconds: {needs_s:.0f} in the pod, and MPFORA_GRACE={needs_s:.0f} in its environment"
        if machine.get("in_kubernetes")
        else f"TimeoutStopSec={format_duration(needs_s)} in the unit of the service"
    )
    yield Remark(
        BAD,
        f"{name} needs {needs_s:g} s to stop, and is killed after {grace_s:g} s",
        "tasks are killed before they have saved, and begin again at their last checkpoint",
        mend,
    )


def _memory(name: str, machine: Machine) -> Iterator[Remark]:
    limit, per_task, tasks = machine.get("cgroup_memory"), machine.get("memory_limit"), machine.get("max_tasks")
    room = min(value for value in (limit, machine.get("memory"), 2**62) if isinstance(value, int))
    if not per_task or not tasks:
        if limit and not per_task:
            yield Remark(
                NOTE,
                f"{name} may use {format_size(limit)}, and its tasks have no limit of their own",
                "the kernel chooses which process dies when it is used up, and no record says whose fault it was",
                "start the node with --memory-limit",
            )
        return
    needs = int(per_task) * int(tasks) + NODE_BYTES
    if needs > room:
        most = max(1, (room - NODE_BYTES) // int(tasks))
        yield Remark(
            BAD,
            f"{name} may run {tasks} tasks of {format_size(per_task)}, and has {format_size(room)}",
            "the kernel kills what it likes before a task comes to its own limit",
            f"--memory-limit {most >> 20}MiB, or fewer --max-tasks",
        )


def _pids(name: str, machine: Machine) -> Iterator[Remark]:
    limit, tasks = machine.get("cgroup_pids"), machine.get("max_tasks") or 0
    needs = PIDS_OF_NODE + PIDS_PER_TASK * int(tasks)
    if limit is not None and limit < needs:
        yield Remark(
            BAD,
            f"{name} may have {limit} processes and threads, and runs up to {tasks} tasks",
            "forks and threads fail when the limit is reached",
            f"TasksMax={needs * 2} in the unit, or the pids limit of the container",
        )


def _stacks(name: str, machine: Machine) -> Iterator[Remark]:
    scope = machine.get("yama")
    if isinstance(scope, int) and scope >= 2:
        yield Remark(
            NOTE,
            f"{name}: ptrace is forbidden (kernel.yama.ptrace_scope is {scope})",
            "a task that holds the GIL in C code shows no lines of Python: mpfora stack says what the kernel tells",
            "sysctl kernel.yama.ptrace_scope=1",
        )
    elif not machine.get("has_py_spy"):
        yield Remark(
            NOTE,
            f"{name} has no py-spy",
            "a task that holds the GIL in C code shows no lines of Python",
            "pip install 'mpfora[profile]', where the node runs",
        )


def _threads(name: str, machine: Machine) -> Iterator[Remark]:
    numeric, cpus, tasks = machine.get("numeric") or [], machine.get("cpus") or 1, machine.get("max_tasks") or 0
    if not numeric or int(tasks) <= 1:
        return
    told = [int(text) for text in (machine.get("threads") or {}).values() if str(text).isdecimal()]
    each = min(told) if told else int(cpus)
    if each * int(tasks) > 2 * int(cpus):
        fitting = max(1, int(cpus) // int(tasks))
        yield Remark(
            BAD,
            f"{name}: {tasks} tasks with {each} threads each ({', '.join(numeric)}) share {cpus} processors",
            "they take turns at the processors, and all are slower than with one thread each",
            f"OMP_NUM_THREADS={fitting} in the node's environment",
        )


def _log_disk(name: str, machine: Machine) -> Iterator[Remark]:
    disk = machine.get("log_disk")
    if isinstance(disk, Mapping) and disk.get("total") and disk["free"] < _LEAST_DISK * disk["total"]:
        yield Remark(
            BAD,
            f"{name}: {format_size(disk['free'])} of {format_size(disk['total'])} are free where its logs are",
            "logs of tasks are cut when it is full",
            "make room there, or choose another --log-dir or a smaller --log-total",
        )


CHECKS = (
    Check("grace", _grace, "nodes have the time that they need to stop, as far as is known"),
    Check("memory", _memory, "the limits of tasks fit into the memory of their nodes"),
    Check("pids", _pids, "nodes may have the processes that their tasks need"),
    Check("stacks", _stacks, "the stack of every task can be had"),
    Check("threads", _threads, "tasks do not compete with threads of their libraries"),
    Check("log disk", _log_disk, "there is room for logs"),
)
