"""The zygote in the simulation: its process, with the real KillDecisions in its loop, and the supervisor's end of it.

What travels between them are the frames of mpfora.ipc.frames, each a fraction of a millisecond on its way. Forks take
their time, one in each turn of the zygote, and wait for each other; what is urgent does not wait for them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpfora.child.zygote.kill_decisions import Dump, KillDecisions, Sigkill
from mpfora.child.zygote.watch_list import Limits
from mpfora.handlers import HandlerSettings
from mpfora.ipc import frames
from mpfora.model.outcome import Cause, Death, SaidResult, classify
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.model.state import Message
from mpfora.supervisor import events as ev
from mpfora.supervisor.zygote.runs import RunUsage
from mpfora.supervisor.zygote.startup import ZygoteStartError

from .clock import Future, Host
from .kernel import Proc

if TYPE_CHECKING:
    from .machine import Machine

#: of a frame
FRAME_S = 0.0002
PING_EVERY_S, PING_S, CLOSE_S = 1.0, 5.0, 5.0
#: what a dead zygote has left may take so long to die before its runs are held; and at a close that is late
CLEANUP_S, LATE_S = 2.0, 0.1
#: how long a will waits for the other zygotes of its node
SIBLINGS_S = 30.0
#: between two looks at what the runs take of memory
SCAN_NS = 500_000_000


class ZygoteProcess:
    """The loop of mpfora/child/zygote/loop.py. It is stopped and continued, and killed, as any process."""

    def __init__(
        self,
        machine: Machine,
        to_supervisor: Callable[[frames.Frame], None],
        on_save: Callable[[Proc, str], None],
        on_dead: Callable[[], None],
    ) -> None:
        self._machine, self._world, self._on_save = machine, machine.world, on_save
        self._to_supervisor, self._on_dead = to_supervisor, on_dead
        self._decisions = KillDecisions()
        #: those whose tree is not known to be dead, and all that ever were
        self.procs: dict[int, Proc] = {}
        self.all: dict[int, Proc] = {}
        #: what was sent to a child that is not forked yet: its socket is there already
        self.early: dict[int, list[Callable[[Proc], None]]] = {}
        self._reaped: dict[int, Cause | None] = {}
        self._inbox: deque[frames.Frame] = deque()
        self._urgent: deque[frames.Frame] = deque()
        #: until when it forks
        self._busy_until = 0.0
        self._newest_run = 0
        self._early_kills: dict[int, frames.Kill] = {}
        self._eof = False
        self._leaving = False
        self.will: Any = None
        #: the other zygotes of the node, which the will waits for
        self.siblings: list[ZygoteProcess] = []
        self.alive, self.stopped = True, False
        self._timer_at: float | None = None
        #: when the runs' beats are looked at next, and their memory
        self._beats_at = self._scan_at = 0

    # -- what reaches it ----------------------------------------------------------------------------------------------

    def receive(self, frame: frames.Frame) -> None:
        is_urgent = isinstance(frame, frames.Deadline | frames.Kill | frames.Ping)
        (self._urgent if is_urgent else self._inbox).append(frame)
        self._turn()

    def hear_eof(self) -> None:
        self._eof = True
        self._turn()

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        self.stopped = False
        self._turn()

    def kill(self) -> None:
        """SIGKILL: its children get their death signal, and its parent hears of it."""
        if not self.alive:
            return
        self.alive = False
        for proc in self.procs.values():
            self._machine.around.zygote_died(proc)
            proc.sigkill()
        self._on_dead()

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _turn(self, _: Proc | None = None) -> None:
        if not self.alive or self.stopped or self._world.now < self._busy_until:
            return
        now = self._machine.boot_ns
        if self._eof and not self._leaving:
            self._leave(Cause.LOST_CLAIM, now)
        self._carry_out(now)
        while self._urgent:
            self._take(self._urgent.popleft(), now)
        while self._inbox:
            frame = self._inbox.popleft()
            self._take(frame, now)
            if isinstance(frame, frames.Fork) and self._machine.fork_s:
                self._busy_until = self._world.now + self._machine.fork_s
                self._world.at(self._busy_until, self._turn)
                break
        self._reap()
        self._look(now)
        self._carry_out(now)
        if self._leaving and not self.procs:
            self._exit()
            return
        self._set_timer(now)

    def _set_timer(self, now: int) -> None:
        times = [self._decisions.wake_at(now), self._next_look()]
        at = min((time for time in times if time is not None), default=None)
        if at is None:
            return
        due = self._world.now + (at - now) / 1e9 / self._machine.rate
        if self._timer_at is None or due < self._timer_at or self._timer_at <= self._world.now:
            self._timer_at = due
            # a little later, so that rounding does not wake it too early for ever
            self._world.at(due + 2e-9, self._tick, due)

    def _next_look(self) -> int | None:
        times = [self._beats_at] if self._look_every_ns() is not None else []
        times += [self._scan_at] if self._decisions.watched.memory else []
        return min(times, default=None)

    def _look_every_ns(self) -> int | None:
        every = [self._decisions.watched.look_every_ns(by) for by in ("beats", "cpu")]
        return min((ns for ns in every if ns is not None), default=None)

    def _look(self, now: int) -> None:
        """As child/zygote/monitor.py does; beats and CPU time are one and the same here."""
        for run in self._decisions.dumping():
            self._decisions.saw_dump(run, self.procs[run].dump_size, now)
        if now >= self._beats_at and (every := self._look_every_ns()) is not None:
            self._beats_at = now + every
            for by in ("beats", "cpu"):
                for run in self._decisions.watched.runs_by(by):
                    self._decisions.saw_life(run, self.procs[run].life, now)
        if now >= self._scan_at and self._decisions.watched.memory:
            self._scan_at = now + SCAN_NS
            for run in list(self._decisions.watched.memory):
                self._decisions.saw_memory(run, self.procs[run].memory)

    def _tick(self, due: float) -> None:
        if self._timer_at == due:
            self._timer_at = None
        self._turn()

    def _carry_out(self, now: int) -> None:
        for command in self._decisions.decide(now):
            proc = self.procs[command.run]
            if isinstance(command, Dump):
                proc.dump()
            elif isinstance(command, Sigkill):  # a look into a run changes nothing here
                proc.sigkill()

    def _take(self, frame: frames.Frame, now: int) -> None:
        match frame:
            case frames.Fork():
                self._fork(frame, now)
            case frames.Kill(run) if run > self._newest_run:
                self._early_kills[run] = frame
            case frames.Kill(run, cause, dump):
                self._decisions.ask(run, Cause(cause), dump)
            case frames.Deadline(boot_ns):
                self._decisions.set_deadline(boot_ns)
            case frames.Will(argv):
                self.will = argv
            case frames.Ping(number):
                self._to_supervisor(frames.Pong(number))
            case frames.Bye():
                self.will = None
                self._leave(Cause.STOP_TIMEOUT, now)

    def _fork(self, frame: frames.Fork, now: int) -> None:
        self._newest_run = frame.run
        early = self._early_kills.pop(frame.run, None)
        self._try_fork(frame, now)
        if early is not None:
            self._decisions.ask(frame.run, Cause(early.cause), early.dump)

    def _try_fork(self, frame: frames.Fork, now: int) -> None:
        if (reason := self._decisions.why_no_fork(now)) is not None:
            self._to_supervisor(frames.StartFailed(frame.run, reason, Cause.LOST_CLAIM.value))
            return
        if (reason := self._machine.why_no_fork()) is not None:
            self._to_supervisor(frames.StartFailed(frame.run, reason, Cause.NO_PROCESS.value))
            return
        if frame.spec.handler == frames.SELF_TEST:
            self._to_supervisor(frames.Exited(frame.run, 0, None))
            return
        proc = self._machine.fork(frame, self._turn, self._on_save, self.kill)
        self.procs[frame.run] = self.all[frame.run] = proc
        limits = frame.spec.limits
        stall_ns = None if limits.stall_timeout_s is None else int(limits.stall_timeout_s * 1e9)
        self._decisions.add(frame.run, Limits(stall_ns, limits.stall_by, limits.memory_limit), now)
        proc.start()
        for act in self.early.pop(frame.run, ()):
            act(proc)
        self._to_supervisor(frames.Started(frame.run, frame.run + 1000))

    def _reap(self) -> None:
        for run, proc in list(self.procs.items()):
            if proc.leader_dead and run not in self._reaped:
                self._reaped[run] = self._decisions.remove(run)
            if proc.dead:
                del self.procs[run]
                cause = self._reaped.pop(run)
                exited = frames.Exited(run, proc.exit_code, proc.signal, None if cause is None else cause.value)
                self._to_supervisor(exited)

    def _leave(self, cause: Cause, now: int) -> None:
        self._leaving = True
        self._decisions.abandon(cause)

    def _exit(self) -> None:
        self.alive = False
        self._on_dead()
        self._execute_will(self._world.now + SIBLINGS_S)

    def _execute_will(self, by: float) -> None:
        """When nothing is left of the siblings either."""
        if self.will is None or self._world.now > by:
            return
        if any(sibling.is_left for sibling in self.siblings):
            self._machine.later(0.005, self._execute_will, by)
        else:
            self._machine.execute_will(self.will)

    @property
    def is_left(self) -> bool:
        """Whether the zygote lives, or a process that it has forked."""
        return self.alive or any(not proc.dead for proc in self.procs.values())


class ZygoteEnd:
    """The supervisor's end of one zygote: mpfora/supervisor/zygote/zygote.py."""

    def __init__(self, host: Host, machine: Machine, handlers: tuple[str, ...], put: Callable[[ev.Event], None]):
        self._host, self._machine, self._handlers, self._put = host, machine, handlers, put
        self._process: ZygoteProcess | None = None
        self._all: list[ZygoteProcess] = []
        self._runs: dict[int, Proc | None] = {}
        self._limits: dict[int, RunLimits] = {}
        self._zygote_isolation: set[int] = set()
        #: of zygotes that are dead
        self._held: dict[int, Proc] = {}
        self._saves: dict[int, str] = {}
        self._deadline = frames.Deadline(None)
        self._will = frames.Will(None)
        self._ready: Future | None = None
        self._buried: Future | None = None
        self._is_closing = self._is_ready = self._is_late = False
        self._unanswered = 0
        self._reason = ""

    async def start(self) -> ev.ZygoteReady:
        if self._process is not None:
            raise RuntimeError("this zygote runs already")
        self._process = process = ZygoteProcess(
            self._machine, self._send_up, self._send_save, lambda: self._tell_death(process)
        )
        self._machine.zygote_started(process)
        self._all.append(process)
        self._is_ready, self._unanswered, self._reason = False, 0, ""
        self._ready = Future(self._host)
        import_s = self._machine.import_s()
        if import_s is None:
            self._machine.world.after(0.1, process.kill)
        else:
            self._host.after(import_s, self._imported, process)
        error = await self._ready
        if error is not None:
            raise ZygoteStartError(error)
        self._is_ready = True
        self._send(self._deadline)
        self._send(self._will)
        self._host.after(PING_EVERY_S, self._ping, process)
        return ev.ZygoteReady(self._machine.serial(), tuple((name, HandlerSettings()) for name in self._handlers))

    def _imported(self, process: ZygoteProcess) -> None:
        if process.alive and self._ready is not None:
            self._ready.set_result(None)

    @property
    def is_idle(self) -> bool:
        """It has no run, and lives."""
        return not (self._runs or self._held) and self._process is not None and self._process.alive

    def wait_for(self, others: list[ZygoteEnd]) -> None:
        """Its will waits for the end of these."""
        if self._process is not None:
            self._process.siblings = [process for other in others for process in other.processes]

    @property
    def processes(self) -> list[ZygoteProcess]:
        """The one that it has, or had."""
        return self._all

    def begin_close(self, *, late: bool) -> None:
        self._is_closing, self._is_late = True, late
        process = self._process
        if process is None:
            return
        self._buried = self._buried or Future(self._host)
        self._send(frames.Bye())
        self._host.after(LATE_S if late else CLOSE_S, process.kill)

    def kill_now(self) -> None:
        """A later start has begun."""
        if self._process is not None:
            self._process.kill()

    async def closed(self) -> None:
        if self._buried is not None and not self._buried.done():
            await self._buried

    # -- what effects.py asks -----------------------------------------------------------------------------------------

    def fork(self, run: int, spec: RunSpec) -> None:
        if self._process is None or not self._process.alive:
            self._host.soon(self._not_started, run)
            return
        self._runs[run], self._limits[run] = None, spec.limits
        if spec.handler == frames.SELF_TEST:
            self._zygote_isolation.add(run)
        self._send(frames.Fork(run, 0, spec))

    def ask_stop(self, run: int, message: Message, reason: str, within_s: float) -> None:
        self._to_child(run, lambda proc: proc.ask(message))

    def ask_checkpoint(self, run: int) -> None:
        self._to_child(run, lambda proc: proc.ask_checkpoint())

    def kill(self, run: int, cause: Cause, dump: bool = True) -> None:
        if run in self._runs:
            self._send(frames.Kill(run, cause.value, dump))

    def probe(self, within_s: float) -> None:
        if self._process is not None:
            self._host.after(within_s, self._look_after_probe, self._process)

    def _look_after_probe(self, process: ZygoteProcess) -> None:
        if process is self._process and process.alive and process.stopped:
            self._kill_process("it gave no sign of life")

    def set_deadline(self, boot_ns: int | None) -> None:
        self._deadline = frames.Deadline(boot_ns)
        self._send(self._deadline)

    def set_will(self, will: tuple[list[str], str] | None) -> None:
        self._will = frames.Will(will)  # type: ignore[arg-type]
        self._send(self._will)

    def progress(self, run: int) -> None:
        return None

    def limits(self, run: int) -> RunLimits | None:
        return self._limits.get(run)

    def usage(self, run: int) -> RunUsage | None:
        """As looked at just now."""
        proc = self._process.all.get(run) if self._process is not None else None
        if proc is None or proc.leader_dead:
            return None
        return RunUsage(proc.cpu_s, proc.memory, 1, self._host.boot_s)

    # -- frames -------------------------------------------------------------------------------------------------------

    def _send(self, frame: frames.Frame) -> None:
        process = self._process
        if process is not None and process.alive:
            self._machine.world.after(FRAME_S, process.receive, frame)

    def _to_child(self, run: int, act: Callable[[Proc], None]) -> None:
        """The control socket exists before the fork: what is sent early is read late."""
        process = self._process
        if process is None or run not in self._runs:
            return

        def arrive() -> None:
            if run in process.all:
                act(process.all[run])
            else:
                process.early.setdefault(run, []).append(act)

        self._machine.world.after(FRAME_S, arrive)

    def _send_up(self, frame: frames.Frame) -> None:
        self._machine.world.after(FRAME_S, self._host.enter, self._hear, frame)

    def _send_save(self, proc: Proc, checkpoint_json: str) -> None:
        self._machine.world.after(FRAME_S, self._host.enter, self._saved, proc.run, checkpoint_json)

    def _saved(self, run: int, checkpoint_json: str) -> None:
        if run in self._runs:
            self._put(ev.ChildSaved(run, checkpoint_json))

    def _hear(self, frame: frames.Frame) -> None:
        self._unanswered = 0
        match frame:
            case frames.Exited(run, exit_code, signal, killed_for):
                cause = None if killed_for is None else Cause(killed_for)
                self._end(run, Death(exit_code, signal, cause))
            case frames.StartFailed(run, error, cause):
                self._end(run, Death(killed_for=Cause(cause), note=error))

    def _end(self, run: int, death: Death) -> None:
        if run not in self._runs:
            return
        del self._runs[run]
        proc = self._process.all.get(run) if self._process is not None else None
        said = proc.said if proc else None
        if run in self._zygote_isolation and death.exit_code == 0:
            said = SaidResult(None)
        self._put(ev.ChildExited(run, classify(said, death)))

    def _not_started(self, run: int) -> None:
        death = Death(killed_for=Cause.ZYGOTE_LOST, note="there is no zygote")
        self._put(ev.ChildExited(run, classify(None, death)))

    # -- its death ----------------------------------------------------------------------------------------------------

    def _ping(self, process: ZygoteProcess) -> None:
        if process is not self._process or not process.alive:
            return
        if self._unanswered * PING_EVERY_S >= PING_S:
            self._kill_process(f"it did not answer for {PING_S:g} s")
            return
        self._unanswered += 1
        self._send(frames.Ping(self._unanswered))
        self._host.after(PING_EVERY_S, self._ping, process)

    def _kill_process(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._process is not None:
            self._process.kill()

    def _tell_death(self, process: ZygoteProcess) -> None:
        # after the frames that it sent before
        began = self._machine.world.now
        self._machine.world.after(2 * FRAME_S, self._host.enter, self._bury, process, began)

    def _bury(self, process: ZygoteProcess, began: float) -> None:
        """As supervisor/zygote/cleanup.py does: look again and again until nothing is left of the zygote. A run ends
        when nothing of it is left. A process that does not die holds its own run; the others end with the zygote."""
        held = {run: proc for run, proc in process.procs.items() if not proc.dead}
        for run in self._cleared(held):
            self._end(run, Death(killed_for=Cause.ZYGOTE_LOST, note=self._reason))
        if held and self._machine.world.now < began + (LATE_S if self._is_late else CLEANUP_S):
            self._host.after(0.005, self._bury, process, began)
            return
        for run, proc in held.items():
            if self._runs.pop(run, proc) is None:
                self._held[run] = proc
                self._host.after(0.005, self._look_at_held, run)
        if not self._is_ready and self._ready is not None and not self._ready.done():
            self._ready.set_result(self._reason or "it died")
        self._process = None
        if self._buried is not None and not self._buried.done():
            self._buried.set_result(None)
        if self._is_ready and not self._is_closing:
            self._put(ev.ZygoteLost(self._reason or "it was killed"))

    def _cleared(self, held: dict[int, Proc]) -> list[int]:
        return [run for run in self._runs if run not in held]

    def _look_at_held(self, run: int) -> None:
        proc = self._held[run]
        if not proc.dead:
            self._host.after(0.05, self._look_at_held, run)
            return
        del self._held[run]
        self._put(ev.ChildExited(run, classify(proc.said, Death(killed_for=Cause.ZYGOTE_LOST))))


def draw_import_s(rng: random.Random) -> float:
    return rng.choice((0.05, 0.2, 0.8))
