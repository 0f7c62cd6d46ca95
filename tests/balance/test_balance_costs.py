"""The balancer `cost`: what is measured, what others are told of it and when, and that hot tasks spread."""

from __future__ import annotations

import pytest

from mpfora.client.snapshot.balance_preview import deciding_alone, planned_moves, with_shares
from mpfora.client.snapshot.rows import node_rows
from mpfora.client.snapshot.snapshot import Snapshot, read_snapshot
from mpfora.cluster import changes as ch
from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.model.task import Claim, Cost, Member, NodeUsage, Wants
from mpfora.store.claim_records import format_owner
from mpfora.store.keys import Layout
from mpfora.store.kv import KV
from mpfora.store.node_records import format_member
from mpfora.store.usage_records import format_usage
from mpfora.supervisor.balance.balancer import CostBalancer, FairBalancer, NodeLoad, OwnTask, View
from mpfora.supervisor.balance.meter import MOST_TASKS, TELL_S, UsageMeter, summarize
from mpfora.supervisor.events import Sample
from mpfora.testing.balancing import compare
from mpfora.testing.cluster import Cluster

MIB = 1 << 20


def tasks(count: int, prefix: str = "t", wants: Wants | None = None) -> dict[str, Wants]:
    return {f"{prefix}{n}": wants or Wants() for n in range(count)}


# -- what is measured -------------------------------------------------------------------------------------------------


class Machine:
    """Tasks that use so many cores each, looked at by a meter."""

    def __init__(self, **cores: float) -> None:
        self.meter, self.now, self.cores = UsageMeter(), 100.0, cores
        self.used = dict.fromkeys(cores, 0.0)
        self.runs = dict.fromkeys(cores, 1)
        self.known: dict[str, Cost] = {}
        self.shown: NodeUsage | None = None

    def run(self, seconds: float) -> int:
        """So much time passes. How often others were told something."""
        told = 0
        end = self.now + seconds
        while self.now < end:
            self.now += 10.0
            for name, cores in self.cores.items():
                self.used[name] = self.used.get(name, 0.0) + 10 * cores
            samples = [Sample(n, self.runs.get(n, 1), self.used[n], 50 * MIB, self.now) for n in self.cores]
            self.meter.look(samples, self.known.get)
            if (usage := self.meter.summary(lambda task_id: "", self.shown, self.now)) is not None:
                self.shown, told = usage, told + 1
        return told


def test_a_task_is_measured_when_it_has_run_for_a_while_and_its_start_does_not_count() -> None:
    machine = Machine(hot=1.0)
    machine.used["hot"] = 500.0
    machine.run(10)
    assert machine.meter.cost("hot") is None
    machine.run(30)
    assert machine.meter.cost("hot") == Cost(1000, 50)


def test_what_is_measured_fades_over_minutes() -> None:
    machine = Machine(t=1.0)
    machine.run(600)
    machine.cores["t"] = 0.0
    machine.run(120)
    found = machine.meter.cost("t")
    assert found is not None
    assert 400 <= found.cpu <= 600, "half of it after the half life"
    machine.run(1200)
    assert machine.meter.cost("t") == Cost(0, 50)


def test_a_task_that_comes_from_elsewhere_brings_its_cost_along() -> None:
    machine = Machine(t=0.5)
    machine.known["t"] = Cost(2000, 10)
    machine.run(20)
    found = machine.meter.cost("t")
    assert found is not None
    assert 1800 <= found.cpu < 2000


def test_another_run_of_a_task_goes_on_from_what_it_cost() -> None:
    machine = Machine(t=1.0)
    machine.run(60)
    machine.runs["t"], machine.used["t"] = 2, 0.0
    machine.run(10)
    found = machine.meter.cost("t")
    assert found is not None
    assert found.cpu == 1000


def test_of_a_task_that_left_nothing_is_kept() -> None:
    machine = Machine(t=1.0, u=1.0)
    machine.run(60)
    del machine.cores["t"]
    machine.run(10)
    assert machine.meter.cost("t") is None


# -- what others are told ---------------------------------------------------------------------------------------------


def test_nothing_is_told_while_all_goes_on_as_it_did() -> None:
    machine = Machine(hot=1.0, cold=0.0)
    assert machine.run(90) >= 1
    assert machine.run(3600) == 0


