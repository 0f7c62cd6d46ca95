"""What /proc tells of the threads of a process that cannot be asked itself. Standard library only."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from mpfora.linux.procfs import read_text

#: of so many threads
_MOST = 64
_TICKS = os.sysconf("SC_CLK_TCK")
_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting in the kernel for a device",
    "T": "stopped",
    "t": "stopped by a tracer",
    "Z": "dead",
    "I": "idle",
}


@dataclass(frozen=True, slots=True)
class Thread:
    """state: a word. wchan: the kernel's function in which it waits, "" if it waits in none or that is hidden."""

    tid: int
    name: str
    state: str
    wchan: str
    cpu_s: float

    def __str__(self) -> str:
        where = f" in {self.wchan}" if self.wchan else ""
        return f"Thread {self.tid} [{self.name}]: {self.state}{where}, {self.cpu_s:.2f} s of CPU time"


def threads(pid: int) -> list[Thread]:
    """The main thread first; [] if there is no such process."""
    with suppress(OSError):
        tids = sorted(map(int, os.listdir(f"/proc/{pid}/task")), key=lambda tid: (tid != pid, tid))
        return [thread for tid in tids[:_MOST] if (thread := _thread(pid, tid)) is not None]
    return []


def _thread(pid: int, tid: int) -> Thread | None:
    """None: it has ended."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
        name = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return None
    return Thread(tid, name, _STATES.get(fields[0], fields[0]), _wchan(pid, tid), cpu_s)


def _wchan(pid: int, tid: int) -> str:
    try:
        text = read_text(f"/proc/{pid}/task/{tid}/wchan")[:200].strip()
    except OSError:  # another user's
        return ""
    return "" if text == "0" else text


def blocks(pid: int, signal_number: int) -> bool:
    """Whether the main thread of a process keeps a signal waiting."""
    return _has(pid, "SigBlk", signal_number)


def catches(pid: int, signal_number: int) -> bool:
    """Whether a process has a handler for a signal."""
    return _has(pid, "SigCgt", signal_number)


def _has(pid: int, mask: str, signal_number: int) -> bool:
    with suppress(OSError, ValueError):
        for line in read_text(f"/proc/{pid}/status").splitlines():
            if line.startswith(f"{mask}:"):
                return bool(int(line.split()[1], 16) >> (signal_number - 1) & 1)
    return False
