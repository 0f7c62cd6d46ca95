"""Resources in whole clusters of cores: nobody gets more than it has, moves stay few, and nobody starves."""

from __future__ import annotations

from typing import Any

import pytest

from mpfora.cluster import changes as ch
from mpfora.model.needs import Needs, make_needs
from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import CostBalancer, FairBalancer
from mpfora.testing.cluster import Cluster


def gpus(count: int, priority: int = 0) -> Wants:
    return Wants(needs=(("gpus", count),), priority=priority)


class Fleet(Cluster):
    """A cluster whose tasks end, and which is looked at all the time."""

    def __init__(self, make: Any = FairBalancer, seed: int = 1) -> None:
        super().__init__(make, seed=seed)
        self.ran: dict[str, float] = {}

    def nodes_with(self, **has: Needs) -> None:
        for name, amounts in has.items():
            self.start(name, has=amounts)
        self.run(5)

    def finish(self, task_id: str, *, is_owned: bool = True) -> None:
        """Its run ends, and the task with it; or it is deleted before it has one."""
        gone = [ch.OwnerGone(task_id, clean=True)] if is_owned else []
        del self.wants[task_id]
        if is_owned:
            del self.owners[task_id]
        self.changed_at = self.now
        self.commit(*gone, ch.TaskGone(task_id), ch.WantsPut(task_id, Wants()))

    def check(self) -> None:
        for name, node in self.nodes.items():
            used: dict[str, int] = {}
            for task_id, (owner, _) in self.owners.items():
                for resource, amount in (self.wants[task_id].needs or ()) if owner == name else ():
                    used[resource] = used.get(resource, 0) + amount
            has = dict(node.settings.has)
            assert all(amount <= has.get(resource, 0) for resource, amount in used.items()), (name, used, has)
        for task_id in self.owners:
            self.ran.setdefault(task_id, self.now)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.run(1)
            self.check()

    def flow(self, seconds: int, lasts_s: int, at_once: int) -> None:
        """Small tasks come as fast as others end: `at_once` of them wait or run at any time, each runs `lasts_s`."""
        for _ in range(seconds):
            for task_id in [t for t in self.owners if t.startswith("small") and self.now - self.ran[t] >= lasts_s]:
                self.finish(task_id)
            missing = at_once - sum(task_id.startswith("small") for task_id in self.wants)
            self.submit({f"small{self.now:.0f}-{n}": gpus(1) for n in range(missing)})
            self.pass_time(1)


def test_tasks_are_spread_by_what_nodes_have_and_a_node_that_joins_gets_its_share() -> None:
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 4),), b=(("gpus", 2),), c=())
    fleet.submit({f"t{n}": gpus(1) for n in range(6)} | {f"plain{n}": Wants() for n in range(6)})
    fleet.pass_time(30)
    assert len(fleet.owners) == 12
    assert fleet.owned() == {"a": 4, "b": 4, "c": 4}
    moves = fleet.moves
    fleet.start("d", has=(("gpus", 4),))
    fleet.settle()
    fleet.check()
    assert fleet.owned() == {"a": 3, "b": 3, "c": 3, "d": 3}
    assert fleet.moves - moves == 3


@pytest.mark.parametrize("make", [FairBalancer, CostBalancer])
def test_a_cluster_comes_to_rest_where_counts_could_only_be_even_beyond_what_nodes_have(make: Any) -> None:
    fleet = Fleet(make)
    fleet.nodes_with(a=(("gpus", 8),), b=(("gpus", 1),))
    fleet.submit({f"t{n}": gpus(1) for n in range(9)})
    fleet.pass_time(60)
    assert fleet.owned() == {"a": 8, "b": 1}
    assert fleet.moves == 0


def test_a_large_task_does_not_starve_beside_small_ones_that_keep_coming() -> None:
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 2),), b=(("gpus", 2),))
    fleet.flow(20, lasts_s=7, at_once=8)
    fleet.submit({"large": gpus(2)})
    fleet.flow(90, lasts_s=7, at_once=8)
    assert "large" in fleet.ran, "the reservation of one node has brought it there"


def test_it_waits_longer_than_any_run_lasts_and_then_no_more() -> None:
    """Runs last longer than the first reservation: a later one is long enough."""
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 3),), b=(("gpus", 3),))
    fleet.flow(5, lasts_s=150, at_once=8)
    fleet.submit({"large": gpus(3)})
    fleet.flow(1500, lasts_s=150, at_once=8)
    assert "large" in fleet.ran


