"""Each run of a task writes itself down in one file, from inside its own process: independent of what mpfora says.

At its start a run also looks for the processes of all earlier runs of its task, by pid and start time. One that finds
none of them alive cannot have overlapped with any: a process that has died stays dead.

Handlers are wrapped with `witnessed`. Standard library only (children import this).
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpfora import Context, Message, Task
from mpfora.linux.procfs import read_stat
from mpfora.linux.syscalls import boot_ns

#: the file, and the node's name: in the environment of the nodes, which their tasks inherit
FILE_VARIABLE = "MPFORA_DEMO_RUNS"
NODE_VARIABLE = "MPFORA_DEMO_NODE"

HandlerFunction = Callable[[Task, Context], Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it saw itself.

    born         its process's start in clock ticks: with the pid, a name for ever
    began_s      CLOCK_BOOTTIME;  began_at  Unix seconds
    resumed      it was given a checkpoint
    met_alive    pids of earlier runs of this task that lived when it began: there must be none
    ended_s      CLOCK_BOOTTIME at which the handler ended; None: it never did, its process was ended
    """

    task: str
    node: str
    fence: int
    pid: int
    born: int
    began_s: float
    began_at: float
    resumed: bool = False
    met_alive: tuple[int, ...] = ()
    ended_s: float | None = None


def witnessed(handler: HandlerFunction) -> HandlerFunction:
    """The same handler, each run of which is written down."""

    @functools.wraps(handler)
    def with_witness(task: Task, ctx: Context) -> Any:
        path = Path(os.environ[FILE_VARIABLE])
        _write(path, {"event": "begin", "task": task.id, "resumed": ctx.checkpoint is not None, **_myself(ctx)})
        _write(path, {"event": "met", "pid": os.getpid(), "alive": _alive(read_runs(path), task.id)})
        how = "raised"
        try:
            value = handler(task, ctx)
            how = "left" if isinstance(value, Message) else "returned"
        finally:
            _write(path, {"event": "end", "pid": os.getpid(), "at_s": boot_ns() / 1e9, "how": how})
        return value

    return with_witness


def _myself(ctx: Context) -> dict[str, Any]:
    stat = read_stat(os.getpid())
    return {
        "node": os.environ[NODE_VARIABLE],
        "fence": ctx.fence,
        "pid": os.getpid(),
        "born": stat.started if stat else 0,
        "began_s": boot_ns() / 1e9,
        "began_at": time.time(),
    }


def _alive(runs: Iterable[Run], task_id: str) -> list[int]:
    others = [run for run in runs if run.task == task_id and run.pid != os.getpid()]
    return [run.pid for run in others if is_alive(run.pid, run.born)]


def is_alive(pid: int, born: int) -> bool:
    """Whether the process that started then still lives; one that is dead and not yet reaped does not."""
    stat = read_stat(pid)
    return stat is not None and stat.started == born and not stat.is_zombie


def _write(path: Path, line: dict[str, Any]) -> None:
    """One write, at the end of the file: lines of several processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(line).encode() + b"\n")
    finally:
        os.close(fd)


def read_runs(path: Path) -> list[Run]:
    """The runs so far, in the order in which they began. No file: none. A last line that is not whole is left out."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return make_runs(json.loads(line) for line in lines)


def make_runs(lines: Iterable[dict[str, Any]]) -> list[Run]:
    """Each begin with what its process wrote later; a pid that was given out again belongs to its newest run."""
    runs: list[dict[str, Any]] = []
    by_pid: dict[int, dict[str, Any]] = {}
    for line in lines:
        match line["event"]:
            case "begin":
                runs.append({name: value for name, value in line.items() if name != "event"})
                by_pid[line["pid"]] = runs[-1]
            case "met":
                by_pid[line["pid"]]["met_alive"] = tuple(line["alive"])
            case "end":
                by_pid[line["pid"]]["ended_s"] = line["at_s"]
    return [Run(**run) for run in runs]
