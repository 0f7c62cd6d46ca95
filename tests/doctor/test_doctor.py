"""The doctor: each check finds its own trouble, names what mends it, and is silent where all is well."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import Site, until

from mpfora import AsyncClient
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.mirror.pending_by_reason import Waiting
from mpfora.config.settings import Settings
from mpfora.doctor.examine import examine
from mpfora.doctor.facts import ClusterFacts, EtcdFacts
from mpfora.doctor.findings import BAD, FINE, NOTE, Finding
from mpfora.doctor.gather import gather
from mpfora.model.code import Code, Reload, ReloadState
from mpfora.model.task import Trouble
from mpfora.store.kv import Space
from mpfora.supervisor.machine_facts import machine_facts, parse_systemd_span

GIB = 2**30
NODE = NodeInfo("n1", "h", 7, 0, 4, False, False, {}, "2026-11-28T10:00:00Z", ("train",))
MACHINE: dict[str, Any] = {
    "version": "1.0", "python": "3.11.7", "cpus": 8, "memory": 16 * GIB, "max_tasks": 4, "memory_limit": 2 * GIB,
    "stop_timeout_s": 10.0, "lease_ttl_s": 15.0, "cgroup_memory": None, "cgroup_pids": None, "yama": None,
    "has_py_spy": True, "threads": {}, "numeric": [], "grace_s": None, "is_notified": False, "in_kubernetes": False,
    "log_disk": None,
}  # fmt: skip
ETCD = EtcdFacts("3.5.23", Space(5_000_000, 2 * GIB, False), False, [0.002] * 30)
WELL = ClusterFacts(ETCD, [NODE], {"n1": MACHINE}, {"n1": 0.1})


def machine(**fields: Any) -> ClusterFacts:
    return replace(WELL, machines={"n1": {**MACHINE, **fields}})


def etcd(**fields: Any) -> ClusterFacts:
    return replace(WELL, etcd=replace(ETCD, **fields))


def troubles(facts: ClusterFacts) -> list[Finding]:
    return [finding for finding in examine(facts) if finding.level != FINE]


def test_where_all_is_well_every_check_says_so() -> None:
    assert troubles(WELL) == []
    checks = [finding.check for finding in examine(WELL)]
    assert len(checks) == len(set(checks)) == 19


def test_of_an_empty_cluster_little_is_said() -> None:
    (finding,) = troubles(ClusterFacts(ETCD))
    assert (finding.level, finding.check) == (BAD, "nodes")


@pytest.mark.parametrize(
    ("facts", "level", "check", "what", "mend"),
    [
        (etcd(version="3.5.1"), BAD, "etcd version", "3.5.1, older than 3.5.23", "upgrade"),
        (etcd(version="3.5.1", is_embedded=True), NOTE, "etcd version", "embedded etcd is 3.5.1", "--etcd-program"),
        (etcd(endpoints=3, silent={"a:1": "etcd at a:1 does not answer"}), BAD, "etcd members",
         "1 of 3 endpoints does not answer: etcd at a:1 does not answer", "start the member again"),
        (etcd(version="unknown"), NOTE, "etcd version", "'unknown'", ""),
        (etcd(has_no_space=True), BAD, "etcd quota", "used up", "alarm disarm"),
        (etcd(space=Space(int(1.9 * GIB), 2 * GIB, False)), NOTE, "etcd quota", "1.9 GiB", "--quota-backend-bytes"),
        (etcd(space=Space(int(7 * GIB), 8 * GIB)), BAD, "etcd quota", "88% of its quota of 8.0 GiB", "compact"),
        (etcd(kept=1_000_000), BAD, "etcd history", "more than 1,000,000 revisions", "--auto-compaction-retention"),
        (etcd(latencies_s=[0.001] * 29 + [0.5]), BAD, "etcd latency", "within 500 ms", "etcdctl check perf"),
        (etcd(latencies_s=[]), NOTE, "etcd latency", "not measured", ""),
        (etcd(writes="user x may not"), BAD, "etcd rights", "may not write", "grant-permission"),
        (machine(lease_ttl_s=3.0), BAD, "lease", "n1 3 s", "--lease-ttl"),
        (replace(WELL, nodes=[]), BAD, "nodes", "no node is live", "python -m mpfora.supervisor"),
        (replace(WELL, nodes=[replace(NODE, trouble=Trouble("cannot start processes"))]), BAD, "nodes",
         "n1 cannot start processes", "mpfora node n1"),
        (replace(WELL, nodes=[replace(NODE, code=Code(2, (), Reload(ReloadState.FAILED, error="no x")))]), BAD, "code",
         "n1 could not be reloaded: no x", "mpfora node n1 reload"),
        (replace(WELL, nodes=[replace(NODE, code=Code(3, (1, 2)))]), NOTE, "former code", "n1 (3 (1, 2))", "--within"),
        (replace(WELL, nodes=[replace(NODE, frozen=True)]), NOTE, "nodes", "frozen or draining: n1", "unfreeze"),
        (replace(WELL, machines={"n1": None}), BAD, "nodes", "do not answer questions: n1", "log"),
        (replace(WELL, machines={"n1": MACHINE, "n2": {**MACHINE, "version": "0.9"}}), BAD, "mpfora versions",
         "0.9 on n2; 1.0 on n1", "drain"),
        (replace(WELL, machines={"n1": MACHINE, "n2": {**MACHINE, "python": "3.13.1"}}), BAD, "Python versions",
         "3.11 on n1; 3.13 on n2", "upgrade"),
        (replace(WELL, ahead_s={"n1": 3600.0}), BAD, "clocks", "n1 is 1h00m ahead", "timedatectl"),
        (replace(WELL, waiting=[Waiting("no_handler", "no live node has its handler 'x'", "x", 3, 1.0)]), BAD, "tasks",
         "3 tasks cannot run anywhere", "start a node with this handler"),
        (replace(WELL, waiting=[Waiting("no_handler", "it names no handler", "", 4, 1.0, ("t1", "t2", "t3"))]), BAD,
         "tasks", "4 tasks cannot run anywhere: t1, t2, t3, ...", "submit them again with --handler"),
        (replace(WELL, waiting=[Waiting("no_label", "no live node has its labels", "x", 1, 1.0)]), BAD, "tasks",
         "1 task cannot", "--label"),
        (replace(WELL, waiting=[Waiting("no_label", "no live node has it", "x", 1, 1.0, ("t1",))]), BAD, "tasks",
         "1 task cannot run anywhere: t1", "--label"),
        (replace(WELL, unreadable={"/ns/state/t1": "state is not JSON", "/ns/state/t2": "x"}), BAD, "keys",
         "/ns/state/t1, and 1 more", "etcdctl get /ns/state/t1"),
        (replace(WELL, unleased=["/ns/tasks/t2/owner", "/ns/tasks/t1/owner"]), BAD, "claims",
         "on no lease and never end by themselves: /ns/tasks/t1/owner, and 1 more", "etcdctl del /ns/tasks/t1/owner"),
        (machine(stop_timeout_s=60.0, grace_s=30.0), BAD, "grace", "needs 62 s to stop, and is killed after 30 s",
         "TimeoutStopSec=62s"),
        (machine(stop_timeout_s=60.0, in_kubernetes=True), BAD, "grace", "killed after 30 s",
         "terminationGracePeriodSeconds: 62"),
        (machine(cgroup_memory=4 * GIB), BAD, "memory", "4 tasks of 2.0 GiB, and has 4.0 GiB", "--memory-limit 960MiB"),
        (machine(memory=4 * GIB), BAD, "memory", "has 4.0 GiB", "--max-tasks"),
        (machine(cgroup_memory=4 * GIB, memory_limit=None), NOTE, "memory", "no limit of their own", "--memory-limit"),
        (machine(cgroup_pids=50), BAD, "pids", "may have 50", "TasksMax=192"),
        (machine(yama=2), NOTE, "stacks", "ptrace_scope is 2", "sysctl"),
        (machine(has_py_spy=False), NOTE, "stacks", "no py-spy", "mpfora[profile]"),
        (machine(numeric=["openblas"], max_tasks=8, memory_limit=GIB), BAD, "threads", "8 tasks with 8 threads each",
         "OMP_NUM_THREADS=1"),
        (machine(log_disk={"total": 100 * GIB, "free": GIB}), BAD, "log disk", "1.0 GiB of 100.0 GiB", "--log-total"),
    ],
)  # fmt: skip
def test_a_check_finds(facts: ClusterFacts, level: str, check: str, what: str, mend: str) -> None:
    found = troubles(facts)
    (finding,) = [one for one in found if one.check == check]
    assert [one.check for one in found if one.level == BAD] == ([check] if level == BAD else [])
    assert finding.level == level
    assert what in finding.what
    assert mend in finding.mend
    assert finding.why
    assert finding.mend or level == NOTE
    json.dumps(finding.to_json())


@pytest.mark.parametrize(
    "facts",
    [
        etcd(version="3.6.0-rc.1"),
        etcd(has_no_space=None),
        machine(stop_timeout_s=60.0, grace_s=30.0, is_notified=True),  # the node asks its service manager for more time
        machine(stop_timeout_s=60.0, in_kubernetes=True, grace_s=62.0),
        machine(stop_timeout_s=60.0),  # nobody says how long
        machine(numeric=["openblas"], threads={"OMP_NUM_THREADS": "1"}),
        machine(numeric=["openblas"], max_tasks=1),
        machine(max_tasks=0, memory_limit=None),
        machine(yama=1),
        machine(log_disk={"total": 0, "free": 0}),
        replace(WELL, ahead_s={"n1": 30.0}),
        replace(WELL, waiting=[Waiting("full", "no node has room", "train", 900, 1.0)]),
    ],
)
def test_no_check_finds_what_is_none(facts: ClusterFacts) -> None:
    assert troubles(facts) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("1min 30s", 90.0), ("90s", 90.0), ("500ms", 0.5), ("infinity", float("inf")), ("2h", 7200.0)]
)
def test_spans_of_systemd(text: str, seconds: float) -> None:
    assert parse_systemd_span(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs"])
def test_what_is_no_span_of_systemd(text: str) -> None:
    with pytest.raises(ValueError, match="span"):
        parse_systemd_span(text)


def test_a_machine_tells_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPFORA_GRACE", "45s")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    facts = machine_facts(Settings(name="n1", max_tasks=3))
    assert json.loads(json.dumps(facts)) == facts
    assert facts.keys() == MACHINE.keys()
    assert (facts["grace_s"], facts["max_tasks"], facts["threads"]["OMP_NUM_THREADS"]) == (45.0, 3, "2")
    assert facts["cpus"] >= 1


async def test_a_real_cluster_is_examined(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        site.start("sleep=zoo:sleep", lease_ttl=3)
        site.submit("t1", "nobody-has-it")
        site.put(site.layout.state("t2"), "{")
        copied = [site.layout.owner("t3"), site.layout.member("ghost")]
        for key in copied:
            site.put(key, '{"node":"ghost"}')
        async with AsyncClient(etcd.endpoint, namespace) as client:
            until(lambda: site.get(site.layout.member("n1")), "the node to be there")
            facts = await gather(client)
        found = {finding.check: finding for finding in examine(facts)}
        assert found["lease"].level == BAD
        assert found["tasks"].level == BAD
        assert found["keys"].what == f"keys cannot be read: {site.layout.state('t2')}"
        assert sorted(facts.unleased) == sorted(copied)
        assert found["claims"].level == BAD
        assert found["clocks"].level == FINE
        assert found["etcd rights"].level == FINE
        assert facts.machines["n1"] is not None
        assert facts.etcd.has_no_space is False
        assert len(facts.etcd.latencies_s) > 10


async def test_a_history_that_is_never_compacted_is_found(
    own_etcd: EtcdServer, namespace: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("mpfora.doctor.gather.MUCH_HISTORY", 20)
    async with AsyncClient(own_etcd.endpoint, namespace) as client:
        for number in range(30):
            await client._etcd.put("/elsewhere", str(number))
        assert (await gather(client)).etcd.kept == 20
        revision = (await client._etcd.status()).revision
        own_etcd.compact(revision - 5)
        assert (await gather(client)).etcd.kept == 0


async def test_a_member_that_is_down_is_found_though_another_answers(etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient([etcd.endpoint, "127.0.0.1:1"], namespace) as client:
        found = (await gather(client)).etcd
    assert found.endpoints == 2
    assert list(found.silent) == ["127.0.0.1:1"]
    assert "127.0.0.1:1" in found.silent["127.0.0.1:1"]
