"""What happens in one simulated life of a cluster: drawn from a seed, plain data, printed when something goes wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mpfora.config.settings import Settings
from mpfora.model.needs import NOTHING as NO_NEEDS
from mpfora.model.needs import Needs, make_needs, to_json
from mpfora.model.state import Verb
from mpfora.model.units import format_time
from mpfora.retry import Retry

from .kernel import DEADLY, UNHOLDABLE, Act, draw_act
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
    # writes are refused, as of a user whose password was changed, and all else goes on: renewals of leases, the watch
    "credentials": ("refuse", "refuse", "refuse", "kill_supervisor", "cut"),
    # what tries the lease's arithmetic: handlers that do not obey, and nodes that cannot renew
    "lease": ("cut", "cut_out", "cut_back", "stop_supervisor", "leader", "cut", "stop_supervisor"),
    # ids that are deleted and submitted again, under owners that cannot answer
    "deletes": ("stop_supervisor", "stop_supervisor", "kill_supervisor", "cut", "kill_both", "compact"),
    # runs with a process that SIGKILL does not end for a while, and zygotes that die
    "undying": ("kill_zygote", "kill_zygote", "kill_zygote", "stop_zygote", "shut_down", "kill_supervisor"),
    # code that is reloaded again and again, and what may befall zygotes of which a node has several
    "reload": (
        "reload", "reload", "reload_within", "reload_within", "bad_code", "restart", "kill_zygote", "kill_former",
        "kill_former", "kill_supervisor", "kill_supervisor", "stop_supervisor", "stop_zygote", "cut", "kill_both",
        "shut_down", "pause",
    ),
    # tasks that take their node down, on few nodes, which are started again each time
    "poison": (),
    # machines whose wall clocks are hours or years wrong, and are set while tasks run
    "clocks": ("set_clock", "set_clock", "set_clock", "kill_supervisor", "kill_zygote", "cut", "power_off"),
    # nodes with GPUs and cores, tasks that need some of them, and priorities
    "resources": (
        "cut", "cut_out", "cut_back", "leader", "kill_supervisor", "stop_supervisor", "kill_zygote", "stop_zygote",
        "power_off", "shut_down", "hurry", "kill_both", "pause", "lag",
    ),
    # nodes that preempt, tasks that go on for long, and urgent ones that come later
    "preemption": (
        "cut", "cut_out", "cut_back", "leader", "kill_supervisor", "stop_supervisor", "kill_zygote", "stop_zygote",
        "power_off", "shut_down", "hurry", "kill_both", "pause", "lag",
    ),
    "all": (
        "cut", "cut_out", "cut_back", "leader", "compact", "storm", "kill_supervisor", "stop_supervisor", "kill_zygote",
        "stop_zygote", "power_off", "shut_down", "hurry", "no_forks", "no_zygotes", "busy", "kill_both", "pause", "lag",
    ),
}  # fmt: skip
_WEIGHTS = {
    "calm": 2, "network": 4, "processes": 5, "pause": 3, "lag": 1, "outage": 4, "store": 2, "lease": 3, "all": 6,
    "costs": 1, "credentials": 1,
}  # fmt: skip

#: where leases are to end within a life
_TTLS: Mapping[str, tuple[float, ...]] = {
    "lease": (3.0, 5.0, 15.0, 15.0), "pause": (3.0, 3.0, 5.0), "outage": (3.0, 3.0, 5.0),
    "credentials": (3.0, 3.0, 5.0),
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
#: a node may go on without a write for a TTL, and its lease ends another later
REFUSED_FOR = 2.5
#: by how much wall clocks are wrong where they are: a machine without a battery begins in 1970
WRONG_BY_S = (-EPOCH, -3 * 365 * 86_400.0, -3_600.0, -70.0, 0.0, 70.0, 3_600.0, 3 * 365 * 86_400.0)
_LABELS = ("", "", "", "a", "b")
#: so many lives are balanced by what tasks cost; how many cores these use
COST_LIVES = 0.05
#: so many lives have tasks that take their nodes down
POISON_LIVES = 0.03
#: so many lives have reloads and restarts
RELOAD_LIVES = 0.15
#: so many lives have tasks that need resources
RESOURCE_LIVES = 0.06
#: so many lives have nodes that preempt; where nothing fails there, urgent tasks come for so long
PREEMPT_LIVES, URGENT_COME_S = 0.06, 60.0
#: how long a stream of small tasks goes on, where nothing fails
STREAM_S = 140.0
#: so many lives have tasks that end in what nothing holds
UNHOLDABLE_LIVES = 0.25
_CORES = (0.0, 0.0, 0.01, 0.1, 0.5, 1.0, 1.0, 2.0)
_TASK_VERBS = (
    "pause", "run", "kill", "release", "checkpoint", "sleep", "complete", "delete", "garbage", "pause", "run",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodePlan:
    """drift: by how much its boot clock is too fast. runs_on: its tasks outlive the loss of etcd. wrong_by_s: its wall
    clock is ahead, or behind. has: its resources. preempt: less urgent runs leave for more urgent tasks."""

    name: str
    capacity: int
    label: str = ""
    handlers: tuple[str, ...] = ("work",)
    starts_at: float = 0.0
    drift: float = 0.0
    runs_on: bool = False
    wrong_by_s: float = 0.0
    has: Needs = NO_NEEDS
    preempt: bool = False


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
    needs: Needs = NO_NEEDS
    priority: int = 0

    def props(self) -> dict[str, Any]:
        retry = None if self.max_errors is None else {"max_errors": self.max_errors, "delay": 0.1, "max_delay": "1s"}
        asked = {
            "stop_timeout": "soon" if self.is_wrong else self.stop_timeout_s,
            "stall_timeout": None if self.stall_timeout_s is None else f"{self.stall_timeout_s * 1000:g}ms",
            "stall_by": self.stall_by,
            "memory_limit": self.memory_limit,
            "retry": retry,
            "not_before": None if self.not_before is None else format_time(EPOCH + self.not_before),
            "needs": to_json(self.needs) or None,
            "priority": self.priority or None,
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
    """To a task or to a node: verb is a task's message, a node's command, or "garbage", "delete" as mpfora's client
    does, "go_delete" as one of Go's, "submit" of a task that was deleted, until it is taken."""

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
    """All that was drawn. safety_s: how long faults go on. balancer: of all nodes, by name. fork_s: how long a fork
    takes; None: as the seed says."""

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
    fork_s: float | None = None

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
            commands=(
                *(self._commands(nodes, tasks, safety_s) if PROFILES[profile] else ()),
                *self._deletions(tasks, safety_s, profile),
            ),
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
        if profile == "undying":
            act = draw_act(rng, rng.choice(("result", "forever", "forever")), stop_timeout_s=stop_timeout_s)
            return (replace(act, strays_s=rng.choice((3.0, 20.0, 200.0))) if rng.random() < 0.2 else act,)
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

    def _deletions(self, tasks: tuple[TaskPlan, ...], safety_s: float, profile: str) -> tuple[CommandPlan, ...]:
        """Drawn apart from all else, so that a seed means what it did without them."""
        rng = random.Random(self.seed ^ 0xDE1E7E)
        is_often = profile == "deletes"
        if not PROFILES[profile] or (not is_often and rng.random() > 0.15):
            return ()
        plans = []
        for _ in range(rng.choice((4, 8, 12)) if is_often else rng.choice((1, 2))):
            task = rng.choice(tasks)
            if task.props is not None or task.asks.is_wrong:
                continue
            at = task.at + rng.uniform(0.5, 0.6 * safety_s)
            plans.append(CommandPlan(at, task.id, rng.choice(("delete", "delete", "go_delete"))))
            plans.append(CommandPlan(at + rng.choice((0.0, 0.01, 0.5, 2.0)), task.id, "submit"))
        return tuple(plans)

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
            for_s = rng.choice(spans) * ttl_s * (0.5 + rng.random()) * (REFUSED_FOR if kind == "refuse" else 1.0)
            faults.append(Fault(at, kind, rng.choice(nodes).name, min(for_s, 25.0)))
        return tuple(sorted(faults, key=lambda fault: fault.at))