def test_small_tasks_are_not_kept_out_for_ever_where_runs_do_not_end() -> None:
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 4),))
    fleet.submit({"endless": gpus(1)})
    fleet.pass_time(3)
    fleet.submit({"large": gpus(4)})
    fleet.pass_time(40)
    assert fleet.members["a"].reserves == "large"
    fleet.submit({"small1": gpus(1)})
    fleet.pass_time(10)
    assert "small1" not in fleet.ran
    fleet.pass_time(90)
    assert "small1" in fleet.ran


def test_one_reservation_per_node_the_first_in_the_order_of_claims_first() -> None:
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 2),), b=(("gpus", 2),))
    fleet.submit({f"small{n}": gpus(1) for n in range(4)})
    fleet.pass_time(5)
    fleet.submit({"old": gpus(2), "urgent": gpus(2, priority=9)})
    fleet.pass_time(45)
    assert sorted(member.reserves for member in fleet.members.values()) == ["", "urgent"], "they are of one kind"
    fleet.submit({"other": Wants("work", needs=(("gpus", 2),))})
    fleet.pass_time(45)
    assert sorted(member.reserves for member in fleet.members.values()) == ["other", "urgent"]
    for n in range(4):
        fleet.finish(f"small{n}")
    fleet.pass_time(10)
    assert {"urgent", "other"} <= fleet.owners.keys()
    assert "old" not in fleet.owners
    assert [member.reserves for member in fleet.members.values()] == ["", ""]


def test_a_task_keeps_its_wait_while_more_urgent_ones_of_its_kind_come_and_go() -> None:
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 2),))
    fleet.submit({"small1": gpus(1), "small2": gpus(1)})
    fleet.pass_time(5)
    fleet.submit({"large": gpus(2)})
    fleet.pass_time(25)
    fleet.submit({"urgent": gpus(2, priority=9)})
    fleet.pass_time(3)
    assert fleet.members["a"].reserves == ""
    fleet.finish("urgent", is_owned=False)
    fleet.pass_time(4)
    assert fleet.members["a"].reserves == "large", "it has waited for 30 seconds, of which 3 behind another"


def test_what_was_kept_in_vain_is_not_kept_again_at_once_when_a_more_urgent_task_has_come_and_gone() -> None:
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 2),))
    fleet.submit({"endless": gpus(1)})
    fleet.pass_time(5)
    fleet.submit({"large": gpus(2)})
    fleet.pass_time(100)
    assert fleet.members["a"].reserves == "", "it has been kept for a minute"
    fleet.submit({"urgent": gpus(2, priority=9)})
    fleet.pass_time(3)
    fleet.finish("urgent", is_owned=False)
    fleet.pass_time(10)
    assert fleet.members["a"].reserves == ""


def test_all_start_in_the_order_of_priorities_then_of_age() -> None:
    fleet = Fleet()
    fleet.nodes_with(a=(("gpus", 1),))
    fleet.submit({"first": gpus(1)})
    fleet.pass_time(3)
    fleet.submit({"low": gpus(1, -3), "plain": gpus(1), "high": gpus(1, 50), "plain2": gpus(1)})
    fleet.pass_time(3)
    for task_id in ("first", "high", "plain", "plain2"):
        fleet.finish(task_id)
        fleet.pass_time(5)
    order = sorted(fleet.ran, key=lambda task_id: fleet.ran[task_id])
    assert order == ["first", "high", "plain", "plain2", "low"]


@pytest.mark.parametrize("seed", range(6))
def test_what_comes_and_goes_at_random_never_takes_more_than_there_is(seed: int) -> None:
    fleet = Fleet(seed=seed)
    rng = fleet.rng
    for n in range(4):
        fleet.start(f"n{n}", has=make_needs({"gpus": rng.randrange(5), "cpus": 1000 * rng.randrange(9)}.items()))
    fleet.run(5)
    for step in range(60):
        drawn = {"gpus": rng.randrange(4), "cpus": 500 * rng.randrange(4)}
        wants = Wants(needs=make_needs(drawn.items()) if rng.random() < 0.8 else None, priority=rng.randrange(-2, 3))
        fleet.submit({f"t{step}": wants})
        if fleet.owners and rng.random() < 0.4:
            fleet.finish(rng.choice(sorted(fleet.owners)))
        if step == 20:
            fleet.crash("n1")
        if step == 40:
            fleet.start("n9", has=(("cpus", 6000), ("gpus", 3)))
        fleet.pass_time(rng.randrange(4))
    fleet.settle()
    moves = fleet.moves
    fleet.pass_time(30)
    assert fleet.moves == moves
