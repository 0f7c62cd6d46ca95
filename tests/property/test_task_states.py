"""Any sequence of commands, handlers' behaviours, lost answers, dead nodes and dead zygotes, played on the core under a
virtual clock: each state that is written is the one that the table, told again here in words, says.

The world beside the core is a store with one task, its process, and the command that waits for it.
"""

from __future__ import annotations

from typing import Any

from core_story import CRASHED, HUNG, RAISED, RESULT_42, WALL_S, ZYGOTE_GONE, Story, left
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpfora.cluster.changes import OwnerGone, StatePut, TaskCommandGone, TaskCommandPut
from mpfora.model.outcome import Outcome
from mpfora.model.state import Message, State, TaskState, Verb
from mpfora.retry import Retry
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.zygote_restarts import AFTER_LOSS_S

MAX_ERRORS = 3
POLICY = Retry(max_errors=MAX_ERRORS, within="1h", delay="5s", factor=2, jitter=0)
TERMINAL = ("completed", "failed", "killed")
ENDS_A_RUN = ("release", "sleep", "complete", "kill", "pause")
VERBS = ("run", "pause", "kill", "release", "checkpoint", "complete", "sleep")
ERRORS = {"raised", "signalled"}


def table(state: str, verb: str) -> str | None:
    """Where a message leads; None: nowhere."""
    if state in TERMINAL:
        return None
    stays = verb in ("release", "checkpoint")
    if state == "runnable":
        there = {"sleep": "sleeping", "complete": "completed", "kill": "killed", "pause": "paused", "run": "runnable"}
        return "runnable" if stays else there[verb]
    there = {"sleep": "sleeping", "kill": "killed", "pause": "paused", "run": "runnable"}
    return state if stays else there.get(verb)


