"""Whether this node can start processes at all, and what it does when it cannot. Pure.

A node is in trouble when it has no processes, descriptors or memory, or when its zygote cannot be started twice in a
row. That is no error of any task: what it has claimed and does not run is given back, it takes nothing, and its member
record says why, so that no other node assigns it. What runs goes on. It tries by itself, at growing pauses, whether
it is well again: by a self-test, which is a run without a task, or by starting the zygote (zygote_restarts.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mpfora.ipc.frames import SELF_TEST
from mpfora.model.lasting_condition import LastingCondition, format_span
from mpfora.model.outcome import Cause, Outcome
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.model.task import Trouble
from mpfora.model.units import format_time
from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks

#: before the first self-test, and the longest pause between two
FIRST_PAUSE_S, MOST_PAUSE_S = 5.0, 60.0
#: a self-test is made so soon after a run has ended, which may have made room
AFTER_RUN_S = 0.5
#: trouble that comes back so soon after it went is the same: its pauses go on growing
RELAPSE_S = 60.0
#: so many starts of the zygote in a row must fail
ZYGOTE_FAILURES = 2
#: from the first line of the log on it to the second
TELL_AGAIN_S = 60.0
#: a self-test that does not end is killed
SELF_TEST_S = 30.0
_WHY, _DETAIL = 300, 4000


class Kind(Enum):
    """PROCESS  no process could be made for a run;  ZYGOTE  the zygote cannot be started"""

    PROCESS = "process"
    ZYGOTE = "zygote"


@dataclass(slots=True)
class Health:
    """trouble  what is published; None: the node is well
    self_test  number of the run that tries, while it is under way
    """

    trouble: Trouble | None = None
    self_test: int | None = None
    _kind: Kind = Kind.PROCESS
    _began_s: float = 0.0
    _ended_s: float | None = None
    _lasting: dict[Kind, LastingCondition] = field(
        default_factory=lambda: {kind: LastingCondition(TELL_AGAIN_S) for kind in Kind}
    )
    _pause_s: float = FIRST_PAUSE_S
    _try_at_s: float = 0.0
    _zygote_failures: int = 0

    @property
    def why(self) -> str:
        """Why nothing is started here; "" if the node is well."""
        return "" if self.trouble is None else f"this node {self.trouble.why}"

    # -- what happens ---------------------------------------------------------------------------------

    def no_process(self, error: str, now: Now) -> list[do.Action]:
        """A run could not be started for want of something that the node should have."""
        if self.trouble is not None:
            return []
        return self._begin(Kind.PROCESS, f"cannot start processes: {error}", "", now)

    def zygote_failed(self, error: str, detail: str, now: Now) -> list[do.Action]:
        """The zygote could not be started. Once may be chance."""
        self._zygote_failures += 1
        told = f"{error}\n{detail}".strip()
        if self._zygote_failures < ZYGOTE_FAILURES:
            return [do.Say("error", f"the zygote cannot be started, trying again: {told}")]
        why = f"cannot start its zygote: {_last_line(error, detail)}"
        if self.trouble is None or self._kind is not Kind.ZYGOTE:
            return self._begin(Kind.ZYGOTE, why, detail or error, now)
        self.trouble = Trouble(why[:_WHY], self.trouble.since, _end(detail or error))
        return []

    def zygote_ready(self, now: Now) -> list[do.Action]:
        self._zygote_failures = 0
        return self._finish(now) if self.trouble is not None and self._kind is Kind.ZYGOTE else []

    def tried(self, outcome: Outcome, now: Now) -> list[do.Action]:
        """The self-test has ended. One that ended with its zygote, or with the lease, says nothing."""
        self.self_test = None
        if self.trouble is None:
            return []
        if outcome.cause is Cause.COMPLETED:
            return self._finish(now)
        if outcome.cause not in (Cause.ZYGOTE_LOST, Cause.LOST_CLAIM):
            self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)
        self._try_at_s = now.boot_s + self._pause_s
        return []

    def run_ended(self, now: Now) -> None:
        """A run of a task has ended, and left what it had."""
        self._try_at_s = min(self._try_at_s, now.boot_s + AFTER_RUN_S)

    # -- what is done ---------------------------------------------------------------------------------

    def decide(
        self, status: NodeStatus, claimed: ClaimedTasks, now: Now, *, may_self_test: bool, is_joined: bool
    ) -> list[do.Action]:
        """Tell the log and other nodes what keeps this node from starting anything; try whether it still does.

        may_self_test: there is a zygote and the lease is good"""
        steps = self.tell(now)
        if status.trouble != self.trouble:
            status.trouble = self.trouble
            claimed.touch_all()
            if is_joined:
                steps.append(do.Publish(status.member()))
        if may_self_test and self.is_due(now):
            steps.append(self.begin_self_test(claimed.new_run(), claimed.generation))
        return steps

    def is_due(self, now: Now) -> bool:
        """Whether a self-test is to be made. Called when there is a zygote and the lease is good."""
        is_wanted = self.trouble is not None and self._kind is Kind.PROCESS and self.self_test is None
        return is_wanted and now.boot_s >= self._try_at_s

    def begin_self_test(self, run: int, generation: int) -> do.Fork:
        """Start a run without a task, which needs all that any run needs."""
        self.self_test = run
        limits = RunLimits(SELF_TEST_S, stall_timeout_s=SELF_TEST_S)
        return do.Fork(run, RunSpec("", SELF_TEST, "{}", 0, 1, None, limits), generation)

    def tell(self, now: Now) -> list[do.Action]:
        """The line of the log on trouble that lasts."""
        lasting = self._lasting[self._kind]
        if self.trouble is None or now.boot_s < lasting.report_at_s:
            return []
        return [do.Say("error", f"this node {self.trouble.why}; it takes no tasks{lasting.seen(now.boot_s)}")]

    def wake_at(self, *, may_self_test: bool) -> float | None:
        """When there is something to do by itself. may_self_test: see is_due."""
        if self.trouble is None:
            return None
        tries = may_self_test and self._kind is Kind.PROCESS and self.self_test is None
        tell_at_s = self._lasting[self._kind].report_at_s
        return min(tell_at_s, self._try_at_s) if tries else tell_at_s

    def _begin(self, kind: Kind, why: str, detail: str, now: Now) -> list[do.Action]:
        is_relapse = self._ended_s is not None and now.boot_s - self._ended_s < RELAPSE_S
        if self.trouble is None:
            self._began_s = now.boot_s
            self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S) if is_relapse else FIRST_PAUSE_S
        self._kind, self._try_at_s = kind, now.boot_s + self._pause_s
        since = format_time(int(now.wall_s)) if self.trouble is None else self.trouble.since
        self.trouble = Trouble(why[:_WHY], since, _end(detail))
        told = f"\n{self.trouble.detail}" if detail else ""
        report = self._lasting[kind].seen(now.boot_s)
        text = f"this node {why}. It takes no tasks until it can, and gives back what does not run{report}{told}"
        return [] if report is None else [do.Say("error", text)]

    def _finish(self, now: Now) -> list[do.Action]:
        assert self.trouble is not None
        what = "start its zygote" if self._kind is Kind.ZYGOTE else "start processes"
        self.trouble, self._ended_s = None, now.boot_s
        is_reported = [lasting.over(now.boot_s) is not None for lasting in self._lasting.values()]
        lasted = format_span(now.boot_s - self._began_s)
        text = f"this node can {what} again, after {lasted}; it takes tasks again"
        return [do.Say("info", text)] if any(is_reported) else []


def _last_line(error: str, detail: str) -> str:
    """One line for people: what the node cannot do, and the last line of the traceback."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    if not lines or lines[-1] in error:
        return error
    return lines[-1] if lines[-1].startswith(error.split(" cannot ")[0]) else f"{error}: {lines[-1]}"


def _end(text: str) -> str:
    """A traceback says most at its end."""
    return text if len(text) <= _DETAIL else f"[...]\n{text[-_DETAIL:]}"
