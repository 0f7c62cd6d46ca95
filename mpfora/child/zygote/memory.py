"""The memory that a run's tree has made dirty itself: anonymous and shared memory. Pure but for the readings of /proc.

A leader is a copy of the zygote. The zygote's pages are in it, and are not its own until it writes to them. No number
of the kernel's leaves them out: the resident size counts them whole, the proportional one by a share that depends on
how many neighbours have them. So the tree's own memory is put together of these, each the same whoever else runs:

    private   anonymous pages that one process alone has. The zygote's pages are shared with the zygote at least.
    joint     anonymous pages that the processes of a tree share among themselves (they fork without exec, as a pool
              does). The page tables do not tell these from the zygote's pages. Of the shared pages of the process that
              has most of them, as many are taken for the zygote's as the leader had when it was last looked at
              alone: those that were copied since are missed, so the sum may be too small by that much, never too large.
    shared    memory that is shared on purpose (SharedMemory, memfd, mmap without a file), each page once. What the
              zygote has of it is left out.

Not counted: pages of files, which the kernel can drop or write back; swapped pages; shared memory that is mapped by no
process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_VMA = re.compile(
    rb"^[0-9a-f]+-[0-9a-f]+ (?P<flags>\S+) \S+ \S+ (?P<inode>\d+) *(?P<name>[^\n]*)\n"
    rb".*?^Pss: +(?P<pss>\d+) kB\n.*?^Private_Clean: +(?P<clean>\d+) kB\nPrivate_Dirty: +(?P<dirty>\d+) kB\n"
    rb".*?^Anonymous: +(?P<anonymous>\d+) kB\n",
    re.MULTILINE | re.DOTALL,
)
_SHARED_NAMES = (b"/dev/shm/", b"/memfd:", b"/SYSV", b"/dev/zero", b"[anon_shmem:")
_STATUS = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pages:
    """Of one process, in bytes: private and shared anonymous pages, and its share of shared memory. program: equal in
    processes that were forked from each other without an exec."""

    private: int
    shared: int
    shmem: int
    program: int


@dataclass(frozen=True, slots=True)
class OwnMemory:
    """Of a tree, in bytes."""

    anonymous: int
    shared: int
    processes: int

    @property
    def size(self) -> int:
        return self.anonymous + self.shared


@dataclass(frozen=True, slots=True)
class Glance:
    """What one process shows without a look at its pages: anonymous and shared memory that is resident, in bytes, and
    how many pages it has faulted in so far."""

    size: int
    faults: int


def read_glance(pid: int) -> Glance | None:
    """None: it is gone, or hidden."""
    try:
        size = sum(int(match[1]) for match in _STATUS.finditer(_read(pid, "status"))) * 1024
        return Glance(size, int(_stat_fields(pid)[7]))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def read_pages(pid: int) -> Pages | None:
    """A look at every page: some 13 ms for a GiB. None: it is gone. Of a process that may not be looked at (it has
    changed its user) all that is resident is taken for pages that it may share with the zygote."""
    try:
        return parse_smaps(_read(pid, "smaps"), _program(pid))
    except PermissionError:
        glance = read_glance(pid)
        return None if glance is None else Pages(0, glance.size, 0, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None


def read_zygote() -> Pages:
    """Of this process: its shared memory and its program, without a look at its pages."""
    shmem = re.search(rb"^RssShmem:\s+(\d+) kB$", _read(os.getpid(), "status"), re.MULTILINE)
    return Pages(0, 0, 0 if shmem is None else int(shmem[1]) * 1024, _program(os.getpid()))


def _program(pid: int) -> int:
    """Where its stack began: the kernel chooses that anew at each exec. 0: it may not be known."""
    return int(_stat_fields(pid)[25])


def parse_smaps(data: bytes, program: int) -> Pages:
    private = shared = shmem = 0
    for vma in _VMA.finditer(data):
        if vma["flags"][3:4] == b"s":
            if vma["name"].startswith(_SHARED_NAMES):
                shmem += int(vma["pss"])
            continue
        anonymous = int(vma["anonymous"])
        # clean private pages beside a file's are the file's
        alone = int(vma["dirty"]) + (int(vma["clean"]) if vma["inode"] == b"0" else 0)
        private += min(alone, anonymous)
        shared += max(0, anonymous - alone)
    return Pages(private * 1024, shared * 1024, shmem * 1024, program)


def add_up(tree: Iterable[Pages], inherited: int, zygote: Pages) -> OwnMemory:
    """What a tree has of its own. inherited: how many bytes of the zygote's its leader has at most."""
    pages = list(tree)
    joint: dict[int, int] = {}
    for each in pages:
        program = each.program or zygote.program
        joint[program] = max(joint.get(program, 0), each.shared)
    if zygote.program in joint:
        joint[zygote.program] = max(0, joint[zygote.program] - inherited)
    anonymous = sum(each.private for each in pages) + sum(joint.values())
    return OwnMemory(anonymous, max(0, sum(each.shmem for each in pages) - zygote.shmem), len(pages))


def most_growth(before: Mapping[int, Glance], now: Mapping[int, Glance], page: int) -> int | None:
    """How many bytes a tree's own memory can have grown by between two glances at all its processes: what became
    resident, and every page that was faulted in, for it may have been a copy. None: a process has gone, and what it
    shared with another may be that one's alone."""
    if not before.keys() <= now.keys():
        return None
    growth = 0
    for pid, glance in now.items():
        known = before.get(pid, Glance(0, 0))
        growth += max(0, glance.size - known.size) + (glance.faults - known.faults) * page
    return growth


def _stat_fields(pid: int) -> list[bytes]:
    data = _read(pid, "stat")
    return data[data.rindex(b")") + 2 :].split()


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall()
