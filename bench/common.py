"""What the benchmarks share: the machine's line, an etcd of their own, a node as users run it, CPU of processes.

Not a benchmark itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

# as users run it: compiled once
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from mpfora.embedded import Embedded, acquire  # noqa: E402

T = TypeVar("T")

#: of every wait that a benchmark makes
LIMIT_S = 120.0


def machine() -> str:
    """One line on what a benchmark ran on, and how busy that was when it began."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores; Python {platform.python_version()}, Linux {platform.release()};"
        f" load average {load}; {time.strftime('%Y-%m-%d %H:%M')}"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def until(look: Callable[[], Any], what: str, limit_s: float = LIMIT_S, every_s: float = 0.02) -> Any:
    """The first true answer of `look`. Raises TimeoutError with `what`."""
    ends = time.monotonic() + limit_s
    while not (found := look()):
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(every_s)
    return found


_runner = asyncio.Runner()


def run(work: Coroutine[Any, Any, T]) -> T:
    """In the one event loop of this process: gRPC holds on to the first that it sees."""
    return _runner.run(work)


# -- etcd and nodes ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_etcd() -> Iterator[Embedded]:
    """An etcd that does not sync to disk, so that mpfora is measured and not the disk."""
    with tempfile.TemporaryDirectory() as folder, acquire(folder, linger_s=0.1, fsync=False) as etcd:
        yield etcd


@dataclass
class Node:
    """A running `python -m mpfora.supervisor`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def zygote(self) -> psutil.Process:
        return next(p for p in psutil.Process(self.pid).children(recursive=True) if "zygote" in " ".join(p.cmdline()))

    def children(self) -> list[psutil.Process]:
        return self.zygote().children()


@contextlib.contextmanager
def node(endpoint: str, namespace: str, *handlers: str, ready: bool = True, **options: Any) -> Iterator[Node]:
    """A node that has joined; handlers are found in this folder. Options as of the command line, with underscores."""
    flags = [text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "mpfora.supervisor", "--etcd", endpoint, "--namespace", namespace, *flags]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"}
            process = subprocess.Popen([*command, *handlers], stdout=output, stderr=output, env=environment, cwd=HERE)
        try:
            until(lambda: _has_joined(process, log), "the node to join")
            yield Node(process, log)
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def _has_joined(process: subprocess.Popen[bytes], log: Path) -> bool:
    text = log.read_text(errors="replace")
    if process.poll() is not None:
        raise RuntimeError(f"the node ended:\n{text}")
    return "joined" in text


# -- CPU time ---------------------------------------------------------------------------------------------------------


@dataclass
class Cpu:
    """CPU seconds (user and system) that processes used since `start`, by name."""

    processes: dict[str, psutil.Process]
    before: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        self.before = self._now()

    def used(self) -> dict[str, float]:
        now = self._now()
        return {name: now[name] - self.before[name] for name in now}

    def _now(self) -> dict[str, float]:
        """ "NAME's children": those that NAME has reaped."""
        found = {}
        for name, process in self.processes.items():
            times = process.cpu_times()
            found[name] = times.user + times.system
            found[f"{name}'s children"] = times.children_user + times.children_system
        return found
