"""A story: one core under a virtual clock. Events in, exact commands out.

    story = Story()                                  # a node "n1" that has joined, alone, with room for four tasks
    story.put(TaskPut("t")) == [claims("t")]         # a change of the namespace; what the core wants done
    story.wins("t") == [...]                         # its claim is answered, then seen by the watch
    story.wait(10) == [...]                          # time passes; the core is woken whenever it asks to be

Every call returns the commands in order. Log lines go to `story.said`; renewals of the lease are answered by themselves
while `story.renews` is true. After each event the story holds the core to one promise: it never asks to be woken at
a time that is not in the future, which would be a loop that spins.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mpfora.cluster.changes import (
    Change,
    Changes,
    MemberPut,
    NodeCommandPut,
    OwnerGone,
    OwnerPut,
    StatePut,
    TaskCommandPut,
    TaskPut,
    WantsPut,
)
from mpfora.cluster.task_view import NO_WANTS
from mpfora.config.settings import Settings
from mpfora.handlers import HandlerSettings
from mpfora.model.outcome import Cause, Death, Outcome, SaidError, SaidMessage, SaidResult, classify
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Claim, Member
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer, FairBalancer
from mpfora.supervisor.coordinator.interface import ClaimRequest, Update, Won
from mpfora.supervisor.core import Core

BOOT_S = 1_000.0
WALL_S = 1_700_000_000.0
HANDLER = "jobs:run"
COMMANDS = list[do.Action]

RESULT_42 = classify(SaidResult(42), Death(exit_code=0))
RAISED = classify(SaidError("ValueError: no", "Traceback ...", "builtins.ValueError"), Death(exit_code=1))
CRASHED = classify(None, Death(signal=11))
HUNG = classify(
    None, Death(signal=9, killed_for=Cause.STOP_TIMEOUT), stack="File hung.py, line 1", limits=RunLimits(10.0)
)
LOST = classify(None, Death(signal=9, killed_for=Cause.LOST_CLAIM))
ZYGOTE_GONE = classify(None, Death(killed_for=Cause.ZYGOTE_LOST))


def left(message: Message) -> Outcome:
    """The handler returned this transition."""
    return classify(SaidMessage(message), Death(exit_code=0))


RELEASED = left(Message.release())


def claims(*task_ids: str, missed: str | None = None, created: int = 0) -> do.ClaimTasks:
    return do.ClaimTasks(tuple(ClaimRequest(task_id, missed, created) for task_id in task_ids))


def member(name: str, **fields: Any) -> Member:
    """A node's record; by default one with our handler and room for four."""
    return Member(name, **{"capacity": 4, "weight": 4.0, "handlers": (HANDLER,), **fields})


