"""Commands, and what nodes tell of their tasks."""

from __future__ import annotations

import pytest

from mpfora.cluster.changes import (
    NodeCommandPut,
    OwnerGone,
    ReaderGone,
    ReaderPut,
    TaskCommandGone,
    TaskCommandPut,
    UsageGone,
    UsagePut,
)
from mpfora.model.state import Message, TaskState
from mpfora.model.task import Cost, NodeUsage
from mpfora.supervisor.coordinator.interface import (
    Coordinator,
    Update,
)
from mpfora.testing.conformance.case import Case
from mpfora.testing.conformance.rig import Rig


class Telling(Case):
    async def test_a_task_command_is_taken_at_its_revision_only(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            first = await rig.command("t", Message.pause())
            second = await rig.command("t", Message.run())
            await watcher.sees(TaskCommandPut("t", Message.pause(), first), TaskCommandPut("t", Message.run(), second))
            assert await node.keep(claim, Update(command_revision=first))
            await node.take_task_command("t", first)
            assert TaskCommandGone("t") not in watcher.changes
            assert await node.keep(claim, Update(state=TaskState(), command_revision=second))
            await watcher.sees(TaskCommandGone("t"))
            await node.take_task_command("t", second)
            third = await rig.command("t", Message.kill())
            await node.take_task_command("t", third)
            await watcher.until(lambda: watcher.changes.count(TaskCommandGone("t")) == 2)

    async def test_release_takes_a_command_too(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            revision = await rig.command("t", Message.release())
            assert await node.release(claim, Update(command_revision=revision))
            await watcher.sees(TaskCommandGone("t"), OwnerGone("t", clean=True))

    async def test_node_commands_come_in_order_and_are_deleted(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher):
            ids = [await rig.node_command("n1", verb) for verb in ("freeze", "drain", "unfreeze")]
            ids.append(await rig.node_command("n2", "stop_task", {"task": "t"}))

            def seen() -> list[NodeCommandPut]:
                return [change for change in watcher.changes if isinstance(change, NodeCommandPut)]

            await watcher.until(lambda: len(seen()) == 4)
            assert [(command.node, command.key_id, command.verb) for command in seen()] == [
                ("n1", ids[0], "freeze"),
                ("n1", ids[1], "drain"),
                ("n1", ids[2], "unfreeze"),
                ("n2", ids[3], "stop_task"),
            ]
            assert seen()[3].parameters == {"task": "t"}
            assert [command.revision for command in seen()] == sorted(command.revision for command in seen())
            await node.take_node_command("n1", ids[0])
            await node.take_node_command("n1", ids[0])
            async with self.node(rig, "n3") as (_, late):
                left = [change.key_id for change in late.changes if isinstance(change, NodeCommandPut)]
                assert left == ids[1:]

    async def test_progress_is_published_for_readers(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher):
            await rig.want_progress("r1", True)
            await watcher.sees(ReaderPut("r1"))
            await node.publish_progress({"t": {"progress": 0.5, "note": "half"}})
            assert await rig.progress("n1") == {"t": {"progress": 0.5, "note": "half"}}
            await rig.want_progress("r1", False)
            await watcher.sees(ReaderGone("r1"))
        assert await rig.progress("n1") == {}

    async def test_what_tasks_cost_is_seen_by_every_node_and_goes_with_the_lease(self, rig: Rig) -> None:
        usage = NodeUsage({"t": Cost(900, 12)}, {"": (3, Cost(10, 5))})
        async with self.node(rig, "n1") as (node, _), self.node(rig, "n2") as (_, other):
            if type(node).publish_usage is Coordinator.publish_usage:
                pytest.skip("this store keeps nothing of what tasks cost")
            await node.publish_usage(usage)
            await other.sees(UsagePut("n1", usage))
            claim = await self.claimed(rig, node)
            assert await node.release(claim, Update(to="n2", cost=Cost(900, 12)))
            await other.sees(OwnerGone("t", clean=True, to="n2", cost=Cost(900, 12)))
            await rig.expire("n1")
            await other.sees(UsageGone("n1"))
