"""Faults that are planted in the nodes of a run, to see that the nemesis brings them to light and the checker speaks.

Each takes one safeguard away, in the processes of a node (planted.py), and names what it should be caught as.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


def replace_in(owner: object, name: str, value: object) -> None:
    """Every plant goes through here: tests/house/test_planted.py looks at what it replaces."""
    setattr(owner, name, value)


def _nothing() -> None:
    """This process is left as it is."""


@dataclass(frozen=True, slots=True)
class Plant:
    """text: what is missing;  in_zygote, in_supervisor: called there before anything runs;  kinds: of the violations
    that it can be caught by;  covered: why it may be missed, "" if it may not"""

    text: str
    kinds: tuple[str, ...]
    in_zygote: Callable[[], None] = _nothing
    in_supervisor: Callable[[], None] = _nothing
    covered: str = ""


def _never_past() -> None:
    from mpfora.child.zygote.kill_decisions import KillDecisions

    replace_in(KillDecisions, "_is_past", lambda self, now: False)


def _without_margin() -> None:
    from mpfora.supervisor.node.lease import LeaseClock

    replace_in(LeaseClock, "deadline_s", property(lambda self: self.ends_s))


def _counted_from_the_answer() -> None:
    from mpfora.supervisor.core import Core
    from mpfora.supervisor.events import Renewed

    handle = Core.handle

    def late(self: Core, event: Any, now: Any) -> Any:
        return handle(self, replace(event, sent_s=now.boot_s) if isinstance(event, Renewed) else event, now)

    replace_in(Core, "handle", late)


def _deaf_to_the_end_of_file() -> None:
    from mpfora.child.zygote.loop import Zygote

    is_done = Zygote._is_done

    def deaf(self: Zygote) -> bool:
        if self._link.is_closed and self._leaving_at is None:
            time.sleep(0.05)  # the socket's end stays ready
            return False
        return is_done(self)

    replace_in(Zygote, "_is_done", deaf)


def _untied() -> None:
    """Called before the guard forks the zygote: both are without."""
    from mpfora.child.zygote.guard import _CleanUp
    from mpfora.linux import syscalls

    replace_in(syscalls, "set_pdeathsig", lambda signal_number: None)
    replace_in(syscalls, "tie_to_lifeline", lambda reader, pid: None)
    replace_in(_CleanUp, "run", lambda self: 1)


def _without_fences() -> None:
    from mpfora.supervisor.coordinator import transactions

    replace_in(transactions, "still_ours", lambda layout, session, claim: ())


def _without_grace() -> None:
    from mpfora.supervisor.tasks.claiming import Claiming

    made = Claiming.__init__

    def impatient(
        self: Claiming, node: Any, mirror: Any, assignments: Any, grace_s: float, lease_s: float = 15.0
    ) -> None:
        made(self, node, mirror, assignments, 0.0, lease_s)

    replace_in(Claiming, "__init__", impatient)


def _blind_to_its_own_claims() -> None:
    from mpfora.supervisor.tasks.ownership import Ownership

    replace_in(Ownership, "_judge", lambda self, claimed, task: [])


def _released_as_done() -> None:
    from mpfora.supervisor.coordinator import settlements, transactions

    replace_in(settlements, "release_txn", transactions.done_txn)


def _claims_anything() -> None:
    from mpfora.supervisor.coordinator import claim_batches, transactions

    def greedy(*arguments: Any) -> Any:
        txn = transactions.claim_txn(*arguments)
        return txn._replace(compares=txn.compares[1:])

    replace_in(claim_batches, "claim_txn", greedy)


def _unprobed() -> None:
    from mpfora.supervisor.zygote.liveness import Liveness

    replace_in(Liveness, "probe", lambda self, patience_s: None)


PLANTS = {
    "deadline": Plant("the zygote never keeps the deadline", ("beyond lease", "overlap"), in_zygote=_never_past),
    "margin": Plant("the deadline is the lease's end", ("margin", "beyond lease"), in_supervisor=_without_margin),
    "answer": Plant(
        "a renewal is counted from its answer",
        ("margin", "beyond lease"),
        in_supervisor=_counted_from_the_answer,
        # the simulated cluster, whose clock has no noise, catches it: sim/planted.py, renewal_from_its_answer
        covered="a renewal waits for its answer no longer than the margin is",
    ),
    "orphan": Plant(
        "the zygote does not notice the supervisor's death", ("process left",), in_zygote=_deaf_to_the_end_of_file
    ),
    "untied": Plant("children do not die with the zygote", ("overlap", "process left", "margin"), in_zygote=_untied),
    "probe": Plant(
        "the supervisor does not look after its zygote at the deadline",
        ("margin", "beyond lease", "overlap"),
        in_supervisor=_unprobed,
    ),
    "fence": Plant("no write compares the fence", ("fence", "overlap"), in_supervisor=_without_fences),
    "owned": Plant("a claim does not ask whether there is one", ("fence", "overlap"), in_supervisor=_claims_anything),
    "grace": Plant("nobody waits for the grace", ("overlap",), in_supervisor=_without_grace),
    "own": Plant(
        "a node does not look at its own owner keys",
        ("beyond lease", "overlap"),
        in_supervisor=_blind_to_its_own_claims,
    ),
    "done": Plant("a release removes the task", ("lost",), in_supervisor=_released_as_done),
}
