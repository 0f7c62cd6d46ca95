"""Claims: of any number of nodes one wins, and the winner gets what the run needs."""

from __future__ import annotations

import asyncio

from mpfora.cluster.changes import (
    OwnerPut,
    TaskGone,
    TaskPut,
)
from mpfora.model.history import Run
from mpfora.model.state import State, TaskError, TaskState
from mpfora.supervisor.coordinator.interface import (
    ClaimRequest,
    Coordinator,
    Lost,
    Outdated,
    Update,
    Won,
)
from mpfora.testing.conformance.case import Case
from mpfora.testing.conformance.rig import Rig
from mpfora.testing.conformance.watcher import Watcher


class Claiming(Case):
    async def test_a_claim_brings_what_the_run_needs(self, rig: Rig) -> None:
        state = TaskState(
            State.RUNNABLE, errors=(TaskError(1_700_000_000.25, "boom", "raised", "stack"),), attempt=2, started=5.0
        )
        async with self.node(rig) as (node, watcher):
            await rig.submit("t", {"below": 10})
            [first] = await node.claim([ClaimRequest("t")])
            assert isinstance(first, Won)
            assert (first.state, first.checkpoint_json, first.state_problem) == (None, None, None)
            await watcher.sees(OwnerPut("t", "n1", first.claim.fence))
            assert await node.release(first.claim, Update(state=state, checkpoint_json='{"next":3}'))
            [second] = await node.claim([ClaimRequest("t")])
            assert isinstance(second, Won)
            assert second.props_json.replace(" ", "") == '{"below":10}'
            assert (second.state, second.checkpoint_json) == (state, '{"next":3}')
            assert (first.was_claimed, second.was_claimed) == (False, True)
            await rig.delete_task("t")
            await rig.submit("t", {})
            [anew] = await node.claim([ClaimRequest("t")])
            assert isinstance(anew, Won)
            assert not anew.was_claimed, "what is there was saved by a task of a former life"
            assert second.claim.fence > first.claim.fence

    async def test_the_history_is_written_with_the_state_and_comes_with_the_claim(self, rig: Rig) -> None:
        runs = (Run("n1", 1, 5, 10.0, 11.5, "raised", "boom", 0.25, 4096), Run("n1", 2, cause="node_lost"))
        async with self.node(rig) as (node, _):
            await rig.submit("t", {})
            [first] = await node.claim([ClaimRequest("t")])
            assert isinstance(first, Won)
            assert (first.history, first.lost_run) == ((), None)
            assert await node.keep(first.claim, Update(state=TaskState(attempt=1), history=runs[:1]))
            assert await node.release(first.claim, Update(state=TaskState(attempt=2), history=runs))
            [second] = await node.claim([ClaimRequest("t")])
            assert isinstance(second, Won)
            assert (second.history, second.lost_run) == (runs, None)

    async def test_each_claim_is_won_or_lost_by_itself_and_in_order(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher), self.node(rig, "n2") as (other, _):
            await rig.submit("free", {})
            theirs = await self.claimed(rig, other, "taken")
            ours = await self.claimed(rig, node, "ours")
            answers = await node.claim(
                [ClaimRequest("taken"), ClaimRequest("free", "n2"), ClaimRequest("missing"), ClaimRequest("ours")]
            )
            assert answers[0] == Lost("taken")
            assert isinstance(answers[1], Won)
            assert answers[2] == Lost("missing")
            assert isinstance(answers[3], Won)
            assert answers[3].claim == ours
            await watcher.sees(
                OwnerPut("taken", "n2", theirs.fence), OwnerPut("free", "n1", answers[1].claim.fence, missed="n2")
            )

    async def test_a_claim_is_of_the_task_that_the_node_knows_and_not_of_a_later_one_of_its_id(self, rig: Rig) -> None:
        """A coordinator that tells no TaskPut.created claims whichever task there is."""
        async with self.node(rig) as (node, watcher):
            await rig.submit("t", {"of": "the former"})
            former = (await self.put(watcher, "t", 0)).created
            await rig.delete_task("t")
            await watcher.sees(TaskGone("t"))
            await rig.submit("t", {"of": "the present"})
            present = (await self.put(watcher, "t", former)).created
            if former:
                assert await node.claim([ClaimRequest("t", created=former)]) == [Outdated("t")]
            [won] = await node.claim([ClaimRequest("t", created=present)])
            assert isinstance(won, Won)
            assert ("present" in won.props_json, won.created) == (True, present)
            [again] = await node.claim([ClaimRequest("t", created=former)])
            assert isinstance(again, Won), "a claim that is this node's already is found, whatever was asked for"
            assert (again.claim, again.created) == (won.claim, present)
            await rig.delete_task("t")
            assert await node.claim([ClaimRequest("t", created=present)]) == [Lost("t")]

    async def put(self, watcher: Watcher, task_id: str, after: int) -> TaskPut:
        """The TaskPut of a task that was created later than `after`, or the last one where none says when it was."""

        def newest() -> TaskPut | None:
            puts = [put for put in watcher.changes if isinstance(put, TaskPut) and put.task_id == task_id]
            return puts[-1] if puts and (puts[-1].created > after or not puts[-1].created) else None

        found: TaskPut = await watcher.until(newest)
        return found

    async def test_a_claim_leaves_a_trace_that_outlives_its_node(self, rig: Rig) -> None:
        """A node that starts later knows of a run that nobody saw, and that wrote nothing. The trace is no checkpoint,
        and goes with the task."""
        async with self.node(rig, "n1") as (node, _), self.node(rig, "n2") as (other, _):
            await rig.submit("t", {})
            [first] = await node.claim([ClaimRequest("t")])
            [again] = await node.claim([ClaimRequest("t")])
            assert isinstance(first, Won)
            assert isinstance(again, Won)
            assert (first.was_claimed, again.was_claimed) == (False, False), "it is the same claim"
            await rig.expire("n1")
            [second] = await other.claim([ClaimRequest("t")])
            assert isinstance(second, Won)
            assert (second.was_claimed, second.checkpoint_json, second.state) == (True, None, None)
            assert await other.keep(second.claim, Update(checkpoint_json="[1]"))
            assert await rig.checkpoint("t") == "[1]"
            assert await other.release(second.claim, Update())
            [third] = await other.claim([ClaimRequest("t")])
            assert isinstance(third, Won)
            assert (third.was_claimed, third.checkpoint_json) == (True, "[1]")
            assert await other.done(third.claim, Update(state=TaskState(State.COMPLETED)))
            assert await rig.checkpoint("t") is None

    async def test_of_two_nodes_one_wins_each_task(self, rig: Rig) -> None:
        names = [f"t{index:03}" for index in range(200)]
        async with self.node(rig, "n1") as (one, watcher), self.node(rig, "n2") as (two, _):
            for name in names:
                await rig.submit(name, {})

            async def grab(node: Coordinator, order: list[str]) -> dict[str, int]:
                won: dict[str, int] = {}
                for first in range(0, len(order), 60):
                    answers = await node.claim([ClaimRequest(name) for name in order[first : first + 60]])
                    assert all(isinstance(answer, Won | Lost) for answer in answers)
                    won |= {each.claim.task_id: each.claim.fence for each in answers if isinstance(each, Won)}
                return won

            ones, twos = await asyncio.gather(grab(one, names), grab(two, names[::-1]))
            assert not set(ones) & set(twos)
            assert set(ones) | set(twos) == set(names)
            await watcher.sees(*(OwnerPut(name, "n1", fence) for name, fence in ones.items()))
            await watcher.sees(*(OwnerPut(name, "n2", fence) for name, fence in twos.items()))
