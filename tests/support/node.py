"""Nodes as users run them: real `python -m mpfora.supervisor` processes, their logs by lines, their trees by process.

`Site` is one namespace of an etcd with the nodes that a test starts in it; at its end every process is killed, and what
was left over by a node that had ended is an error. Every wait has a limit and says at its end what it waited for.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from etcd_server import EtcdServer, encoded
from places import ROOT, SUPPORT

from mpfora import Client
from mpfora.linux import procfs
from mpfora.linux.procfs import ProcStat, Snapshot
from mpfora.model.state import Message, TaskState
from mpfora.store.command_records import format_message, format_node_command
from mpfora.store.keys import Layout
from mpfora.store.state_records import parse_state

T = TypeVar("T")

#: of every wait: generous, since the machine may be slow and shared
LIMIT_S = 40.0
#: in the environment of a node and of all that descends from it: which node it was
MARK = "MPFORA_TEST_NODE"


def until(look: Callable[[], T], what: str | Callable[[], str], limit_s: float = LIMIT_S) -> T:
    """The first true answer of `look`. Raises AssertionError with `what` when the limit is up."""
    ends = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {limit_s:g} s: {what() if callable(what) else what}")
        time.sleep(0.03)


def is_alive(pid: int) -> bool:
    stat = procfs.read_stat(pid)
    return stat is not None and not stat.is_zombie


def title(pid: int) -> str:
    """What `ps` shows of it; "" if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


class Log:
    """The lines that a process wrote so far, read by a thread until their end."""

    def __init__(self, fd: int) -> None:
        self.lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(fd,), daemon=True)
        self._thread.start()

    def _read(self, fd: int) -> None:
        with os.fdopen(fd, errors="replace") as stream:
            for line in stream:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, pattern: str, limit_s: float = LIMIT_S, start: int = 0) -> re.Match[str]:
        """The match of the first line, from number `start` on, in which the pattern is found."""
        wanted = re.compile(pattern)
        ends = time.monotonic() + limit_s
        with self._changed:
            seen = start
            while True:
                for line in self.lines[seen:]:
                    if (match := wanted.search(line)) is not None:
                        return match
                seen = len(self.lines)
                if self._ended or not self._changed.wait(max(0.0, ends - time.monotonic())):
                    raise AssertionError(f"no line with {pattern!r} in the log:\n{self.text()[-8000:]}")

    def join(self, limit_s: float = LIMIT_S) -> None:
        """Until the end: every process that could write to it has closed it."""
        self._thread.join(limit_s)
        assert self._ended, "somebody holds the log's pipe open"

    def find(self, pattern: str) -> list[str]:
        return [line for line in self.lines if re.search(pattern, line)]

    def text(self) -> str:
        return "\n".join(self.lines)


def command(*handlers: str, **options: Any) -> list[str]:
    """`python -m mpfora.supervisor HANDLER... --OPTION VALUE...`"""
    flags: list[str] = []
    for key, value in options.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            flags += [f"--{key.replace('_', '-')}", str(each)]
    return [sys.executable, "-m", "mpfora.supervisor", *flags, *handlers]


