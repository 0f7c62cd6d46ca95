"""Preemption in whole clusters of cores: more urgent tasks come first, and nothing goes round and round."""

from __future__ import annotations

import pytest

from mpfora.cluster import changes as ch
from mpfora.model.needs import Needs, make_needs
from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import FairBalancer
from mpfora.testing.cluster import Cluster


def gpus(count: int, priority: int = 0) -> Wants:
    return Wants(needs=(("gpus", count),), priority=priority)


def plain(priority: int = 0) -> Wants:
    return Wants(priority=priority)


class Fleet(Cluster):
    def __init__(self, seed: int = 1) -> None:
        super().__init__(FairBalancer, seed=seed)

    def node(self, name: str, has: Needs = (("gpus", 2),), *, preempt: bool = True, max_tasks: int = 0) -> None:
        self.start(name, has=has, preempt=preempt, max_tasks=max_tasks)
        self.run(5)

    def finish(self, task_id: str) -> None:
        """Its run ends, and the task with it."""
        del self.owners[task_id], self.wants[task_id]
        self.commit(ch.OwnerGone(task_id, clean=True), ch.TaskGone(task_id), ch.WantsPut(task_id, Wants()))

    def runs(self) -> list[str]:
        return sorted(self.owners)


def test_the_least_urgent_leaves_for_a_more_urgent_task_and_comes_back_when_there_is_room() -> None:
    fleet = Fleet()
    fleet.node("a")
    fleet.submit({"low": gpus(1, -5), "plain": gpus(1)})
    fleet.run(15)
    fleet.submit({"urgent": gpus(1, 9)})
    fleet.run(15)
    assert fleet.runs() == ["plain", "urgent"]
    assert fleet.members["a"].reserves == ""
    fleet.node("b")
    fleet.run(15)
    assert fleet.runs() == ["low", "plain", "urgent"]


@pytest.mark.parametrize("priority", [0, -1])
def test_no_task_leaves_for_one_that_is_no_more_urgent(priority: int) -> None:
    fleet = Fleet()
    fleet.node("a", max_tasks=2)
    fleet.submit({"one": gpus(1), "two": gpus(1)})
    fleet.run(15)
    fleet.submit({"late": gpus(1, priority), "other": plain(priority)})
    fleet.run(120)
    assert fleet.runs() == ["one", "two"]


def test_without_the_option_nothing_leaves() -> None:
    fleet = Fleet()
    fleet.node("a", preempt=False, max_tasks=2)
    fleet.submit({"one": gpus(1), "two": gpus(1)})
    fleet.run(15)
    fleet.submit({"urgent": gpus(1, 100), "other": plain(100)})
    fleet.run(120)
    assert fleet.runs() == ["one", "two"]


def test_tasks_that_need_no_resources_make_room_as_well() -> None:
    fleet = Fleet()
    fleet.node("a", (), max_tasks=2)
    fleet.submit({"one": plain(-1), "two": plain(2)})
    fleet.run(15)
    fleet.submit({"urgent": plain(3)})
    fleet.run(15)
    assert fleet.runs() == ["two", "urgent"]


def test_no_more_leave_than_must_and_what_comes_free_is_not_taken_by_others() -> None:
    fleet = Fleet()
    fleet.node("a", (("cpus", 8000), ("gpus", 4)))
    fleet.submit({"g1": gpus(1, -5), "g2": gpus(2), "g3": gpus(1, 3), "c": Wants(needs=(("cpus", 8000),), priority=-9)})
    fleet.run(15)
    fleet.submit({"wide": gpus(3, 5), "small": gpus(1, 1)})
    fleet.run(20)
    assert fleet.runs() == ["c", "g3", "wide"], "g3 need not leave, and nothing of c is short"


def test_a_run_that_has_just_begun_is_left_alone() -> None:
    fleet = Fleet()
    fleet.node("a", (("gpus", 1),))
    fleet.submit({"young": gpus(1)})
    fleet.run(2)
    fleet.submit({"urgent": gpus(1, 1)})
    fleet.run(6)
    assert fleet.runs() == ["young"]
    fleet.run(15)
    assert fleet.runs() == ["urgent"]


def test_what_comes_free_is_kept_for_an_urgent_task_until_those_who_have_just_begun_may_be_asked() -> None:
    fleet = Fleet()
    fleet.node("a")
    fleet.submit({"young1": gpus(1), "young2": gpus(1)})
    fleet.run(2)
    fleet.submit({"small": gpus(1, 1), "urgent": gpus(2, 2)})
    fleet.run(6)
    assert (fleet.runs(), fleet.members["a"].reserves) == (["young1", "young2"], "urgent")
    fleet.finish("young1")
    fleet.run(1)
    assert fleet.runs() == ["young2"], "else it would go to the small one, which would be young then"
    fleet.run(6)
    assert fleet.runs() == ["urgent"]


