"""What a node claims and starts by what it has, and which of its GPUs and cores a run gets."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from core_story import HANDLER, LOST, RESULT_42, Story, claims

from mpfora.cluster.changes import OwnerGone, TaskGone, TaskPut, WantsPut
from mpfora.config.props import parse_wants
from mpfora.handlers import HandlerSettings
from mpfora.model.run_spec import Given
from mpfora.store.json_format import format_json
from mpfora.supervisor import actions as do
from mpfora.supervisor.tasks.allocations import Allocations

GPUS_4 = (("gpus", 4),)


def props(**needs: Any) -> str:
    return format_json({"needs": needs})


def submit(story: Story, task_id: str, text: str, *, created: int = 0) -> list[do.Action]:
    return story.put(TaskPut(task_id, created), WantsPut(task_id, parse_wants(text)))


def started(steps: list[do.Action]) -> list[Given | None]:
    return [step.spec.given for step in steps if isinstance(step, do.Fork)]


def begin(story: Story, task_id: str, text: str) -> Given | None:
    """Submit it, claim it, start it."""
    assert submit(story, task_id, text) == [claims(task_id)]
    (given,) = started(story.wins(task_id, props_json=text))
    return given


def finished(story: Story, task_id: str) -> list[do.Action]:
    """Its end is written, and the watch shows that."""
    return story.settled(task_id) + story.put(OwnerGone(task_id, clean=True), TaskGone(task_id))


def test_a_node_claims_what_it_has_room_for_and_the_rest_when_a_run_has_ended() -> None:
    story = Story(max_tasks=0, has=GPUS_4)
    first, second = begin(story, "a", props(gpus=3)), begin(story, "b", props(gpus=1))
    assert first is not None
    assert second is not None
    assert (first.amounts, second.amounts) == ({"gpus": [0, 1, 2]}, {"gpus": [3]})
    assert first.environment["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert second.environment["HIP_VISIBLE_DEVICES"] == "3"
    assert submit(story, "c", props(gpus=2)) == []
    assert submit(story, "d", "{}") == [claims("d")]
    story.exits(RESULT_42, "a")
    assert finished(story, "a") == [claims("c")]
    (third,) = started(story.wins("c", props_json=props(gpus=2)))
    assert third is not None
    assert third.amounts == {"gpus": [0, 1]}


def test_a_run_that_was_given_no_gpu_sees_none_where_there_are_some_and_all_where_nobody_counts() -> None:
    story = Story(has=GPUS_4)
    given = begin(story, "a", "{}")
    assert given is not None
    assert given == Given({}, {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}, [])
    plain = Story()
    plain.put(TaskPut("a"))
    assert started(plain.wins("a")) == [None]
    cores = Story(has=(("cpus", 2000),))
    cores.put(TaskPut("a"))
    assert started(cores.wins("a")) == [None]


def test_what_the_handler_declares_holds_where_props_say_nothing_and_props_are_in_its_place() -> None:
    story = Story(max_tasks=0, has=GPUS_4, handlers={HANDLER: HandlerSettings(needs=(("gpus", 2),))})
    assert story.record().needs == {HANDLER: (("gpus", 2),)}
    declared, own, none = begin(story, "a", "{}"), begin(story, "b", props(gpus=1)), begin(story, "c", props())
    assert [given and given.amounts for given in (declared, own, none)] == [{"gpus": [0, 1]}, {"gpus": [2]}, {}]
    assert submit(story, "d", "{}") == []


def test_a_task_that_needs_more_than_any_node_has_is_nobody_s() -> None:
    story = Story(max_tasks=0, has=GPUS_4)
    assert submit(story, "a", props(gpus=5)) == []
    assert submit(story, "b", props(licence=1)) == []
    assert submit(story, "c", '{"needs": {"gpus": "many"}}') == [claims("c")], "its run fails of that"


def test_a_gpu_is_free_again_when_the_tree_of_its_run_is_dead_and_not_when_its_claim_is_lost() -> None:
    story = Story(max_tasks=0, has=(("gpus", 1),))
    begin(story, "a", props(gpus=1))
    assert [type(step) for step in story.put(OwnerGone("a", clean=False))][:1] == [do.Kill]
    assert submit(story, "b", props(gpus=1)) == []
    assert story.wait(0.5) == []
    assert claims("a") in [*story.exits(LOST, "a"), *story.wait(2)], "the older one is the first"
    assert started(story.wins("a", props_json=props(gpus=1))) == [], "that its run was lost is written first"
    (given,) = started(story.settled("a"))
    assert given is not None
    assert given.amounts == {"gpus": [0]}


def test_cores_are_given_as_threads_and_memory_as_a_limit() -> None:
    story = Story(max_tasks=0, has=(("cpus", 4000), ("memory", 8 << 30)))
    text = props(cpus=2.5, memory="4GiB")
    submit(story, "a", text)
    (fork,) = [step for step in story.wins("a", props_json=text) if isinstance(step, do.Fork)]
    assert fork.spec.given is not None
    assert fork.spec.given.amounts == {"cpus": 2.5, "memory": 4 << 30}
    assert fork.spec.given.environment == dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2"
    )
    assert fork.spec.limits.memory_limit == 4 << 30
    assert submit(story, "b", props(cpus=2)) == []
    assert submit(story, "c", props(cpus=1.5)) == [claims("c")]


def test_claims_under_way_count() -> None:
    story = Story(max_tasks=0, has=GPUS_4)
    assert submit(story, "a", props(gpus=3)) == [claims("a")]
    assert submit(story, "b", props(gpus=2)) == []


def test_the_highest_priority_is_claimed_first_then_the_oldest() -> None:
    story = Story(max_tasks=1)
    story.put(TaskPut("running"))
    story.wins("running")
    for number, priority in enumerate([0, 5, -5, 5]):
        submit(story, f"t{number}", format_json({"priority": priority}), created=story.revision + 1)
    order = []
    current = "running"
    for _ in range(4):
        story.exits(RESULT_42, current)
        (claim,) = [step for step in finished(story, current) if isinstance(step, do.ClaimTasks)]
        (request,) = claim.claims
        current = request.task_id
        order.append(current)
        story.wins(current)
    assert order == ["t1", "t3", "t0", "t2"]


def test_no_unit_is_given_twice_whatever_comes_and_goes() -> None:
    rng = random.Random(5)
    book = Allocations((("cpus", 8000), ("gpus", 5)), cores=range(8))
    held: dict[int, Given] = {}
    for run in range(3000):
        needs = tuple(
            (name, amount) for name, amount in (("cpus", 1000 * rng.randrange(4)), ("gpus", rng.randrange(3))) if amount
        )
        if rng.random() < 0.5 and book.may_start(f"t{run}", needs):
            given = book.give(run, needs)
            assert given is not None
            held[run] = given
        elif held:
            gone = rng.choice(list(held))
            del held[gone]
            book.take_back(gone)
            book.take_back(gone)
        gpus = [gpu for given in held.values() for gpu in given.amounts.get("gpus", [])]
        cores = [core for given in held.values() for core in given.cores]
        assert len(gpus) == len(set(gpus))
        assert len(cores) == len(set(cores))
        assert sum(given.amounts.get("cpus", 0) for given in held.values()) <= 8


def test_names_of_gpus_are_those_of_the_environment() -> None:
    book = Allocations((("gpus", 2),), gpus=("GPU-a", "5"))
    given = book.give(1, (("gpus", 1),))
    assert given is not None
    assert given.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert given.amounts == {"gpus": [0]}


@pytest.mark.parametrize("needs", [(("cpus", 1500),), (("gpus", 1),)])
def test_what_has_no_whole_cores_is_not_pinned(needs: Any) -> None:
    given = Allocations((("cpus", 2000), ("gpus", 1)), cores=(3, 4)).give(1, needs)
    assert given is not None
    assert given.cores == []
