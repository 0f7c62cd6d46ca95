"""A life of two simulated nodes with one task that is not as it should be among good ones, and what must not come of
it.

Everything of the node is real but etcd, the clock and processes. `live` returns what went wrong, in words.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sim import kernel
from sim.clock import World
from sim.fake_etcd import FakeEtcd
from sim.kernel import Act, Proc
from sim.machine import Machine, Surroundings
from sim.runner import simulated

from mpfora.cli import render
from mpfora.client.snapshot.balance_preview import planned_moves, with_shares
from mpfora.client.snapshot.rows import node_rows, task_rows
from mpfora.client.snapshot.snapshot import Snapshot, read_live, read_snapshot
from mpfora.client.tasks.purge import PurgeFilter, _why_kept
from mpfora.config.settings import Settings
from mpfora.ipc import frames
from mpfora.model.history import Run
from mpfora.model.outcome import Said, SaidResult
from mpfora.model.state import InvalidMessage, State
from mpfora.retry import Retry
from mpfora.store.history_records import parse_history
from mpfora.store.kv import Put, Txn
from mpfora.supervisor import actions as do
from mpfora.supervisor import effects
from mpfora.supervisor import events as ev
from mpfora.supervisor.zygote.child_report import checked_json, parse_said

GOOD = ("g1", "g2", "g3")
NODES = ("n1", "n2")
BAD = "bad"
#: when the good ones are there, when somebody looks, when the nodes are stopped; seconds of the world
SUBMIT_S, LATER_S, LOOK_S, STOP_S, END_S = 1.0, 3.0, (2.5, 9.0), 14.0, 22.0


@dataclass(frozen=True)
class Hostile:
    """props: of the task. keys: what stands in the namespace besides, by what follows its root. frame: what its process
    says last. command: what is put as its command a little later."""

    props: str = "{}"
    keys: Mapping[str, str] = field(default_factory=dict)
    frame: str = '{"frame":"Returned","result_json":"1"}'
    command: str | None = None


def live(case: Hostile) -> list[str]:
    """What went wrong; [] if nothing did. A step that takes long each time is wrong: once may be this machine's."""
    life = _lived(case)
    if life.world.stopwatch.is_over and not life.wrong:
        life = _lived(case)
        if life.world.stopwatch.is_over:
            life.fault(str(life.world.stopwatch))
    return life.wrong


def _lived(case: Hostile) -> Life:
    with simulated():
        life = Life(case)
        with _hostile_frames(life), _bugs_of_effects(life), life.world.stopwatch.watching():
            life.run()
        return life


