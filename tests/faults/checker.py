"""What must be true of a run of faults, looked at from outside and afterwards. Pure: lines and facts in, violations
out.

A Life is one process of one task, from its first line to its last. Each check is a function that yields Violations;
`check` runs them all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

S = 1_000_000_000
#: a claim that was taken away while its process was well (a lease revoked by the nemesis) is noticed by the watch; the
#: grace keeps others from it for so long
GRACE_NS = 1 * S


@dataclass(slots=True)
class Life:
    """first, last   boot time in nanoseconds of its first and last line
    returned      its last line says that the handler returned"""

    task: str
    fence: int
    pid: int
    node: str
    first: int
    last: int
    lines: int = 1
    returned: bool = False

    def __str__(self) -> str:
        return (
            f"{self.task} fence {self.fence} pid {self.pid} on {self.node} [{self.first / S:.3f}, {self.last / S:.3f}]"
        )


@dataclass(frozen=True, slots=True)
class ClaimGone:
    """An owner key vanished. at: boot time when the observer saw it, which is never before it happened.

    clean   with the mark that its process is dead, or together with the task
    taken   behind its owner's back, while the lease was well: by the nemesis, or (by_etcd) by a deposed leader that
            revokes live leases, as those of etcd before 3.5.13 do when they come back"""

    task: str
    fence: int
    at: int
    clean: bool = False
    taken: bool = False
    by_etcd: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """An owner key was put."""

    task: str
    fence: int
    node: str
    at: int


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """What a task was when all was over. present: its key exists; state: of its kept state, "runnable" if there is
    none."""

    present: bool
    state: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run.

    ends      every task that was submitted and not deleted -> what became of it
    unseen    ranges of revisions, ends included, that the observer missed: claims made in them may be unknown
    left      descriptions of processes that were found when none may be
    malformed lines of the file that are none"""

    lives: Sequence[Life]
    gone: Sequence[ClaimGone] = ()
    claims: Sequence[Claimed] = ()
    ends: Mapping[str, TaskEnd] = field(default_factory=dict)
    unseen: Sequence[tuple[int, int]] = ()
    left: Sequence[str] = ()
    malformed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """kind: "overlap", "beyond lease", "fence", "lost", "process left", "line"."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def read_lives(lines: Iterable[str]) -> tuple[list[Life], list[str]]:
    """The lives in the order of their first line, and the lines that are none."""
    lives: dict[tuple[str, int, int], Life] = {}
    malformed: list[str] = []
    for line in lines:
        try:
            task, fence, pid, kind, at, node = line.split()
            key = task, int(fence), int(pid)
            now = int(at)
        except ValueError:
            malformed.append(line)
            continue
        life = lives.get(key)
        if life is None:
            life = lives[key] = Life(*key, node, now, now, 0)
        life.first, life.last = min(life.first, now), max(life.last, now)
        life.lines += 1
        life.returned = life.returned or kind == "E"
    return sorted(lives.values(), key=lambda life: life.first), malformed


def by_task(lives: Iterable[Life]) -> dict[str, list[Life]]:
    """The lives of each task, in the order of their first line."""
    found: dict[str, list[Life]] = defaultdict(list)
    for life in sorted(lives, key=lambda life: life.first):
        found[life.task].append(life)
    return found


# -- the checks -------------------------------------------------------------------------------------------------------


def overlaps(evidence: Evidence) -> Iterator[Violation]:
    """At no instant do two processes of one task live."""
    for lives in by_task(evidence.lives).values():
        latest = lives[0]
        for life in lives[1:]:
            if life.first <= latest.last:
                both = (min(latest.last, life.last) - life.first) / S
                yield Violation("overlap", f"{both:.3f} s: {latest} and {life}")
            latest = max(latest, life, key=lambda one: one.last)


def beyond_lease(evidence: Evidence) -> Iterator[Violation]:
    """No process lives when its claim is gone; when it was taken away behind its owner's back: no longer than the
    grace."""
    last = {(gone.task, gone.fence): gone for gone in evidence.gone}
    for life in evidence.lives:
        gone = last.get((life.task, life.fence))
        if gone is not None and life.last > gone.at + (GRACE_NS if gone.taken else 0):
            beyond = (life.last - gone.at) / S
            yield Violation("beyond lease", f"{beyond:.3f} s after its claim was gone: {life}")


def unclaimed(evidence: Evidence) -> Iterator[Violation]:
    """Whoever runs had claimed: there was an owner key of that fence and node. Looked at only where the observer saw
    the task's claims."""
    if not evidence.claims:
        return
    claims = {(claim.task, claim.fence): claim.node for claim in evidence.claims}
    for life in evidence.lives:
        is_unseen = any(first <= life.fence <= last for first, last in evidence.unseen)
        if claims.get((life.task, life.fence), life.node if is_unseen else None) != life.node:
            yield Violation("fence", f"no such claim was seen: {life}")


def fences_back(evidence: Evidence) -> Iterator[Violation]:
    """The fences of a task never go back from one run to the next."""
    for lives in by_task(evidence.lives).values():
        for before, after in pairwise(lives):
            if after.fence < before.fence:
                yield Violation("fence", f"went back: {before}, then {after}")


def lost(evidence: Evidence) -> Iterator[Violation]:
    """Every task is completed in the end, and one that is completed has run to its end."""
    returned = {life.task for life in evidence.lives if life.returned}
    for task, end in evidence.ends.items():
        if end.state != "completed":
            yield Violation("lost", f"{task} is {end.state} in the end, its key {_there(end.present)}")
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


CHECKS = (overlaps, beyond_lease, unclaimed, fences_back, lost, left_behind, torn_lines)


def check(evidence: Evidence) -> list[Violation]:
    return [violation for look in CHECKS for violation in look(evidence)]


def _there(present: bool) -> str:
    return "is there" if present else "is gone"


def taken_by_etcd(evidence: Evidence) -> int:
    """How many claims of living processes a deposed leader took away."""
    last = {(life.task, life.fence): life.last for life in evidence.lives}
    gone = [one for one in evidence.gone if one.by_etcd and not one.clean]
    return sum(one.at - last.get((one.task, one.fence), 0) < S // 2 for one in gone)


# -- figures ----------------------------------------------------------------------------------------------------------


def margins(evidence: Evidence) -> list[float]:
    """Seconds between the last line of a process and the vanishing of its claim by the lease's end, for each claim
    that ended so while its last process had not returned."""
    last: dict[tuple[str, int], Life] = {}
    for life in evidence.lives:
        last[life.task, life.fence] = life
    found = []
    for gone in evidence.gone:
        of = last.get((gone.task, gone.fence))
        if not gone.clean and not gone.taken and of is not None and not of.returned:
            found.append((gone.at - of.last) / S)
    return found


def failovers(lives: Sequence[Life], node: str, at: int, within: int) -> list[float]:
    """Seconds from a fault on `node` until each task that ran there at that time, and whose process died within
    `within` ns of it, was run again, anywhere."""
    found = []
    for runs in by_task(lives).values():
        firsts = [life.first for life in runs]
        index = bisect_right(firsts, at) - 1
        if index < 0 or index + 1 >= len(runs):
            continue
        life = runs[index]
        # a process that was between two ticks when it was killed has its last one just before
        alive = life.node == node and life.last >= at - S // 10 and not life.returned
        if alive and life.last <= at + within:
            found.append((runs[index + 1].first - at) / S)
    return found
