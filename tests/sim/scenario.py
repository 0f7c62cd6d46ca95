"""What happens in one simulated life of a cluster: drawn from a seed, plain data, printed when something goes wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mpfora.config import Settings
from mpfora.retry import Retry
from mpfora.states import Verb
from mpfora.units import format_time

from .kernel import Act, draw_act
from .network import Weather

#: what befalls a cluster, by the kind of life it has
PROFILES: Mapping[str, tuple[str, ...]] = {
    "calm": (),
    # nodes alike, and tasks that go on for ever and cost this and that
    "costs": (),
    "network": ("cut", "cut_out", "cut_back", "leader", "compact", "storm", "lag"),
    "processes": (
        "kill_supervisor", "stop_supervisor", "kill_zygote", "stop_zygote", "power_off", "shut_down", "hurry",
        "no_forks", "no_zygotes", "busy", "kill_both", "pause",
    ),
    # machines that stand still, and a network that tells them late what they missed
    "pause": ("pause", "pause", "pause", "cut", "lag"),
    # members of etcd that are behind, and nodes that hear of them what was long ago
    "lag": ("lag", "lag", "compact", "compact", "cut", "kill_supervisor"),
    # tasks that may outlive their claims, and reasons to
    "outage": (
        "cut_all", "cut_all", "cut", "cut_out", "cut_back", "leader", "stop_supervisor", "kill_supervisor", "lag",
    ),
    # what etcd itself does to a cluster on a good network
    "store": ("revoke", "revoke", "revoke", "compact", "leader", "kill_supervisor"),
    # what tries the lease's arithmetic: handlers that do not obey, and nodes that cannot renew
    "lease": ("cut", "cut_out", "cut_back", "stop_supervisor", "leader", "cut", "stop_supervisor"),
    "all": (
        "cut", "cut_out", "cut_back", "leader", "compact", "storm", "kill_supervisor", "stop_supervisor", "kill_zygote",
        "stop_zygote", "power_off", "shut_down", "hurry", "no_forks", "no_zygotes", "busy", "kill_both", "pause", "lag",
    ),
}  # fmt: skip
_WEIGHTS = {
    "calm": 2, "network": 4, "processes": 5, "pause": 3, "lag": 1, "outage": 4, "store": 2, "lease": 3, "all": 6,
    "costs": 1,
}  # fmt: skip

#: where leases are to end within a life
_TTLS: Mapping[str, tuple[float, ...]] = {
    "lease": (3.0, 5.0, 15.0, 15.0), "pause": (3.0, 3.0, 5.0), "outage": (3.0, 3.0, 5.0),
}  # fmt: skip
#: kinds of lives by what is tried in them: faults that last about as long as a lease
_LEASES_END = tuple(_TTLS)

NAMESPACE = "sim"
#: wall time at the world's time 0
EPOCH = 1_800_000_000.0
#: how fast clocks run beside etcd's, in parts of the most that the margin allows for (see docs/guarantees.md)
DRIFTS = (0.0, 0.0, 0.001, -0.001, 0.5, -0.5, 1.0, -1.0)
#: of the margin, what it takes to kill a tree
KILLING_S = 0.25
_LABELS = ("", "", "", "a", "b")
#: so many lives are balanced by what tasks cost; how many cores these use
COST_LIVES = 0.05
_CORES = (0.0, 0.0, 0.01, 0.1, 0.5, 1.0, 1.0, 2.0)
_TASK_VERBS = (
    "pause", "run", "kill", "release", "checkpoint", "sleep", "complete", "delete", "garbage", "pause", "run",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodePlan:
    """drift: by how much its boot clock is too fast. runs_on: its tasks outlive the loss of etcd."""

    name: str
    capacity: int
    label: str = ""
    handlers: tuple[str, ...] = ("work",)
    starts_at: float = 0.0
    drift: float = 0.0
    runs_on: bool = False


@dataclass(frozen=True, slots=True)
class Asks:
    """What a task's props ask for; None: nothing. max_errors is its retry policy's; not_before in the world's time.
    is_wrong: besides, something that cannot be meant."""

    stop_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    stall_by: str | None = None
    memory_limit: int | None = None
    max_errors: int | None = None
    not_before: float | None = None
    is_wrong: bool = False

    def props(self) -> dict[str, Any]:
        retry = None if self.max_errors is None else {"max_errors": self.max_errors, "delay": 0.1, "max_delay": "1s"}
        asked = {
            "stop_timeout": "soon" if self.is_wrong else self.stop_timeout_s,
            "stall_timeout": None if self.stall_timeout_s is None else f"{self.stall_timeout_s * 1000:g}ms",
            "stall_by": self.stall_by,
            "memory_limit": self.memory_limit,
            "retry": retry,
            "not_before": None if self.not_before is None else format_time(EPOCH + self.not_before),
        }
        return {name: value for name, value in asked.items() if value is not None}


NOTHING = Asks()


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """acts: what its first, second ... run does; the last one holds for all further ones. props: instead of what it
    asks, as they stand in the store. cores: how many its process uses, and from when on in the world's time."""

    id: str
    at: float
    acts: tuple[Act, ...]
    handler: str | None = None
    label: str = ""
    props: str | None = None
    asks: Asks = NOTHING
    cores: tuple[tuple[float, float], ...] = ()


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
    """All that was drawn. safety_s: how long faults go on. balancer: of all nodes, by name."""

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
    balancer: str = "fair"

    def __str__(self) -> str:
        head = (
            "seed", "profile", "ttl_s", "stop_timeout_s", "grace_s", "retry", "safety_s", "weather", "reader",
            "balancer",
        )  # fmt: skip
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
        ttl_s = rng.choice((15.0,) if profile == "costs" else _TTLS.get(profile, (3.0, 3.0, 5.0, 10.0, 15.0)))
        stop_timeout_s = rng.choice((2.0, 5.0, 5.0) if profile == "lease" else (0.5, 2.0, 5.0))
        safety_s = rng.uniform(8.0, 25.0)
        nodes = self._nodes(profile, ttl_s)
        if profile in _LEASES_END:
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
            commands=self._commands(nodes, tasks, safety_s) if PROFILES[profile] else (),
            faults=self._faults(profile, nodes, safety_s, ttl_s),
            reader=rng.random() < 0.1,
            unfreezes=rng.random() < 0.8,
        )

    def _nodes(self, profile: str, ttl_s: float) -> tuple[NodePlan, ...]:
        rng = self.rng
        drifts = profile == "lease" or (profile != "calm" and rng.random() < 0.3)
        outlive = profile == "outage" or (profile in ("network", "all") and rng.random() < 0.1)
        outliving = (True,) if rng.random() < 0.7 else (True, False)
        count = rng.choice((2, 2, 3, 4) if profile == "costs" else (1, 2, 2, 3, 3, 4, 5, 6))
        alike = rng.random() < 0.5 or profile == "costs"
        capacity = rng.choice((0, 8) if profile == "costs" else (0, 1, 2, 3, 5, 8))
        plans = []
        for index in range(count):
            if not alike:
                capacity = rng.choice((0, 1, 2, 3, 5, 8))
            label = "" if alike else rng.choice(_LABELS)
            handlers = ("work", "other") if not alike and rng.random() < 0.3 else ("work",)
            starts = 0.0 if rng.random() < 0.7 else rng.uniform(0, 8)
            drift = rng.choice(DRIFTS) * most_drift(ttl_s) if drifts else 0.0
            runs_on = outlive and rng.choice(outliving)
            plans.append(NodePlan(f"n{index}", capacity, label, handlers, starts, drift, runs_on))
        return tuple(plans)

    def _tasks(
        self, nodes: tuple[NodePlan, ...], safety_s: float, stop_timeout_s: float, profile: str
    ) -> tuple[TaskPlan, ...]:
        rng = self.rng
        counts = (8, 12, 20, 40) if profile == "costs" else (1, 2, 3, 5, 8, 12, 20, 40)
        count = min(rng.choice(counts), 1 + 8 * len(nodes))
        bursts = [rng.uniform(0, 0.7 * safety_s) for _ in range(3)]
        rich = any(len(node.handlers) > 1 for node in nodes)
        plans = []
        for index in range(count):
            at = rng.choice(bursts) if rng.random() < 0.6 else rng.uniform(0, 0.8 * safety_s)
            acts = self._acts(stop_timeout_s, profile)
            handler = rng.choice((None, "work", "other")) if rich else None
            label = rng.choice(_LABELS) if any(node.label for node in nodes) else ""
            props = rng.choice(("{no json", "[1]", "null")) if rng.random() < 0.02 else None
            may_ask = bool(PROFILES[profile]) and props is None
            asks = self._asks(at, safety_s) if may_ask and rng.random() < 0.3 else NOTHING
            plans.append(TaskPlan(f"t{index}", at, acts, handler, label, props, asks))
        return tuple(plans)

    def _asks(self, at: float, safety_s: float) -> Asks:
        rng = self.rng
        return Asks(
            stop_timeout_s=rng.choice((None, 0.2, 1.0, 4.0)),
            stall_timeout_s=rng.choice((None, None, 0.3, 2.0)),
            stall_by=rng.choice((None, "beats", "cpu")),
            memory_limit=rng.choice((None, None, 100_000_000)),
            max_errors=rng.choice((None, None, 1, 2)),
            not_before=at + rng.uniform(-1.0, 0.3 * safety_s) if rng.random() < 0.2 else None,
            is_wrong=rng.random() < 0.05,
        )

    def _acts(self, stop_timeout_s: float, profile: str) -> tuple[Act, ...]:
        rng = self.rng
        if profile == "lease" and rng.random() < 0.7:
            return (replace(draw_act(rng, "forever", stop_timeout_s=stop_timeout_s), leave_s=None),)
        if profile in _LEASES_END and rng.random() < 0.6:
            return (draw_act(rng, "forever", stop_timeout_s=stop_timeout_s),)
        if profile == "costs":
            return (Act("forever", leave_s=rng.choice((0.01, 0.2, None))),)
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
        if profile in ("pause", "outage"):
            return Weather(delay_s=rng.choice((0.001, 0.05)), slow=rng.choice((0.0, 0.5)), slow_s=2.0)
        if not PROFILES[profile] or profile in ("processes", "store", "lag"):
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
            spans = (0.8, 1.2, 1.6) if profile in (*_LEASES_END, "lag") else (0.03, 0.1, 0.3, 0.8, 1.2, 2.0)
            for_s = rng.choice(spans) * ttl_s * (0.5 + rng.random())
            faults.append(Fault(at, kind, rng.choice(nodes).name, min(for_s, 25.0)))
        return tuple(sorted(faults, key=lambda fault: fault.at))


