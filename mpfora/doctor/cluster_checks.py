"""What is wrong between nodes, tasks and keys. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mpfora.client.mirror.pending_by_reason import Waiting
from mpfora.cluster.clocks import differing, format_differing
from mpfora.doctor.facts import ClusterFacts
from mpfora.doctor.findings import Finding, bad, fine, note
from mpfora.model.code import ReloadState
from mpfora.model.units import counted

_SHOWN = 5


def cluster_checks(facts: ClusterFacts) -> Iterator[Finding]:
    yield from _nodes(facts)
    yield from _versions(facts)
    yield from _clocks(facts)
    yield from _waiting(facts)
    yield _unreadable(facts)
    if facts.unleased:
        yield _unleased(facts.unleased)


def _nodes(facts: ClusterFacts) -> Iterator[Finding]:
    if not facts.nodes:
        yield bad(
            "nodes",
            "no node is live in this namespace",
            "nothing runs",
            "python -m mpfora.supervisor HANDLER, with the same --etcd and --namespace",
        )
        return
    for node in facts.nodes:
        if node.trouble is not None:
            yield bad(
                "nodes", f"{node.name} {node.trouble.why}", "it takes no tasks", f"mpfora node {node.name}, and its log"
            )
    yield from _reloads(facts)
    left = [node.name for node in facts.nodes if node.frozen or node.draining]
    if left:
        verbs = "unfreeze or undrain"
        yield note("nodes", f"frozen or draining: {listed(left)}", "these take no tasks", f"mpfora node NAME {verbs}")
    silent = [name for name, machine in facts.machines.items() if machine is None]
    if silent:
        yield bad(
            "nodes",
            f"these do not answer questions: {listed(silent)}",
            "a node that hangs, or is of an older version, cannot be looked into",
            "look at its log (SIGUSR2 writes where its loop is), or upgrade it",
        )
    if not (silent or any(node.trouble for node in facts.nodes)):
        yield fine("nodes", f"{len(facts.nodes)} live: {listed([node.name for node in facts.nodes])}")


def _reloads(facts: ClusterFacts) -> Iterator[Finding]:
    """Nodes that go on with older code than was meant."""
    for node in facts.nodes:
        code = node.code
        if code is not None and code.reload is not None and code.reload.state is ReloadState.FAILED:
            yield bad(
                "code",
                f"{node.name} could not be reloaded: {code.reload.error}",
                "it goes on with its former code; if its zygote dies, it can start no task any more",
                f"mpfora node {node.name} shows the traceback; mend the code, then mpfora node {node.name} reload",
            )
    kept = [f"{node.name} ({node.code.text})" for node in facts.nodes if node.code is not None and node.code.former]
    if kept:
        yield note(
            "former code",
            f"runs of former code go on: {listed(kept)}",
            "each former zygote keeps the memory of its imports",
            "they end by themselves; mpfora node NAME reload --within 5m has them go on in the newest code",
        )


def _versions(facts: ClusterFacts) -> Iterator[Finding]:
    for what, is_whole in (("version", True), ("python", False)):
        found: dict[str, list[str]] = {}
        for name, machine in sorted(facts.machines.items()):
            if machine is not None:
                text = str(machine.get(what))
                found.setdefault(text if is_whole else ".".join(text.split(".")[:2]), []).append(name)
        if len(found) > 1:
            shown = "; ".join(f"{version} on {listed(names)}" for version, names in sorted(found.items()))
            yield bad(
                f"{'mpfora' if is_whole else 'Python'} versions",
                f"nodes differ: {shown}",
                "a task that moves goes on under another version; what only new nodes know old ones ignore",
                "upgrade the older ones, then mpfora restart --rolling; or node by node: drain it, then restart it",
            )
        elif found:
            yield fine(f"{'mpfora' if is_whole else 'Python'} versions", f"all nodes have {next(iter(found))}")


def _clocks(facts: ClusterFacts) -> Iterator[Finding]:
    if off := differing(facts.ahead_s):
        yield bad(
            "clocks",
            f"clocks differ from this machine's: {format_differing(off)}",
            "what is kept of finished tasks goes too early or too late, and times in lists are wrong",
            "timedatectl set-ntp true, on the machines whose clocks are wrong",
        )
    elif facts.ahead_s:
        yield fine("clocks", f"this machine's clock agrees with {counted(len(facts.ahead_s), 'node')}")


_MENDS = {
    "no_handler": "start a node with this handler, or submit the tasks under another name",
    "no_resource": "start a node with --has, or submit the tasks with less in their needs",
    "no_label": "start a node with --label, or submit the tasks without these labels",
    "no_node": "python -m mpfora.supervisor HANDLER, with the same --etcd and --namespace",
}

#: where nodes have several handlers, and the tasks name none
_NAME_ONE = "mpfora delete them, and submit them again with --handler"


def _waiting(facts: ClusterFacts) -> Iterator[Finding]:
    stuck = [one for one in facts.waiting if one.kind in _MENDS]
    for one in stuck[:_SHOWN]:
        yield bad(
            "tasks",
            f"{counted(one.count, 'task')} cannot run anywhere{_named(one)}",
            one.reason,
            _MENDS[one.kind] if one.handler or one.kind != "no_handler" else _NAME_ONE,
        )
    if len(stuck) > _SHOWN:
        more = sum(one.count for one in stuck[_SHOWN:])
        yield bad(
            "tasks",
            f"{more:,} more cannot run, for {len(stuck) - _SHOWN} other reasons",
            "",
            "mpfora tasks state:pending",
        )
    if not stuck:
        yield fine("tasks", "there is a node for every pending task")


def _named(one: Waiting) -> str:
    """The first of these tasks, as the end of a line."""
    more = ", ..." if one.count > len(one.ids) else ""
    return f": {', '.join(one.ids)}{more}" if one.ids else ""


def _unreadable(facts: ClusterFacts) -> Finding:
    if not facts.unreadable:
        return fine("keys", "every key can be read")
    first = next(iter(sorted(facts.unreadable)))
    others = f", and {len(facts.unreadable) - 1:,} more" if len(facts.unreadable) > 1 else ""
    return bad(
        "keys",
        f"keys cannot be read: {first}{others}",
        f"{facts.unreadable[first]}; a task of which the state cannot be read is held, and not run",
        f"etcdctl get {first}, mend it and put it again; or mpfora delete the task",
    )


def _unleased(keys: Sequence[str]) -> Finding:
    """No program of ours writes such; a copy of an etcd's keys, or a person's put, does."""
    first, others = min(keys), f", and {len(keys) - 1:,} more" if len(keys) > 1 else ""
    return bad(
        "claims",
        f"keys hang on no lease and never end by themselves: {first}{others}",
        "nobody claims a task that has an owner, and no node joins under a name that is taken",
        f"etcdctl del {first}, if no node runs that task or has that name",
    )


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
