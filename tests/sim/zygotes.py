"""The zygote in the simulation: its process, with the real Deadman in its loop, and the supervisor's end of it.

What travels between them are the frames of mpfora.wire, each a fraction of a millisecond on its way.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpfora import wire
from mpfora.child.deadman import Deadman, Dump, Limits
from mpfora.handlers import HandlerSettings
from mpfora.outcome import Cause, Death, classify
from mpfora.states import Message
from mpfora.supervisor import events as ev
from mpfora.supervisor.commands import RunLimits
from mpfora.supervisor.runs import RunUsage
from mpfora.supervisor.zygote import ZygoteStartError

from .clock import Future, Host
from .kernel import Proc

if TYPE_CHECKING:
    from .machine import Machine

#: of a frame
FRAME_S = 0.0002
PING_EVERY_S, PING_S, CLOSE_S = 1.0, 5.0, 5.0
#: between two looks at what the runs take of memory
SCAN_NS = 500_000_000


class ZygoteProcess:
    """The loop of mpfora/child/zygote.py. It is stopped and continued, and killed, as any process."""

    def __init__(
        self,
        machine: Machine,
        to_supervisor: Callable[[wire.Frame], None],
        on_save: Callable[[Proc, str], None],
        on_dead: Callable[[], None],
    ) -> None:
        self._machine, self._world, self._on_save = machine, machine.world, on_save
        self._to_supervisor, self._on_dead = to_supervisor, on_dead
        self._deadman = Deadman()
        #: those whose tree is not known to be dead, and all that ever were
        self.procs: dict[int, Proc] = {}
        self.all: dict[int, Proc] = {}
        #: what was sent to a child that is not forked yet: its socket is there already
        self.early: dict[int, list[Callable[[Proc], None]]] = {}
        self._reaped: dict[int, Cause | None] = {}
        self._inbox: deque[wire.Frame] = deque()
        self._eof = False
        self._leaving = False
        self.will: Any = None
        self.alive, self.stopped = True, False
        self._timer_at: float | None = None
        #: when the runs' beats are looked at next, and their memory
        self._beats_at = self._scan_at = 0

    # -- what reaches it ----------------------------------------------------------------------------------------------

    def receive(self, frame: wire.Frame) -> None:
        self._inbox.append(frame)
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
        if not self.alive or self.stopped:
            return
        now = self._machine.boot_ns
        if self._eof and not self._leaving:
            self._leave(Cause.LOST_CLAIM, now)
        self._carry_out(now)
        while self._inbox:
            self._take(self._inbox.popleft(), now)
        self._reap()
        self._look(now)
        self._carry_out(now)
        if self._leaving and not self.procs:
            self._exit()
            return
        self._set_timer(now)

    def _set_timer(self, now: int) -> None:
        times = [self._deadman.wake_at(now), self._next_look()]
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
        times += [self._scan_at] if self._deadman.has_memory_limits else []
        return min(times, default=None)

    def _look_every_ns(self) -> int | None:
        every = [self._deadman.look_every_ns(by) for by in ("beats", "cpu")]
        return min((ns for ns in every if ns is not None), default=None)

    def _look(self, now: int) -> None:
        """As the zygote's Watch; beats and CPU time are one and the same here."""
        for run in self._deadman.dumping():
            self._deadman.saw_dump(run, self.procs[run].dump_size, now)
        if now >= self._beats_at and (every := self._look_every_ns()) is not None:
            self._beats_at = now + every
            for by in ("beats", "cpu"):
                for run in self._deadman.runs_to_look_at(by):
                    self._deadman.saw_life(run, self.procs[run].life, now)
        if now >= self._scan_at and self._deadman.has_memory_limits:
            self._scan_at = now + SCAN_NS
            for run in self._deadman.memory_limits():
                self._deadman.saw_memory(run, self.procs[run].memory)

    def _tick(self, due: float) -> None:
        if self._timer_at == due:
            self._timer_at = None
        self._turn()

    def _carry_out(self, now: int) -> None:
        for command in self._deadman.decide(now):
            proc = self.procs[command.run]
            proc.dump() if isinstance(command, Dump) else proc.sigkill()

    def _take(self, frame: wire.Frame, now: int) -> None:
        match frame:
            case wire.Fork():
                self._fork(frame, now)
            case wire.Kill(run, cause, dump):
                self._deadman.ask(run, Cause(cause), dump)
            case wire.Deadline(boot_ns):
                self._deadman.set_deadline(boot_ns)
            case wire.Will(argv):
                self.will = argv
            case wire.Ping(number):
                self._to_supervisor(wire.Pong(number))
            case wire.Bye():
                self.will = None
                self._leave(Cause.STOP_TIMEOUT, now)

    def _fork(self, order: wire.Fork, now: int) -> None:
        if (reason := self._deadman.why_no_fork(now)) is not None:
            self._to_supervisor(wire.StartFailed(order.run, reason, Cause.LOST_CLAIM.value))
            return
        if (reason := self._machine.why_no_fork()) is not None:
            self._machine.around.start_failed(order.task)
            self._to_supervisor(wire.StartFailed(order.run, reason))
            return
        proc = self._machine.fork(order, self._turn, self._on_save, self.kill)
        self.procs[order.run] = self.all[order.run] = proc
        stall_ns = None if order.stall_timeout_s is None else int(order.stall_timeout_s * 1e9)
        self._deadman.add(order.run, Limits(stall_ns, order.stall_by, order.memory_limit), now)
        proc.start()
        for act in self.early.pop(order.run, ()):
            act(proc)
        self._to_supervisor(wire.Started(order.run, order.run + 1000))

    def _reap(self) -> None:
        for run, proc in list(self.procs.items()):
            if proc.leader_dead and run not in self._reaped:
                self._reaped[run] = self._deadman.remove(run)
            if proc.dead:
                del self.procs[run]
                cause = self._reaped.pop(run)
                exited = wire.Exited(run, proc.exit_code, proc.signal, None if cause is None else cause.value)
                self._to_supervisor(exited)

    def _leave(self, cause: Cause, now: int) -> None:
        self._leaving = True
        self._deadman.abandon(cause)

    def _exit(self) -> None:
        self.alive = False
        if self.will is not None:
            self._machine.execute_will(self.will)
        self._on_dead()


