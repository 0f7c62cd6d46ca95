"""The processes of tasks, as a kernel has them: what their handlers do, how they end, and how long they take to die.

A Proc is one run's process tree. It is live from its fork until the last of the tree is dead, and that alone counts for
the checkers, whatever anybody believes of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.model.outcome import Said, SaidError, SaidMessage, SaidResult
from mpfora.model.state import Message, Verb

from .clock import World

#: bytes: of one that behaves, and of one that does not
SMALL, BIG = 10_000_000, 1_000_000_000
#: after its machine has stood still: until its zygote is scheduled, and until a tree that is killed is dead
SCHEDULED_S = 0.02
INSTANT_S = SCHEDULED_S + 0.21


@dataclass(frozen=True, slots=True)
class Act:
    """What a handler does in one run.

    kind        how it ends by itself after `after_s`: "result", "raise", "bad_message", "exit", "signal",
                "start_error", "sleep", "pause", "release", "kill", "kill_zygote" (it takes the zygote down), "forever",
                "kill_node" (it ends its supervisor), "panic" (it ends the machine)
                (it does not), or one of UNHOLDABLE
    leave_s     how long it takes to leave when it is asked to; None: it does not
    answer      what it says then: "" what it was asked for, else as `kind`, or another verb's name
    hangs_s     from then on it shows no sign of life; swells_s: from then on it takes more memory than it may
    saves_s     it saves a checkpoint so often
    dies_s      from SIGKILL to the death of the leader; strays_s: from there to the death of its tree
    dump_s      from the order to write its stacks to having done it; None: it cannot
    """

    kind: str = "result"
    after_s: float = 1.0
    leave_s: float | None = 0.05
    answer: str = ""
    hangs_s: float | None = None
    swells_s: float | None = None
    saves_s: float | None = None
    dies_s: float = 0.002
    strays_s: float = 0.0
    dump_s: float | None = 0.01
    sleep_s: float = 1.0


#: ends that are the end of the node, too
DEADLY = ("kill_node", "panic")
#: ends that nothing holds: a result that JSON cannot write, a checkpoint that is not Unicode text, and an error that
#: mpfora itself fails at
UNHOLDABLE = ("unwritable_result", "unwritable_checkpoint", "unspeakable_error")
_NO_TEXT: Any = None
#: (kind, what it says) of the ways to end by oneself that say something
_SAYS: dict[str, Callable[[Proc], Said]] = {
    "result": lambda proc: SaidResult(proc.attempt),
    "raise": lambda proc: SaidError("it raised", kind="SimError"),
    "start_error": lambda proc: SaidError("it could not be set up", at_start=True),
    "bad_message": lambda proc: SaidMessage(Message(Verb.ERROR)),
    "sleep": lambda proc: SaidMessage(Message.sleep(proc.wall() + proc.act.sleep_s)),
    "pause": lambda proc: SaidMessage(Message.pause()),
    "release": lambda proc: SaidMessage(Message.release().with_checkpoint(proc.checkpoint())),
    "kill": lambda proc: SaidMessage(Message.kill()),
    "complete": lambda proc: SaidMessage(Message(Verb.COMPLETE)),
    "checkpoint": lambda proc: SaidMessage(Message(Verb.CHECKPOINT)),
    "run": lambda proc: SaidMessage(Message.run()),
    "unwritable_result": lambda proc: SaidResult(float("inf")),
    "unwritable_checkpoint": lambda proc: SaidMessage(Message.pause().with_checkpoint('{"fence":0,"n":"\ud800"}')),
    "unspeakable_error": lambda proc: SaidError(_NO_TEXT, "no text"),
}
#: what may be answered to a command; "bad_message" is not valid
ANSWERS = ("pause", "sleep", "release", "result", "complete", "kill", "raise", "bad_message", "checkpoint", "run")


class Spy:
    """What the checkers are told of processes."""

    def started(self, proc: Proc) -> None: ...
    def said(self, proc: Proc, said: Said) -> None: ...
    def takes_node_down(self, proc: Proc) -> None: ...
    def ended(self, proc: Proc) -> None: ...
    def zygote_died(self, proc: Proc) -> None: ...


@dataclass(eq=False, slots=True)
class Proc:
    """later: a delay by the machine, whose processes stand still while it does. wall: its wall clock. on_exit is called
    twice: when the leader is dead, and when its tree is. on_save: (run, checkpoint). exit_code and signal as wait would
    tell them.

    cores: how many it uses, and from when on
    given: of its node's resources;  life_of_node: which life of the supervisor gave it
    outlives: it may go on when its claim has ended
    frozen: its machine stands still; thawed_at: when it went on; lapsed: its claim ended while it was frozen
    """

    world: World
    later: Callable[..., None]
    spy: Spy
    machine: str
    task: str
    run: int
    fence: int
    attempt: int
    act: Act
    stall_timeout_s: float | None
    memory_limit: int | None
    outlives: bool
    wall: Callable[[], float]
    on_exit: Callable[[Proc], None]
    on_save: Callable[[Proc, str], None]
    on_kill_zygote: Callable[[], None]
    cores: tuple[tuple[float, float], ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    life_of_node: int = 0
    started_at: float = 0.0
    said: Said | None = None
    exit_code: int | None = None
    signal: int | None = None
    leader_dead: bool = False
    dead: bool = False
    killed: bool = False
    asked: Message | None = None
    saves: int = 0
    dump_size: int = 0
    dead_at: float = field(default=0.0)
    frozen: bool = False
    thawed_at: float = -1.0
    lapsed: bool = False

    def start(self) -> None:
        self.started_at = self.world.now
        self.spy.started(self)
        if self.act.kind != "forever":
            self.later(self.act.after_s, self._end_by_itself)
        if self.act.saves_s is not None:
            self.later(self.act.saves_s, self._save)

    # -- what can be seen of it ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"{self.task} run {self.run} fence {self.fence} on {self.machine}"

    @property
    def undying(self) -> bool:
        """Something of it does not die of SIGKILL for long. Nobody can help it then when the lease ends."""
        return self.act.strays_s >= 1.0

    @property
    def age(self) -> float:
        return self.world.now - self.started_at

    @property
    def life(self) -> float:
        """Changes as long as it shows signs of life."""
        return self.age if self.act.hangs_s is None else min(self.age, self.act.hangs_s)

    @property
    def cpu_s(self) -> float:
        """What it has used: nothing while it shows no sign of life."""
        end = self.started_at + self.life
        used = 0.0
        for n, (at, cores) in enumerate(self.cores):
            until = self.cores[n + 1][0] if n + 1 < len(self.cores) else end
            used += cores * max(0.0, min(end, until) - max(self.started_at, at))
        return used

    @property
    def cores_now(self) -> float:
        if self.life < self.age:
            return 0.0
        return next((cores for at, cores in reversed(self.cores) if at <= self.world.now), 0.0)

    @property
    def memory(self) -> int:
        return BIG if self.act.swells_s is not None and self.age >= self.act.swells_s else SMALL

    @property
    def runs_on(self) -> bool:
        """Whether it does anything, or could: it does not while its machine stands still, and for the instant after
        that the zygote needs to look at the clock and to kill, nobody can help it."""
        return not self.frozen and self.world.now >= self.thawed_at + INSTANT_S

    def is_over_its_limits(self) -> bool:
        """Whether it deserves to be killed for itself."""
        hangs, stall_s = self.act.hangs_s, self.stall_timeout_s
        is_hung = hangs is not None and stall_s is not None and self.age > hangs + 0.7 * stall_s
        return is_hung or (self.memory_limit is not None and self.memory > self.memory_limit)

    # -- what is done to it -------------------------------------------------------------------------------------------

    def ask(self, message: Message) -> None:
        """A Stop frame arrived."""
        if self.asked is None and self.act.leave_s is not None and not self.leader_dead:
            self.asked = message
            self.later(self.act.leave_s, self._leave)

    def ask_checkpoint(self) -> None:
        if not self.leader_dead:
            self._save_once()

    def dump(self) -> None:
        if self.act.dump_s is not None:
            self.later(self.act.dump_s, self._write_stacks)

    def sigkill(self) -> None:
        if not self.killed:
            self.killed = True
            self.later(self.act.dies_s, self._leader_dies, None, 9)

    def power_off(self) -> None:
        """The machine is gone, and it with it."""
        self.leader_dead = self.killed = True
        self._tree_dies()

    # -- what it does -------------------------------------------------------------------------------------------------

    def checkpoint(self) -> str:
        self.saves += 1
        return f'{{"fence":{self.fence},"n":{self.saves}}}'

    def _save(self) -> None:
        if not self.leader_dead:
            self._save_once()
            assert self.act.saves_s is not None
            self.later(self.act.saves_s, self._save)

    def _save_once(self) -> None:
        self.on_save(self, self.checkpoint())

    def _write_stacks(self) -> None:
        if not self.leader_dead:
            self.dump_size = 1000

    def _leave(self) -> None:
        if self.leader_dead or self.asked is None:
            return
        if self.act.answer:
            self._say(_SAYS[self.act.answer](self))
        else:
            self._say(SaidMessage(self.asked.with_checkpoint(self.checkpoint())))
        self._leader_dies(0, None)

    def _end_by_itself(self) -> None:
        if self.leader_dead:
            return
        kind = self.act.kind
        if kind == "kill_zygote":
            self.on_kill_zygote()
            return
        if kind in DEADLY:
            self.spy.takes_node_down(self)
            return
        says = _SAYS.get(kind)
        if says is not None:
            self._say(says(self))
        self._leader_dies(3 if kind == "exit" else 0, None) if kind != "signal" else self._leader_dies(None, 11)

    def _say(self, said: Said) -> None:
        self.said = said
        self.spy.said(self, said)

    def _leader_dies(self, exit_code: int | None, signal: int | None) -> None:
        if self.leader_dead:
            return
        self.leader_dead = True
        self.exit_code, self.signal = exit_code, signal
        self.on_exit(self)
        self.later(self.act.strays_s, self._tree_dies)

    def _tree_dies(self) -> None:
        if self.dead:
            return
        self.dead, self.dead_at = True, self.world.now
        self.spy.ended(self)
        self.on_exit(self)


def draw_act(rng: random.Random, kind: str, *, stop_timeout_s: float) -> Act:
    """A run of this kind, cooperative or not."""
    obeys = rng.random() < 0.75
    answers = obeys and rng.random() < 0.15
    leave = rng.choice((0.0, 0.01, 0.2, 0.6 * stop_timeout_s)) if obeys else None
    return Act(
        kind=kind,
        after_s=rng.choice((0.0, 0.05, 0.5, 2.0, 8.0)) * (0.5 + rng.random()),
        leave_s=leave,
        answer=rng.choice(ANSWERS) if answers else "",
        hangs_s=rng.uniform(0.0, 3.0) if rng.random() < 0.3 else None,
        swells_s=rng.uniform(0.0, 3.0) if rng.random() < 0.2 else None,
        saves_s=rng.choice((None, None, None, 0.3, 2.0)),
        dies_s=rng.choice((0.0005, 0.002, 0.02, 0.1)),
        strays_s=rng.choice((0.0, 0.0, 0.005, 0.1)),
        dump_s=rng.choice((0.005, 0.05, None)),
        sleep_s=rng.choice((0.1, 1.0, 5.0)),
    )
