"""How long what is kept of finished tasks stays, and how it goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from core_story import RESULT_42, Story
from etcd_server import EtcdServer
from node import Site, until

from mpfora.config.node_options import _kept_for
from mpfora.config.settings import SettingsError
from mpfora.model.history import Run
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Member
from mpfora.store.kv import Put, Txn
from mpfora.store.state_records import format_state
from mpfora.supervisor import actions as do
from mpfora.supervisor.coordinator.interface import ClaimRequest, Update, Won
from mpfora.supervisor.coordinator.memory import MemoryCoordinator
from mpfora.supervisor.node.reconciler import SWEEP_S

DONE = TaskState(State.COMPLETED, attempt=1, result=42)

# -- the node's decisions --------------------------------------------------------------------------


def finish_of(story: Story) -> do.Finish:
    story.hold()
    (step,) = story.exits(RESULT_42)
    assert isinstance(step, do.Finish)
    return step


def kept_until(step: do.Finish) -> float | None:
    assert step.update.state is not None
    return step.update.state.kept_until


def test_a_finished_task_is_kept_for_seven_days_or_as_told_or_for_ever() -> None:
    assert (until_ := kept_until(finish_of(story := Story()))) is not None
    assert until_ - story.wall_s == 7 * 86_400
    assert kept_until(finish_of(story := Story(keep_finished_s=60))) == story.wall_s + 60
    assert kept_until(finish_of(story := Story(keep_finished_s=60.9))) == story.wall_s + 60, "whole seconds"
    assert kept_until(finish_of(Story(keep_finished_s=None))) is None


@pytest.mark.parametrize("state", [TaskState(State.PAUSED), TaskState(State.KILLED)], ids=["killed", "found killed"])
def test_so_is_one_that_finishes_without_a_run(state: TaskState) -> None:
    story = Story()
    steps = story.hold(state=state) or story.task_command("t", Message.kill())
    assert [kept_until(step) for step in steps if isinstance(step, do.Finish)] == [story.wall_s + 7 * 86_400]


def test_one_that_was_finished_before_stays_as_long_as_was_said_then() -> None:
    story = Story(keep_finished_s=60)
    (step,) = story.hold(state=TaskState(State.COMPLETED, kept_until=story.wall_s + 7))
    assert isinstance(step, do.Finish)
    assert step.update.state is None


def test_each_node_looks_once_an_hour_and_not_all_at_once() -> None:
    times = []
    for name in ("n1", "n2"):
        story = Story(name=name)
        story.wait(3 * SWEEP_S)
        assert len(story.sweeps) == 3
        first, second, _ = (sweep.now for sweep in story.sweeps)
        assert second - first == pytest.approx(SWEEP_S, abs=1.0)
        times.append(first)
    assert times[0] != times[1]


def test_what_is_kept_for_a_short_time_is_looked_for_more_often() -> None:
    story = Story(keep_finished_s=8.0)
    story.wait(20)
    assert len(story.sweeps) in (9, 10)


def test_how_long_is_told_as_a_duration_or_forever() -> None:
    assert (_kept_for("2h"), _kept_for("forever"), _kept_for("0")) == (7200.0, None, 0.0)
    with pytest.raises(SettingsError, match=r"--keep-finished: 'long' is not a duration.*, or forever"):
        _kept_for("long")


# -- the store -------------------------------------------------------------------------------------


@pytest.fixture
async def node() -> AsyncGenerator[MemoryCoordinator, None]:
    node = MemoryCoordinator()
    await node.open(Member("n1"), 15.0)
    yield node
    await node.close()


def keys(node: MemoryCoordinator, task_id: str) -> list[str]:
    root = node.store.layout.root
    listing = node.store.kv.listing(root, root[:-1] + "0")
    return [kv.key.removeprefix(root) for kv in listing.kvs if kv.key.rpartition("/")[2] == task_id]


async def finish(
    node: MemoryCoordinator, task_id: str, kept_until: float | None = None, state: TaskState = DONE
) -> None:
    node.store.kv.run(Txn((), (Put(node.store.layout.task(task_id), ""),)))
    [won] = await node.claim([ClaimRequest(task_id)])
    assert isinstance(won, Won)
    assert await node.keep(won.claim, Update(checkpoint_json="1"))
    assert await node.done(won.claim, Update(replace(state, kept_until=kept_until), history=(Run("n1", 1),)))


async def test_what_is_kept_goes_when_its_time_is_over_and_not_before(node: MemoryCoordinator) -> None:
    await finish(node, "a", kept_until=1000.0)
    await finish(node, "b", kept_until=2000.0)
    await finish(node, "c")
    assert keys(node, "a") == ["finished/000000001000/a", "history/a", "state/a"]
    assert await node.sweep(999.0) == 0
    assert await node.sweep(1001.0) == 1
    assert keys(node, "a") == []
    assert keys(node, "b") == ["finished/000000002000/b", "history/b", "state/b"]
    assert keys(node, "c") == ["history/c", "state/c"]
    assert await node.sweep(1e9) == 1
    assert await node.sweep(1e9) == 0
    assert keys(node, "c") == ["history/c", "state/c"], "for ever"


async def test_many_go_in_one_sweep(node: MemoryCoordinator) -> None:
    for n in range(120):
        await finish(node, f"t{n}", kept_until=float(n))
    assert await node.sweep(1000.0) == 120


async def test_a_task_that_is_there_again_loses_nothing(node: MemoryCoordinator) -> None:
    await finish(node, "t", kept_until=1000.0)
    layout = node.store.layout
    node.store.kv.run(Txn((), (Put(layout.task("t"), ""), Put(layout.state("t"), format_state(TaskState(attempt=3))))))
    assert await node.sweep(2000.0) == 0
    assert keys(node, "t") == ["history/t", "state/t", "tasks/t"]


async def test_what_the_same_task_left_later_stays_for_its_own_time(node: MemoryCoordinator) -> None:
    await finish(node, "t", kept_until=1000.0)
    await finish(node, "t", kept_until=3000.0, state=TaskState(State.FAILED, attempt=2))
    assert await node.sweep(2000.0) == 0
    assert keys(node, "t") == ["finished/000000003000/t", "history/t", "state/t"]
    assert await node.sweep(4000.0) == 1
    assert keys(node, "t") == []


async def test_a_state_that_was_terminal_before_the_claim_goes_too(node: MemoryCoordinator) -> None:
    node.store.kv.run(Txn((), (Put(node.store.layout.state("t"), format_state(DONE)),)))
    await finish(node, "t", kept_until=1000.0)
    assert await node.sweep(2000.0) == 1
    assert keys(node, "t") == []


async def test_one_that_was_purged_meanwhile_leaves_nothing(node: MemoryCoordinator) -> None:
    await finish(node, "t", kept_until=1000.0)
    layout = node.store.layout
    node.store.kv.run(Txn((), tuple(_delete(key) for key in (layout.state("t"), layout.history("t")))))
    await node.sweep(2000.0)
    assert keys(node, "t") == []


def _delete(key: str) -> Any:
    from mpfora.store.kv import Delete

    return Delete(key)


# -- a real node -----------------------------------------------------------------------------------


def test_a_real_node_removes_what_was_kept_long_enough(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:result", keep_finished="2s")
        site.submit("t", value=1)
        assert site.client.wait("t", timeout=20).result == 1
        until(lambda: not [key for key in site.content() if key.endswith("/t")], lambda: str(site.content()))
        node.log.wait("removed what was kept of 1 finished tasks")
        assert node.stop() == 0