class Story:
    """settings  fields of Settings; handlers  what the zygote imports; joined  False: nothing has happened yet."""

    def __init__(
        self,
        *,
        joined: bool = True,
        balancer: Balancer | None = None,
        handlers: dict[str, HandlerSettings] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings(**{"name": "n1", "max_tasks": 4, **settings})
        self.me = self.settings.name
        self.handlers = handlers or {HANDLER: HandlerSettings()}
        self.core = Core(
            self.settings, balancer or FairBalancer(), host="host", pid=7, created="then", rng=random.Random(1)
        )
        self.boot_s, self.wall_s, self.revision = BOOT_S, WALL_S, 100
        self.said: list[do.Say] = []
        self.probes: list[float] = []
        self.sweeps: list[do.Sweep] = []
        self.forgotten: list[do.ForgetClaim] = []
        self.renews = True
        self.is_over = False
        self.fences: dict[str, int] = {}
        self.runs: dict[str, int] = {}
        if joined:
            self.join()

    # -- time and events ------------------------------------------------------------------------------

    @property
    def now(self) -> ev.Now:
        return ev.Now(self.boot_s, self.wall_s)

    def tell(self, event: ev.Event) -> COMMANDS:
        """One event; the commands that follow from it."""
        steps = self.core.handle(event, self.now)
        wake_at = self.core.wake_at(self.now)
        self.is_over |= any(isinstance(step, do.Exit) for step in steps)
        assert self.is_over or wake_at is None or wake_at > self.boot_s, f"after {event} the core spins: {wake_at}"
        answered: COMMANDS = []
        for step in steps:
            if isinstance(step, do.Say):
                self.said.append(step)
            elif isinstance(step, do.ProbeZygote):
                self.probes.append(step.within_s)
            elif isinstance(step, do.Sweep):
                self.sweeps.append(step)
            elif isinstance(step, do.ForgetClaim):
                self.forgotten.append(step)
            elif isinstance(step, do.Renew) and self.renews:
                told = [self.deadline()] if self.settings.fences else []
                assert self.tell(ev.Renewed(self.boot_s, self.settings.lease_ttl_s, step.proves)) == told
            else:
                answered.append(step)
            if isinstance(step, do.Fork):
                self.runs[step.spec.task_id] = step.run
        return answered

    def wait(self, seconds: float) -> COMMANDS:
        """Let time pass. The core is woken at the times it asks for, and at the end."""
        end, steps = self.boot_s + seconds, []
        for _ in range(10_000):
            at = self.core.wake_at(self.now)
            if self.is_over or at is None or at > end:
                break
            self._move_to(at)
            steps += self.tell(ev.Tick())
        else:
            raise AssertionError("10,000 wakings: the core does not come to rest")
        self._move_to(end)
        return steps + self.tell(ev.Tick())

    def _move_to(self, boot_s: float) -> None:
        self.wall_s += boot_s - self.boot_s
        self.boot_s = boot_s

    # -- the node -------------------------------------------------------------------------------------

    def start_zygote(self) -> COMMANDS:
        assert self.tell(ev.Tick()) == [do.StartZygote()]
        return self.tell(self.zygote_ready())

    def zygote_ready(self) -> ev.ZygoteReady:
        return ev.ZygoteReady(4711, tuple(self.handlers.items()))

    def open_session(self) -> COMMANDS:
        return self.tell(ev.SessionOpened(self.boot_s, self.settings.lease_ttl_s))

    def join(self) -> None:
        """Zygote, session, and a first look at a namespace that holds this node's record alone."""
        assert self.start_zygote() == [do.OpenSession(self.record(), self.settings.lease_ttl_s)]
        assert self.open_session() == [self.deadline()]
        assert self.reset(MemberPut(self.record())) == []

    def record(self, **fields: Any) -> Member:
        """This node's own member record."""
        capacity = self.settings.capacity
        mine = member(
            self.me,
            host="host",
            pid=7,
            created="then",
            capacity=capacity,
            weight=self.settings.weight or float(capacity or 1),
            handlers=tuple(self.handlers),
            labels=dict(self.settings.labels),
            balancer=self.core.status.balancer,
            lease_s=self.settings.lease_ttl_s,
            has=self.settings.has,
            needs={name: one.needs for name, one in self.handlers.items() if one.needs},
        )
        return replace(mine, **fields)

    def deadline(self, sent_s: float | None = None) -> do.SetDeadline:
        sent_s = self.boot_s if sent_s is None else sent_s
        return do.SetDeadline(sent_s + self.settings.lease_ttl_s - self.settings.margin_s)

    def shut_down(self) -> COMMANDS:
        """A signal comes; the watch shows the record that is published for it."""
        steps = self.tell(ev.ShutdownAsked("SIGTERM"))
        if any(isinstance(step, do.Publish) for step in steps):
            record = replace(self.core.mirror.members[self.me], draining=True)
            assert self.put(MemberPut(record)) == []
        return steps

    # -- the namespace --------------------------------------------------------------------------------

    def put(self, *changes: Change) -> COMMANDS:
        """One revision with these changes."""
        self.revision += 1
        return self.tell(ev.ClusterChanged(Changes(self.revision, changes)))

    def reset(self, *changes: Change) -> COMMANDS:
        """The whole content, as of the present revision."""
        return self.tell(ev.ClusterChanged(Changes(self.revision, changes, reset=True)))

    def node_command(self, verb: str, **parameters: Any) -> COMMANDS:
        """A command for this node, at the next revision, its key named after that."""
        at = self.revision + 1
        return self.put(NodeCommandPut(self.me, f"c{at}", verb, parameters, at))

    def takes(self) -> do.TakeNodeCommand:
        """The deletion of the node command that came last."""
        return do.TakeNodeCommand(self.me, f"c{self.revision}")

    def takes_of(self, steps: COMMANDS) -> int:
        """How often `steps` delete the node command that came last."""
        return steps.count(self.takes())

    def task_command(self, task_id: str, message: Message) -> COMMANDS:
        return self.put(TaskCommandPut(task_id, message, self.revision + 1))

    # -- tasks ----------------------------------------------------------------------------------------

    def won(self, task_id: str, state: TaskState | None = None, **fields: Any) -> ev.ClaimsAnswered:
        """The answer to a claim that is made at the next revision."""
        self.fences[task_id] = self.revision + 1
        answer = Won(self.claim(task_id), "{}", state, None)
        return ev.ClaimsAnswered((replace(answer, **fields),))

    def wins(self, task_id: str, state: TaskState | None = None, **fields: Any) -> COMMANDS:
        """A claim is won, and the watch shows it next."""
        steps = self.tell(self.won(task_id, state, **fields))
        return steps + self.put(OwnerPut(task_id, self.me, self.fences[task_id]))

    def hold(self, task_id: str = "t", state: TaskState | None = None, **fields: Any) -> COMMANDS:
        """From TaskPut to the claim that the watch shows. Runs it, unless its state says otherwise. Of one that sleeps
        that is known only when the claim is under way: nobody would make one."""
        known = [] if state is None or state.terminal else [StatePut(task_id, state.state, state.until)]
        wants = WantsPut(task_id, fields.pop("wants", NO_WANTS))
        if wants.wants.sleeps_first or (state is not None and state.state is State.SLEEPING):
            assert self.put(TaskPut(task_id)) == [claims(task_id)]
            assert kinds(self.put(wants, *known)) in ([], ["WakeTasks"])
        else:
            assert self.put(TaskPut(task_id), wants, *known) == [claims(task_id)]
        return self.wins(task_id, state, **fields)

    def claim(self, task_id: str = "t") -> Claim:
        return Claim(task_id, self.fences[task_id])

    def fork(self, task_id: str = "t", **fields: Any) -> do.Fork:
        """The Fork of the task's last run."""
        limits = RunLimits(self.settings.stop_timeout_s)
        plain = RunSpec(task_id, HANDLER, "{}", self.fences[task_id], 1, None, limits)
        return do.Fork(self.runs[task_id], replace(plain, **fields))

    def ask(self, message: Message, reason: str, task_id: str = "t") -> do.AskStop:
        return do.AskStop(self.runs[task_id], message, reason, self.settings.stop_timeout_s)

    def kill(self, cause: Cause, *, dump: bool, task_id: str = "t") -> do.Kill:
        return do.Kill(self.runs[task_id], cause, dump)

    def exits(self, outcome: Outcome, task_id: str = "t") -> COMMANDS:
        """The task's present run ends so."""
        return self.tell(ev.ChildExited(self.runs[task_id], outcome))

    def settled(self, task_id: str = "t") -> COMMANDS:
        """The write under way was made; the watch shows nothing yet."""
        return self.tell(ev.WriteAnswered(task_id, self.fences[task_id], ev.WriteResult.DONE))

    def released(self, task_id: str = "t") -> COMMANDS:
        """The Release under way was made, and the watch shows it next."""
        return self.settled(task_id) + self.put(OwnerGone(task_id, clean=True))

    def keep(self, task_id: str = "t", **update: Any) -> do.Keep:
        return do.Keep(self.claim(task_id), Update(**update))

    def release(self, task_id: str = "t", **update: Any) -> do.Release:
        return do.Release(self.claim(task_id), Update(**update))

    def finish(self, task_id: str = "t", **update: Any) -> do.Finish:
        """`state` says until when it is kept."""
        if self.settings.keep_finished_s is not None:
            kept_until = float(int(self.wall_s + self.settings.keep_finished_s))
            update["state"] = replace(update["state"], kept_until=kept_until)
        return do.Finish(self.claim(task_id), Update(**update))

    def ended(self, cause: Cause, state: State = State.RUNNABLE, **fields: Any) -> TaskState:
        """The state that the first run leaves when it ends now, having started now."""
        times = {"started": self.wall_s, "ended": self.wall_s}
        return TaskState(state, **{"attempt": 1, "cause": cause.value, "node": self.me, **times, **fields})

    def ended_completed(self, **fields: Any) -> TaskState:
        return self.ended(Cause.COMPLETED, State.COMPLETED, **{"result": 42, **fields})

    # -- the log --------------------------------------------------------------------------------------

    def heard(self, words: str) -> bool:
        """Whether a line of the log has these words."""
        return any(words in line.text for line in self.said)

    def holds(self) -> list[str]:
        return list(self.core.claimed.by_id)


def kinds(steps: Iterable[do.Action]) -> list[str]:
    """The names of the commands, where their contents do not matter."""
    return [type(step).__name__ for step in steps]