def test_noise_is_not_told_and_a_change_is_once_or_twice() -> None:
    machine = Machine(**{f"t{n}": 0.5 for n in range(10)})
    machine.run(300)
    noisy = 0
    for step in range(60):
        machine.cores["t0"] = 0.5 + (0.1 if step % 2 else -0.1)
        noisy += machine.run(10)
    assert noisy == 0
    machine.cores["t0"] = 2.0
    assert 1 <= machine.run(3600) <= 12, "while it rises, and then no more"
    assert machine.shown is not None
    assert machine.shown.tasks["t0"].cpu == pytest.approx(2000, rel=0.2)


def test_however_much_changes_it_is_told_twice_a_minute_at_most() -> None:
    machine = Machine(t=1.0)
    machine.run(60)
    told = 0
    for step in range(60):
        machine.cores = {f"t{step}.{n}": 1.0 for n in range(step % 7)}
        told += machine.run(10)
    assert told <= 600 / TELL_S


def test_what_was_told_is_told_again_when_others_do_not_see_it() -> None:
    machine = Machine(t=1.0)
    machine.run(90)
    machine.shown = None
    assert machine.run(60) == 1


def test_a_summary_names_what_stands_out_and_is_bounded_however_many_tasks_there_are() -> None:
    costs = {f"t{n}": Cost(10, 20) for n in range(5000)} | {f"hot{n}": Cost(1000 + n, 20) for n in range(500)}
    usage = summarize(costs, lambda task_id: "")
    assert sorted(usage.tasks) == sorted(f"hot{n}" for n in range(500 - MOST_TASKS, 500)), "the dearest"
    count, mean = usage.others[""]
    assert count == 5500 - MOST_TASKS
    whole = sum(cost.cpu for cost in costs.values())
    assert count * mean.cpu + sum(cost.cpu for cost in usage.tasks.values()) == pytest.approx(whole, rel=0.02)


def test_tasks_alike_are_not_named_and_each_handler_has_its_mean() -> None:
    costs = {f"t{n}": Cost(1000, 100) for n in range(4)} | {f"w{n}": Cost(0, 10) for n in range(6)}
    usage = summarize(costs, lambda task_id: "train" if task_id.startswith("t") else "wait")
    assert usage == NodeUsage({}, {"train": (4, Cost(1000, 100)), "wait": (6, Cost(0, 10))})


# -- what tasks are taken to cost -------------------------------------------------------------------------------------


class Books:
    """What a node folds."""

    def __init__(self, *nodes: str) -> None:
        self.mirror = Mirror()
        self.books = Assignments(self.mirror)
        self.put(*(ch.MemberPut(Member(name, handlers=("work", "train"))) for name in nodes))

    def put(self, *changes: ch.Change) -> None:
        self.books.fold(self.mirror.absorb(ch.Changes(self.mirror.revision + 1, changes)))

    def own(self, node: str, *task_ids: str, handler: str = "work") -> None:
        for task_id in task_ids:
            self.put(ch.TaskPut(task_id), ch.WantsPut(task_id, Wants(handler)))
            self.put(ch.OwnerPut(task_id, node, self.mirror.revision + 1))


def test_a_hot_task_takes_its_cost_along_from_node_to_node() -> None:
    books = Books("a", "b")
    books.own("a", "hot", "t1")
    books.own("b", "t2", "t3")
    books.put(ch.UsagePut("a", NodeUsage({"hot": Cost(1000, 64)}, {"work": (1, Cost(0, 64))})))
    books.put(ch.UsagePut("b", NodeUsage({}, {"work": (2, Cost(0, 64))})))
    before = books.books.loads.points("a"), books.books.loads.points("b")
    assert before[0] > 5 * before[1]
    books.put(ch.OwnerGone("hot", clean=True, to="b"))
    books.put(ch.OwnerPut("hot", "b", 99))
    after = books.books.loads.points("a"), books.books.loads.points("b")
    assert sum(after) == sum(before)
    assert after[1] > 10 * after[0]
    books.put(ch.UsagePut("a", NodeUsage({}, {"work": (1, Cost(0, 64))})))
    assert books.books.loads.points("b") > 10 * books.books.loads.points("a"), (
        "who has it says what it costs, and nobody else"
    )
    books.put(ch.UsagePut("b", NodeUsage({}, {"work": (3, Cost(0, 64))})))
    assert books.books.loads.points("b") == 3 * books.books.loads.points("a")


