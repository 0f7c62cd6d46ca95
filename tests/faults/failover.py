"""Failovers, traced: how long a task was without a process after its node was hit, and what of that nobody could have
helped. Pure.

A failover is counted from the fault to the first line of the task's next process, anywhere. Spans in which the task
could not have been run are named, one reason each, and their union is taken off: what is left is the cluster's own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .checker import GRACE_NS, TICK_NS
from .evidence import Claimed, ClaimGone, Evidence, How, Life, S, Span, TaskState, by_task
from .nemesis import Fault

#: how long after the end of a lease a healthy etcd lets go of it, at most
LATE_NS = int(0.6 * S)
#: a process that dies within this of a fault, or of the fault's end, died of it
WITHIN_NS = 7 * S
#: so long after a fault is over what it was done to may still be busy with it: a node starts, members elect
RECOVERY_S = 2.0
SILENT_ILL = "etcd answered nobody: a member was ill"
SILENT_WELL = "etcd answered nobody, though no member was ill: the machine was too busy"
#: a suspect of so many lost zygotes runs again only when its turn has come
TRIED_FROM = 2


@dataclass(frozen=True, slots=True)
class Wait:
    """A span in which the task could not have run."""

    why: str
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Away:
    """When the node of a fault could neither take tasks nor run them."""

    fault: Fault
    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Failover:
    """dead   the last line of the process that ran when the fault came
    gone   when etcd let its claim go; None: it was kept
    claims those that followed, the last one is of the process that ran again (empty: the claim was kept)"""

    fault: Fault
    dead: Life
    gone: ClaimGone | None
    claims: tuple[Claimed, ...]
    again: Life
    waits: tuple[Wait, ...]

    @property
    def seconds(self) -> float:
        return (self.again.first - self.fault.at) / S

    @property
    def own_s(self) -> float:
        """The seconds that the cluster could have avoided."""
        return self.seconds - covered(self.waits) / S

    @property
    def reasons(self) -> dict[str, float]:
        """Seconds by reason; where spans overlap, in each."""
        found: dict[str, float] = {}
        for why in dict.fromkeys(wait.why for wait in self.waits):
            found[why] = covered([wait for wait in self.waits if wait.why == why]) / S
        return found

    @property
    def story(self) -> str:
        """The steps, in seconds after the fault."""
        at = self.fault.at
        steps = [f"last line {(self.dead.last - at) / S:+.1f}"]
        if self.gone is not None:
            steps.append(f"claim {self.gone.how.value} {(self.gone.at - at) / S:+.1f}")
        for claim in self.claims:
            missed = f" (instead of {claim.missed})" if claim.missed else ""
            steps.append(f"claimed by {claim.node}{missed} {(claim.at - at) / S:+.1f}")
        return ", ".join([*steps, f"ran on {self.again.node} {self.seconds:+.1f}"])


def covered(waits: Sequence[Wait]) -> int:
    """The length of the union."""
    length = reached = 0
    for wait in sorted(waits, key=lambda wait: wait.begins):
        begins = max(wait.begins, reached)
        if wait.ends > begins:
            length, reached = length + wait.ends - begins, wait.ends
    return length


class Trace:
    """All failovers of one run. Made once: it sorts the evidence by task and node."""

    def __init__(self, evidence: Evidence, faults: Sequence[Fault]) -> None:
        self._evidence, self._faults = evidence, faults
        self._lives = by_task(evidence.lives)
        self._gone = {(gone.task, gone.fence): gone for gone in evidence.gone}
        self._gone_of: dict[str, list[ClaimGone]] = defaultdict(list)
        for gone in sorted(evidence.gone, key=lambda gone: gone.at):
            self._gone_of[gone.task].append(gone)
        self._claims: dict[str, list[Claimed]] = defaultdict(list)
        for claim in sorted(evidence.claims, key=lambda claim: claim.at):
            self._claims[claim.task].append(claim)
        self._states: dict[str, list[TaskState]] = defaultdict(list)
        for state in evidence.states:
            self._states[state.task].append(state)
        self._ends = max((life.last for life in evidence.lives), default=0)
        self._away: dict[str, list[Away]] = defaultdict(list)
        for fault in faults:
            if fault.disables:
                self._away[fault.node].append(Away(fault, fault.at, self._back(fault)))
        self._unable = list(self._nobody_takes())

    def of(self, fault: Fault) -> list[Failover]:
        """Of each task that ran on the fault's node, whose process died of it, and that was run again."""
        ends = fault.at + WITHIN_NS + int(fault.lasts_s * S)
        found = []
        for lives in self._lives.values():
            index = bisect_right([life.first for life in lives], fault.at) - 1
            if index < 0 or index + 1 >= len(lives):
                continue
            life = lives[index]
            alive = life.node == fault.node and life.last >= fault.at - TICK_NS and not life.returned
            if alive and life.last <= ends:
                found.append(self._failover(fault, life, lives[index + 1]))
        return found

    def _failover(self, fault: Fault, dead: Life, again: Life) -> Failover:
        gone = self._gone.get((dead.task, dead.fence)) if again.fence != dead.fence else None
        between = [claim for claim in self._claims[dead.task] if dead.fence < claim.fence <= again.fence]
        waits = [
            Wait(wait.why, max(wait.begins, fault.at), min(wait.ends, again.first))
            for wait in self._waits(fault, dead, gone, between, again)
        ]
        return Failover(
            fault, dead, gone, tuple(between), again, tuple(wait for wait in waits if wait.ends > wait.begins)
        )

    # -- why it could not run -----------------------------------------------------------------------------------------

    def _waits(
        self, fault: Fault, dead: Life, gone: ClaimGone | None, claims: Sequence[Claimed], again: Life
    ) -> Iterator[Wait]:
        for span in self._evidence.silent:
            yield Wait(SILENT_ILL if self._was_ill(span) else SILENT_WELL, span.begins, span.ends)
        yield from (Wait("no node took tasks", span.begins, span.ends) for span in self._unable)
        yield from self._resting(dead.task)
        due = fault.at + int(self._evidence.ttl_s * S) + LATE_NS
        if gone is not None and gone.how is How.ENDED and gone.at > due:
            yield Wait("etcd kept the lease for longer than its TTL", due, gone.at)
        is_kept = gone is None or (gone.how is How.RELEASED and gone.at > due)
        if is_kept and fault.disables and "zygote" not in fault.kind:
            yield Wait("etcd kept the lease for longer than its TTL", due, fault.at + int(fault.lasts_s * S))
        for begins, node, ends in self._holds(fault, dead, gone, claims, again):
            if self._is_hit(node, begins, ends, but=fault):
                yield Wait("the node that had it then was hit as well", begins, ends)
            if self._losses(dead.task, ends) >= TRIED_FROM:
                yield Wait("a suspect: zygotes had died under it, and it waited for others", begins, ends)
        for claim in claims:
            since, at = self._free_since(claim), claim.at
            # a node that is dead is taken for a member until its lease ends
            member_ns = int(self._evidence.ttl_s * S)
            if claim.missed is not None and since is not None and self._is_hit(claim.missed, since - member_ns, at):
                yield Wait("the node that was to take it was hit, and the next one waited for it", since, at)

    def _was_ill(self, silence: Span) -> bool:
        """Whether a member of etcd was ill then, or had been a moment before."""
        return any(
            fault.kind.startswith("etcd")
            and fault.at < silence.ends
            and fault.at + int((fault.lasts_s + RECOVERY_S) * S) > silence.begins
            for fault in self._faults
        )

    def _holds(
        self, fault: Fault, dead: Life, gone: ClaimGone | None, claims: Sequence[Claimed], again: Life
    ) -> Iterator[tuple[int, str, int]]:
        """(from, node, until) it was owned by a node that could have run it."""
        if gone is None or gone.how is not How.ENDED:
            yield max(dead.last, fault.at), dead.node, again.first if gone is None else gone.at
        for claim in claims:
            ended = self._gone.get((claim.task, claim.fence))
            yield claim.at, claim.node, again.first if claim.fence == again.fence or ended is None else ended.at

    def _free_since(self, claim: Claimed) -> int | None:
        """From when on others could have claimed it: when it was let go, and the grace was over if it was not clean."""
        before = [gone for gone in self._gone_of[claim.task] if gone.at <= claim.at]
        if not before:
            return None
        return before[-1].at + (GRACE_NS if before[-1].how in (How.ENDED, How.REVOKED) else 0)

    def _is_hit(self, node: str, begins: int, ends: int, but: Fault | None = None) -> bool:
        return any(
            away.fault is not but and away.begins < ends and away.ends > begins for away in self._away.get(node, ())
        )

    def _back(self, fault: Fault) -> int:
        """When the node of a fault can take tasks again. Of one whose supervisor died: when its former record has gone
        and there is a new one."""
        healed = fault.at + int((fault.lasts_s + RECOVERY_S) * S)
        if not fault.is_fatal:
            return healed
        seen = [one for one in self._evidence.nodes if one.node == fault.node and one.at > fault.at]
        gone = next((one.at for one in seen if not one.takes), None)
        back = None if gone is None else next((one.at for one in seen if one.takes and one.at > gone), None)
        return max(healed - int(RECOVERY_S * S), back if back is not None else self._ends)

    def _resting(self, task: str) -> Iterator[Wait]:
        """While its state says that it is not to run."""
        states = self._states[task]
        for index, state in enumerate(states):
            if state.state != "runnable":
                until = states[index + 1].at if index + 1 < len(states) else self._ends
                yield Wait(f"it was {state.state}", state.at, until)

    def _losses(self, task: str, before: int) -> int:
        """Of the last state that was kept before its run."""
        found = [state.losses for state in self._states[task] if state.at < before]
        return found[-1] if found else 0

    def _nobody_takes(self) -> Iterator[Span]:
        """When every node was away, frozen, draining, full, or hit."""
        changes: list[tuple[int, str, str, int]] = [
            (seen.at, "takes", seen.node, int(seen.takes)) for seen in self._evidence.nodes
        ]
        for spans in self._away.values():
            for away in spans:
                node = away.fault.node
                changes += [(away.begins, "away", node, 1), (away.ends, "away", node, -1)]
        takes: dict[str, bool] = {}
        hits: dict[str, int] = defaultdict(int)
        able: list[tuple[int, bool]] = []
        for at, what, node, value in sorted(changes):
            if what == "takes":
                takes[node] = bool(value)
            else:
                hits[node] += value
            able.append((at, any(is_in and not hits[name] for name, is_in in takes.items())))
        for (begins, is_able), (ends, _) in pairwise(able):
            if not is_able:
                yield Span(begins, ends)