class ZygoteEnd:
    """What effects.py calls: the interface of mpfora.supervisor.zygote.Zygote."""

    def __init__(self, host: Host, machine: Machine, handlers: tuple[str, ...], put: Callable[[ev.Event], None]):
        self._host, self._machine, self._handlers, self._put = host, machine, handlers, put
        self._process: ZygoteProcess | None = None
        self._runs: dict[int, Proc | None] = {}
        self._saves: dict[int, str] = {}
        self._deadline = wire.Deadline(None)
        self._will = wire.Will(None)
        self._ready: Future | None = None
        self._buried: Future | None = None
        self._is_closing = self._is_ready = False
        self._unanswered = 0
        self._reason = ""

    async def start(self) -> ev.ZygoteReady:
        if self._process is not None:
            raise RuntimeError("this zygote runs already")
        self._process = process = ZygoteProcess(
            self._machine, self._send_up, self._send_save, lambda: self._tell_death(process)
        )
        self._machine.zygote_started(process)
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

    async def close(self) -> None:
        self._is_closing = True
        process = self._process
        if process is None:
            return
        self._buried = Future(self._host)
        self._send(wire.Bye())
        self._host.after(CLOSE_S, process.kill)
        await self._buried

    # -- what effects.py asks -----------------------------------------------------------------------------------------

    def fork(
        self,
        run: int,
        task_id: str,
        handler: str,
        props_json: str,
        fence: int,
        attempt: int,
        checkpoint_json: str | None,
        limits: RunLimits,
    ) -> None:
        if self._process is None or not self._process.alive:
            self._host.soon(self._not_started, run)
            return
        self._runs[run] = None
        order = wire.Fork(
            run, task_id, handler, props_json, fence, attempt, checkpoint_json, 0,
            limits.stop_timeout_s, limits.stall_timeout_s, limits.stall_by, limits.memory_limit,
        )  # fmt: skip
        self._send(order)

    def ask_stop(self, run: int, message: Message, reason: str, within_s: float) -> None:
        self._to_child(run, lambda proc: proc.ask(message))

    def ask_checkpoint(self, run: int) -> None:
        self._to_child(run, lambda proc: proc.ask_checkpoint())

    def kill(self, run: int, cause: Cause, dump: bool = True) -> None:
        if run in self._runs:
            self._send(wire.Kill(run, cause.value, dump))

    def kill_now(self) -> None:
        if self._process is not None:
            self._kill_process("it was killed by the supervisor")

    def probe(self, within_s: float) -> None:
        if self._process is not None:
            self._host.after(within_s, self._look_after_probe, self._process)

    def _look_after_probe(self, process: ZygoteProcess) -> None:
        if process is self._process and process.alive and process.stopped:
            self._kill_process("it gave no sign of life")

    def set_deadline(self, boot_ns: int | None) -> None:
        self._deadline = wire.Deadline(boot_ns)
        self._send(self._deadline)

    def set_will(self, will: tuple[list[str], str] | None) -> None:
        self._will = wire.Will(will)  # type: ignore[arg-type]
        self._send(self._will)

    def progress(self, run: int) -> None:
        return None

    def usage(self, run: int) -> RunUsage | None:
        """As looked at just now."""
        proc = self._process.all.get(run) if self._process is not None else None
        if proc is None or proc.leader_dead:
            return None
        return RunUsage(proc.cpu_s, proc.memory, 1, self._host.boot_s)

    # -- frames -------------------------------------------------------------------------------------------------------

    def _send(self, frame: wire.Frame) -> None:
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

    def _send_up(self, frame: wire.Frame) -> None:
        self._machine.world.after(FRAME_S, self._host.enter, self._hear, frame)

    def _send_save(self, proc: Proc, checkpoint_json: str) -> None:
        self._machine.world.after(FRAME_S, self._host.enter, self._saved, proc.run, checkpoint_json)

    def _saved(self, run: int, checkpoint_json: str) -> None:
        if run in self._runs:
            self._put(ev.ChildSaved(run, checkpoint_json))

    def _hear(self, frame: wire.Frame) -> None:
        self._unanswered = 0
        match frame:
            case wire.Started(run, pid):
                if run in self._runs:
                    self._put(ev.ChildStarted(run, pid))
            case wire.Exited(run, exit_code, signal, killed_for):
                cause = None if killed_for is None else Cause(killed_for)
                self._end(run, Death(exit_code, signal, cause))
            case wire.StartFailed(run, error, cause):
                self._end(run, Death(killed_for=Cause(cause), note=error))

    def _end(self, run: int, death: Death) -> None:
        if run not in self._runs:
            return
        del self._runs[run]
        proc = self._process.all.get(run) if self._process is not None else None
        self._put(ev.ChildExited(run, classify(proc.said if proc else None, death)))

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
        self._send(wire.Ping(self._unanswered))
        self._host.after(PING_EVERY_S, self._ping, process)

    def _kill_process(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._process is not None:
            self._process.kill()

    def _tell_death(self, process: ZygoteProcess) -> None:
        # after the frames that it sent before
        self._machine.world.after(2 * FRAME_S, self._host.enter, self._bury, process)

    def _bury(self, process: ZygoteProcess) -> None:
        """As the reaper: look again and again until nothing is left of it."""
        if any(not proc.dead for proc in process.procs.values()):
            self._host.after(0.005, self._bury, process)
            return
        if not self._is_ready and self._ready is not None and not self._ready.done():
            self._ready.set_result(self._reason or "it died")
        for run in list(self._runs):
            self._end(run, Death(killed_for=Cause.ZYGOTE_LOST, note=self._reason))
        self._process = None
        if self._buried is not None:
            self._buried.set_result(None)
        if self._is_ready and not self._is_closing:
            self._put(ev.ZygoteLost(self._reason or "it was killed"))


def draw_import_s(rng: random.Random) -> float:
    return rng.choice((0.05, 0.2, 0.8))
