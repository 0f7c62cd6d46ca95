"""What comes in a hostile run: tasks, keys and commands, drawn from a seed. Pure."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from . import meddling, values
from .deeds import DEEDS as DEEDS_OF_HANDLERS
from .deeds import STRANGE

#: the names in props that mpfora reads
SETTINGS = (
    "retry", "labels", "memory_limit", "not_before", "stall_timeout", "stop_timeout", "stall_by", "pids_limit",
    "handler", "mpfora",
)  # fmt: skip
STATE = (
    "state", "until", "errors", "result", "cause", "stack", "attempt", "fence", "node", "started", "ended",
    "kept_until", "checkpoint", "losses",
)  # fmt: skip
MEMBER = ("host", "created", "node", "capacity", "labels", "balancer", "pid", "frozen", "draining", "full", "weight")
MESSAGE = ("message", "until", "error", "by")
NODE_COMMAND = ("command", "parameters")
RETRY = ("max_errors", "within", "delay", "factor", "max_delay", "jitter")

#: bytes of memory, beyond the limit of the hostile handler
TOO_MUCH = 400 << 20

_WHAT = tuple(STRANGE)
#: what takes its own process apart
MEDDLING = tuple(name for name, act in DEEDS_OF_HANDLERS.items() if act.__module__ == meddling.__name__)
#: (deed, its arguments, weight); an argument that is a tuple is drawn from
DEEDS: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("sleep_until", {"what": _WHAT}, 5),
    ("answer", {"what": _WHAT}, 5),
    ("save", {"what": _WHAT}, 4),
    ("leave", {"what": _WHAT}, 2),
    ("beat", {"what": _WHAT}, 2),
    ("note", {"what": _WHAT}, 2),
    ("wait", {"what": _WHAT}, 2),
    ("raise_it", {"what": _WHAT}, 3),
    ("exit_with", {"what": _WHAT}, 2),
    ("log_it", {"what": _WHAT}, 2),
    ("flood_saves", {"seconds": 1.0, "size": (1, 10_000, 500_000)}, 2),
    ("flood_beats", {"seconds": 1.0}, 1),
    ("flood_lines", {"seconds": 1.0, "line": ("x\n", "x", "\r50%", "\x1b[2J\n", "\udcff\n")}, 2),
    ("flood_log", {"seconds": 0.5}, 1),
    ("hang", {}, 1),
    ("hang_in_c", {}, 1),
    ("hang_deaf", {}, 1),
    ("hang_busy", {}, 1),
    ("stop_itself", {}, 1),
    ("hang_in_a_loop", {}, 1),
    ("die", {"number": (1, 2, 3, 6, 9, 10, 11, 12, 14, 15, 31)}, 4),
    ("leave_at_once", {"code": (0, 1, 74, 255)}, 2),
    ("kill_group", {}, 1),
    ("close_all", {}, 2),
    ("write_everywhere", {}, 2),
    ("take_descriptors", {}, 1),
    ("no_descriptors", {}, 1),
    ("no_address_space", {}, 1),
    ("another_user", {}, 1),
    ("take_memory", {"size": (10 << 20, TOO_MUCH)}, 2),
    ("map_memory", {"size": (10 << 20, TOO_MUCH)}, 1),
    ("share_memory", {"size": 1 << 20}, 1),
    ("threads", {"number": (1, 20)}, 1),
    ("no_signals", {}, 1),
    ("no_modules", {}, 1),
    ("no_streams", {}, 1),
    ("workers", {"number": (1, 8)}, 2),
    ("daemon", {}, 2),
    ("unmarked_daemon", {}, 2),
    ("deaf_worker", {}, 1),
    ("zombies", {"number": 5}, 1),
    ("both_return", {}, 1),
    ("steal_exits", {}, 1),
    ("kill_zygote", {}, 0.3),
    ("stop_zygote", {}, 0.15),
    ("kill_supervisor", {}, 0.1),
    ("work", {"seconds": 0.5}, 3),
    *((name, {}, 0.7) for name in MEDDLING),
)
#: a node's process may end, or its tasks be run again, because of these
HARMS_ZYGOTE = frozenset({"kill_zygote", "stop_zygote", "kill_supervisor"})
HARMS_NODE = frozenset({"kill_supervisor"})
#: a task that gives itself back is taken again, and one that sleeps or waits for a time that may be far away stays
NEVER_ENDS = frozenset({"leave", "sleep_until"})


@dataclass(frozen=True, slots=True)
class Hostile:
    """A task whose props are this text, whether it is JSON or not.

    deeds  the names of what its handler does
    keys   (what stands at it after `NS/`, text), written just before the task
    plain  nothing but its deeds is hostile: it comes to an end by itself"""

    task_id: str
    props: str
    deeds: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    plain: bool = False

    @property
    def harms(self) -> bool:
        """Whether the task takes its zygote or node down: such a task is tried several times before it is given up."""
        return not HARMS_ZYGOTE.isdisjoint(self.deeds)


#: of the tasks of a run with a plant that do what shows it
FAVOURED = 0.25


def favoured(rng: random.Random, task_id: str, deeds: tuple[tuple[str, dict[str, Any]], ...]) -> Hostile | None:
    """Now and then a task that does one of these and nothing else."""
    if not deeds or rng.random() >= FAVOURED:
        return None
    name, arguments = rng.choice(deeds)
    return Hostile(task_id, json.dumps({"handler": "hostile", "deeds": [[name, arguments]]}), (name,), plain=True)


def hostile(rng: random.Random, task_id: str) -> Hostile:
    """One in two has hostile deeds and nothing else, the others hostile props or keys."""
    deeds = _deeds(rng)
    names, props = tuple(name for name, _ in deeds), json.dumps({"handler": "hostile", "deeds": deeds})
    kind = rng.choices(("deeds", "keys", "props", "settings"), (10, 4, 1, 5))[0]
    if kind == "deeds":
        return Hostile(task_id, props, names, plain=NEVER_ENDS.isdisjoint(names))
    if kind == "keys":
        return Hostile(task_id, props, names, _keys(rng, task_id))
    if kind == "props":
        return Hostile(task_id, values.value(rng))
    settings = rng.sample(SETTINGS, rng.randint(1, 3))
    drawn = ", ".join(f"{json.dumps(name)}: {_setting(rng, name)}" for name in settings)
    return Hostile(task_id, f"{props[:-1]}, {drawn}}}", names)


def _deeds(rng: random.Random) -> list[list[Any]]:
    found = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        name, arguments, _ = rng.choices(DEEDS, [weight for _, _, weight in DEEDS])[0]
        drawn = {key: rng.choice(one) if isinstance(one, tuple) else one for key, one in arguments.items()}
        found.append([name, drawn])
    return found


def _setting(rng: random.Random, name: str) -> str:
    if name == "retry" and rng.random() < 0.7:
        return values.object_of(rng, RETRY)
    if name == "labels" and rng.random() < 0.5:
        return f'{{"gpu": {values.value(rng, well_formed=True)}}}'
    return values.value(rng, well_formed=True)


def _keys(rng: random.Random, task_id: str) -> tuple[tuple[str, str], ...]:
    """Keys of this task that are put before the task itself."""
    made = {
        f"state/{task_id}": lambda: values.object_of(rng, STATE) if rng.random() < 0.7 else values.value(rng),
        f"history/{task_id}": lambda: values.value(rng),
        f"checkpoints/{task_id}": lambda: values.value(rng),
        f"tasks/{task_id}/commands": lambda: (
            values.object_of(rng, MESSAGE) if rng.random() < 0.7 else values.value(rng)
        ),
        f"tasks/{task_id}/released": lambda: values.value(rng),
        f"tasks/{task_id}/unknown": lambda: values.value(rng),
    }
    return tuple((key, made[key]()) for key in rng.sample(sorted(made), rng.randint(1, 3)))


def stray_key(rng: random.Random) -> tuple[str, str]:
    """A key that belongs to no task, or to none that can be."""
    number = rng.randrange(10**6)
    kind = rng.randrange(8)
    if kind == 0:
        return f"nodes/ghost{number}/_metafora", values.object_of(rng, MEMBER)
    if kind == 1:
        return f"nodes/n1/commands/{number}", values.object_of(
            rng, NODE_COMMAND
        ) if rng.random() < 0.5 else values.value(rng)
    if kind == 2:
        return f"resources/n{rng.randint(1, 3)}x", values.value(rng)
    if kind == 3:
        return f"live/n{rng.randint(1, 3)}x", values.value(rng)
    if kind == 4:
        return f"tasks/odd {number}/props", values.value(rng)
    if kind == 5:
        return f"finished/{values.value(rng)[:40]}/x{number}", values.value(rng)
    if kind == 6:
        return f"state/never{number}", values.object_of(rng, STATE)
    return f"whatever/{number}", values.value(rng)
