"""Who owned what, and until when: etcd's own word, heard beside the nodes and not through their proxies.

A watch on each member, so that none that is ill delays what is seen, and a round of questions several times a second:
whether etcd answers at all, and how long each lease is promised to live.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.linux.syscalls import boot_ns
from mpfora.store.claim_records import parse_owner, parse_released
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import Compacted, Event, Listing, Revision, StoreError, prefix_end
from mpfora.store.node_records import parse_member

from .evidence import Claimed, ClaimGone, How, NodeSeen, S, Span, TaskState, Write, share_promises

#: between two rounds of questions to a member
ASK_S = 0.3
#: how long it may take over one
PATIENCE_S = 1.0
#: etcd is silent when nobody has answered for so long
SILENCE_NS = S


class Observer:
    """Runs in a thread from its making until `close`. What it has seen grows meanwhile, and is read afterwards.

    revoking    nodes whose lease the nemesis is about to revoke; taken away when that is seen
    deleted     tasks that it deletes
    returns, thaws   written by the nemesis: see Evidence"""

    def __init__(self, endpoints: Sequence[str], namespace: str) -> None:
        self._layout = Layout(namespace)
        self._start, self._end_key = self._layout.checkpoints, self._layout.watched[1]
        self.claims: list[Claimed] = []
        self.gone: list[ClaimGone] = []
        self.writes: list[Write] = []
        self.states: list[TaskState] = []
        self.nodes: list[NodeSeen] = []
        self.silent: list[Span] = []
        self.unseen: list[tuple[int, int]] = []
        self.revoking: set[str] = set()
        self.deleted: set[str] = set()
        self.returns: list[int] = []
        self.thaws: list[int] = []
        self._seen = 0
        self._owners: dict[str, Claimed] = {}
        #: nodes whose leases were revoked by the nemesis with the revision that is being taken
        self._revoked_now: set[str] = set()
        #: when a member answered last
        self._answered = boot_ns()
        #: (task, fence) -> until when its lease was promised to live
        self._promised: dict[tuple[str, int], int] = {}
        self._endpoints = list(endpoints)
        self._loop = asyncio.new_event_loop()
        self._work: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._turn, name="observer", daemon=True)
        self._thread.start()

    def owned_by(self, node: str) -> list[str]:
        return [task for task, claim in list(self._owners.items()) if claim.node == node]

    def close(self) -> None:
        if self._work is not None:
            self._loop.call_soon_threadsafe(self._work.cancel)
        self._thread.join(10)

    def _turn(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, suppress(asyncio.CancelledError):
            runner.run(self._observe())

    async def _observe(self) -> None:
        self._work = asyncio.current_task()
        members = [Etcd(endpoint) for endpoint in self._endpoints]
        try:
            self._compare(await members[0].list(self._start, self._end_key))
            async with asyncio.TaskGroup() as group:
                for member in members:
                    group.create_task(self._watch(member))
                    group.create_task(self._ask(member))
        finally:
            for member in members:
                await member.close()

    # -- the watches --------------------------------------------------------------------------------------------------

    async def _watch(self, etcd: Etcd) -> None:
        while True:
            try:
                async for revision in etcd.watch(self._start, self._end_key, self._seen + 1):
                    self._take(revision)
            except Compacted as gap:
                if self._seen + 1 < gap.revision:
                    with suppress(StoreError):
                        self._compare(await etcd.list(self._start, self._end_key))
            except StoreError:
                pass
            await asyncio.sleep(0.1)

    def _compare(self, listing: Listing) -> None:
        """At the beginning, and after a gap: what is there now, and what is not there any more."""
        if listing.revision <= self._seen:
            return
        if self._seen:
            self.unseen.append((self._seen + 1, listing.revision))
        now, there, self._seen = boot_ns(), set(), listing.revision
        for kv in listing.kvs:
            self._note(kv.key, kv.value, now)
            if (task := self._task_of(kv.key)) is not None:
                there.add((task, kv.create_revision))
                self._claimed(task, kv.value, kv.create_revision, now)
        for task, claim in list(self._owners.items()):
            if (task, claim.fence) not in there:
                self._end(task, How.RELEASED, now)

    def _take(self, revision: Revision) -> None:
        """Whichever watch brings a revision first; then it is known."""
        if revision.revision <= self._seen:
            return
        now, self._seen = boot_ns(), revision.revision
        self._revoked_now = self._revoked(revision.events)
        first, owners = len(self.gone), dict(self._owners)
        for event in revision.events:
            if not event.deleted:
                self._note_write(event, now)
        for event in revision.events:
            self._note(event.key, None if event.deleted else event.value, now)
            if (task := self._task_of(event.key)) is None:
                continue
            if event.deleted:
                self._end(task, self._how(task, revision.events), now)
            else:
                self._claimed(task, event.value, event.create_revision, now)
        nodes = {(claim.task, claim.fence): claim.node for claim in owners.values()}
        self.gone[first:] = share_promises(self.gone[first:], nodes)

    def _revoked(self, events: Iterable[Event]) -> set[str]:
        """The nodes whose leases the nemesis revoked by this revision: their member records went with them."""
        deleted = {event.key for event in events if event.deleted}
        found = {node for node in self.revoking if self._layout.member(node) in deleted}
        self.revoking -= found
        return found

    def _note(self, key: str, value: bytes | None, now: int) -> None:
        """Of a task's state or a node's record; value None: it is gone."""
        node = key.removeprefix(self._layout.nodes).partition("/")[0]
        if key == self._layout.member(node):
            takes = False
            if value is not None:
                member = parse_member(node, value)
                takes = not (member.frozen or member.draining or member.full)
            self.nodes.append(NodeSeen(node, takes, now))
        elif key.startswith(self._layout.states) and value is not None:
            state = json.loads(value)
            losses = state.get("suspect", {}).get("losses", 0)
            self.states.append(TaskState(key.removeprefix(self._layout.states), state["state"], losses, now))

    def _note_write(self, event: Event, now: int) -> None:
        """A checkpoint or a mark that carries the fence of who wrote it, held against whose the task was just then."""
        task, what, fence = event.key.removeprefix(self._layout.checkpoints), "checkpoint", 0
        if task != event.key:
            if event.value == b"null":
                return  # the trace of a first claim
            fence = json.loads(event.value)["fence"]
        else:
            task = event.key.removeprefix(self._layout.releases)
            if task == event.key:
                return
            what, (_, fence) = "release", parse_released(event.value)
        claim = self._owners.get(task)
        self.writes.append(Write(task, what, fence, claim.fence if claim is not None else 0, now))

    def _claimed(self, task: str, value: bytes, fence: int, now: int) -> None:
        known = self._owners.get(task)
        if known is not None and known.fence == fence:
            return
        if known is not None:
            self._end(task, How.RELEASED, now)
        node, missed = parse_owner(value)
        claim = self._owners[task] = Claimed(task, fence, node, now, missed)
        self.claims.append(claim)

    def _end(self, task: str, how: How, now: int) -> None:
        claim = self._owners.pop(task, None)
        if claim is not None:
            if how is How.ENDED and claim.node in self._revoked_now:
                how = How.REVOKED
            promised = self._promised.pop((task, claim.fence), 0)
            self.gone.append(ClaimGone(task, claim.fence, now, how, promised))

    def _task_of(self, key: str) -> str | None:
        task, _, last = key.removeprefix(self._layout.tasks).partition("/")
        return task if last == "owner" and key.startswith(self._layout.tasks) else None

    def _how(self, task: str, events: Sequence[Event]) -> How:
        released, key = self._layout.released(task), self._layout.task(task)
        if any(event.key == released and not event.deleted for event in events):
            return How.RELEASED
        if any(event.key == key and event.deleted for event in events):
            return How.RELEASED
        return How.ENDED

    # -- the questions ------------------------------------------------------------------------------------------------

    async def _ask(self, member: Etcd) -> None:
        """What is promised of each lease; and whether anybody answers at all."""
        while True:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await self._ask_one(member)
                now = boot_ns()
                if now - self._answered > SILENCE_NS:
                    self.silent.append(Span(self._answered, now))
                self._answered = now
            await asyncio.sleep(ASK_S)

    async def _ask_one(self, etcd: Etcd) -> None:
        listing = await etcd.list(self._layout.nodes, prefix_end(self._layout.nodes))
        leases = {kv.lease for kv in listing.kvs if kv.lease}
        await asyncio.gather(*(self._ask_lease(etcd, lease) for lease in sorted(leases)))

    async def _ask_lease(self, etcd: Etcd, lease: int) -> None:
        """The leader answers, and rounds down. A claim that was made or ended meanwhile proves nothing."""
        request, before, sent = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True), dict(self._owners), boot_ns()
        answer = await etcd.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseTimeToLive(request, timeout=timeout, metadata=metadata),
            PATIENCE_S,
            repeatable=True,
        )
        for key in answer.keys:
            task = self._task_of(key.decode())
            claim = None if task is None else self._owners.get(task)
            if task is not None and claim is not None and before.get(task) is claim:
                known = self._promised.get((task, claim.fence), 0)
                self._promised[task, claim.fence] = max(known, sent + answer.TTL * S)
