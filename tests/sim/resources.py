"""What must hold for tasks that need resources of their nodes, watched from outside.

No unit of a node is had by two processes that live, no node gives more than it has, and each run has what its task
needs. Where nothing fails and runs end, no large task waits for ever. Tasks that ask for the same are claimed in the
order of their priorities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpfora.model.needs import GPUS, NOTHING, is_met, json_amount

from .books import Books, TaskBook
from .kernel import Proc
from .scenario import Scenario

#: how long a task may wait for resources where runs end after seconds; a claim may be on its way so long
STARVED_S, ON_ITS_WAY_S = 110.0, 2.0


class Resources:
    """say: the violation, its kind first."""

    def __init__(
        self, books: Books, now: Callable[[], float], scenario: Scenario, say: Callable[[str, str], None]
    ) -> None:
        self._books, self._now, self._say = books, now, say
        self._has = {plan.name: dict(plan.has) for plan in scenario.nodes}
        self._tasks = {plan.id: plan for plan in scenario.tasks}
        self._is_watched = any(self._has.values())
        self._is_quiet = self._is_watched and not (scenario.faults or scenario.commands)
        #: tasks that wait to be claimed: since when
        self._waits: dict[str, float] = {}

    def started(self, proc: Proc, live: Sequence[Proc]) -> None:
        plan = self._tasks[proc.task]
        if not self._is_watched or plan.props is not None or plan.asks.is_wrong:
            return
        self._check_amounts(proc)
        others = [one for one in live if one is not proc and one.machine == proc.machine and self._counts(one, proc)]
        has = self._has[proc.machine]
        for name, _ in plan.asks.needs:
            used = sum(_amount(one, name) for one in (*others, proc))
            if used > json_amount(name, has.get(name, 0)):
                self._say("more than it has", f"{proc.name}: {used} {name} of {has} are in use")
        for other in others:
            if shared := set(other.given.get(GPUS, ())) & set(proc.given.get(GPUS, ())):
                self._say("shared", f"{proc.name} and {other.name} both have the GPUs {shared}")

    def _counts(self, other: Proc, proc: Proc) -> bool:
        """A process that nothing ends may outlive the node that gave it what it has."""
        return not (other.undying and other.life_of_node != proc.life_of_node)

    def _check_amounts(self, proc: Proc) -> None:
        needs, gpus = dict(self._tasks[proc.task].asks.needs), proc.given.get(GPUS, [])
        told = {name: _amount(proc, name) for name in proc.given}
        if told != {name: json_amount(name, amount) for name, amount in needs.items()}:
            self._say("not what it needs", f"{proc.name} was given {proc.given} for {needs}")
        if len(set(gpus)) != len(gpus) or not set(gpus) <= set(range(self._has[proc.machine].get(GPUS, 0))):
            self._say("shared", f"{proc.name} was given the GPUs {gpus}")

    def changed(self, claimed: Sequence[str]) -> None:
        """After each revision. claimed: the tasks that were claimed in it."""
        if not self._is_quiet:
            return
        for task_id in claimed:
            self._waits.pop(task_id, None)
        for task_id in claimed:
            self._check_order(self._books.task(task_id))
        now, members = self._now(), self._books.members.values()
        for book in self._books.tasks.values():
            if not (book.exists and book.owner is None) or book.resting:
                self._waits.pop(book.id, None)
            elif any(is_met(book.wants.needs or NOTHING, member.has) for member in members):
                since = self._waits.setdefault(book.id, now)
                if now - since > STARVED_S and book.id.startswith("large"):
                    self._say("starves", f"{book.id} waits since {since:.1f}: {book.wants}")

    def _check_order(self, claimed: TaskBook) -> None:
        """No task that asks for the same has waited with a higher priority."""
        for task_id, since in self._waits.items():
            other = self._books.task(task_id)
            is_first = other.wants.priority > claimed.wants.priority
            if is_first and other.wants.needs == claimed.wants.needs and self._now() - since > ON_ITS_WAY_S:
                self._say("out of order", f"{claimed.id} is claimed before {other.id}: {other.wants}")


def _amount(proc: Proc, name: str) -> float:
    value = proc.given.get(name, 0)
    return len(value) if isinstance(value, list) else value
