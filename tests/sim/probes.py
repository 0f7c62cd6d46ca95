"""Small scenarios made by hand: each is run again from every point at which something may be lost or killed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mpfora.retry import Retry

from .kernel import Act
from .network import Weather
from .scenario import CommandPlan, Fault, NodePlan, Scenario, TaskPlan

FOREVER = Act("forever")
STUBBORN = Act("forever", leave_s=None)
SHORT = Act("result", after_s=0.5)
GOOD = Weather()


def scenario(
    nodes: int,
    tasks: Mapping[str, tuple[Act, ...]],
    *commands: CommandPlan,
    seed: int = 1,
    ttl_s: float = 10.0,
    safety_s: float = 6.0,
    stop_timeout_s: float = 0.5,
    weather: Weather = GOOD,
    faults: tuple[Fault, ...] = (),
) -> Scenario:
    """Nodes n0, n1 ... with room for three tasks each; all tasks are there after a second."""
    return Scenario(
        seed=seed,
        profile="probe",
        ttl_s=ttl_s,
        stop_timeout_s=stop_timeout_s,
        grace_s=1.0,
        retry=Retry(max_errors=2, delay=0.2, max_delay=1.0),
        safety_s=safety_s,
        weather=weather,
        nodes=tuple(NodePlan(f"n{index}", 3) for index in range(nodes)),
        tasks=tuple(TaskPlan(task_id, 1.0, acts) for task_id, acts in tasks.items()),
        commands=commands,
        faults=faults,
    )


#: what is re-run from every interrupted prefix
PROBES: Mapping[str, Scenario] = {
    "a task completes": scenario(1, {"t": (SHORT,)}),
    "two nodes share, one leaves": scenario(
        2, {"a": (FOREVER,), "b": (STUBBORN,), "c": (FOREVER,)}, faults=(Fault(2.5, "shut_down", "n0", 2.0),)
    ),
    "a task is paused and run": scenario(
        1, {"t": (FOREVER,)}, CommandPlan(2.0, "t", "pause"), CommandPlan(3.5, "t", "run")
    ),
    "a task sleeps, saves, and completes": scenario(
        1, {"t": (Act("sleep", after_s=0.3, sleep_s=0.5, saves_s=0.1), SHORT)}
    ),
    "a task fails by its policy": scenario(1, {"t": (Act("raise", after_s=0.1),)}),
    "a task is killed while it hangs": scenario(1, {"t": (STUBBORN,)}, CommandPlan(2.0, "t", "kill")),
    "a kill is answered with a pause": scenario(
        1, {"t": (Act("forever", answer="pause"),)}, CommandPlan(2.0, "t", "kill")
    ),
    "a pause is answered with a sleep, a sleep with what is no answer": scenario(
        1,
        {"a": (Act("forever", answer="sleep"), FOREVER), "b": (Act("forever", answer="bad_message"), FOREVER)},
        CommandPlan(2.0, "a", "pause"),
        CommandPlan(2.0, "b", "sleep", parameter="1.0"),
    ),
    "a node is drained": scenario(2, {"a": (FOREVER,), "b": (FOREVER,)}, CommandPlan(2.0, "n0", "drain", is_node=True)),
    "tasks move to a node that joins": scenario(
        2, {"a": (FOREVER,), "b": (FOREVER,), "c": (FOREVER,)}, faults=(Fault(0.5, "power_off", "n1", 2.0),)
    ),
    "the code is reloaded, and what runs goes on in it": scenario(
        1,
        {"a": (FOREVER,), "b": (STUBBORN,)},
        faults=(Fault(2.0, "reload", "n0"), Fault(3.5, "reload_within", "n0", 0.3)),
    ),
    "a zygote dies": scenario(1, {"a": (FOREVER,), "b": (SHORT,)}, faults=(Fault(2.0, "kill_zygote", "n0"),)),
}


def slow_then_cut(seed: int) -> Scenario:
    """Renewals are answered late, and then not at all: a node whose handler does not obey."""
    return scenario(
        2,
        {"t": (STUBBORN,)},
        seed=seed,
        ttl_s=15.0,
        safety_s=40.0,
        stop_timeout_s=5.0,
        weather=Weather(slow=1.0, slow_s=2.8),
        faults=(Fault(10.0 + seed * 0.37, "cut", "n0", 25.0), Fault(10.0 + seed * 0.37, "cut", "n1", 25.0)),
    )


def burst_of_forks(seed: int) -> Scenario:
    """One node has room for all: its forks take twice as long as its lease."""
    burst = scenario(1, {f"t{number}": (FOREVER,) for number in range(40)}, seed=seed, ttl_s=3.0, safety_s=15.0)
    return replace(burst, nodes=(NodePlan("n0", 100),), fork_s=0.15)


def former_zygotes(seed: int) -> Scenario:
    """What runs is in the former zygotes of nodes whose code was reloaded, and takes its time to die. One supervisor is
    killed, and one stands still for longer than its lease."""
    slow = Act("forever", leave_s=None, dies_s=1.0)
    reloads = [Fault(2.5, "reload", name) for name in ("n0", "n1")]
    ends = (Fault(5.0 + seed * 0.37, "kill_supervisor", "n0", 12.0), Fault(5.5, "stop_supervisor", "n1", 25.0))
    tasks = {f"t{number}": (slow,) for number in range(6)}
    return scenario(3, tasks, seed=seed, safety_s=40.0, faults=(*reloads, *ends))
