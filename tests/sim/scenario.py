"""What happens in one simulated life of a cluster: drawn from a seed, plain data, printed when something goes wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mpfora.retry import Retry
from mpfora.states import Verb

from .kernel import Act, draw_act
from .network import Weather

#: what befalls a cluster, by the kind of life it has
PROFILES: Mapping[str, tuple[str, ...]] = {
    "calm": (),
    "network": ("cut", "cut_out", "cut_back", "leader", "compact", "storm"),
    "processes": (
        "kill_supervisor", "stop_supervisor", "kill_zygote", "stop_zygote", "power_off", "shut_down", "hurry",
        "no_forks", "no_zygotes", "busy", "kill_both",
    ),
    # what etcd itself does to a cluster on a good network
    "store": ("revoke", "revoke", "revoke", "compact", "leader", "kill_supervisor"),
    # what tries the lease's arithmetic: handlers that do not obey, and nodes that cannot renew
    "lease": ("cut", "cut_out", "cut_back", "stop_supervisor", "leader", "cut", "stop_supervisor"),
    "all": (
        "cut", "cut_out", "cut_back", "leader", "compact", "storm", "kill_supervisor", "stop_supervisor", "kill_zygote",
        "stop_zygote", "power_off", "shut_down", "hurry", "no_forks", "no_zygotes", "busy", "kill_both",
    ),
}  # fmt: skip
_WEIGHTS = {"calm": 2, "network": 4, "processes": 5, "store": 2, "lease": 3, "all": 6}

NAMESPACE = "sim"
_LABELS = ("", "", "", "a", "b")
_TASK_VERBS = (
    "pause", "run", "kill", "release", "checkpoint", "sleep", "complete", "delete", "garbage", "pause", "run",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodePlan:
    name: str
    capacity: int
    label: str = ""
    handlers: tuple[str, ...] = ("work",)
    starts_at: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """acts: what its first, second ... run does; the last one holds for all further ones."""

    id: str
    at: float
    acts: tuple[Act, ...]
    handler: str | None = None
    label: str = ""
    props: str | None = None


@dataclass(frozen=True, slots=True)
class CommandPlan:
    """To a task or to a node: verb is a task's message, a node's command, or "delete", "garbage"."""

    at: float
    to: str
    verb: str
    is_node: bool = False
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    kind: str
    node: str = ""
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that was drawn. safety_s: how long faults go on."""

    seed: int
    profile: str
    ttl_s: float
    stop_timeout_s: float
    grace_s: float
    retry: Retry
    safety_s: float
    weather: Weather
    nodes: tuple[NodePlan, ...]
    tasks: tuple[TaskPlan, ...]
    commands: tuple[CommandPlan, ...] = ()
    faults: tuple[Fault, ...] = ()
    reader: bool = False
    unfreezes: bool = True

    def __str__(self) -> str:
        head = ("seed", "profile", "ttl_s", "stop_timeout_s", "grace_s", "retry", "safety_s", "weather", "reader")
        lines = [f"  {name} = {getattr(self, name)}" for name in head]
        for rows in (self.nodes, self.tasks, self.commands, self.faults):
            lines += [f"  {row}" for row in rows]
        return "scenario\n" + "\n".join(lines)