def test_a_release_tells_what_its_task_costs() -> None:
    books = Books("a", "b")
    books.own("a", *(f"t{n}" for n in range(10)))
    books.put(ch.UsagePut("a", NodeUsage({}, {"work": (10, Cost(100, 64))})))
    even = books.books.loads.points("a")
    books.put(ch.OwnerGone("t0", clean=True, to="b", cost=Cost(200, 64)))
    assert books.books.loads.points("a") == even - even // 10
    assert books.books.loads.points("b") > even // 10


def test_a_task_that_nobody_measured_costs_what_the_others_of_its_handler_do() -> None:
    books = Books("a", "b", "c")
    books.own("a", "t1", "t2", handler="train")
    books.own("b", "w1", "w2")
    books.put(ch.UsagePut("a", NodeUsage({}, {"train": (2, Cost(1000, 64))})))
    books.put(ch.UsagePut("b", NodeUsage({}, {"work": (2, Cost(0, 64))})))
    books.own("c", "t3", handler="train")
    assert books.books.loads.points("c") == books.books.loads.points("a") // 2
    books.own("c", "w3")
    assert books.books.loads.points("c") == (books.books.loads.points("a") + books.books.loads.points("b")) // 2


def test_new_tasks_go_where_the_cost_is_least_and_a_burst_of_them_does_not_go_to_one_node() -> None:
    books = Books("a", "b")
    books.own("a", "hot")
    books.own("b", *(f"t{n}" for n in range(6)))
    books.put(ch.UsagePut("a", NodeUsage({"hot": Cost(1000, 64)}, {})))
    books.put(ch.UsagePut("b", NodeUsage({}, {"work": (6, Cost(0, 64))})))
    for n in range(3):
        books.put(ch.TaskPut(f"new{n}"), ch.WantsPut(f"new{n}", Wants("work")))
    assert {books.books.assignee[f"new{n}"] for n in range(3)} == {"b"}, "by their number they would all be a's"
    books.put(*(change for n in range(20) for change in (ch.TaskPut(f"x{n}"), ch.WantsPut(f"x{n}", Wants("work")))))
    given = [books.books.assignee[f"x{n}"] for n in range(20)]
    assert 5 <= given.count("a") <= 15


def test_without_measurements_all_is_counted_as_before() -> None:
    books = Books("a", "b")
    books.own("a", "t1", "t2")
    assert books.books.loads.points("a") == 2000
    assert books.books.groups()[0].points == {}
    view = View("a", {n: NodeLoad(n, t, None, 1.0, True) for n, t in (("a", 4), ("b", 0))}, mine=OWN)
    assert CostBalancer().choose_releases(view) == FairBalancer().choose_releases(view) != ()


OWN = tuple(OwnTask(f"t{n}", Wants(), float(n)) for n in range(4))


def test_a_task_that_is_gone_costs_nothing_and_a_reset_forgets_all() -> None:
    books = Books("a")
    books.own("a", "hot", "t")
    books.put(ch.UsagePut("a", NodeUsage({"hot": Cost(1000, 64)}, {"": (1, Cost(0, 64))})))
    books.put(ch.TaskGone("hot"))
    assert books.mirror.prices.costs == {}
    books.put(ch.UsageGone("a"))
    assert not books.mirror.prices.known
    books.books.fold(books.mirror.absorb(ch.Changes(99, (), reset=True)))
    assert books.books.loads.points("a") == 0


# -- seen from outside ------------------------------------------------------------------------------------------------


def snapshot(*usages: tuple[str, NodeUsage], balancers: tuple[str, str] = ("cost", "cost")) -> Snapshot:
    layout = Layout("ns")
    members = [
        Member(name, handlers=("work",), balancer=balancer) for name, balancer in zip("ab", balancers, strict=True)
    ]
    kvs = [KV(layout.member(member.name), format_member(member).encode(), 1, 1, 1, 1) for member in members]
    for number, task_id in enumerate(("hot1", "hot2", "t1", "t2"), 2):
        kvs.append(KV(layout.task(task_id), b"", 1, 1, 1, 0))
        kvs.append(KV(layout.owner(task_id), format_owner("a").encode(), number, number, 1, 1))
    kvs += [KV(layout.usage(node), format_usage(usage).encode(), 9, 9, 1, 1) for node, usage in usages]
    return read_snapshot(layout, kvs)


