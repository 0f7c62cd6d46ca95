"""What must be true of a run of faults, looked at from outside and afterwards. Pure: evidence in, violations out.

Each check is a function that yields Violations; `check` runs them all. Nothing is excused but what `excused` names,
one by one and with its proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mpfora.supervisor.tasks.zygote_poison import CONVICTIONS

from .evidence import ClaimGone, Evidence, How, Life, S, by_task, last_lives

#: a claim that was taken away while its process was well is noticed by the watch; the grace keeps others from it for so
#: long
GRACE_NS = 1 * S
#: a process writes a line each tick, so that its last line may be so much older than its death
TICK_NS = S // 10
#: etcd before this version lets a deposed leader that comes back revoke leases that live (etcd-io/etcd #15247). Since
#: then a leader asks first whether it still leads, but not if its clock has ticked a moment ago: one that was stopped
#: and goes on may tick first. 3.5.16 was seen to do that
LEADER_ASKS_FROM = (3, 5, 13)
#: for so long after its return
DEPOSED_NS = 2 * S


@dataclass(frozen=True, slots=True)
class Violation:
    """kind: one of KINDS. at: when it can first be told, 0 if that is at the end only."""

    kind: str
    text: str
    at: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


KINDS = ("overlap", "beyond lease", "margin", "fence", "lost", "process left", "line")


@dataclass(frozen=True, slots=True)
class Excuse:
    """What looks like a violation and is not one of mpfora's, with the proof of that. subject: the task's id, and of a
    process its fence and pid."""

    subject: tuple[str, int, int]
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class BrokenPromise:
    """The claims of a node vanished at one time, too early. left_ns: before the promised end; last_ns: from then to the
    last line of any of its processes; returned_ns: since a member that may have led had come back, None: none had."""

    node: str
    at: int
    claims: int
    left_ns: int
    last_ns: int
    returned_ns: int | None

    def __str__(self) -> str:
        member = "no member had come back"
        if self.returned_ns is not None:
            member = f"{self.returned_ns / S:.2f} s after a member that was stopped or cut off had come back"
        return (
            f"{self.claims} claims of {self.node}, {self.left_ns / S:.2f} s too early, {member};"
            f" the last line of their processes came {self.last_ns / S:+.3f} s after that"
        )


# -- the checks -------------------------------------------------------------------------------------------------------


def overlaps(evidence: Evidence) -> Iterator[Violation]:
    """At no instant do two processes of one task live. Never excused."""
    for lives in by_task(evidence.lives).values():
        latest = lives[0]
        for life in lives[1:]:
            if life.first <= latest.last:
                both = (min(latest.last, life.last) - life.first) / S
                yield Violation("overlap", f"{both:.3f} s: {latest} and {life}", life.first)
            latest = max(latest, life, key=lambda one: one.last)


def beyond_lease(evidence: Evidence) -> Iterator[Violation]:
    """No process lives when its claim is gone."""
    excused = {excuse.subject for excuse in excuses(evidence)}
    for life, gone in _outlived(evidence):
        if life.last > gone.at + _grace_ns(evidence, gone) and (life.task, life.fence, life.pid) not in excused:
            beyond = (life.last - gone.at) / S
            yield Violation("beyond lease", f"{beyond:.3f} s after its claim was gone: {life}; {_of(gone)}", gone.at)


def _outlived(evidence: Evidence) -> Iterator[tuple[Life, ClaimGone]]:
    last = {(gone.task, gone.fence): gone for gone in evidence.gone}
    for life in evidence.lives:
        gone = last.get((life.task, life.fence))
        if gone is not None and life.last > gone.at:
            yield life, gone


def _grace_ns(evidence: Evidence, gone: ClaimGone) -> int:
    """How long a process may outlive its claim. Whoever deletes a task takes it from a node that may be stopped or cut
    off: it ends with the lease then. A lease that was revoked shows in the node's watch."""
    if gone.how is How.DELETED:
        return int(evidence.ttl_s * S)
    return GRACE_NS if gone.how is How.REVOKED else 0


def excuses(evidence: Evidence) -> list[Excuse]:
    return [*_revoked_by_etcd(evidence), *_convicted(evidence)]


def _revoked_by_etcd(evidence: Evidence) -> Iterator[Excuse]:
    """The processes that lived on, within the grace, when a deposed leader revoked their live lease: etcd's leader had
    promised more, and a member that may have led, and that this version lets do so, had just come back."""
    returns = evidence.returns if evidence.etcd < LEADER_ASKS_FROM else evidence.thaws
    for life, gone in _outlived(evidence):
        returned = max((at for at in returns if at <= gone.at <= at + DEPOSED_NS), default=None)
        if evidence.etcd and gone.is_early and returned is not None and life.last <= gone.at + GRACE_NS:
            text = (
                f"{(life.last - gone.at) / S:.3f} s after its claim was gone: {life}; etcd's leader had promised the"
                f" lease for {(gone.promised - gone.at) / S:.2f} s more, and a member had come back"
                f" {(gone.at - returned) / S:.2f} s before"
            )
            yield Excuse((life.task, life.fence, life.pid), text)


def _convicted(evidence: Evidence) -> Iterator[Excuse]:
    """The tasks that failed as poison because the nemesis killed or stopped their zygote each time they were tried: the
    policy is that nobody can tell the difference."""
    runs = by_task(evidence.lives)
    for task, end in evidence.ends.items():
        if end.state != "failed" or not end.story.startswith("poison"):
            continue
        tried = runs.get(task, [])[-CONVICTIONS:]
        if len(tried) == CONVICTIONS and all(_was_hit(evidence, life) for life in tried):
            yield Excuse((task, 0, 0), f"{task} failed as poison; the nemesis had hit each zygote: {_list(tried)}")