def most_drift(ttl_s: float) -> float:
    """By how much a clock may be too fast or slow for its deadline to be kept all the same."""
    margin_s = Settings(lease_ttl_s=ttl_s).margin_s
    return 1 - (ttl_s - margin_s) / (ttl_s - KILLING_S)


def draw(seed: int, profile: str | None = None) -> Scenario:
    """profile: one of PROFILES; None: drawn too."""
    if profile is None and random.Random(seed ^ 0xDEAD).random() < POISON_LIVES:
        profile = "poison"
    if profile is None and random.Random(seed ^ 0x4A5).random() < RESOURCE_LIVES:
        profile = "resources"
    if profile is None and random.Random(seed ^ 0x93E).random() < PREEMPT_LIVES:
        profile = "preemption"
    drawn = with_poison(with_unholdable(with_costs(Drawer(seed, profile).draw())))
    return with_preemption(with_resources(with_reloads(with_wrong_clocks(drawn))))


def with_preemption(scenario: Scenario) -> Scenario:
    """A life of the profile "preemption" as it is: tasks that go on fill the nodes, and urgent ones come. Drawn apart
    from the rest. In half of these lives nothing fails."""
    if scenario.profile != "preemption":
        return scenario
    rng = random.Random(scenario.seed ^ 0x93E)
    nodes = tuple(_preempting(rng, plan) for plan in scenario.nodes[: rng.choice((1, 2, 3))])
    nodes = (replace(nodes[0], preempt=True), *nodes[1:])
    is_quiet = rng.random() < 0.5
    safety_s = URGENT_COME_S if is_quiet else scenario.safety_s
    tasks = _long_tasks(rng, nodes)
    for number in range(rng.choice((1, 2, 4, 6))):
        kind = rng.choice(("result", "forever"))
        act = Act(kind, after_s=rng.uniform(1, 15), saves_s=rng.choice((None, 1.0)))
        asks = Asks(needs=_part(rng, nodes), priority=rng.choice((0, 1, 9, 9, 50)))
        tasks.append(TaskPlan(f"u{number}", rng.uniform(6, 0.8 * safety_s + 6), (act,), asks=asks))
    if is_quiet:
        nodes = tuple(replace(plan, starts_at=0.0, drift=0.0) for plan in nodes)
        return replace(
            scenario, nodes=nodes, tasks=tuple(tasks), faults=(), commands=(), weather=Weather(), safety_s=safety_s,
            unfreezes=True, reader=False,
        )  # fmt: skip
    return _with_its_own(replace(scenario, nodes=nodes, tasks=tuple(tasks)))