def test_a_dry_run_is_by_cost_where_nodes_say_what_tasks_cost() -> None:
    hot = NodeUsage({"hot1": Cost(1000, 50), "hot2": Cost(1000, 50)}, {"": (2, Cost(0, 50))})
    seen = snapshot(("a", hot), ("b", NodeUsage()))
    (move,) = planned_moves(seen)
    assert (move.source, move.target, move.count) == ("a", "b", 1)
    assert move.task in ("hot1", "hot2")
    assert "what a has costs 4.0; what b has costs 0.0" in move.why
    rows = with_shares(node_rows(seen), seen)
    assert [(node.name, node.cost, node.cost_share, node.share) for node in rows] == [
        ("a", 4.0, 2.0, None),
        ("b", 0.0, 2.0, None),
    ]


@pytest.mark.parametrize("usages", [(), (("a", NodeUsage()), ("b", NodeUsage()))])
def test_before_anything_is_measured_cost_is_fair(usages: tuple[tuple[str, NodeUsage], ...]) -> None:
    seen = snapshot(*usages)
    (move,) = planned_moves(seen)
    assert (move.source, move.target, move.count, move.task) == ("a", "b", 2, None)
    assert [(node.share, node.cost) for node in with_shares(node_rows(seen), seen)] == [(2, None), (2, None)]


def test_what_would_move_is_told_by_the_balancer_of_the_node_that_would_give_it() -> None:
    hot = ("a", NodeUsage({"hot1": Cost(1000, 50), "hot2": Cost(1000, 50)}, {"": (2, Cost(0, 50))}))
    fair = snapshot(hot, balancers=("fair", "cost"))
    assert [(move.count, move.task) for move in planned_moves(fair)] == [(2, None)]
    assert [node.share for node in with_shares(node_rows(fair), fair)] == [2, None]
    assert planned_moves(snapshot(hot, balancers=("mine:ByData", "cost"))) == []
    assert deciding_alone(node_rows(snapshot(balancers=("mine:ByData", "cost"))))[0].name == "a"


def test_a_dry_run_is_what_nodes_then_do() -> None:
    cluster = skewed()
    moved: list[tuple[str, str | None]] = []
    release = cluster.release

    def noted(claim: Claim, to: str | None, cost: Cost | None, *, for_balance: bool) -> bool:
        if for_balance:
            moved.append((claim.task_id, to))
        return release(claim, to, cost, for_balance=for_balance)

    cluster.release = noted  # type: ignore[method-assign]
    hot = {task_id for task_id, cpu in cluster.cpu.items() if cpu == 1.0}
    while not hot <= told(cluster):
        cluster.run(0.2)
        assert not moved
    would = {(move.task, move.target) for move in planned_moves(seen_from_outside(cluster))}
    cluster.run(60)
    assert set(moved) == would
    assert len(would) == 5


def told(cluster: Cluster) -> set[str]:
    return {task_id for usage in cluster.usages.values() for task_id in usage.tasks}


def seen_from_outside(cluster: Cluster) -> Snapshot:
    layout, kvs = Layout("ns"), []
    for member in cluster.members.values():
        kvs.append(KV(layout.member(member.name), format_member(member).encode(), 1, 1, 1, 1))
    for task_id, (node, fence) in cluster.owners.items():
        kvs.append(KV(layout.task(task_id), b"", 1, 1, 1, 0))
        kvs.append(KV(layout.owner(task_id), format_owner(node).encode(), fence, fence, 1, 1))
    kvs += [KV(layout.usage(node), format_usage(usage).encode(), 9, 9, 1, 1) for node, usage in cluster.usages.items()]
    return read_snapshot(layout, kvs)


# -- in a played cluster ----------------------------------------------------------------------------------------------


def skewed(seed: int = 1) -> Cluster:
    """Six nodes with fifty tasks each, of which six hot ones are all on one node."""
    cluster = Cluster(CostBalancer, seed=seed)
    for n in range(6):
        cluster.start(f"n{n}")
    cluster.run(5)
    cluster.submit(tasks(300))
    cluster.run(10)
    mine = sorted(task_id for task_id, (node, _) in cluster.owners.items() if node == "n0")
    cluster.cpu = dict.fromkeys(cluster.wants, 0.001) | dict.fromkeys(mine[:6], 1.0)
    return cluster


