"""The store of a simulated cluster: who owns which task, who is a member, and what changes at which revision."""

from __future__ import annotations

from typing import Any

from mpfora.cluster import changes as ch
from mpfora.model.needs import to_json
from mpfora.model.task import Claim, Cost, Member, NodeUsage, Wants
from mpfora.store.json_format import format_json
from mpfora.supervisor.coordinator.interface import ClaimAnswer, ClaimRequest, Lost, Won


class SimulatedStore:
    """Nothing is lost here, and nothing fails. `Cluster` is one, and says how a revision reaches the nodes.

    now         seconds
    attempts    claims that were tried;  claims: those that were won;  moves: tasks that were let go for the balance
    changed_at  when a task got an owner or lost one
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self._revision = 0
        self.wants: dict[str, Wants] = {}
        self.owners: dict[str, tuple[str, int]] = {}
        self.members: dict[str, Member] = {}
        self.usages: dict[str, NodeUsage] = {}
        self.attempts = self.claims = self.moves = 0
        self.changed_at = self.now

    def commit(self, *changes: ch.Change) -> int:
        """Commit one revision, which reaches each node in its own time."""
        self._revision += 1
        self._deliver(ch.Changes(self._revision, changes))
        return self._revision

    def _deliver(self, batch: ch.Changes) -> None:
        """Send a revision to all nodes."""
        raise NotImplementedError

    def listing(self) -> ch.Changes:
        changes: list[ch.Change] = [ch.MemberPut(member) for member in self.members.values()]
        for task_id, wants in self.wants.items():
            changes += [ch.TaskPut(task_id), ch.WantsPut(task_id, wants)]
        changes += [ch.OwnerPut(task_id, node, fence) for task_id, (node, fence) in self.owners.items()]
        changes += [ch.UsagePut(node, usage) for node, usage in self.usages.items()]
        return ch.Changes(self._revision, tuple(changes), reset=True)

    def put_member(self, member: Member) -> None:
        self.members[member.name] = member
        self.commit(ch.MemberPut(member))

    def put_usage(self, node: str, usage: NodeUsage) -> None:
        self.usages[node] = usage
        self.commit(ch.UsagePut(node, usage))

    def end_lease(self, name: str, *, clean: bool) -> None:
        gone = [task_id for task_id, (node, _) in self.owners.items() if node == name]
        for task_id in gone:
            del self.owners[task_id]
        self.members.pop(name, None)
        self.changed_at = self.now
        usage = [ch.UsageGone(name)] if self.usages.pop(name, None) is not None else []
        self.commit(ch.MemberGone(name), *[ch.OwnerGone(task_id, clean) for task_id in gone], *usage)

    def claim(self, node: str, claims: tuple[ClaimRequest, ...]) -> list[ClaimAnswer]:
        self.attempts += len(claims)
        answers: list[ClaimAnswer] = []
        puts: list[ch.Change] = []
        for task_id, missed, _ in claims:
            if task_id in self.owners or task_id not in self.wants:
                answers.append(Lost(task_id))
                continue
            fence = self._revision + 1
            self.owners[task_id] = (node, fence)
            puts.append(ch.OwnerPut(task_id, node, fence, missed))
            answers.append(Won(Claim(task_id, fence), _props(self.wants[task_id]), None, None))
        if puts:
            self.claims += len(puts)
            self.changed_at = self.now
            self.commit(*puts)
        return answers

    def release(self, claim: Claim, to: str | None, cost: Cost | None, *, for_balance: bool) -> bool:
        if self.owners.get(claim.task_id, ("", 0))[1] != claim.fence:
            return False
        del self.owners[claim.task_id]
        self.moves += for_balance
        self.changed_at = self.now
        self.commit(ch.OwnerGone(claim.task_id, clean=True, to=to, cost=cost))
        return True


def _props(wants: Wants) -> str:
    props: dict[str, Any] = {} if wants.handler is None else {"handler": wants.handler}
    if wants.labels:
        props["labels"] = dict(wants.labels)
    if wants.needs is not None:
        props["needs"] = to_json(wants.needs)
    if wants.priority:
        props["priority"] = wants.priority
    return format_json(props)
