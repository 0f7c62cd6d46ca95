"""One machine of the simulated cluster: its clocks, its processes, and the supervisor that runs on it.

The supervisor is the real Core, Effects and StoreCoordinator; here is only what loop.py and consumer.py do around them,
and what a service manager does: start it again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from mpfora.config.settings import Settings
from mpfora.ipc import frames
from mpfora.store.kv import StoreError
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.by_name import make_balancer
from mpfora.supervisor.coordinator import last_will
from mpfora.supervisor.coordinator.store import StoreCoordinator
from mpfora.supervisor.core import Core
from mpfora.supervisor.effects import Effects
from mpfora.supervisor.node.node_commands import RESTART

from .clock import Host, World
from .fake_etcd import FakeEtcd
from .kernel import INSTANT_S, SCHEDULED_S, Act, Proc, Spy
from .network import Link
from .node_zygotes import NodeZygotes
from .scenario import EPOCH
from .store import SimStore
from .zygotes import ZygoteProcess

#: how late the timers of an event loop are, in seconds
TIMER_LATE_S = 0.0005
#: that many wakings in a row by the core's own timer, without an event, within a second
SPIN = 200
#: told to leave, or to be started again; and at its start: etcd is not reachable, its name is taken, no zygote. Nothing
#: else is drawn that should end a supervisor
EXPECTED_EXITS = (0, 3, 4, 5, RESTART)
#: after an exit with an error a service manager starts a supervisor again
RESTART_S = 1.0


class SimCoordinator(StoreCoordinator):
    """With a will that the simulation can execute."""

    def will(self) -> tuple[list[str], str] | None:
        session = self._session.current
        return None if session is None else ([session.node, str(session.lease)], "")


class Surroundings(Spy):
    """What a machine asks of the rest of the simulation, and tells it: see checkers.py and runner.py."""

    #: of all nodes, by name
    balancer: str

    def act_for(self, task: str, attempt: int) -> Act:
        raise NotImplementedError

    def cores_for(self, task: str) -> tuple[tuple[float, float], ...]:
        raise NotImplementedError

    def command(self, node: str, command: do.Action) -> None: ...
    def event(self, node: str, event: ev.Event) -> None: ...
    def start_failed(self, task: str) -> None: ...
    def thawed(self, proc: Proc) -> None: ...
    def fault(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...


class Supervisor:
    """One life of a supervisor process."""

    def __init__(self, machine: Machine, number: int) -> None:
        self._machine = machine
        self.host = Host(machine.world, f"{machine.name}#{number}", machine.boot_offset, machine.rate)
        self.host.lag = machine.timer_lag
        self._inbox: deque[ev.Event] = deque()
        self._is_draining = self._watching = self.exiting = False
        self._timer_at: float | None = None
        self._spins, self._spinning_since = 0, 0.0
        settings = machine.settings
        self._store = SimStore(self.host, machine.link, machine.name)
        self._coordinator = SimCoordinator(self._store, settings.namespace)
        self._zygote = NodeZygotes(self.host, machine, settings.handlers, self.put)
        self._effects = Effects(self._coordinator, self._zygote)  # type: ignore[arg-type]
        rng = random.Random(machine.rng.random())
        balancer = make_balancer(machine.around.balancer)
        self.core = Core(settings, balancer, host=machine.name, pid=number, created="", rng=rng)
        self.host.enter(self.put, ev.Tick())

    def put(self, event: ev.Event) -> None:
        """The one door. Called within the host."""
        self._inbox.append(event)
        if not self._is_draining:
            self._is_draining = True
            self.host.soon(self._drain)

    def shut_down(self, why: str) -> None:
        self.host.enter(self.put, ev.ShutdownAsked(why))

    def reload(self, within_s: float | None = None) -> None:
        self.host.enter(self.put, ev.ReloadAsked("reload", within_s))

    def restart(self) -> None:
        """Leave, to be started again."""
        self.host.enter(self.put, ev.ShutdownAsked("restart", RESTART))

    def _drain(self) -> None:
        while self._inbox and not self.exiting:
            self._step(self._inbox.popleft())
        self._is_draining = False
        if not self.exiting:
            self._set_timer()

    def _step(self, event: ev.Event) -> None:
        around = self._machine.around
        around.event(self._machine.name, event)
        for command in self._handle(event):
            around.command(self._machine.name, command)
            if isinstance(command, do.Exit):
                self._begin_exit(command.code)
                return
            answer = self._effects.start(command)
            if answer is not None:
                self.host.spawn(self._answer(answer))
        if isinstance(event, ev.SessionOpened) and not self._watching:
            self._watching = True
            self.host.spawn(self._watch())

    def _handle(self, event: ev.Event) -> list[do.Action]:
        """Hand an event to the core. No event that is drawn here may make it fail."""
        try:
            return self.core.handle(event, self._now())
        except Exception as bug:  # noqa: BLE001 - told
            self._machine.around.fault(f"{self.host.name}: its core fails at {event}: {bug!r}")
            return [do.Exit(1)]

    async def _answer(self, answer: Awaitable[ev.Event]) -> None:
        self.put(await answer)

    async def _watch(self) -> None:
        try:
            async for changes in self._coordinator.watch():
                self.put(ev.ClusterChanged(changes))
        except StoreError as error:
            if self.host.alive:
                self.put(ev.WatchFailed(str(error)))

    def _now(self) -> ev.Now:
        return ev.Now(self.host.boot_s, self._machine.wall_s())

    # -- the timer ----------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        at = self.core.wake_at(self._now())
        if at is None:
            self._timer_at = None
        elif self._timer_at is None or at < self._timer_at:
            self._timer_at = at
            self.host.after(max(0.0, at - self.host.boot_s) + TIMER_LATE_S, self._tick, at)

    def _tick(self, at: float) -> None:
        if self._timer_at != at or self.exiting:
            return
        self._timer_at = None
        self._look_for_spinning()
        self.put(ev.Tick())

    def _look_for_spinning(self) -> None:
        now = self._machine.world.now
        if now - self._spinning_since > 1.0:
            self._spins, self._spinning_since = 0, now
        self._spins += 1
        if self._spins == SPIN:
            self._machine.around.fault(f"{self.host.name}: its core wakes itself {SPIN} times within a second")

    # -- the end ------------------------------------------------------------------------------------------------------

    def _begin_exit(self, code: int) -> None:
        self.exiting = True
        for routine in list(self.host.routines):
            routine.cancel()
        self.host.spawn(self._exit(code))

    async def _exit(self, code: int) -> None:
        await self._zygote.close(late=self.core.is_late(self.host.boot_s))
        await self._coordinator.close()
        self._machine.supervisor_exited(self, code)


class Machine:
    """Made by the runner. `supervisor` is None while none runs. rate: of its boot clock, beside etcd's."""

    def __init__(
        self,
        world: World,
        etcd: FakeEtcd,
        around: Surroundings,
        settings: Settings,
        rng: random.Random,
        rate: float = 1.0,
        wrong_by_s: float = 0.0,
    ) -> None:
        self.world, self.etcd, self.around, self.settings, self.rng = world, etcd, around, settings, rng
        self.rate = rate
        self.name = settings.name
        self.link = Link(world, etcd, random.Random(rng.random()), self.name)
        self.boot_offset = rng.random() * 100_000
        self._wall_offset = EPOCH + rng.uniform(-0.5, 0.5)
        #: by how much its wall clock is ahead
        self.wrong_by_s = wrong_by_s
        self.supervisor: Supervisor | None = None
        self.is_on = True
        #: it stands still, all its processes with it, as a virtual machine may; what would have happened meanwhile
        self.paused = False
        self._missed: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._starts_late = False
        #: how late timers are, at most: a busy machine
        self.late_s = 0.0
        #: how long its zygote takes for a fork
        self.fork_s = 0.0
        #: zygotes cannot be started, forks fail
        self.cannot_start = self.cannot_fork = False
        #: it is started again whatever its exit code
        self.always_up = False
        self._zygotes: list[ZygoteProcess] = []
        self._hosts: list[Host] = []
        self._starts = 0
        self._serial = 0

    @property
    def boot_ns(self) -> int:
        return int((self.world.now * self.rate + self.boot_offset) * 1e9)

    def wall_s(self) -> float:
        return self.world.now + self._wall_offset + self.wrong_by_s

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    def timer_lag(self) -> float:
        return self.rng.random() * self.late_s if self.late_s else 0.0

    @property
    def living_zygotes(self) -> list[ZygoteProcess]:
        """The newest last."""
        return [zygote for zygote in self._zygotes if zygote.alive]

    @property
    def zygote(self) -> ZygoteProcess | None:
        """The newest, if it lives."""
        return self._zygotes[-1] if self._zygotes and self._zygotes[-1].alive else None

    # -- the supervisor's life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a supervisor, unless one runs or the machine is off."""
        if self.supervisor is not None or not self.is_on:
            return
        if self.paused:
            self._starts_late = True
            return
        self._starts += 1
        self.around.note(f"{self.name}: supervisor starts")
        self.supervisor = Supervisor(self, self._starts)
        self._hosts.append(self.supervisor.host)

    def kill_supervisor(self) -> None:
        if self.supervisor is None:
            return
        self.around.note(f"{self.name}: supervisor killed")
        self._end_supervisor()

    def supervisor_exited(self, supervisor: Supervisor, code: int) -> None:
        if supervisor is not self.supervisor:
            return
        self.around.note(f"{self.name}: supervisor exited with {code}")
        if code not in EXPECTED_EXITS:
            self.around.fault(f"{self.name}: its supervisor exits with code {code}")
        self._end_supervisor()
        if code or self.always_up:
            self.world.after(RESTART_S, self.start)

    def _end_supervisor(self) -> None:
        supervisor, self.supervisor = self.supervisor, None
        assert supervisor is not None
        supervisor.host.kill()
        for zygote in self._zygotes:
            if zygote.alive:
                zygote.go_on()  # its death signal
                self.world.after(0.0002, zygote.hear_eof)

    def power_off(self) -> None:
        """The whole machine is gone at once, in one instant."""
        self.around.note(f"{self.name}: machine off")
        self.is_on = self.paused = self._starts_late = False
        self._missed.clear()
        for host in self._hosts:
            host.kill()
        self.supervisor = None
        for zygote in self._zygotes:
            zygote.alive, zygote.will = False, None
            for proc in zygote.procs.values():
                proc.power_off()

    def later(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        """Call a function later, by the machine's clock: for what its processes do."""
        self.world.after(delay, self._happen, action, args)

    def _happen(self, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self.paused:
            self._missed.append((action, args))
        else:
            action(*args)

    def can_pause(self) -> bool:
        """Whether nothing else keeps supervisor or zygote from running: that both are stopped at once, or the zygote
        after the pause, is outside the promises."""
        supervisor = self.supervisor
        is_stopped = supervisor is not None and supervisor.host.stopped
        is_stopped |= any(zygote.stopped for zygote in self.living_zygotes)
        return self.is_on and not self.paused and not is_stopped

    def pause(self) -> None:
        """Everything on it stands still; its clocks go on."""
        self.around.note(f"{self.name}: machine paused")
        self.paused = True
        for host in self._hosts:
            host.stop()
        for zygote in self._zygotes:
            zygote.stop()
            for proc in zygote.procs.values():
                proc.frozen = True

    def resume(self) -> None:
        """Children and supervisor may be scheduled before the zygote."""
        if not self.paused:
            return
        self.around.note(f"{self.name}: machine goes on")
        self.paused = False
        for zygote in self._zygotes:
            self.world.after(self.rng.random() * SCHEDULED_S, zygote.go_on)
            for proc in zygote.procs.values():
                proc.frozen, proc.thawed_at = False, self.world.now
                self.world.after(INSTANT_S, self.around.thawed, proc)
        missed, self._missed = self._missed, []
        for action, args in missed:
            action(*args)
        for host in self._hosts:
            if host.alive:
                host.go_on()
        if self._starts_late:
            self._starts_late = False
            self.start()

    def power_on(self) -> None:
        self.is_on = True
        self.start()

    def bury(self) -> None:
        """After the world's end."""
        for host in self._hosts:
            host.kill()
            host.bury()

    # -- processes ----------------------------------------------------------------------------------------------------

    def zygote_started(self, zygote: ZygoteProcess) -> None:
        self._zygotes = [each for each in self._zygotes if each.alive or each.procs]
        self._zygotes.append(zygote)

    def import_s(self) -> float | None:
        return None if self.cannot_start else self.rng.choice((0.05, 0.2, 0.8))

    def why_no_fork(self) -> str | None:
        return "no processes to be had" if self.cannot_fork else None

    def fork(
        self,
        frame: frames.Fork,
        on_exit: Callable[[Proc], None],
        on_save: Callable[[Proc, str], None],
        on_kill_zygote: Callable[[], None],
    ) -> Proc:
        spec, limits = frame.spec, frame.spec.limits
        task_id, fence, attempt = spec.task_id, spec.fence, spec.attempt
        act = self.around.act_for(task_id, attempt)
        return Proc(
            self.world, self.later, self.around, self.name, task_id, frame.run, fence, attempt, act,
            limits.stall_timeout_s, limits.memory_limit, not self.settings.fences, self.wall_s, on_exit, on_save,
            on_kill_zygote, self.around.cores_for(task_id), {} if spec.given is None else spec.given.amounts,
            self._starts,
        )  # fmt: skip

    def execute_will(self, argv: tuple[list[str], str] | None) -> None:
        if argv is None or not self.is_on:
            return
        (node, lease), _ = argv
        host = Host(self.world, f"{self.name}/will", self.boot_offset, self.rate)
        self._hosts.append(host)
        self.world.after(0.2, host.enter, self._run_will, host, node, int(lease))

    def _run_will(self, host: Host, node: str, lease: int) -> None:
        store: Any = SimStore(host, self.link, node)
        host.spawn(self._carry_out(store, node, lease))
        self.world.after(last_will.WILL_S, host.kill)

    async def _carry_out(self, store: Any, node: str, lease: int) -> None:
        try:
            released = await last_will.carry_out(store, self.etcd.layout, node, lease)
        except StoreError as error:
            self.around.note(f"{self.name}: will not carried out: {error}")
        else:
            self.around.note(f"{self.name}: will released {released}")
