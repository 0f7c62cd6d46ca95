"""The demo's machines: an etcd of its own, and nodes as real processes. Started, killed, stopped, and looked for.

This process becomes the parent of whatever a dead node leaves behind (a subreaper), so that nothing can hide: what is
left of the cluster at the end is what is left of this process's descendants, and the keeper and its etcd, which belong
to nobody.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil

import mpfora
from mpfora import linux
from mpfora.demo.witness import FILE_VARIABLE, NODE_VARIABLE
from mpfora.embedded import Embedded, acquire

NAMESPACE = "demo"
#: room for all tasks on one node, so that what the dead one ran goes on at once
MAX_TASKS = 16
STOP_TIMEOUT_S = 4.0
#: what a killed or stopped node, and etcd, may take to be gone for good
_GONE_WITHIN_S = 10.0
_LINGER_S = 0.3
_POLL_S = 0.05


class Cluster:
    """Made empty; `start_etcd` and `start_node` fill it. Leaving it ends and removes everything, in every case."""

    def __init__(self, program: str | None = None) -> None:
        self._program = program
        self.folder = Path(tempfile.mkdtemp(prefix="mpfora-demo-"))
        self.runs = self.folder / "runs"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._etcd: Embedded | None = None
        self._etcd_processes: list[psutil.Process] = []
        self._strangers = set(psutil.Process().children(recursive=True))
        self._was_subreaper = linux.is_child_subreaper()

    def start_etcd(self) -> str:
        """Its endpoint. Raises EmbeddedError."""
        self._etcd = acquire(self.folder / "etcd", self._program, linger_s=_LINGER_S, fsync=False)
        self._etcd_processes = [psutil.Process(pid) for pid in (self._etcd.keeper_pid, self._etcd.etcd_pid)]
        linux.set_child_subreaper()  # not before: the keeper would be adopted
        return self._etcd.endpoint

    def start_node(self, name: str, handlers: list[str]) -> int:
        """Start `python -m mpfora.supervisor`, in the demo's folder and in a session of its own. Returns its pid.

        To be called before anything of gRPC runs in this process, and from the main thread."""
        assert self._etcd is not None
        options = {
            "--etcd": self._etcd.endpoint,
            "--namespace": NAMESPACE,
            "--name": name,
            "--max-tasks": str(MAX_TASKS),
            "--stop-timeout": str(STOP_TIMEOUT_S),
        }
        arguments = [part for option in options.items() for part in option]
        with open(self.log(name), "wb") as log:
            self.nodes[name] = subprocess.Popen(
                [sys.executable, "-m", "mpfora.supervisor", *arguments, *handlers],
                cwd=self.folder,
                env=self._environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_stop_with_parent,
            )
        return self.nodes[name].pid

    def _environment(self, name: str) -> dict[str, str]:
        """Settings of the user's own nodes must not reach these."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MPFORA_")}
        root = str(Path(mpfora.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
        return kept | {"PYTHONPATH": path, NODE_VARIABLE: name, FILE_VARIABLE: str(self.runs)}

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log_tail(self, name: str, lines: int) -> list[str]:
        try:
            return self.log(name).read_text(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []

    def ended(self) -> dict[str, int]:
        """Nodes whose supervisor has ended, with its exit code (negative: the signal)."""
        codes = {name: node.poll() for name, node in self.nodes.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def kill_node(self, name: str) -> None:
        """SIGKILL to its supervisor. What becomes of its zygote and its tasks is the zygote's affair."""
        self.nodes[name].kill()

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """Stop the nodes in order, then let etcd go. Returns what is left of them after a while: one line each."""
        for node in self.nodes.values():
            if node.poll() is None:
                node.terminate()
        late = []
        for name, node in self.nodes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(STOP_TIMEOUT_S + 4)
                continue
            late.append(f"{name} did not stop within {STOP_TIMEOUT_S + 4:g} s of SIGTERM")
        if self._etcd is not None:
            self._etcd.close()
        _wait_until(lambda: not self._left())
        return late + [_describe(process) for process in self._left()]

    def _left(self) -> list[psutil.Process]:
        """Processes of the demo that live. The dead among our own children are reaped."""
        own = [process for process in psutil.Process().children(recursive=True) if process not in self._strangers]
        for process in own:
            if process.pid not in {node.pid for node in self.nodes.values()}:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
        return [process for process in own + self._etcd_processes if _lives(process)]

    def close(self) -> None:
        """End whatever is left, at once, and remove the folder. Safe to call again."""
        for node in self.nodes.values():
            if node.poll() is None:
                node.kill()  # its zygote kills the tasks
                node.wait()
        if self._etcd is not None:
            self._etcd.close()
        if not _wait_until(lambda: not self._left()):
            for process in self._left():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            _wait_until(lambda: not self._left())
        linux.set_child_subreaper(self._was_subreaper)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _stop_with_parent() -> None:
    """A demo that is killed itself takes its nodes along."""
    linux.set_pdeathsig(signal.SIGTERM)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"process {process.pid}: {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return f"process {process.pid}"


def _wait_until(true: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    ends = time.monotonic() + _GONE_WITHIN_S
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(_POLL_S)
    return True
