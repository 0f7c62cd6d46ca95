"""A cluster made from a scenario: the machines, the store, the client's hand, and the faults that befall them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from mpfora.client.tasks.submit import NewTask, is_removed, replace_txn, replaceable, submit_txn
from mpfora.config.settings import Settings
from mpfora.model.outcome import Said
from mpfora.model.state import Message, Verb
from mpfora.store.claim_records import format_removal
from mpfora.store.command_records import format_message
from mpfora.store.kv import KV, Delete, DeletePrefix, Get, Put, Revision, Txn, absent, exists
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev

from .books import Evidence
from .checkers import CLIENT, Checkers
from .clock import Host, World
from .fake_etcd import LATE_S, FakeEtcd, Granted
from .kernel import Act, Proc
from .machine import Machine, Surroundings
from .network import Weather
from .promises import Promises
from .scenario import EPOCH, NAMESPACE, WRONG_BY_S, CommandPlan, Fault, Scenario, TaskPlan

#: faults of single processes, which cannot befall them while their machine stands still
ON_THE_MACHINE = ("kill_supervisor", "kill_both", "stop_supervisor", "kill_zygote", "stop_zygote")


class Cluster(Surroundings):
    """trace: called with each line of what happens; None: nobody wants to know."""

    def __init__(self, scenario: Scenario, trace: Callable[[str], None] | None = None) -> None:
        self.scenario = scenario
        self.balancer = scenario.balancer
        self.rng = random.Random(scenario.seed ^ 0x5EED)
        self.world = World()
        self.etcd = FakeEtcd(self.world, random.Random(self.rng.random()), NAMESPACE)
        # in some lives the end of a lease is more than a watch can be told of
        self.etcd.most_events = 8 if scenario.seed % 8 == 5 else None
        self._trace = trace
        self.checks = Checkers(self.etcd.layout, lambda: self.world.now, scenario)
        self.etcd.on_txn = self.checks.wrote
        self.etcd.on_revision = self._revision
        self.etcd.on_lease_end = self._lease_ends
        self.machines = {plan.name: self._machine(plan.name) for plan in scenario.nodes}
        self.promises = Promises(self.world, scenario, self.machines, self.checks)
        self._acts = {plan.id: plan.acts for plan in scenario.tasks}
        self._cores = {plan.id: plan.cores for plan in scenario.tasks}
        #: (when, task) of each that a node began to move
        self.moves: list[tuple[float, str]] = []
        self._forked: dict[tuple[str, int], str] = {}
        self.is_healed = False
        #: tasks that nodes tried to claim
        self.attempts = 0
        self.events = 0
        self._node_commands = 0

    # -- what machines ask and tell
    # -----------------------------------------------------------------------------------

    def act_for(self, task: str, attempt: int) -> Act:
        acts = self._acts[task]
        act = acts[min(max(attempt, 1), len(acts)) - 1]
        # once all is healed no handler may take its zygote down for ever
        return acts[-1] if self.is_healed and act.kind == "kill_zygote" else act

    def cores_for(self, task: str) -> tuple[tuple[float, float], ...]:
        return self._cores[task]

    def started(self, proc: Proc) -> None:
        self.note(f"{proc.machine}: {proc.task} starts, fence {proc.fence}, attempt {proc.attempt}, {proc.act.kind}")
        self.checks.started(proc)
        self.promises.started(proc)

    def said(self, proc: Proc, said: Said) -> None:
        self.checks.said(proc, said)

    def ended(self, proc: Proc) -> None:
        self.note(f"{proc.machine}: {proc.task} fence {proc.fence} is dead, killed={proc.killed} said={proc.said}")
        self.checks.ended(proc)

    def zygote_died(self, proc: Proc) -> None:
        self.checks.zygote_died(proc)

    def takes_node_down(self, proc: Proc) -> None:
        """Its node is started again a moment later, as by a service manager."""
        self.checks.takes_node_down(proc)
        machine = self.machines[proc.machine]
        self.note(f"{proc.name} takes its node down")
        machine.power_off() if proc.act.kind == "panic" else machine.kill_supervisor()
        self.world.after(0.5, machine.power_on)

    def thawed(self, proc: Proc) -> None:
        self.checks.thawed(proc)

    def start_failed(self, task: str) -> None:
        self.checks.start_failed(task)

    def event(self, node: str, event: ev.Event) -> None:
        self.events += 1
        if isinstance(event, ev.ChildSaved) and (task_id := self._forked.get((node, event.run))):
            self.checks.making_room.saved(task_id, event.checkpoint_json)
        if self._trace is not None:
            self.note(f"{node} <- {event}")

    def command(self, node: str, command: do.Action) -> None:
        if isinstance(command, do.ClaimTasks):
            self.attempts += len(command.claims)
            for request in command.claims:
                self.checks.tried(node, request.task_id)
        elif isinstance(command, do.Fork) and command.spec.task_id:
            self._forked[node, command.run] = command.spec.task_id
            self.checks.ordered(command.spec.task_id)
            self.promises.ordered(node, command)
            self.checks.making_room.ordered(node, command)
        elif isinstance(command, do.AskStop):
            self.promises.asked(node, command)
            self.checks.making_room.asked(node, command, self._forked[node, command.run])
            if command.reason == "rebalance":
                self.moves.append((self.world.now, self._forked[node, command.run]))
        if self._trace is not None:
            self.note(f"{node} -> {command}")

    def fault(self, text: str) -> None:
        self.checks.say("a node misbehaves", text)

    def note(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.world.now:10.4f}  {text}")

    # -- building it
    # --------------------------------------------------------------------------------------------------

    def _machine(self, name: str) -> Machine:
        scenario = self.scenario
        plan = next(plan for plan in scenario.nodes if plan.name == name)
        settings = Settings(
            handlers=plan.handlers,
            name=name,
            namespace=NAMESPACE,
            max_tasks=plan.capacity,
            lease_ttl_s=scenario.ttl_s,
            stop_timeout_s=scenario.stop_timeout_s,
            claim_grace_s=scenario.grace_s,
            labels={"zone": plan.label} if plan.label else {},
            retry=scenario.retry,
            on_etcd_loss="run" if plan.runs_on else "fence",
            has=plan.has,
            preempt=plan.preempt,
        )
        rng = random.Random(self.rng.random())
        machine = Machine(self.world, self.etcd, self, settings, rng, 1.0 + plan.drift, plan.wrong_by_s)
        machine.link.weather = scenario.weather
        # in some lives a burst of forks outlasts leases
        by_seed_s = 0.8 if scenario.seed % 8 == 3 else 0.0
        machine.fork_s = by_seed_s if scenario.fork_s is None else scenario.fork_s
        self.world.at(plan.starts_at, machine.start)
        return machine

    def plan_all(self) -> None:
        """Put everything that the scenario holds on the heap."""
        for task in self.scenario.tasks:
            self.world.at(task.at, self.submit, task)
        for command in self.scenario.commands:
            self.world.at(command.at, self.carry_out, command)
        for fault in self.scenario.faults:
            self.world.at(fault.at, self.begin, fault)
        if self.scenario.reader:
            self.world.at(1.0, self._read)

    def _read(self) -> None:
        """Somebody looks at progress from now on."""
        self.client(Txn((), (Put(self.etcd.layout.reader("r"), ""),)))

    def _revision(self, writer: str, revision: Revision) -> None:
        if self._trace is not None:
            events = revision.events
            rows = "; ".join(
                f"{'del' if e.deleted else 'put'} {e.key} {e.value.decode(errors='replace')}" for e in events
            )
            self.note(f"rev {revision.revision} by {writer}: {rows}")
        self.checks.changed(writer, revision)

    def _lease_ends(self, lease: Granted, why: str) -> None:
        self.note(f"lease {lease.id:x} of {lease.writer} ends: {why}")
        self.checks.lease_ends(lease, why, self.etcd.lease_keys(lease.id))

    # -- the client's hand
    # --------------------------------------------------------------------------------------------

    def client(self, txn: Txn) -> bool:
        return self.etcd.txn(CLIENT, txn).succeeded

    def submit(self, plan: TaskPlan) -> None:
        props = plan.asks.props() | ({"labels": {"zone": plan.label}} if plan.label else {})
        if plan.asks.is_wrong or plan.props is not None:
            # no client of ours would submit these
            named = {} if plan.handler is None else {"handler": plan.handler}
            put, _ = submit_txn(self.etcd.layout, NewTask(plan.id)).success
            text = json.dumps(props | named) if plan.props is None else plan.props
            self.client(Txn((), (put, Put(self.etcd.layout.props(plan.id), text))))
        else:
            self.client(submit_txn(self.etcd.layout, NewTask(plan.id, props, plan.handler)))

    def carry_out(self, plan: CommandPlan) -> None:
        self._command_node(plan) if plan.is_node else self._command_task(plan)

    def _command_node(self, plan: CommandPlan) -> None:
        text = f'{{"command":"{plan.verb}"}}'
        if plan.verb == "stop_task":
            text = f'{{"command":"stop_task","parameters":{{"task":"{plan.parameter}"}}}}'
        self._node_commands += 1
        layout = self.etcd.layout
        key = layout.node_command(plan.to, str(self._node_commands))
        self.client(Txn((exists(layout.member(plan.to)),), (Put(key, text),)))

    def _command_task(self, plan: CommandPlan) -> None:
        layout, task_id = self.etcd.layout, plan.to
        evidence = self.checks.books.task(task_id).evidence
        if plan.verb == "delete":
            evidence.deleted = True
            self._delete(task_id)
            return
        if plan.verb == "go_delete":
            self._delete_as_go(task_id)
            return
        if plan.verb == "submit":
            self._submit_again(task_id, tries=60)
            return
        if plan.verb == "garbage":
            text = '{"message":"dance"}'
        else:
            verb = Verb(plan.verb)
            until = EPOCH + self.world.now + float(plan.parameter) if verb is Verb.SLEEP else None
            text = format_message(Message(verb, until=until))
        if self.client(Txn((exists(layout.task(task_id)),), (Put(layout.commands(task_id), text),))):
            evidence.last_command = plan.verb
            if plan.verb != "garbage":
                evidence.commands[Verb(plan.verb)] = None
            self.note(f"client commands {task_id}: {text}")

    def _delete(self, task_id: str) -> None:
        """As mpfora's client: at once where nobody owns it, else by its owner."""
        layout = self.etcd.layout
        gone = (
            DeletePrefix(layout.below_task(task_id)),
            *(
                Delete(key(task_id))
                for key in (
                    layout.task,
                    layout.state,
                    layout.checkpoint,
                    layout.history,
                    layout.released,
                    layout.removal,
                )
            ),
        )
        look = (Get(layout.task(task_id)),)
        result = self.etcd.txn(CLIENT, Txn((absent(layout.owner(task_id)),), gone, look))
        if not result.succeeded and isinstance(task := result.answers[0], KV):
            self.client(Txn((), (Put(layout.removal(task_id), format_removal(task.create_revision)),)))

    def _delete_as_go(self, task_id: str) -> None:
        """All keys of the task, its owner's too. Whose watch is behind does not see it, and its lease lives on: nobody
        can wait for that."""
        layout = self.etcd.layout
        evidence = self.checks.books.task(task_id).evidence
        evidence.deleted, now = True, self.world.now
        self.checks.excuse(task_id, "claim", now + 10.0)
        behind = max((machine.link.behind_until for machine in self.machines.values()), default=0.0)
        if behind > now or any(fault.kind == "lag" for fault in self.scenario.faults):
            self.checks.excuse(task_id, "overlap", now + 60.0)
        if any(proc.undying for proc in self.checks.live.get(task_id, ())):
            self.checks.excuse(task_id, "overlap", now + 300.0)  # others wait for a lease's time, and it does not die
        self.client(Txn((), (Delete(layout.task(task_id)), DeletePrefix(layout.below_task(task_id)))))

    def _submit_again(self, task_id: str, tries: int) -> None:
        """A task that was deleted: until it is taken. What is kept of the former is replaced; a wish whose owner has
        gone is carried out."""
        book = self.checks.books.task(task_id)
        if not book.evidence.deleted or tries == 0:
            return
        layout, plan = self.etcd.layout, next(plan for plan in self.scenario.tasks if plan.id == task_id)
        props = plan.asks.props() | ({"labels": {"zone": plan.label}} if plan.label else {})
        task = NewTask(task_id, props, plan.handler)
        result = self.etcd.txn(CLIENT, submit_txn(layout, task))
        if is_removed(result):
            self._delete(task_id)
        elif (state := replaceable(result)) is not None:
            result = self.etcd.txn(CLIENT, replace_txn(layout, task, state))
        if not result.succeeded:
            self.world.after(0.25, self._submit_again, task_id, tries - 1)
            return
        before = book.evidence
        book.evidence = Evidence(last_fence=before.last_fence, last_node=before.last_node)
        book.evidence.commands, book.evidence.forks = before.commands, before.forks
        book.evidence.errors = before.errors
        self.note(f"client submits {task_id} again")

    # -- faults
    # -------------------------------------------------------------------------------------------------------

    def begin(self, fault: Fault) -> None:
        if self.is_healed:
            return
        self.note(f"fault: {fault}")
        if self.machines[fault.node].paused and fault.kind in ON_THE_MACHINE:
            return
        machine, world = self.machines[fault.node], self.world
        end = self.world.now + fault.for_s
        match fault.kind:
            case "cut" | "cut_out" | "cut_back":
                machine.link.cut(fault.kind != "cut_back", fault.kind != "cut_out")
                world.at(end, machine.link.heal)
            case "cut_all":
                for each in self.machines.values():
                    each.link.cut(True, True)
                    world.at(end, each.link.heal)
            case "leader":
                if self.etcd.has_leader:
                    self.etcd.lose_leader()
                    world.at(self.world.now + min(fault.for_s, 6.0), self._elect)
            case "refuse":
                machine.link.refuse()
                world.at(end, machine.link.allow)
                world.after(self._gives_up_within_s(machine), self._check_lease, machine, machine.link.refused_since)
            case "compact":
                self.etcd.compact()
            case "revoke":
                self._revoke_by_bug(machine)
            case "storm":
                machine.link.weather = Weather(delay_s=0.05, loss=0.3, slow=0.3, slow_s=4.0, stall=0.2, stall_s=2.0)
                world.at(end, self._calm, machine)
            case "kill_supervisor":
                machine.kill_supervisor()
                world.at(end, machine.start)
            case "kill_both":
                self._kill_both(machine)
                world.at(end, machine.start)
            case "stop_supervisor":
                if machine.supervisor is not None and not self._is_zygote_stopped(machine):
                    host = machine.supervisor.host
                    host.stop()
                    world.at(end, self._continue, host)
            case "kill_zygote":
                if machine.zygote is not None:
                    machine.zygote.kill()
            case "kill_former":
                if len(living := machine.living_zygotes) > 1:
                    living[0].kill()
            case "reload" | "reload_within" | "restart":
                self._renew(machine, fault)
            case "bad_code":
                machine.cannot_start = True
                world.at(end, setattr, machine, "cannot_start", False)
                self._renew(machine, fault)
            case "stop_zygote":
                self._stop_zygote(machine, end)
            case "pause":
                if machine.can_pause():
                    machine.pause()
                    world.at(end, machine.resume)
            case "lag":
                machine.link.fall_behind(end)
            case "set_clock":
                machine.wrong_by_s = self.rng.choice(WRONG_BY_S)
            case "power_off":
                machine.power_off()
                world.at(end, machine.power_on)
            case "shut_down" | "hurry":
                self._shut_down(machine, fault.kind == "hurry")
                world.at(end, machine.start)
            case "no_forks":
                machine.cannot_fork = True
                world.at(end, setattr, machine, "cannot_fork", False)
            case "no_zygotes":
                machine.cannot_start = True
                world.at(end, setattr, machine, "cannot_start", False)
            case "busy":
                machine.late_s = 0.3
                world.at(end, setattr, machine, "late_s", 0.0)
            case _:
                raise ValueError(fault.kind)

    def heal(self) -> None:
        """The end of all faults: whatever is down comes up again, and the network is good."""
        self.note("all is healed")
        self.is_healed = True
        if not self.etcd.has_leader:
            self._elect()
        for machine in self.machines.values():
            machine.resume()
            machine.link.catch_up()
            machine.link.heal()
            machine.link.allow()
            machine.link.weather = Weather(lag_s=0.01)
            machine.cannot_fork = machine.cannot_start = False
            machine.late_s = machine.wrong_by_s = 0.0
            machine.always_up = True
            if machine.supervisor is not None:
                self._continue(machine.supervisor.host)
            for zygote in machine.living_zygotes:
                zygote.go_on()
            machine.power_on()

    def _gives_up_within_s(self, machine: Machine) -> float:
        """A TTL after the last write that was taken nothing is renewed any more, and a TTL later the lease ends. On the
        way may be what was sent just before."""
        return 2 * self.scenario.ttl_s + LATE_S + 2 * machine.link.weather.slow_s + 1.0

    def _check_lease(self, machine: Machine, since: float) -> None:
        """Of a node whose writes have been refused since then."""
        if machine.link.refused_since == since and any(
            lease.writer == machine.name for lease in self.etcd.leases.values()
        ):
            refused_s = self.world.now - since
            self.checks.say("a lease without writes", f"{machine.name} has a lease, and no write for {refused_s:.1f} s")

    def _elect(self) -> None:
        if not self.etcd.has_leader:
            self.etcd.elect()
            self.note("etcd has a leader")

    def _calm(self, machine: Machine) -> None:
        machine.link.weather = Weather() if self.is_healed else self.scenario.weather

    def _continue(self, host: Host) -> None:
        if host.stopped:
            host.go_on()

    def _kill_both(self, machine: Machine) -> None:
        zygote = machine.zygote
        if zygote is not None:
            zygote.kill()
        machine.kill_supervisor()

    def _is_zygote_stopped(self, machine: Machine) -> bool:
        return any(zygote.stopped for zygote in machine.living_zygotes)

    def _stop_zygote(self, machine: Machine, end: float) -> None:
        """Alone: a zygote that is not scheduled while its supervisor is not either is outside the promises."""
        zygote, supervisor = machine.zygote, machine.supervisor
        if zygote is None or supervisor is None or supervisor.host.stopped:
            return
        zygote.stop()
        self.world.at(end, zygote.go_on)

    def _renew(self, machine: Machine, fault: Fault) -> None:
        if machine.supervisor is None:
            return
        if fault.kind == "restart":
            machine.supervisor.restart()
        else:
            machine.supervisor.reload(fault.for_s if fault.kind == "reload_within" else None)

    def _shut_down(self, machine: Machine, hurry: bool) -> None:
        if machine.supervisor is None:
            return
        machine.supervisor.shut_down("SIGTERM")
        if hurry:
            self.world.after(0.3, machine.supervisor.shut_down, "SIGTERM")

    def _revoke_by_bug(self, machine: Machine) -> None:
        lease = next((lease for lease in self.etcd.leases.values() if lease.writer == machine.name), None)
        if lease is not None:
            if not self._can_notice(machine):
                for task_id in self.checks.books.tasks:
                    self.checks.excuse(task_id, "overlap", self.world.now + 20.0)
            self.etcd.revoke_by_bug(lease.id)

    def _can_notice(self, machine: Machine) -> bool:
        """Whether a node whose claims vanish is told so well within the grace, and can act."""
        now, weather, supervisor = self.world.now, machine.link.weather, machine.supervisor
        troubles = [
            fault
            for fault in self.scenario.faults
            if fault.kind in ("leader", "cut_all")
            or (fault.node == machine.name and fault.kind not in ("revoke", "compact"))
            if now - fault.for_s - 1.0 < fault.at < now + 2.0
        ]
        is_good = not (weather.loss or weather.slow or weather.stall) and machine.link.back and self.etcd.has_leader
        return is_good and not troubles and supervisor is not None and machine.zygote is not None

    def bury(self) -> None:
        for machine in self.machines.values():
            machine.bury()