def _was_hit(evidence: Evidence, life: Life) -> bool:
    return any(
        hit.node == life.node and hit.begins - GRACE_NS <= life.last <= hit.ends + GRACE_NS for hit in evidence.hits
    )


def _list(lives: Sequence[Life]) -> str:
    return ", ".join(map(str, lives))


def too_close(evidence: Evidence) -> Iterator[Violation]:
    """A process whose lease ran out was dead half a margin before: the zygote keeps the deadline, and the supervisor
    looks after the zygote."""
    least = int(evidence.margin_s * S / 2)
    for life, gone in ran_out(evidence):
        if gone.at - least < life.last <= gone.at:
            text = f"{(gone.at - life.last) / S:.3f} s before its lease ran out: {life}; {_of(gone)}"
            yield Violation("margin", text, life.last)


def ran_out(evidence: Evidence) -> Iterator[tuple[Life, ClaimGone]]:
    """The claims that ended with the lease, in its time, and their last processes, where these had not returned."""
    last = last_lives(evidence.lives)
    for gone in evidence.gone:
        life = last.get((gone.task, gone.fence))
        if gone.how is How.ENDED and not gone.is_early and life is not None and not life.returned:
            yield life, gone


def unclaimed(evidence: Evidence) -> Iterator[Violation]:
    """Whoever runs had claimed: there was an owner key of that fence and node. Looked at only where the observer saw
    the task's claims."""
    if not evidence.claims:
        return
    claims = {(claim.task, claim.fence): claim.node for claim in evidence.claims}
    for life in evidence.lives:
        is_unseen = any(first <= life.fence <= last for first, last in evidence.unseen)
        if claims.get((life.task, life.fence), life.node if is_unseen else None) != life.node:
            yield Violation("fence", f"no such claim was seen: {life}", life.first)


def fences_back(evidence: Evidence) -> Iterator[Violation]:
    """The fences of a task never go back from one run to the next."""
    for lives in by_task(evidence.lives).values():
        for before, after in pairwise(lives):
            if after.fence < before.fence:
                yield Violation("fence", f"went back: {before}, then {after}", after.first)


def unfenced(evidence: Evidence) -> Iterator[Violation]:
    """Nothing is written for a task but by the run that owns it."""
    for write in evidence.writes:
        if write.fence != write.owner:
            owner = f"fence {write.owner}" if write.owner else "nobody"
            text = f"a {write.what} of {write.task} was written by fence {write.fence} while {owner} owned it"
            yield Violation("fence", f"{text}, at {write.at / S:.3f}", write.at)


def lost(evidence: Evidence) -> Iterator[Violation]:
    """Every task is completed in the end, and one that is completed has run to its end."""
    excused = {excuse.subject[0] for excuse in _convicted(evidence)}
    returned = {life.task for life in evidence.lives if life.returned}
    for task, end in evidence.ends.items():
        if end.state != "completed":
            if task not in excused:
                story = f": {end.story}" if end.story else ""
                yield Violation("lost", f"{task} is {end.state} in the end, its key {_there(end.present)}{story}")
        elif end.present:
            yield Violation("lost", f"{task} is completed, and its key is still there")
        elif task not in returned:
            yield Violation("lost", f"{task} is called completed, and no process of it returned")


def left_behind(evidence: Evidence) -> Iterator[Violation]:
    for text in evidence.left:
        yield Violation("process left", text)


def torn_lines(evidence: Evidence) -> Iterator[Violation]:
    for line in evidence.malformed:
        yield Violation("line", f"torn or foreign: {line[:200]!r}")


CHECKS = (
    overlaps,
    beyond_lease,
    too_close,
    unclaimed,
    fences_back,
    unfenced,
    lost,
    left_behind,
    torn_lines,
)


def check(evidence: Evidence) -> list[Violation]:
    return [violation for look in CHECKS for violation in look(evidence)]


def _there(present: bool) -> str:
    return "is there" if present else "is gone"


def _of(gone: ClaimGone) -> str:
    promised = f", {(gone.promised - gone.at) / S:.2f} s before what was promised" if gone.is_early else ""
    return f"the claim was {gone.how.value}{promised}"


def broken_promises(evidence: Evidence) -> list[BrokenPromise]:
    """Where etcd let go of claims of living processes before its leader had said that it would, by lease."""
    last = last_lives(evidence.lives)
    groups: dict[tuple[str, int], list[tuple[Life, ClaimGone]]] = defaultdict(list)
    for gone in evidence.gone:
        life = last.get((gone.task, gone.fence))
        if gone.is_early and life is not None and life.last >= gone.at - TICK_NS:
            groups[life.node, gone.at].append((life, gone))
    found = []
    for (node, at), claims in sorted(groups.items(), key=lambda one: one[0][1]):
        returned = max((one for one in evidence.returns if one <= at), default=None)
        found.append(
            BrokenPromise(
                node,
                at,
                len(claims),
                max(gone.promised for _, gone in claims) - at,
                max(life.last for life, _ in claims) - at,
                None if returned is None else at - returned,
            )
        )
    return found


# -- figures ----------------------------------------------------------------------------------------------------------


def margins(evidence: Evidence) -> list[float]:
    """Seconds between the last line of a process and the end of its lease, for each claim that ended so."""
    return [(gone.at - life.last) / S for life, gone in ran_out(evidence)]