@pytest.mark.parametrize("seed", range(3))
def test_hot_tasks_spread_by_few_moves_and_then_there_is_rest(seed: int) -> None:
    cluster = skewed(seed)
    assert cluster.unevenness() > 4
    cluster.run(180)
    assert cluster.unevenness() < 1.2
    assert cluster.moves == 5, "each but one of the six"
    cluster.run(900)
    assert cluster.moves == 5
    assert cluster.attempts == cluster.claims == 305


def test_costs_that_waver_move_nothing_and_costs_that_change_move_little() -> None:
    cluster = skewed()
    cluster.run(300)
    moves = cluster.moves
    names = list(cluster.cpu)
    for _ in range(20):
        for task_id in names:
            cluster.cpu[task_id] *= cluster.rng.uniform(0.9, 1.1)
        cluster.run(60)
    drifted = cluster.moves - moves
    assert drifted <= 0.01 * len(names) * 20, "under 1 % of the tasks an epoch"


def test_no_task_goes_to_and_fro_within_its_rest() -> None:
    cluster = skewed()
    moved: dict[str, float] = {}
    release = cluster.release

    def noted(claim, to, cost, *, for_balance):  # type: ignore[no-untyped-def]
        if for_balance:
            assert cluster.now - moved.get(claim.task_id, -1e9) >= CostBalancer.cooldown_s
            moved[claim.task_id] = cluster.now
        return release(claim, to, cost, for_balance=for_balance)

    cluster.release = noted  # type: ignore[method-assign]
    hot = [task_id for task_id, cpu in cluster.cpu.items() if cpu == 1.0]
    for step in range(8):
        for n, task_id in enumerate(hot):
            cluster.cpu[task_id] = 2.0 if (step + n) % 2 else 0.1
        cluster.run(120)
    assert moved


def test_a_node_that_joins_gets_hot_tasks_and_a_dead_one_s_spread_again() -> None:
    cluster = skewed()
    cluster.run(300)
    cluster.start("new")
    cluster.run(120)
    hot = {task_id for task_id, cpu in cluster.cpu.items() if cpu == 1.0}
    at = [node for task_id, (node, _) in cluster.owners.items() if task_id in hot]
    assert max(at.count(node) for node in at) == 1
    cluster.crash("n3")
    cluster.run(300)
    assert len(cluster.owners) == 300
    at = [node for task_id, (node, _) in cluster.owners.items() if task_id in hot]
    assert max(at.count(node) for node in at) == 1


def test_labels_and_rooms_hold_with_costs() -> None:
    cluster = Cluster(CostBalancer, cpu={f"g{n}": 1.0 for n in range(6)} | {"t0": 1.0, "t1": 1.0})
    for name in ("gpu0", "gpu1"):
        cluster.start(name, labels={"gpu": "yes"}, max_tasks=8)
    for name in ("plain0", "plain1"):
        cluster.start(name, max_tasks=20)
    cluster.run(5)
    cluster.submit(tasks(6, "g", Wants(labels={"gpu": "yes"})) | tasks(20))
    cluster.run(600)
    assert len(cluster.owners) == 26
    at = {task_id: node for task_id, (node, _) in cluster.owners.items()}
    assert {node for task_id, node in at.items() if task_id.startswith("g")} == {"gpu0", "gpu1"}
    assert {at["t0"], at["t1"]} == {"plain0", "plain1"}
    assert all(count <= 8 for name, count in cluster.owned().items() if name.startswith("gpu"))


def test_what_fair_and_cost_make_of_a_few_hot_tasks() -> None:
    cpu = {f"t{n}": 1.0 if n % 4 == 0 and n < 32 else 0.01 for n in range(60)}
    table = compare(CostBalancer, nodes=4, tasks=60, cpu=cpu)
    found = {(row.balancer, row.event): row for row in table}
    assert {row.event for row in table} >= {"minutes pass"}
    assert found["FairBalancer", "minutes pass"].cpu > 1.5
    assert found["CostBalancer", "minutes pass"].cpu < 1.2
    assert all(row.unclaimed == 0 for row in table)
