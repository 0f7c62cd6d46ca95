"""Guards that are taken away in the nodes of a hostile run: the stream must find it, and the checker tell it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults.plants import Plant, replace_in

from .checker import TURN_MS
from .draw import TOO_MUCH

SUPPORT = str(Path(__file__).resolve().parents[1] / "support")


def _without(*guards: str) -> None:
    sys.path.append(SUPPORT)  # of nodes: pytest has it already
    import planted_values

    for guard in guards:
        for where, what, value in planted_values.GUARDS[guard]():
            replace_in(where, what, value)


def _no_bulkhead() -> None:
    """mpfora fails at one task in ten, and nothing is between that and the node."""
    from mpfora.supervisor.tasks import advancing, lifecycle

    def advance(claimed: Any, conditions: Any) -> Any:
        if claimed.task_id.endswith("3"):
            raise RuntimeError("planted")
        return lifecycle.advance(claimed, conditions), lifecycle.wake_at(claimed, conditions)

    replace_in(advancing, "advance_safely", advance)


def _long_turns() -> None:
    """To decide about one task in ten takes long."""
    from mpfora.supervisor.tasks import advancing

    real = advancing.advance_safely

    def advance(claimed: Any, conditions: Any) -> Any:
        ends = time.thread_time() + 2 * TURN_MS / 1000
        while claimed.task_id.endswith("3") and time.thread_time() < ends:
            pass
        return real(claimed, conditions)

    replace_in(advancing, "advance_safely", advance)


def _any_time() -> None:
    """Both guards go: a time that no clock holds is written as it is, and what cannot be written is tried again for
    ever. Either alone is covered by the other."""
    from mpfora.store import kv
    from mpfora.supervisor import actions as do
    from mpfora.supervisor import effects
    from mpfora.supervisor import events as ev

    _without("times_of_any_size")
    real = effects.after_bug

    def after_bug(action: Any, bug: Exception) -> Any:
        if isinstance(action, do.Keep | do.Release | do.Finish):
            return ev.WriteAnswered(action.claim.task_id, action.claim.fence, ev.WriteResult.UNKNOWN, str(bug))
        return real(action, bug)

    replace_in(effects, "Unwritable", kv.TooLarge)
    replace_in(effects, "after_bug", after_bug)


def _any_time_of_children() -> None:
    from mpfora.child.run import json_values
    from mpfora.model import state

    for module in (state, json_values):
        replace_in(module, "checked_time", lambda seconds, what: float(seconds))


def _orphans_live() -> None:
    """Nor does the kernel kill them, where runs have control groups."""
    from mpfora.child.zygote.orphan_killer import OrphanKiller
    from mpfora.linux.run_cgroups import RunGroup

    replace_in(OrphanKiller, "kill_all", lambda self, stats, now: None)
    replace_in(RunGroup, "kill", lambda self, spares=None: None)


def _no_stalls() -> None:
    from mpfora.child.zygote.kill_decisions import KillDecisions

    add = KillDecisions.add
    replace_in(
        KillDecisions, "add", lambda self, run, limits, now: add(self, run, replace(limits, stall_timeout_ns=None), now)
    )


def _no_memory_limits() -> None:
    from mpfora.child.zygote.kill_decisions import KillDecisions

    replace_in(KillDecisions, "saw_memory", lambda self, run, size: None)


PLANTS = {
    "bulkhead": Plant("a failure at a task is its node's", ("node left",), in_supervisor=_no_bulkhead),
    "turns": Plant("one task keeps the loop for long", ("long turn",), in_supervisor=_long_turns),
    "times": Plant(
        "a task may sleep until any number", ("deaf task", "bug", "node left", "stop"), _any_time_of_children, _any_time
    ),
    "orphans": Plant("the zygote kills no orphans", ("plain task", "process left", "stop"), in_zygote=_orphans_live),
    "stalls": Plant("no run stalls", ("plain task",), in_zygote=_no_stalls),
    "memory": Plant("no run is over its memory limit", ("limit",), in_zygote=_no_memory_limits),
}

#: what brings a plant to light, and is rare among all that is drawn
FAVOURITES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "memory": (("take_memory", {"size": TOO_MUCH}),),
    "times": tuple(("sleep_until", {"what": what}) for what in ("nanoseconds", "milliseconds", "maxsize")),
    "orphans": (("daemon", {}), ("unmarked_daemon", {}), ("deaf_worker", {}), ("workers", {"number": 3})),
    "stalls": (("hang", {}), ("hang_in_c", {})),
}