class TaskStates(RuleBasedStateMachine):
    """kept, checkpoint   what the store has;  command  what waits there for the task's owner
    alive    the run that lives;  asked  the revision of the command for which it was asked to stop, and the command
    ended    how the last run ended, until that is written
    pending  the write under way;  happened  it is in the store;  waits  the node waits for its answer
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: TaskState | None = None
        self.checkpoint: str | None = None
        self.command: TaskCommandPut | None = None
        self.consumed: list[int] = []
        self.errors: list[float] = []
        self.wall_s, self.revision, self.saves, self.zygote_deaths = WALL_S, 100, 0, 0
        self.over = False
        self._start()

    # -- the world ------------------------------------------------------------------------------------

    def _start(self) -> None:
        """A node that claims the task."""
        self.story = Story(retry=POLICY, save_every_s=0.0)
        self.story.wall_s, self.story.revision = self.wall_s, self.revision
        self.alive: int | None = None
        self.asked: TaskCommandPut | None = None
        self.killing = self.wants = False
        self.ended: Outcome | None = None
        self.pending: do.Keep | do.Release | do.Finish | None = None
        self.happened = self.waits = False
        self._feed(self.story.hold("t", self.kept, checkpoint_json=self.checkpoint))
        if self.command is not None and not self.over:
            self._feed(self.story.put(self.command))

    def _feed(self, steps: list[do.Action]) -> None:
        taken = [self._take_in(step) for step in steps]
        if any(taken):
            self._feed(self.story.put(TaskCommandGone("t")))

    def _take_in(self, step: do.Action) -> bool:
        """Carry out what the core wants. True: the waiting command was deleted."""
        match step:
            case do.Fork():
                assert (self.alive, self.pending, self.ended) == (None, None, None), "one at a time"
                assert self.state == "runnable"
                assert not self.over
                assert (step.spec.attempt, step.spec.checkpoint_json) == (self.attempts + 1, self.checkpoint)
                self.alive, self.asked, self.killing = step.run, None, False
            case do.AskStop():
                assert step.run == self.alive
                self.asked = self.command if self.command and self.command.message is step.message else None
            case do.Kill():
                assert step.run == self.alive
                self.killing = True
            case do.Keep() | do.Release() | do.Finish():
                self._check(step)
            case do.TakeTaskCommand():
                return self._check_taken(step.revision)
            case do.ClaimTasks():
                self.wants = True
        return False

    @property
    def state(self) -> str:
        return "runnable" if self.kept is None else self.kept.state.value

    @property
    def attempts(self) -> int:
        return 0 if self.kept is None else self.kept.attempt

    # -- what is written ------------------------------------------------------------------------------

    def _check(self, write: do.Keep | do.Release | do.Finish) -> None:
        if self.pending is not None:
            assert write == self.pending, "the same again"
            self.waits = True
            return
        update, self.pending, self.happened, self.waits = write.update, write, False, True
        if not isinstance(write, do.Keep):
            assert self.alive is None, "no claim ends before its process"
        if update.state is None:
            assert self.ended is None, "an end is written with what it makes of the task"
            return
        assert (update.state.state.value, update.state.attempt) == (
            self._expected(update.command_revision),
            self.counted,
        )
        assert len(update.state.errors) == min(8, len(self.errors)) + (update.state.state is State.FAILED)
        assert isinstance(write, do.Finish) == (update.state.state.value in TERMINAL)

    @property
    def counted(self) -> int:
        return self.attempts + (self.ended is not None)

    def _expected(self, revision: int | None) -> str:
        if self.ended is not None:
            return self._after_end(self.ended, revision)
        if revision is not None:
            assert self.command is not None
            assert revision == self.command.revision
            target = table(self.state, self.command.message.verb.value)
            assert target is not None, "what is not valid is dropped"
            return target
        assert self.state == "sleeping", "no reason at all"
        assert self.kept is not None
        assert self.kept.until is not None
        assert self.kept.until <= self.story.wall_s
        return "runnable"

    def _after_end(self, outcome: Outcome, revision: int | None) -> str:
        asked = self.asked if self.asked is not None and self.asked is self.command else None
        assert revision == (asked.revision if asked else None)
        wanted = asked.message.verb.value if asked else None
        answer = outcome.message.verb.value if outcome.message else None
        if answer == "complete":
            return "completed"
        if answer is not None:
            obeys = wanted is not None and (wanted == "kill" or answer in ("release", "checkpoint", "run"))
            target = table("runnable", wanted if obeys and wanted else answer)
            assert target is not None
            return target
        if outcome.cause.value in ERRORS and wanted in (None, "release"):
            recent = [at for at in self.errors if at > self.errors[-1] - 3600]
            return "failed" if len(recent) >= MAX_ERRORS else "sleeping"
        return table("runnable", wanted) or "?" if wanted else "runnable"

    def _check_taken(self, revision: int) -> bool:
        """A command that is deleted without a write: it was not valid, or there was nothing to write."""
        assert self.command is not None
        assert revision == self.command.revision
        verb = self.command.message.verb.value
        assert table(self.state, verb) is None or verb in ("run", "checkpoint")
        return self._consume(revision)

    def _consume(self, revision: int | None) -> bool:
        if revision is None or self.command is None or self.command.revision != revision:
            return False
        assert revision not in self.consumed, "applied twice"
        self.consumed.append(revision)
        self.command = None
        return True

    def _apply(self) -> bool:
        """The write under way happens in the store. True: the waiting command is deleted with it."""
        assert self.pending is not None
        update, self.happened = self.pending.update, True
        self.kept = update.state or self.kept
        self.checkpoint = update.checkpoint_json or self.checkpoint
        self.over |= isinstance(self.pending, do.Finish)
        return self._consume(update.command_revision)

    # -- rules ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.pending is not None and self.waits)
    @rule()
    def the_store_answers(self) -> None:
        write = self.pending
        assert write is not None
        if not self.happened:
            self._apply()
        if write.update.state is not None:
            self.ended = None
        self.pending = None
        steps = self.story.settled("t")
        if isinstance(write, do.Release):
            steps += self.story.put(*self._written(), OwnerGone("t", clean=True), *self._gone())
        self._feed(steps)
        if not self.over and not isinstance(write, do.Release):
            self._feed(self.story.put(*self._gone()))

    def _written(self) -> tuple[StatePut, ...]:
        """What the watch says of the kept state: a release writes it in the revision in which the claim ends."""
        return () if self.kept is None else (StatePut("t", self.kept.state, self.kept.until),)

    def _gone(self) -> tuple[TaskCommandGone, ...]:
        """What the watch says of a command that was carried out."""
        return () if self.command is not None else (TaskCommandGone("t"),)

    @precondition(lambda self: self.pending is not None and self.waits)
    @rule(happened=st.booleans())
    def the_answer_is_lost(self, happened: bool) -> None:
        self.waits = False
        if happened and not self.happened:
            self._apply()
        self._feed(self.story.tell(ev.WriteAnswered("t", self.story.fences["t"], ev.WriteResult.UNKNOWN, "no answer")))

    @precondition(lambda self: self.wants)
    @rule()
    def the_claim_is_won(self) -> None:
        self.wants, self.asked = False, None
        self._feed(self.story.wins("t", self.kept, checkpoint_json=self.checkpoint))
        if self.command is not None:
            self._feed(self.story.put(self.command))

    @precondition(lambda self: not self.over)
    @rule(verb=st.sampled_from(VERBS), seconds=st.sampled_from([-5.0, 3.0, 40.0]))
    def a_client_commands(self, verb: str, seconds: float) -> None:
        until = self.story.wall_s + seconds if verb == "sleep" else None
        self.command = TaskCommandPut("t", Message(Verb(verb), until), self.story.revision + 1)
        self._feed(self.story.put(self.command))

    @precondition(lambda self: self.alive is not None)
    @rule(
        how=st.sampled_from(["result", "raise", "crash", "obey", *VERBS]),
        seconds=st.sampled_from([-5.0, 3.0, 40.0]),
    )
    def the_process_ends(self, how: str, seconds: float) -> None:
        self._end({"result": RESULT_42, "raise": RAISED, "crash": CRASHED}.get(how) or self._answer(how, seconds))

    def _answer(self, how: str, seconds: float) -> Outcome:
        if how == "obey":
            asked = self.asked.message if self.asked is not None else Message.release()
            return left(Message(asked.verb, asked.until))
        return left(Message(Verb(how), self.story.wall_s + seconds if how == "sleep" else None))

    def _end(self, outcome: Outcome) -> None:
        self.alive, self.ended = None, outcome
        if outcome.cause.value in ERRORS:
            self.errors.append(self.story.wall_s)
        self._feed(self.story.exits(outcome, "t"))

    @precondition(lambda self: self.killing and self.alive is not None)
    @rule()
    def the_killed_process_is_dead(self) -> None:
        self._end(HUNG)

    @precondition(lambda self: self.alive is not None)
    @rule()
    def the_handler_saves(self) -> None:
        self.saves += 1
        self._feed(self.story.tell(ev.ChildSaved(self.alive or 0, str(self.saves))))

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self._feed(self.story.wait(seconds))

    @precondition(lambda self: not self.over)
    @rule()
    def the_node_gives_it_back(self) -> None:
        self.story.core.claimed.give_back("t", "drain")
        self._feed(self.story.tell(ev.Tick()))

    @precondition(lambda self: not self.over)
    @rule(happened=st.booleans())
    def the_node_dies(self, happened: bool) -> None:
        if self.pending is not None and happened and not self.happened:
            self._apply()
        del self.errors[len(self.kept.errors) if self.kept else 0 :]  # the last one, if nobody has written it down
        self.wall_s, self.revision = self.story.wall_s + 20, self.story.revision + 10
        if not self.over:
            self._start()

    @precondition(lambda self: self.alive is not None and self.zygote_deaths == 0 and self.pending is None)
    @rule()
    def the_zygote_dies(self) -> None:
        self.zygote_deaths += 1
        self._end(ZYGOTE_GONE)
        self._feed(self.story.tell(ev.ZygoteLost("it died")))
        self._feed(self.story.wait(AFTER_LOSS_S))
        self._feed(self.story.tell(self.story.zygote_ready()))

    # -- what always holds, and what comes of it in the end -------------------------------------------

    @invariant()
    def nothing_runs_that_should_not(self) -> None:
        if self.over:
            assert self.alive is None
            assert self.state in TERMINAL

    def teardown(self) -> None:
        """Left alone, with everybody answering, the task comes to rest where its state says, and no command waits."""
        for _ in range(40):
            if self.over:
                break
            if self.pending is not None and self.waits:
                self.the_store_answers()
            elif self.alive is not None and (self.asked is not None or self.killing):
                self._end(HUNG)
            elif self.wants:
                self.the_claim_is_won()
            else:
                self._feed(self.story.wait(15.0))
        assert self.over or self.pending is None
        assert self.over or self.command is None, f"never carried out: {self.command}"
        if self.state == "runnable" and not self.over:
            assert self.alive is not None
        if self.state == "paused":
            assert self.alive is None


TestTaskStates: Any = TaskStates.TestCase
TestTaskStates.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