@dataclass(slots=True)
class Drawer:
    """Draws one scenario; the order of drawing is part of what a seed means."""

    seed: int
    profile: str | None = None
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def draw(self) -> Scenario:
        rng = self.rng
        profile = self.profile or rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        ttl_s = rng.choice((3.0, 5.0, 15.0, 15.0) if profile == "lease" else (3.0, 3.0, 5.0, 10.0, 15.0))
        stop_timeout_s = rng.choice((2.0, 5.0, 5.0) if profile == "lease" else (0.5, 2.0, 5.0))
        safety_s = rng.uniform(8.0, 25.0)
        nodes = self._nodes()
        if profile == "lease":
            safety_s += ttl_s
        tasks = self._tasks(nodes, safety_s, stop_timeout_s, profile)
        retry = Retry(max_errors=rng.choice((1, 3, 8)), delay=rng.choice((0.1, 1.0)), max_delay=4.0, within="4h")
        return Scenario(
            seed=self.seed,
            profile=profile,
            ttl_s=ttl_s,
            stop_timeout_s=stop_timeout_s,
            grace_s=1.0,
            retry=retry,
            safety_s=safety_s,
            weather=self._weather(profile),
            nodes=nodes,
            tasks=tasks,
            commands=self._commands(nodes, tasks, safety_s) if profile != "calm" else (),
            faults=self._faults(profile, nodes, safety_s, ttl_s),
            reader=rng.random() < 0.1,
            unfreezes=rng.random() < 0.8,
        )

    def _nodes(self) -> tuple[NodePlan, ...]:
        rng = self.rng
        count = rng.choice((1, 2, 2, 3, 3, 4, 5, 6))
        alike = rng.random() < 0.5
        capacity = rng.choice((0, 1, 2, 3, 5, 8))
        plans = []
        for index in range(count):
            if not alike:
                capacity = rng.choice((0, 1, 2, 3, 5, 8))
            label = "" if alike else rng.choice(_LABELS)
            handlers = ("work", "other") if not alike and rng.random() < 0.3 else ("work",)
            starts = 0.0 if rng.random() < 0.7 else rng.uniform(0, 8)
            plans.append(NodePlan(f"n{index}", capacity, label, handlers, starts))
        return tuple(plans)

    def _tasks(
        self, nodes: tuple[NodePlan, ...], safety_s: float, stop_timeout_s: float, profile: str
    ) -> tuple[TaskPlan, ...]:
        rng = self.rng
        count = min(rng.choice((1, 2, 3, 5, 8, 12, 20, 40)), 1 + 8 * len(nodes))
        bursts = [rng.uniform(0, 0.7 * safety_s) for _ in range(3)]
        rich = any(len(node.handlers) > 1 for node in nodes)
        plans = []
        for index in range(count):
            at = rng.choice(bursts) if rng.random() < 0.6 else rng.uniform(0, 0.8 * safety_s)
            acts = self._acts(stop_timeout_s, profile)
            handler = rng.choice((None, "work", "other")) if rich else None
            label = rng.choice(_LABELS) if any(node.label for node in nodes) else ""
            props = rng.choice(("{no json", "[1]", "null")) if rng.random() < 0.02 else None
            plans.append(TaskPlan(f"t{index}", at, acts, handler, label, props))
        return tuple(plans)

    def _acts(self, stop_timeout_s: float, profile: str) -> tuple[Act, ...]:
        rng = self.rng
        if profile == "lease" and rng.random() < 0.7:
            return (replace(draw_act(rng, "forever", stop_timeout_s=stop_timeout_s), leave_s=None),)
        if profile == "calm":
            kinds = [rng.choice(("result", "forever"))]
        else:
            first = rng.choices(
                ("result", "forever", "raise", "exit", "signal", "sleep", "pause", "release", "kill", "kill_zygote",
                 "start_error", "bad_message"),
                (8, 8, 3, 1, 1, 2, 1, 1, 1, 0.5, 0.5, 0.5),
                k=rng.choice((1, 1, 2, 3)),
            )  # fmt: skip
            kinds = [*first, rng.choice(("result", "forever", "forever", "raise"))]
        return tuple(draw_act(rng, kind, stop_timeout_s=stop_timeout_s) for kind in kinds)

    def _weather(self, profile: str) -> Weather:
        rng = self.rng
        if profile in ("calm", "processes", "store"):
            return Weather(lag_s=rng.choice((0.001, 0.02, 0.1)))
        if profile == "lease":
            return Weather(slow=rng.choice((0.0, 0.5)), slow_s=3.0)
        return Weather(
            delay_s=rng.choice((0.001, 0.01, 0.05)),
            loss=rng.choice((0.0, 0.0, 0.02, 0.1)),
            slow=rng.choice((0.0, 0.02, 0.1)),
            slow_s=rng.choice((0.5, 3.0, 8.0)),
            lag_s=rng.choice((0.001, 0.02, 0.2)),
            stall=rng.choice((0.0, 0.0, 0.02)),
            stall_s=rng.choice((0.5, 3.0)),
        )

    def _commands(
        self, nodes: tuple[NodePlan, ...], tasks: tuple[TaskPlan, ...], safety_s: float
    ) -> tuple[CommandPlan, ...]:
        rng = self.rng
        plans = []
        for _ in range(rng.choice((0, 0, 2, 5, 10))):
            task = rng.choice(tasks)
            at = task.at + rng.uniform(0, 0.6 * safety_s)
            verb = rng.choice(_TASK_VERBS)
            plans.append(CommandPlan(at, task.id, verb, parameter=str(rng.choice((0.2, 3.0, 6.0)))))
        for _ in range(rng.choice((0, 0, 1, 3, 5))):
            node = rng.choice(nodes)
            verb = rng.choice(("freeze", "unfreeze", "balance", "stop_task", "drain", "undrain", "garbage"))
            plans.append(CommandPlan(rng.uniform(1, safety_s), node.name, verb, True, rng.choice(tasks).id))
        return tuple(sorted(plans, key=lambda plan: plan.at))

    def _faults(self, profile: str, nodes: tuple[NodePlan, ...], safety_s: float, ttl_s: float) -> tuple[Fault, ...]:
        rng = self.rng
        kinds = PROFILES[profile]
        if not kinds:
            return ()
        faults: list[Fault] = []
        for _ in range(rng.choice((1, 2, 3, 5, 8))):
            kind = rng.choice(kinds)
            at = rng.uniform(0.5, safety_s)
            spans = (0.8, 1.2, 1.6) if profile == "lease" else (0.03, 0.1, 0.3, 0.8, 1.2, 2.0)
            for_s = rng.choice(spans) * ttl_s * (0.5 + rng.random())
            faults.append(Fault(at, kind, rng.choice(nodes).name, min(for_s, 25.0)))
        return tuple(sorted(faults, key=lambda fault: fault.at))


def draw(seed: int, profile: str | None = None) -> Scenario:
    """profile: one of PROFILES; None: drawn too."""
    return Drawer(seed, profile).draw()


#: verbs of the task commands, by the names that CommandPlan uses
TASK_VERBS = {verb.value: verb for verb in Verb}