class Life(Surroundings):
    balancer = "cost"

    def __init__(self, case: Hostile) -> None:
        self.case, self.wrong = case, list[str]()
        self.world = World()
        self.etcd = FakeEtcd(self.world, random.Random(1), "sim")
        self.machines = [self._machine(name) for name in NODES]

    def _machine(self, name: str) -> Machine:
        retry = Retry(max_errors=2, delay=0.1, max_delay="1s")
        settings = Settings(
            handlers=("work",),
            name=name,
            namespace="sim",
            lease_ttl_s=3.0,
            stop_timeout_s=0.5,
            max_tasks=4,
            retry=retry,
        )
        return Machine(self.world, self.etcd, self, settings, random.Random(2))

    # -- what machines ask and tell -----------------------------------------------------------------------

    def act_for(self, task: str, attempt: int) -> Act:
        return Act("hostile" if task == BAD else "result", after_s=0.1)

    def cores_for(self, task: str) -> tuple[tuple[float, float], ...]:
        return ((0.0, 1.0),)

    def command(self, node: str, command: do.Action) -> None:
        """The bulkhead is for what nobody thought of: no value may come as far as that."""
        if isinstance(command, do.Say):
            for words in ("bug in mpfora", "keys cannot be read"):
                if words in command.text:
                    self.fault(f"{node} says: {command.text[-1500:]}")

    def event(self, node: str, event: ev.Event) -> None:
        """Nor is a write refused for what is in it: that was looked at when it came in."""
        if isinstance(event, ev.WriteAnswered) and event.result is ev.WriteResult.REJECTED:
            self.fault(f"{node} could not write: {event.error}")

    def fault(self, text: str) -> None:
        self.wrong.append(text)

    # -- what happens -------------------------------------------------------------------------------------

    def run(self) -> None:
        self.put({"readers/r": "", **self.case.keys})
        for machine in self.machines:
            self.world.at(0.5, machine.start)
        for task_id in (BAD, *GOOD[:2]):
            self.world.at(SUBMIT_S, self.submit, task_id)
        self.world.at(LATER_S, self.submit, GOOD[2])
        if self.case.command is not None:
            self.world.at(SUBMIT_S + 0.05, self.put, {f"tasks/{BAD}/commands": self.case.command})
        for at in LOOK_S:
            self.world.at(at, self.look)
        try:
            self.world.run_until(STOP_S)
            self.check_good()
            for machine in self.machines:
                if machine.supervisor is not None:
                    machine.supervisor.shut_down("SIGTERM")
            self.world.run_until(END_S)
            self.wrong += [f"{m.name} has not stopped" for m in self.machines if m.supervisor is not None]
        finally:
            for machine in self.machines:
                machine.bury()

    def put(self, keys: Mapping[str, str]) -> None:
        root = self.etcd.layout.root
        puts = (Put(root + key, text.encode("utf-8", "surrogatepass")) for key, text in keys.items())
        self.etcd.txn("client", Txn((), tuple(puts)))

    def submit(self, task_id: str) -> None:
        props = self.case.props if task_id == BAD else "{}"
        self.put({f"tasks/{task_id}": "", f"tasks/{task_id}/props": props})

    def check_good(self) -> None:
        for machine in self.machines:
            if machine.supervisor is None or machine.name not in self.snapshot().members:
                self.fault(f"{machine.name} is gone")
        rows = {row.id: row for row in task_rows(self.snapshot(), {}, now=0.0)}
        for task_id in GOOD:
            row = rows.get(task_id)
            if row is None or row.state != State.COMPLETED:
                self.fault(f"{task_id} is not completed: {row}")

    # -- looking ------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return read_snapshot(self.etcd.layout, self.etcd.listing(*self.etcd.layout.watched).kvs)

    def look(self) -> None:
        """All that a person may ask for."""
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - told
            self.fault(f"a listing fails: {error!r}"[:1000])

    def _look(self) -> None:
        layout, snapshot = self.etcd.layout, self.snapshot()
        live = read_live(layout, self.etcd.listing(layout.live_nodes, layout.live_nodes[:-1] + "0").kvs)
        rows = task_rows(snapshot, live, now=self.world.now)
        self.wrong += [f"a row is not made: {row.note}" for row in rows if "bug in mpfora" in (row.note or "")]
        if BAD in snapshot.tasks and snapshot.tasks[BAD].exists and BAD not in [row.id for row in rows]:
            self.fault("the task is not in the list")
        nodes = with_shares(node_rows(snapshot), snapshot)
        json.dumps([move.to_json() for move in planned_moves(snapshot)])
        for kv in self.etcd.listing(layout.states, layout.states[:-1] + "0").kvs:
            _why_kept(kv, PurgeFilter(older_than_s=1.0), self.world.now)
        runs = [run for found in self._histories() for run in found]
        with contextlib.redirect_stdout(io.StringIO()):
            render.print_history(runs)
            render.print_json(runs)
            render.print_tasks(rows)
            render.print_json(rows)
            render.print_nodes(nodes)
            render.print_json(nodes)
            for row in rows:
                render.print_task(row)

    def _histories(self) -> Iterator[tuple[Run, ...]]:
        root = self.etcd.layout.histories
        for kv in self.etcd.listing(root, root[:-1] + "0").kvs:
            with contextlib.suppress(ValueError):
                yield parse_history(kv.value)


@contextlib.contextmanager
def _hostile_frames(life: Life) -> Iterator[None]:
    """The child's last word passes the supervisor's reading of frames."""

    def says(proc: Proc) -> Said | None:
        try:
            parsed = frames.parse_frame(life.case.frame.encode("utf-8", "surrogatepass"))
            if isinstance(parsed, frames.Save):
                proc.on_save(proc, checked_json(parsed.checkpoint_json))
                return SaidResult(1)
            return parse_said(parsed)
        except (frames.FrameError, InvalidMessage):
            return None
        except Exception as bug:  # noqa: BLE001 - told
            life.fault(f"a frame cannot be read: {bug!r}"[:1000])
            return None

    kernel._SAYS["hostile"] = says  # type: ignore[assignment]
    try:
        yield
    finally:
        del kernel._SAYS["hostile"]


@contextlib.contextmanager
def _bugs_of_effects(life: Life) -> Iterator[None]:
    def told(command: do.Action, bug: Exception) -> None:
        life.fault(f"{type(command).__name__} fails by a bug: {bug!r}"[:1000])

    log_bug: Callable[[Any, Exception], None] = effects._log_bug
    effects._log_bug = told
    try:
        yield
    finally:
        effects._log_bug = log_bug