def _with_its_own(scenario: Scenario) -> Scenario:
    """Without the faults and commands of nodes and tasks that are not in it. One that has none then has calm weather,
    as any life in which nothing fails."""
    names, ids = {plan.name for plan in scenario.nodes}, {plan.id for plan in scenario.tasks}
    faults = tuple(fault for fault in scenario.faults if fault.node in names)
    commands = tuple(plan for plan in scenario.commands if plan.to in (names if plan.is_node else ids))
    weather = scenario.weather if faults or commands else Weather()
    return replace(scenario, faults=faults, commands=commands, weather=weather)


def _preempting(rng: random.Random, plan: NodePlan) -> NodePlan:
    """Some have resources, some only slots."""
    has = make_needs({"gpus": rng.choice((0, 1, 2, 4)), "cpus": 1000 * rng.choice((0, 2, 4))}.items())
    capacity = rng.choice((0, 3)) if has else rng.choice((1, 2, 4))
    return replace(
        plan, capacity=capacity, label="", handlers=("work",), runs_on=False, has=has, preempt=rng.random() < 0.8
    )


def _part(rng: random.Random, nodes: tuple[NodePlan, ...]) -> Needs:
    """Some or all of what a node has."""
    whole = dict(rng.choice(nodes).has)
    return make_needs({name: rng.choice((0, most // 2, most)) for name, most in whole.items()}.items())


def _long_tasks(rng: random.Random, nodes: tuple[NodePlan, ...]) -> list[TaskPlan]:
    """Tasks of little urgency, about as many as the nodes have room for."""
    tasks = []
    for plan in nodes:
        has = dict(plan.has)
        for _ in range(plan.capacity or max(1, has.get("gpus", 0), has.get("cpus", 0) // 1000)):
            name = rng.choice(list(has)) if has else ""
            needs = make_needs({name: has[name] and (1 if name == "gpus" else 1000)}.items()) if name else NO_NEEDS
            asks = Asks(
                stop_timeout_s=rng.choice((None, None, 1.0)), needs=needs, priority=rng.choice((-5, -1, 0, 0, 3))
            )
            act = Act("forever", leave_s=rng.choice((0.05, 0.5, None)), saves_s=rng.choice((None, 0.5, 3.0)))
            tasks.append(TaskPlan(f"t{len(tasks)}", rng.uniform(0, 6), (act,), asks=asks))
    return tasks


def with_resources(scenario: Scenario) -> Scenario:
    """A life of the profile "resources" as it is. Drawn apart from the rest. In half of these lives nothing fails, each
    run ends, and small tasks keep coming: there no task may starve, and the order of priorities can be told."""
    if scenario.profile != "resources":
        return scenario
    rng = random.Random(scenario.seed ^ 0x4A5)
    gpus = rng.choice((1, 2, 4))
    nodes = tuple(
        replace(plan, capacity=rng.choice((0, 0, 8)), label="", handlers=("work",), runs_on=False, has=_has(rng, gpus))
        for plan in scenario.nodes[: rng.choice((1, 2, 3, 4))]
    )
    if rng.random() < 0.5:
        tasks = [replace(task, label="", handler=None, asks=_needing(rng, nodes, task.asks)) for task in scenario.tasks]
        return _with_its_own(replace(scenario, nodes=nodes, tasks=tuple(tasks)))
    nodes = tuple(replace(plan, starts_at=0.0, drift=0.0, capacity=0) for plan in nodes)
    return replace(
        scenario, nodes=nodes, tasks=_stream(rng, nodes), faults=(), commands=(), weather=Weather(), safety_s=STREAM_S,
        unfreezes=True, reader=False,
    )  # fmt: skip


def _has(rng: random.Random, gpus: int) -> Needs:
    return make_needs({"gpus": rng.choice((gpus, gpus, 0)), "cpus": 1000 * rng.choice((2, 4, 8))}.items())


def _needing(rng: random.Random, nodes: tuple[NodePlan, ...], asks: Asks) -> Asks:
    """What one node at least has, in most cases."""
    has = dict(rng.choice(nodes).has)
    needs = {name: rng.choice((0, rng.randint(1, most), most)) for name, most in has.items()}
    if rng.random() < 0.05:
        needs["licence"] = 1  # nobody has that
    return replace(asks, needs=make_needs(needs.items()), priority=rng.choice((0, 0, 0, -7, 50)))


def _stream(rng: random.Random, nodes: tuple[NodePlan, ...]) -> tuple[TaskPlan, ...]:
    """One or two large tasks, and small ones, more than the nodes have room for."""
    resource = "gpus" if any(dict(plan.has).get("gpus", 0) > 1 for plan in nodes) else "cpus"
    unit = 1 if resource == "gpus" else 1000
    most = max(dict(plan.has).get(resource, 0) for plan in nodes)
    units = sum(dict(plan.has).get(resource, 0) for plan in nodes) // unit
    lasts_s = rng.choice((4.0, 8.0)) if units < 6 else 8.0
    tasks = [
        TaskPlan(f"large{n}", rng.uniform(10, 20), (Act(after_s=lasts_s),), asks=Asks(needs=((resource, most),)))
        for n in range(rng.choice((1, 2)))
    ]
    for n in range(int(1.2 * units * STREAM_S / lasts_s)):
        asks = Asks(needs=((resource, unit),), priority=rng.choice((0, 0, 0, 0, -1, 1)))
        at, act = rng.uniform(0, STREAM_S), Act(after_s=lasts_s * (0.5 + rng.random()))
        tasks.append(TaskPlan(f"s{n}", at, (act,), asks=asks))
    return tuple(tasks)


def with_wrong_clocks(scenario: Scenario) -> Scenario:
    """A life of the profile "clocks" as it is. Drawn apart from the rest."""
    if scenario.profile != "clocks":
        return scenario
    rng = random.Random(scenario.seed ^ 0xC10C)
    nodes = [replace(plan, wrong_by_s=rng.choice(WRONG_BY_S)) for plan in scenario.nodes]
    return replace(scenario, nodes=tuple(nodes))


def with_reloads(scenario: Scenario) -> Scenario:
    """The same life, but for some: then the code of its nodes is reloaded, and nodes are restarted. Drawn apart from
    the rest. Those of the kind of life that is about it have many."""
    rng = random.Random(scenario.seed ^ 0x5E10AD)
    is_often = scenario.profile == "reload"
    if not PROFILES[scenario.profile] or (not is_often and rng.random() >= RELOAD_LIVES):
        return scenario
    faults = list(scenario.faults)
    for _ in range(rng.choice((2, 4, 8)) if is_often else rng.choice((1, 2, 4))):
        kind = rng.choice(("reload", "reload", "reload_within", "reload_within", "bad_code", "restart"))
        at, for_s = rng.uniform(0.5, scenario.safety_s), rng.choice((0.0, 0.3, 2.0, 10.0))
        faults.append(Fault(at, kind, rng.choice(scenario.nodes).name, for_s))
    return replace(scenario, faults=tuple(sorted(faults, key=lambda fault: fault.at)))


def with_poison(scenario: Scenario) -> Scenario:
    """A life of the profile "poison" as it is: one task or two end their node in each run, soon after its start. Drawn
    apart from the rest. Half of these lives have one node, which nobody sees die."""
    if scenario.profile != "poison":
        return scenario
    rng = random.Random(scenario.seed ^ 0x9015)
    alone = rng.random() < 0.5
    nodes = tuple(NodePlan(f"n{index}", rng.choice((0, 3))) for index in range(1 if alone else rng.choice((2, 3))))
    tasks = [TaskPlan(f"g{n}", rng.uniform(0, 4), (Act(after_s=rng.uniform(0.1, 4)),)) for n in range(rng.randrange(5))]
    for number in range(rng.choice((1, 1, 1, 2))):
        act = Act(rng.choice(DEADLY), after_s=rng.choice((0.0, 0.3, 3.0)))
        tasks.append(TaskPlan(f"bad{number}", rng.uniform(0, 4), (act,)))
    return replace(scenario, ttl_s=rng.choice((3.0, 5.0)), nodes=nodes, tasks=tuple(tasks), weather=Weather())


def with_unholdable(scenario: Scenario) -> Scenario:
    """The same life, but for some: then a task or two of it end in what nothing holds. Drawn apart from the rest."""
    rng = random.Random(scenario.seed ^ 0xBAD)
    if rng.random() >= UNHOLDABLE_LIVES or not PROFILES[scenario.profile]:
        return scenario
    tasks = list(scenario.tasks)
    for _ in range(rng.choice((1, 2))):
        index = rng.randrange(len(tasks))
        act = replace(tasks[index].acts[0], kind=rng.choice(UNHOLDABLE), answer="")
        later = tasks[index].acts[1:] if rng.random() < 0.5 else ()
        tasks[index] = replace(tasks[index], acts=(act, *later))
    return replace(scenario, tasks=tuple(tasks))


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
