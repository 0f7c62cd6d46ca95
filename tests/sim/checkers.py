"""The checkers: they watch the kernel and the store from outside and say what must never be.

Each violation is a line that begins with its kind, e.g. "two at once: ...". Nothing of a node's own state is looked at.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable

from mpfora.model.outcome import Cause, Said
from mpfora.model.state import State, TaskState, Verb
from mpfora.store.keys import Layout
from mpfora.store.kv import Compare, Delete, DeletePrefix, Op, Put, Revision, Take, Txn, TxnResult
from mpfora.supervisor.coordinator.transactions import NOTHING_SAVED

from .books import Books, TaskBook, is_own_error
from .fake_etcd import Granted
from .kernel import DEADLY, Proc
from .making_room import MakingRoom
from .resources import Resources
from .scenario import EPOCH, Scenario

CLIENT = "client"
#: the most violations that are told
MOST = 10
#: between the wall clocks of two machines, at most
WALLS_DIFFER_S = 1.0
#: so many nodes a task may take down, where other tasks do it too
MOST_DEATHS = 9
#: so many claims of one task by one node within a second are no tries any more
TRIES = 12
#: a state that is as it was seen: not there, or put at that revision
_SEEN = (("version", "=="), ("mod_revision", "=="))


class Checkers:
    """now: the world's time."""

    def __init__(self, layout: Layout, now: Callable[[], float], scenario: Scenario) -> None:
        self._layout, self._now, self._scenario = layout, now, scenario
        #: each node starts what sleeps by its own
        self._has_wrong_clocks = scenario.profile == "clocks"
        self._nodes = {plan.name: plan for plan in scenario.nodes}
        self._tasks = {plan.id: plan for plan in scenario.tasks}
        self.books = Books(layout)
        self._resources = Resources(self.books, now, scenario, self.say)
        self.making_room = MakingRoom(self.books, now, scenario, self.say)
        self.violations: list[str] = []
        #: live processes, by task
        self.live: dict[str, list[Proc]] = {}
        self._running: dict[str, int] = dict.fromkeys(self._nodes, 0)
        #: tasks to which something outside the promises happened, and until when that excuses what
        self._excused: dict[tuple[str, str], float] = {}
        #: (node, task) -> when it was tried to be claimed last, newest last
        self._tries: dict[tuple[str, str], deque[float]] = {}

    def say(self, kind: str, text: str) -> None:
        if len(self.violations) < MOST:
            self.violations.append(f"{kind}: at {self._now():.4f}: {text}")

    def excuse(self, task: str, what: str, until: float) -> None:
        """what: "claim" (the store itself broke it), "overlap" (and neither grace nor watch could help)."""
        self._excused[task, what] = max(until, self._excused.get((task, what), 0.0))

    def is_excused(self, task: str, what: str) -> bool:
        return self._excused.get((task, what), -1.0) >= self._now()

    def tried(self, node: str, task: str) -> None:
        """Called when a node sends a claim."""
        tries = self._tries.setdefault((node, task), deque(maxlen=TRIES))
        if len(tries) == TRIES and self._now() - tries[0] < 1.0:
            self.say("claims without end", f"{node} tries to claim {task} {TRIES} times within a second")
        tries.append(self._now())

    # -- processes ----------------------------------------------------------------------------------------------------

    def started(self, proc: Proc) -> None:
        book = self.books.task(proc.task)
        evidence = book.evidence
        others = self.live.setdefault(proc.task, [])
        others_that_count = [other for other in others if not (other.undying and other.lapsed)]
        in_its_way = [
            other for other in others_that_count if other.machine == proc.machine or self._must_be_dead(other)
        ]
        if in_its_way and not self.is_excused(proc.task, "overlap"):
            self.say("two at once", f"{proc.name} starts while {in_its_way[0].name} lives")
        if proc.fence < evidence.last_fence or (
            proc.fence == evidence.last_fence and proc.machine != evidence.last_node
        ):
            self.say("fences only grow", f"{proc.name} after fence {evidence.last_fence} on {evidence.last_node}")
        is_its = book.owner is not None and book.owner.fence == proc.fence
        if not (is_its or evidence.deleted or self.is_excused(proc.task, "claim")):
            self.say("started without a claim", f"{proc.name}; the owner is {book.owner}")
        if proc.fence >= evidence.last_fence:
            evidence.last_fence, evidence.last_node = proc.fence, proc.machine
        others.append(proc)
        self._running[proc.machine] += 1
        self._check_place(proc)
        self._resources.started(proc, [one for procs in self.live.values() for one in procs])
        capacity = self._nodes[proc.machine].capacity or None
        lapsed = sum(p.machine == proc.machine and p.lapsed for procs in self.live.values() for p in procs)
        if capacity is not None and self._running[proc.machine] - lapsed > capacity:
            self.say("over capacity", f"{proc.machine} runs {self._running[proc.machine]} of {capacity}")

    def _must_be_dead(self, proc: Proc) -> bool:
        """Of one whose claim is another's: whether it can do anything, and may not."""
        return proc.runs_on and not proc.outlives

    def _check_place(self, proc: Proc) -> None:
        """A task runs where it asked to, and when."""
        plan, node = self._tasks[proc.task], self._nodes[proc.machine]
        if plan.props is not None:
            return
        if plan.label not in ("", node.label) or plan.handler not in (None, *node.handlers):
            self.say("on the wrong node", f"{proc.name}: {plan} on {node}")
        if self._has_wrong_clocks:
            return
        at, is_left_alone = plan.asks.not_before, not self.books.task(proc.task).evidence.commands
        if at is not None and is_left_alone and proc.wall() < EPOCH + at - WALLS_DIFFER_S:
            self.say("before its time", f"{proc.name} starts {EPOCH + at - proc.wall():.3f} s too early")

    def thawed(self, proc: Proc) -> None:
        """Its machine has gone on, and its zygote has had the instant that it needs."""
        if proc.lapsed and not (proc.dead or proc.frozen or proc.undying):
            self.say("beyond its lease", f"{proc.name}, whose lease has ended while its machine stood still, runs on")

    def said(self, proc: Proc, said: Said) -> None:
        self.books.task(proc.task).evidence.said.append((proc.fence, said))
        self.making_room.said(proc.task, said)

    def ended(self, proc: Proc) -> None:
        self.live[proc.task].remove(proc)
        self._running[proc.machine] -= 1
        if is_own_error(proc):
            self.books.task(proc.task).evidence.errors += 1

    def zygote_died(self, proc: Proc) -> None:
        """Nobody can tell whether the run took it down: a task may be blamed for it, once each time."""
        self.books.task(proc.task).evidence.errors += 1

    def ordered(self, task: str) -> None:
        """Called when a node orders a process for a task."""
        self.books.task(task).evidence.forks += 1

    def takes_node_down(self, proc: Proc) -> None:
        """Called when a run is the end of its node."""
        evidence = self.books.task(proc.task).evidence
        evidence.deaths += 1
        if evidence.deaths > MOST_DEATHS:
            self.say("takes too many nodes down", f"{proc.name} is the end of its node, the {evidence.deaths}th by it")

    def start_failed(self, task: str) -> None:
        self.books.task(task).evidence.errors += 1

    # -- leases -------------------------------------------------------------------------------------------------------

    def lease_ends(self, lease: Granted, why: str, keys: list[str]) -> None:
        """Called before its keys are deleted."""
        for key in keys:
            task_id, _, last = key.removeprefix(self._layout.tasks).partition("/")
            if not key.startswith(self._layout.tasks) or last != "owner":
                continue
            owner = self.books.task(task_id).owner
            if why == "bug":
                self.excuse(task_id, "claim", self._now() + 10.0)
            for proc in self.live.get(task_id, ()):
                if owner is None or proc.fence != owner.fence or why == "bug" or proc.outlives:
                    continue
                if not proc.runs_on or (proc.undying and proc.leader_dead):
                    proc.lapsed = True
                else:
                    self.say("beyond its lease", f"{proc.name} lives when the lease is let go ({why})")

    # -- writes -------------------------------------------------------------------------------------------------------

    def wrote(self, writer: str, txn: Txn, result: TxnResult) -> None:
        """Called after a transaction, before its revision is told."""
        if writer != CLIENT:
            self._check_ops(writer, txn, result, ())

    def _check_ops(self, writer: str, txn: Txn, result: TxnResult, outer: tuple[Compare, ...]) -> None:
        compares = outer + txn.compares
        ops = txn.success if result.succeeded else txn.failure
        for op, answer in zip(ops, result.answers, strict=True):
            if isinstance(op, Txn):
                assert isinstance(answer, TxnResult)
                self._check_ops(writer, op, answer, compares if result.succeeded else ())
            elif isinstance(op, Put | Delete | Take | DeletePrefix):
                self._check_write(writer, op, compares if result.succeeded else ())

    def _check_write(self, writer: str, op: Op, compares: tuple[Compare, ...]) -> None:
        key = op.prefix if isinstance(op, DeletePrefix) else op.key  # type: ignore[union-attr]
        if isinstance(op, DeletePrefix) and not key.endswith("/"):
            self.say("prefix without its slash", f"{writer} deletes all that begins with {key}")
        parts = key[len(self._layout.root) :].split("/")
        if parts[0] not in ("tasks", "state", "checkpoints") or parts[1] == "_metafora":
            return
        task_id, last = parts[1], parts[2] if len(parts) > 2 else ""
        owner = self._layout.owner(task_id)
        if parts[0] == "tasks" and last == "commands":
            if not any(compare.key == key and compare.target == "mod_revision" for compare in compares):
                self.say("write without its compare", f"{writer}: {op} without the command's revision")
            return
        fences = [c.to for c in compares if c.key == owner and c.target == "create_revision" and c.relation == "=="]
        if isinstance(op, Put) and last == "owner" and parts[0] == "tasks":
            self._check_claim(writer, op, compares, owner)
        elif isinstance(op, Put) and parts[0] == "checkpoints" and op.value == NOTHING_SAVED:
            self._check_trace(writer, op, compares, owner)
            return
        elif isinstance(op, Put) and parts[0] == "state" and not fences:
            self._check_waking(writer, task_id, op, compares, owner)
        elif not fences and not (last == "released" and isinstance(op, Delete | Take)):
            self.say("write without its fence", f"{writer}: {op}")
        if isinstance(op, DeletePrefix) or (isinstance(op, Delete | Take) and last == "owner"):
            self._check_dead(writer, task_id, fences)
        if isinstance(op, Put) and parts[0] == "checkpoints":
            self._check_checkpoint(writer, task_id, op)

    def _check_claim(self, writer: str, put: Put, compares: tuple[Compare, ...], owner: str) -> None:
        absent = any(c.key == owner and c.target == "version" and c.to == 0 for c in compares)
        task = owner.removesuffix("/owner")
        is_the_one = any(c.key == task and c.target == "create_revision" and c.relation == "==" for c in compares)
        if not absent or not is_the_one or not put.lease:
            self.say("claim without its compare", f"{writer}: {put}")

    def _check_waking(self, writer: str, task_id: str, put: Put, compares: tuple[Compare, ...], owner: str) -> None:
        """The one thing that a node writes of a task that nobody owns: that its sleep is over."""
        from mpfora.store.state_records import parse_state

        is_free = any(c.key == owner and c.target == "version" and c.to == 0 for c in compares)
        is_same = any(c.key == self._layout.task(task_id) and c.target == "create_revision" for c in compares)
        is_seen = any(c.key == put.key and (c.target, c.relation) in _SEEN for c in compares)
        book = self.books.task(task_id)
        if not (is_free and is_same and is_seen and parse_state(put.value).state is State.RUNNABLE):
            self.say("write without its fence", f"{writer}: {put}")
        elif not book.resting or book.asleep_until is None:
            self.say("woken for nothing", f"{writer} wakes {book}")
        elif (early_s := book.asleep_until - EPOCH - self._now()) > WALLS_DIFFER_S and not self._has_wrong_clocks:
            self.say("before its time", f"{writer} wakes {task_id} {early_s:.3f} s early")

    def _check_trace(self, writer: str, put: Put, compares: tuple[Compare, ...], owner: str) -> None:
        """The trace of a first claim: with the claim, and over nothing that was saved."""
        if not all(
            any(c.key == key and c.target == "version" and c.to == 0 for c in compares) for key in (owner, put.key)
        ):
            self.say("write without its compare", f"{writer}: {put} over what was saved, or without a claim")

    def _check_dead(self, writer: str, task_id: str, fences: list[int | bytes]) -> None:
        """A process that has outlived its claim has an older fence than the claim that was made for it again."""
        book = self.books.task(task_id)
        owner = book.owner.fence if book.owner is not None else 0
        for proc in self.live.get(task_id, ()):
            if proc.fence in fences or (proc.outlives and proc.machine == writer and owner in fences):
                self.say("released alive", f"{writer} gives {task_id} back while {proc.name} lives")

    def _check_checkpoint(self, writer: str, task_id: str, put: Put) -> None:
        book = self.books.task(task_id)
        fence = json.loads(put.value)["fence"]
        if fence < book.checkpoint_fence:
            self.say("checkpoint goes back", f"{writer}: {task_id} from fence {book.checkpoint_fence} to {fence}")
        book.checkpoint_fence = fence

    # -- revisions ----------------------------------------------------------------------------------------------------

    def changed(self, writer: str, revision: Revision) -> None:
        states = self._layout.states
        for event in revision.events:
            if event.key.startswith(states) and not event.deleted and writer != CLIENT:
                self._check_state(self.books.task(event.key[len(states) :]), writer, event.value)
        gone = [
            event.key[len(self._layout.tasks) :]
            for event in revision.events
            if event.deleted and event.key.startswith(self._layout.tasks)
        ]
        claimed = self.books.take(revision)
        self._resources.changed(claimed)
        self.making_room.changed()
        for task_id in gone:
            if "/" not in task_id and task_id != "_metafora" and writer != CLIENT:
                self._check_gone(self.books.task(task_id), writer)

    def _check_gone(self, book: TaskBook, writer: str) -> None:
        if not (book.evidence.deleted or (book.state is not None and book.state.terminal)):
            self.say("a task disappears", f"{writer} removes {book.id}, whose state is {book.state}")

    def _check_state(self, book: TaskBook, writer: str, value: bytes) -> None:
        """Every state that a node writes has its reason."""
        from mpfora.store.state_records import parse_state

        state = parse_state(value)
        before = book.state or TaskState()
        fence = book.owner.fence if book.owner is not None else 0
        if before.terminal and before.state is not state.state:
            self.say("out of a terminal state", f"{writer}: {book.id} from {before.state} to {state.state}")
        if state.attempt < before.attempt:
            self.say("attempts go back", f"{writer}: {book.id} from {before.attempt} to {state.attempt}")
        if state.cause == Cause.NODE_LOST and state.attempt == before.attempt + 1:
            book.evidence.forks += 1  # whether the claim that was lost came to a process nobody can tell
        if state.attempt > book.evidence.forks and not self._is_wrong(book):
            self.say("attempts without a run", f"{writer}: {book.id}: {state.attempt} of {book.evidence.forks}")
        if len(state.errors) > book.evidence.errors + (state.state is State.FAILED) and not self._is_wrong(book):
            self.say("an error that was none", f"{writer}: {book.id}: {[error.text for error in state.errors]}")
        if not self._has_reason(book, state, fence):
            self.say("a state without its reason", f"{writer}: {book.id} becomes {state.state}: {state.cause}")

    def _is_wrong(self, book: TaskBook) -> bool:
        """It asks for what cannot be meant: its runs end before there is a process."""
        return self._tasks[book.id].asks.is_wrong

    def _has_reason(self, book: TaskBook, state: TaskState, fence: int) -> bool:
        evidence, asks = book.evidence, self._tasks[book.id].asks
        if state.state is State.FAILED:
            if state.errors and state.errors[-1].text.startswith("poison: it took down its node"):
                return any(act.kind in DEADLY for act in self._tasks[book.id].acts)
            return evidence.errors >= (asks.max_errors or self._scenario.retry.max_errors) or asks.is_wrong
        verb = _REASONS.get(state.state)
        outlives = book.owner is not None and self._nodes[book.owner.node].runs_on
        if verb is None or verb in evidence.commands or evidence.has_said(verb, None if outlives else fence):
            return True
        if state.state is State.SLEEPING and (evidence.errors > 0 or asks.is_wrong or asks.not_before is not None):
            return True
        return book.state is not None and book.state.state is state.state


_REASONS = {
    State.COMPLETED: Verb.COMPLETE,
    State.KILLED: Verb.KILL,
    State.PAUSED: Verb.PAUSE,
    State.SLEEPING: Verb.SLEEP,
}