def environment(**more: str) -> dict[str, str]:
    """Of a node: mpfora from this checkout, and titles that leave the environment readable in /proc."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("MPFORA_") or key == "MPFORA_TEST"}
    return own | {"PYTHONPATH": str(ROOT), "SPT_NOENV": "1"} | more


class Node:
    """A process with its log. `mark` finds whatever descends from it, wherever it went."""

    def __init__(self, argv: list[str], cwd: Path = SUPPORT, env: Mapping[str, str] | None = None) -> None:
        self.mark = uuid.uuid4().hex
        reader, writer = os.pipe()
        try:
            self.process = subprocess.Popen(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=writer,
                env=environment(**{MARK: self.mark}, **(env or {})),
                start_new_session=True,
            )
        finally:
            os.close(writer)
        self.log = Log(reader)

    @property
    def pid(self) -> int:
        return self.process.pid

    # -- its processes ------------------------------------------------------------------------------------------------

    def tree(self) -> list[ProcStat]:
        """Whatever lives of it: descendants, and marked ones that are no descendants any more."""
        snapshot = Snapshot(procfs.processes())
        found = {stat.pid: stat for stat in snapshot.tree(self.pid)}
        found |= {pid: stat for pid, stat in snapshot.by_pid.items() if self._is_marked(pid)}
        return [stat for stat in found.values() if not stat.is_zombie]

    def _is_marked(self, pid: int) -> bool:
        with suppress(OSError):
            return f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    @property
    def zygote(self) -> int:
        """The zygote's pid, once there is one."""
        return self._until_titled("mpfora: zygote ")

    def child(self, task_id: str) -> int:
        """The pid of a task's process, once it runs."""
        return self._until_titled(f"mpfora: task {task_id} ")

    def _until_titled(self, begin: str) -> int:
        def look() -> list[int]:
            assert self.process.poll() is None, f"the node has ended:\n{self.log.text()[-8000:]}"
            below = Snapshot(procfs.processes()).tree(self.pid)
            return [stat.pid for stat in below if not stat.is_zombie and title(stat.pid).startswith(begin)]

        return until(look, lambda: f"a process {begin!r}:\n{self._shown()}\n{self.log.text()[-8000:]}")[0]

    def wait_empty(self, limit_s: float = LIMIT_S) -> None:
        """Until no process of it is left."""
        until(lambda: not self.tree(), lambda: f"nothing left of it, but there is {self._shown()}", limit_s)

    def wait_idle(self, limit_s: float = LIMIT_S) -> None:
        """Until supervisor, guard and zygote are all that is left of it."""
        until(lambda: len(self.tree()) == 3, lambda: f"no task's process, but there is {self._shown()}", limit_s)

    def _shown(self) -> str:
        return "; ".join(f"{stat.pid} {stat.state} {title(stat.pid)}" for stat in self.tree())

    # -- its life -----------------------------------------------------------------------------------------------------

    def wait_joined(self, start: int = 0) -> None:
        self.log.wait("joined namespace", start=start)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def exit_code(self, limit_s: float = LIMIT_S) -> int:
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not exit within {limit_s:g} s:\n{self.log.text()[-8000:]}") from None

    def stop(self, number: int = signal.SIGTERM, limit_s: float = LIMIT_S) -> int:
        """Ask it to leave. Its exit code, once it and all of its processes are gone."""
        self.send(number)
        code = self.exit_code(limit_s)
        self.wait_empty(limit_s=5)
        self.log.join()
        return code

    def end(self) -> list[str]:
        """Kill what lives of it. If it had ended by itself: what it left behind."""
        had_ended = self.process.poll() is not None
        left = [f"{stat.pid} {stat.state} {title(stat.pid)}" for stat in self.tree()]
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        ends = time.monotonic() + 10
        while (living := self.tree()) and time.monotonic() < ends:
            for stat in living:
                procfs.kill_other(stat)
            time.sleep(0.02)
        return left if had_ended else []


