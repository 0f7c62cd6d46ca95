"""The demo's machines: an etcd of its own, and nodes as real processes. Started, killed and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType

import mpfora
from mpfora.demo.offspring import Offspring
from mpfora.demo.witness import FILE_VARIABLE, NODE_VARIABLE
from mpfora.embedded import Embedded, acquire
from mpfora.errors import MpforaError
from mpfora.linux import syscalls

NAMESPACE = "demo"
#: room for all tasks on one node, so that what the dead one ran goes on at once
MAX_TASKS = 16
STOP_TIMEOUT_S = 4.0
_LINGER_S = 0.3


class Cluster:
    """Made empty; `start_etcd` and `start_node` fill it. Leaving it ends and removes everything, in every case."""

    def __init__(self, program: str | None = None) -> None:
        self._program = program
        self.folder = Path(tempfile.mkdtemp(prefix="mpfora-demo-"))
        self.runs = self.folder / "runs"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._web: subprocess.Popen[bytes] | None = None
        self._etcd: Embedded | None = None
        self._offspring = Offspring()

    def start_etcd(self) -> str:
        """Start etcd. Returns its endpoint. Raises EmbeddedError."""
        self._etcd = acquire(self.folder / "etcd", self._program, linger_s=_LINGER_S, fsync=False)
        self._offspring.adopt([self._etcd.keeper_pid, self._etcd.etcd_pid])
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
        """The environment without the settings of the user's own nodes, which must not reach these."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MPFORA_")}
        root = str(Path(mpfora.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
        return kept | {"PYTHONPATH": path, NODE_VARIABLE: name, FILE_VARIABLE: str(self.runs)}

    def start_web(self) -> str:
        """Start `mpfora web` on a free port of the loopback. Returns the link, which lets in once. Raises
        MpforaError."""
        assert self._etcd is not None
        where = ["--etcd", self._etcd.endpoint, "--namespace", NAMESPACE]
        with open(self.log("web"), "wb") as log:
            self._web = subprocess.Popen(
                [sys.executable, "-m", "mpfora.cli", *where, "web", "--listen", "127.0.0.1:0"],
                cwd=self.folder,
                env=self._environment("web"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=_stop_with_parent,
            )
        assert self._web.stdout is not None
        for line in self._web.stdout:
            if b"/enter?link=" in line:
                threading.Thread(
                    target=self._web.stdout.read, daemon=True
                ).start()  # so that its output never blocks it
                return line.decode().strip()
        said = "; ".join(self.log_tail("web", 3)) or "it said nothing"
        raise MpforaError(f"mpfora web did not start: {said.removeprefix('mpfora: ')}")

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
        """Send SIGKILL to the node's supervisor. Its zygote must see to the rest."""
        self.nodes[name].kill()

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """Stop the nodes in order, then let etcd go. Returns what is left of them after a while: one line each."""
        for process in self._started():
            if process.poll() is None:
                process.terminate()
        if self._web is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._web.wait(STOP_TIMEOUT_S + 4)
        late = []
        for name, node in self.nodes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(STOP_TIMEOUT_S + 4)
                continue
            late.append(f"{name} did not stop within {STOP_TIMEOUT_S + 4:g} s of SIGTERM")
        if self._etcd is not None:
            self._etcd.close()
        return late + self._offspring.wait_gone(self._started())

    def _started(self) -> list[subprocess.Popen[bytes]]:
        """Our own children that are to end: the nodes, and the page's server."""
        return [*self.nodes.values(), *([] if self._web is None else [self._web])]

    def close(self) -> None:
        """End whatever is left, at once, and remove the folder. Safe to call again."""
        for node in self._started():
            if node.poll() is None:
                node.kill()  # its zygote kills the tasks
                node.wait()
        if self._etcd is not None:
            self._etcd.close()
        self._offspring.end(self._started())
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _stop_with_parent() -> None:
    """Have the kernel end the nodes when the demo itself is killed."""
    syscalls.set_pdeathsig(signal.SIGTERM)