def test_a_run_that_helps_only_when_another_has_ended_is_asked_then() -> None:
    fleet = Fleet()
    fleet.node("a")
    fleet.submit({"low": gpus(1), "equal": gpus(1, 1)})
    fleet.run(12)
    fleet.submit({"wide": gpus(2, 1)})
    fleet.run(40)
    assert (fleet.runs(), fleet.members["a"].reserves) == (["equal", "low"], "wide")
    fleet.finish("equal")
    fleet.run(5)
    assert fleet.runs() == ["wide"]


def test_a_reservation_lasts_until_the_runs_that_were_asked_have_left() -> None:
    fleet = Fleet()
    fleet.stop_s = 100.0
    fleet.start("a", has=(("gpus", 2),), preempt=True, stop_timeout_s=120.0)
    fleet.run(5)
    fleet.submit({"slow1": gpus(1), "slow2": gpus(1)})
    fleet.run(15)
    fleet.submit({"urgent": gpus(2, 1), "small": gpus(1, -1)})
    fleet.run(80)
    fleet.finish("slow1")
    fleet.run(10)
    assert fleet.runs() == ["slow2"]
    fleet.run(20)
    assert fleet.runs() == ["urgent"]


@pytest.mark.parametrize("task_id", ["urgent", "now"])
def test_a_node_whose_runs_are_old_comes_before_one_whose_runs_have_just_begun(task_id: str) -> None:
    """Whichever of them has the first turn: it follows from the name of the task."""
    fleet = Fleet()
    fleet.node("a", (("gpus", 1),))
    fleet.submit({"old": gpus(1, 1)})
    fleet.run(15)
    fleet.node("b", (("gpus", 1),))
    fleet.submit({"young": gpus(1)})
    fleet.run(2)
    fleet.submit({task_id: gpus(1, 2)})
    fleet.run(6)
    assert fleet.runs() == [task_id, "young"]


@pytest.mark.parametrize("wait_s", [1, 45, 100])
def test_what_waits_or_is_kept_in_vain_does_not_hold_up_an_urgent_task(wait_s: int) -> None:
    """Before, during and after the reservation for the other."""
    fleet = Fleet()
    fleet.node("a", (("cpus", 2000), ("gpus", 1)))
    fleet.submit({"endless": Wants(needs=(("cpus", 2000),), priority=9), "low": gpus(1, -2)})
    fleet.run(15)
    fleet.submit({"vain": Wants(needs=(("cpus", 2000),), priority=5)})
    fleet.run(wait_s)
    assert fleet.members["a"].reserves == ("vain" if wait_s == 45 else "")
    fleet.submit({"urgent": gpus(1)})
    fleet.run(15)
    assert fleet.runs() == ["endless", "urgent"]


def test_one_node_makes_room_for_a_task_and_not_two() -> None:
    fleet = Fleet()
    for name in "abc":
        fleet.node(name, (("gpus", 1),))
    fleet.submit({f"t{n}": gpus(1) for n in range(3)})
    fleet.run(20)
    fleet.submit({"urgent": gpus(1, 1)})
    fleet.run(60)
    assert len(fleet.runs()) == 3
    assert sum(task_id.startswith("t") for task_id in fleet.owners) == 2


@pytest.mark.parametrize("seed", range(8))
def test_a_cluster_whose_tasks_are_drawn_comes_to_rest_with_the_more_urgent_ones_running(seed: int) -> None:
    fleet = Fleet(seed)
    rng = fleet.rng
    for name in "abc":
        has = make_needs({"cpus": 1000 * rng.randrange(1, 5), "gpus": rng.randrange(4)}.items())
        fleet.node(name, has, max_tasks=rng.choice((0, 3)))
    for number in range(25):
        needs = (("gpus", rng.randrange(1, 4)),) if rng.random() < 0.6 else (("cpus", 500 * rng.randrange(1, 5)),)
        fleet.submit({f"t{number}": Wants(needs=needs, priority=rng.randrange(-2, 3))})
        fleet.run(rng.randrange(12))
    fleet.run(400)
    at_rest = dict(fleet.owners)
    fleet.run(400)
    assert dict(fleet.owners) == at_rest
    kept = {member.reserves for member in fleet.members.values()}
    for task_id, wants in fleet.wants.items():
        if task_id not in fleet.owners and not any(kept):  # what is kept for one task holds up less urgent ones
            same = [one for one in fleet.owners if fleet.wants[one].needs == wants.needs]
            assert all(fleet.wants[one].priority >= wants.priority for one in same), task_id