class Site:
    """A namespace and its nodes, as a context. Sees etcd by its JSON gateway, so that nothing of mpfora is between."""

    def __init__(self, etcd: EtcdServer, namespace: str) -> None:
        self.etcd, self.namespace = etcd, namespace
        self.layout = Layout(namespace)
        self.nodes: list[Node] = []
        self._client: Client | None = None

    def __enter__(self) -> Site:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        left = [text for node in self.nodes for text in node.end()]
        if self._client is not None:
            self._client.close()
        if error is None:
            assert not left, f"processes of ended nodes were left behind: {left}"

    @property
    def client(self) -> Client:
        """Made at its first use."""
        if self._client is None:
            self._client = Client(self.etcd.endpoint, self.namespace)
        return self._client

    # -- nodes --------------------------------------------------------------------------------------------------------

    def start(
        self,
        *handlers: str,
        name: str = "n1",
        cwd: Path = SUPPORT,
        env: Mapping[str, str] | None = None,
        joined: bool = True,
        **options: Any,
    ) -> Node:
        """A node of this namespace, once it has joined (unless `joined` is false)."""
        argv = command(*handlers, etcd=self.etcd.endpoint, namespace=self.namespace, name=name, **options)
        node = self.run(argv, cwd, env)
        if joined:
            node.wait_joined()
        return node

    def run(self, argv: list[str], cwd: Path = SUPPORT, env: Mapping[str, str] | None = None) -> Node:
        """Any program that is a node."""
        node = Node(argv, cwd, env)
        self.nodes.append(node)
        return node

    # -- etcd ---------------------------------------------------------------------------------------------------------

    def put(self, key: str, value: str | bytes) -> int:
        return self.etcd.put(key, value)

    def delete(self, key: str) -> None:
        self.etcd.post("kv/deleterange", {"key": encoded(key.encode())})

    def get(self, key: str) -> str | None:
        return self.range(key, key + "\0").get(key)

    def content(self) -> dict[str, str]:
        """All of the namespace, by what stands after its name."""
        root = self.layout.root
        return {key.removeprefix(root): value for key, value in self.range(root, root[:-1] + "0").items()}

    def range(self, start: str, end: str) -> dict[str, str]:
        answer = self.etcd.post("kv/range", {"key": encoded(start.encode()), "range_end": encoded(end.encode())})
        return {
            b64decode(kv["key"]).decode(errors="replace"): b64decode(kv.get("value", "")).decode(errors="replace")
            for kv in answer.get("kvs", [])
        }

    # -- tasks --------------------------------------------------------------------------------------------------------

    def submit(self, task_id: str, handler: str | None = None, **props: Any) -> None:
        self.client.submit(task_id, props, handler)

    def kept(self, task_id: str) -> TaskState:
        """What stands at NS/state/ID; a runnable state where nothing does."""
        text = self.get(self.layout.state(task_id))
        return TaskState() if text is None else parse_state(text)

    def wait_state(
        self, task_id: str, wanted: Callable[[TaskState], object] | str, limit_s: float = LIMIT_S
    ) -> TaskState:
        """The kept state of a task, once it is as wanted (a state's name, or a condition)."""
        fits = (lambda state: state.state == wanted) if isinstance(wanted, str) else wanted
        until(lambda: fits(self.kept(task_id)), lambda: f"{task_id}: {wanted}; it is {self.kept(task_id)}", limit_s)
        return self.kept(task_id)

    def wait_end(self, task_id: str, limit_s: float = LIMIT_S) -> TaskState:
        """The kept state of a task, once it is completed, failed or killed, and its keys are gone."""
        state = self.wait_state(task_id, lambda state: state.terminal, limit_s)
        until(lambda: not self.task_keys(task_id), lambda: f"{task_id} removed; there is {self.task_keys(task_id)}")
        return state

    def task_keys(self, task_id: str) -> dict[str, str]:
        """What stands of a task besides its state and checkpoint."""
        return {
            key: value
            for key, value in self.content().items()
            if key == f"tasks/{task_id}" or key.startswith(f"tasks/{task_id}/")
        }

    def owner(self, task_id: str) -> str | None:
        text = self.get(self.layout.owner(task_id))
        return None if text is None else json.loads(text)["node"]

    def fence(self, task_id: str) -> int:
        """The create revision of a task's owner key; 0: nobody owns it."""
        answer = self.etcd.post("kv/range", {"key": encoded(self.layout.owner(task_id).encode())})
        return int(answer["kvs"][0]["create_revision"]) if answer.get("kvs") else 0

    def wait_owner(self, task_id: str, node: str | None, limit_s: float = LIMIT_S) -> None:
        until(lambda: self.owner(task_id) == node, lambda: f"{task_id} of {node}; it is {self.owner(task_id)}", limit_s)

    # -- commands, as a Go client writes them -------------------------------------------------------------------------

    def tell_node(self, name: str, verb: str, **parameters: Any) -> str:
        """Write a node command; its key."""
        return self.tell_node_text(name, format_node_command(verb, parameters))

    def tell_node_text(self, name: str, text: str) -> str:
        key = self.layout.node_command(name, str(uuid.uuid4().int >> 64))
        self.put(key, text)
        return key

    def tell_task(self, task_id: str, message: Message) -> None:
        self.put(self.layout.commands(task_id), format_message(message))

    def wait_taken(self, key: str, limit_s: float = LIMIT_S) -> None:
        """Until a command's key is deleted."""
        until(lambda: self.get(key) is None, f"{key} taken", limit_s)
