"""What is wrong with etcd. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mpfora.doctor.facts import ClusterFacts, EtcdFacts
from mpfora.doctor.findings import Finding, bad, fine, note
from mpfora.model.units import counted, format_size
from mpfora.store.etcd.members import GOOD_VERSION

#: of so many revisions nobody needs the history
MUCH_HISTORY = 1_000_000
#: a read through the leader that takes longer now and then is a slow disk or network
SLOW_S = 0.1
#: a lease must outlast an election: etcd's takes one to two seconds unless it is told otherwise
LEAST_TTL_S = 5.0


def etcd_checks(facts: ClusterFacts) -> Iterator[Finding]:
    etcd = facts.etcd
    yield _version(etcd)
    yield _members(etcd)
    yield _quota(etcd)
    yield _history(etcd)
    yield _latency(etcd, facts)
    yield _rights(etcd)
    yield from _leases(facts)


def _version(etcd: EtcdFacts) -> Finding:
    good = ".".join(map(str, GOOD_VERSION))
    try:
        version = tuple(int(part) for part in etcd.version.split("-")[0].split("."))
    except ValueError:
        return note("etcd version", f"etcd calls itself {etcd.version!r}", f"it should be {good} or newer")
    if version >= GOOD_VERSION:
        return fine("etcd version", f"etcd is {etcd.version}")
    found = f"etcd is {etcd.version}, older than {good}"
    if etcd.is_embedded:
        return note(
            "etcd version",
            f"the embedded {found}",
            "that will do for one machine; of several members older ones can revoke a live lease",
            "to run a newer one: --etcd-program PATH, when no node runs",
        )
    return bad(
        "etcd version",
        found,
        "older ones have bugs that can revoke a live lease or lose events of a watch",
        f"upgrade every member to {good} or newer, one after the other (etcdctl endpoint status shows them)",
    )


def _members(etcd: EtcdFacts) -> Finding:
    if not etcd.silent:
        all_of = "its endpoint answers" if etcd.endpoints == 1 else f"all {etcd.endpoints} endpoints answer"
        return fine("etcd members", all_of)
    return bad(
        "etcd members",
        f"{len(etcd.silent)} of {counted(etcd.endpoints, 'endpoint')} {'does' if len(etcd.silent) == 1 else 'do'} not"
        f" answer: {'; '.join(etcd.silent.values())}",
        "etcd goes on with more than half of its members only; without, nothing is claimed, and leases end",
        "start the member again, or replace it (etcdctl member list); or take the endpoint out of --etcd",
    )


def _quota(etcd: EtcdFacts) -> Finding:
    space, size = etcd.space, format_size(etcd.space.used)
    if etcd.has_no_space:
        return bad(
            "etcd quota",
            f"etcd's quota is used up (its database has {size})",
            "it refuses every write: nothing can be claimed, saved or submitted",
            "mpfora purge --older-than 1d; etcdctl compact REVISION; etcdctl defrag; etcdctl alarm disarm",
        )
    told = f"etcd's database has {size}, {space.part:.0%} of its quota of {format_size(space.quota)}"
    if not space.is_nearly_full:
        return fine("etcd quota", told if space.is_told else f"etcd's database has {size}")
    if space.is_told:
        return bad(
            "etcd quota",
            told,
            "nodes answer no questions (logs, stacks, profiles) while it is nearly full, and at 100% all writes stop",
            "mpfora purge --older-than 1d; etcdctl compact REVISION; etcdctl defrag; or raise --quota-backend-bytes",
        )
    return note(
        "etcd quota",
        f"etcd's database has {size}",
        f"unless --quota-backend-bytes says more it stops all writes at {format_size(space.quota)}, and nodes answer no"
        " questions (logs, stacks, profiles) now",
        "etcdctl compact and defrag; or raise --quota-backend-bytes, and tell mpfora by MPFORA_ETCD_QUOTA",
    )


def _history(etcd: EtcdFacts) -> Finding:
    if not etcd.kept:
        return fine("etcd history", "etcd compacts its history, or has little of it")
    return bad(
        "etcd history",
        f"etcd keeps the history of more than {etcd.kept:,} revisions",
        "claims, checkpoints and answers to people stay in its database until it is compacted: it grows to its quota,"
        " and then refuses every write",
        "start each member with --auto-compaction-mode=periodic --auto-compaction-retention=1h",
    )


def _latency(etcd: EtcdFacts, facts: ClusterFacts) -> Finding:
    times = sorted(etcd.latencies_s)
    if not times:
        return note("etcd latency", "how fast etcd answers was not measured", "nothing was asked")
    worst = times[min(len(times) - 1, int(0.99 * len(times)))]
    told = f"99 of 100 reads are answered within {worst * 1000:.0f} ms"
    if worst <= SLOW_S:
        return fine("etcd latency", told)
    return bad(
        "etcd latency",
        told,
        "each claim, checkpoint and end of a task waits for it several times, and a renewal that is late stops tasks",
        "etcdctl check perf; give etcd a disk of its own (SSD) and processors that nobody else uses",
    )


def _rights(etcd: EtcdFacts) -> Finding:
    if not etcd.writes:
        return fine("etcd rights", "this user may read and write the namespace")
    return bad(
        "etcd rights",
        "this user may not write the namespace",
        etcd.writes,
        "etcdctl role grant-permission ROLE readwrite --prefix /NAMESPACE/, for the user of these options",
    )


def _leases(facts: ClusterFacts) -> Iterator[Finding]:
    short = {}
    for name, machine in facts.machines.items():
        ttl_s = None if machine is None else machine.get("lease_ttl_s")
        if isinstance(ttl_s, int | float) and ttl_s < LEAST_TTL_S:
            short[name] = ttl_s
    if short:
        shown = ", ".join(f"{name} {ttl_s:g} s" for name, ttl_s in sorted(short.items()))
        yield bad(
            "lease",
            f"leases are short: {shown}",
            "an election of etcd takes one to two seconds, and tasks are asked to stop when a third of the lease is"
            " left: one election may stop them all",
            "start these nodes with --lease-ttl 15s (10 s at the least)",
        )
    elif facts.machines:
        yield fine("lease", "leases outlast an election of etcd")