def most_drift(ttl_s: float) -> float:
    """By how much a clock may be too fast or slow for its deadline to be kept all the same."""
    margin_s = Settings(lease_ttl_s=ttl_s).margin_s
    return 1 - (ttl_s - margin_s) / (ttl_s - KILLING_S)


def draw(seed: int, profile: str | None = None) -> Scenario:
    """profile: one of PROFILES; None: drawn too."""
    return with_costs(Drawer(seed, profile).draw())


def with_costs(scenario: Scenario) -> Scenario:
    """The same life, but for some: then its nodes balance by what tasks cost. Drawn apart from the rest."""
    rng = random.Random(scenario.seed ^ 0xC057)
    if rng.random() >= COST_LIVES and scenario.profile != "costs":
        return scenario
    change = rng.random() < 0.5
    tasks = []
    for task in scenario.tasks:
        cores = [(0.0, rng.choice(_CORES))]
        if change and rng.random() < 0.3:
            cores.append((scenario.safety_s + rng.uniform(20.0, 80.0), rng.choice(_CORES)))
        tasks.append(replace(task, cores=tuple(cores)))
    return replace(scenario, tasks=tuple(tasks), balancer="cost")


#: verbs of the task commands, by the names that CommandPlan uses
TASK_VERBS = {verb.value: verb for verb in Verb}
