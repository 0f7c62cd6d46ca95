"""One hostile run: real nodes on a real etcd, a stream of hostile and good tasks, then an end, then the evidence."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from etcd_server import EtcdServer, encoded
from node import MARK, Node, command, environment, title

from mpfora import Client, Message
from mpfora.errors import MpforaError
from mpfora.linux import procfs
from mpfora.store.keys import Layout
from tests.faults import trace
from tests.faults.evidence import read_lives
from tests.faults.planted import PLANT, planted

from . import draw
from .checker import STOP_S, Evidence, GoodEnd, NodeEnd
from .deeds import GARBAGE, SHARED
from .plants import FAVOURITES

ROOT = Path(__file__).resolve().parents[2]
HANDLERS = tuple(f"{name}=tests.hostile.handlers:{name}" for name in ("hostile", "good"))
NODES = ("n1", "n2", "n3")
#: of hostile tasks that are not over
AT_ONCE = 24
#: between two of a kind, in seconds
HOSTILE_S, GOOD_S, STRAY_S, COMMAND_S, LOOK_S, SHELL_S, STOP_ONE_S = 0.2, 1.5, 1.0, 1.0, 2.0, 7.0, 25.0
#: one that is still not over then makes room for the next
OPEN_S = 12.0
#: after the stream: for the good and the plain tasks to end, and for a kill to be obeyed
END_S, KILL_S = 90.0, 60.0
#: so many hostile tasks are drawn, although that takes a busy machine so much longer
LEAST, LATER_S = 15, 60.0
#: `sleep` of a daemon without marks, found by its command
DAEMON = "sleep 30303"


def shared_memory() -> list[str]:
    """What hostile tasks have made of it, and nobody has removed."""
    return [name for name in os.listdir("/dev/shm") if name.startswith(SHARED)]


Say = Callable[[str], None]


class Host:
    """A node's name and the processes that bear it, one after another: a service manager starts it again."""

    def __init__(self, name: str, etcd: EtcdServer, folder: Path, plant: str) -> None:
        self.name, self._etcd, self._folder, self._plant = name, etcd, folder, plant
        self.node: Node | None = None
        self.spent: list[Node] = []
        self.asked_at: float | None = None
        self.ended_at = 0.0
        self.again_at = 0.0

    def start(self) -> None:
        options = {"lease_ttl": 6, "stop_timeout": 2, "max_tasks": 12, "log_level": "info"}
        argv = command(*HANDLERS, etcd=self._etcd.endpoint, namespace="hostile", name=self.name, **options)
        if self.node is not None:
            self.spent.append(self.node)
        env = {trace.FILE: str(self._folder / "lines"), trace.FINISH: "", trace.NODE: self.name}
        if self._plant:
            argv, env[PLANT] = planted(argv), f"tests.hostile.plants:{self._plant}"
        self.node = Node(argv, ROOT, env)
        self.asked_at, self.ended_at = None, 0.0
        threading.Thread(target=self._note_end, args=(self.node,), daemon=True).start()

    def _note_end(self, node: Node) -> None:
        """When it has ended, to the moment: who asks may have been busy with something else for long."""
        node.process.wait()
        self.ended_at = time.monotonic()

    def ask(self) -> None:
        """To leave, in order; once it has joined: no program hears a signal before its first line."""
        if self.node is not None and self.node.process.poll() is None:
            with suppress(AssertionError):
                self.node.wait_joined()
            self.asked_at = time.monotonic()
            self.node.send(signal.SIGTERM)

    def ended(self) -> NodeEnd | None:
        """How its process ended, told once; None while it lives."""
        if self.node is None or self.again_at or (code := self.node.process.poll()) is None:
            return None
        self.again_at = time.monotonic() + 0.5
        asked_s = None if self.asked_at is None else max(0.0, (self.ended_at or time.monotonic()) - self.asked_at)
        return NodeEnd(self.name, code, asked_s, "\n".join(self.node.log.lines[-15:]))

    def nodes(self) -> list[Node]:
        return [*self.spent, *([self.node] if self.node is not None else [])]


@dataclass
class Stream:
    """What comes, and when the next of each kind is due."""

    rng: random.Random
    due: dict[str, float] = field(default_factory=dict)
    number: int = 0

    def is_due(self, kind: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self.due.setdefault(kind, now + self.rng.uniform(0, every_s)):
            return False
        self.due[kind] = now + every_s * self.rng.uniform(0.5, 1.5)
        return True

    def name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}{self.number}"


class Run:
    """Everything of one run; `close` ends every process."""

    def __init__(self, folder: Path, seed: int, seconds: float, plant: str, say: Say) -> None:
        self.folder, self.say = folder, say
        self.evidence = Evidence(seed, seconds, plant)
        self.layout = Layout("hostile")
        self.stream = Stream(random.Random(seed))
        self.goods: dict[str, int] = {}
        (folder / "lines").touch()
        self.shared = set(shared_memory())
        self.etcd = EtcdServer(folder)
        self.client = Client(self.etcd.endpoint, "hostile")
        self.hosts = [Host(name, self.etcd, folder, plant) for name in NODES]
        for host in self.hosts:
            host.start()

    # -- the stream ---------------------------------------------------------------------------------------------------

    def flow(self, until: float) -> None:
        open_tasks: dict[str, float] = {}
        while (now := time.monotonic()) < until or (len(self.evidence.hostile) < LEAST and now < until + LATER_S):
            self.keep_up()
            if self.stream.is_due("hostile", HOSTILE_S) and len(open_tasks) < AT_ONCE:
                open_tasks[self.submit_hostile()] = time.monotonic() + OPEN_S
            if self.stream.is_due("good", GOOD_S):
                self.submit_good()
            if self.stream.is_due("stray", STRAY_S):
                self.put(*draw.stray_key(self.stream.rng))
            if open_tasks and self.stream.is_due("command", COMMAND_S):
                self.interfere(self.stream.rng.choice(list(open_tasks)))
            if self.stream.is_due("look", LOOK_S):
                states = self.look()
                now, over = time.monotonic(), ("completed", "failed", "killed", "sleeping", "paused")
                open_tasks = {
                    task: until for task, until in open_tasks.items() if until > now and states.get(task) not in over
                }
            if self.stream.is_due("shell", SHELL_S):
                self.look_by_shell(list(open_tasks))
            if self.stream.is_due("stop", STOP_ONE_S):
                self.stream.rng.choice(self.hosts).ask()
            time.sleep(0.02)

    def keep_up(self) -> None:
        """Nodes that have ended are told of and started again."""
        for host in self.hosts:
            if (end := host.ended()) is not None:
                self.evidence.ends.append(end)
            elif host.again_at and time.monotonic() >= host.again_at:
                host.again_at = 0.0
                host.start()

    def submit_hostile(self) -> str:
        name, favourites = self.stream.name("h"), FAVOURITES.get(self.evidence.plant, ())
        task = draw.favoured(self.stream.rng, name, favourites) or draw.hostile(self.stream.rng, name)
        self.evidence.hostile.append(task)
        for key, text in task.keys:
            self.put(key, text)
        self.put(f"tasks/{task.task_id}/props", task.props)
        self.put(f"tasks/{task.task_id}", "")
        return task.task_id

    def submit_good(self) -> None:
        name, below = self.stream.name("g"), self.stream.rng.randint(1_000, 40_000)
        self.goods[name] = sum(range(below))
        self.attempt(f"submit {name}", lambda: self.client.submit(name, {"below": below}, "good"))

    def interfere(self, task_id: str) -> None:
        """Give a task in any state a command, as people do. The command may be refused, in words."""
        rng = self.stream.rng
        verb = rng.choice(("pause", "run", "kill", "release", "checkpoint", "delete", "twice"))
        with suppress(MpforaError):
            if verb == "delete":
                self.client.delete(task_id, wait=False)
            elif verb == "twice":
                self.client.delete(task_id, wait=False)
                self.client.submit(task_id, {"deeds": []}, "hostile")
            else:
                self.client.command(task_id, getattr(Message, verb)())

    # -- looking ------------------------------------------------------------------------------------------------------

    def attempt(self, what: str, act: Callable[[], object]) -> object:
        """Run a command that must work, whatever there is in the namespace."""
        self.evidence.looked += 1
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self.evidence.looks.append(f"{what}: {type(error).__name__}: {error}"[:2000])
            return None

    def look(self) -> dict[str, str]:
        tasks = self.attempt("tasks", self.client.tasks)
        self.attempt("nodes", self.client.nodes)
        return {task.id: str(task.state) for task in tasks} if isinstance(tasks, list) else {}

    def look_by_shell(self, open_tasks: list[str]) -> None:
        rng = self.stream.rng
        asked = [["tasks"], ["tasks", "--json"], ["nodes"], ["nodes", "--json"]]
        asked += [[verb, rng.choice(open_tasks)] for verb in ("task", "history") if open_tasks]
        words = rng.choice(asked)
        argv = [sys.executable, "-m", "mpfora.cli", "--etcd", self.etcd.endpoint, "--namespace", "hostile", *words]
        self.evidence.looked += 1
        try:
            done = subprocess.run(
                argv, capture_output=True, cwd=ROOT, env=environment(COLUMNS="100"), timeout=120, check=False
            )
        except subprocess.TimeoutExpired as error:
            self.evidence.looks.append(f"mpfora {' '.join(words)}: {error}")
            return
        gone = len(words) == 2 and words[0] in ("task", "history") and done.returncode == 1
        if (done.returncode and not gone) or b"Traceback" in done.stderr:
            self.evidence.looks.append(f"mpfora {' '.join(words)}: {done.returncode} {done.stderr[-2000:]!r}")
        if b"\x1b" in done.stdout or b"\x9b" in done.stdout.replace("ä✓😀".encode(), b""):
            with suppress(UnicodeDecodeError):
                if {"\x1b", "\x9b"}.intersection(done.stdout.decode()):
                    self.evidence.looks.append(f"mpfora {' '.join(words)}: control characters in the output")
        if words[-1] == "--json":
            self.attempt(f"JSON of {words}", lambda: json.loads(done.stdout))

    # -- the end ------------------------------------------------------------------------------------------------------

    def bring_to_an_end(self) -> None:
        """Good and plain tasks end by themselves; the others are killed, or deleted."""
        self.say("  the stream has ended")
        plain = {task.task_id for task in self.evidence.hostile if task.plain and not task.harms}
        self.wait_until(lambda states: not self.unfinished(states, plain | set(self.goods)), END_S)
        self.evidence.states = states = self.look()
        for good, total in self.goods.items():
            self.evidence.goods.append(self.good_end(good, {"sum": total}))
        rest = self.unfinished(states, {task.task_id for task in self.evidence.hostile})
        for task_id in rest:
            with suppress(MpforaError):
                self.client.command(task_id, Message.kill())
        self.wait_until(lambda states: not self.unfinished(states, set(rest)), KILL_S / 2)
        rest = self.unfinished(self.look(), set(rest))
        for task_id in rest:
            with suppress(MpforaError):
                self.client.delete(task_id, wait=False)
        self.wait_until(lambda states: not self.unfinished(states, set(rest)), KILL_S)
        shown = {task.id: task for task in self.client.tasks()}
        drawn = {task.task_id: task for task in self.evidence.hostile}
        for task_id in self.unfinished(self.look(), set(rest)):
            self.evidence.deaf.append(f"{task_id}: {shown.get(task_id)}\n  {str(drawn.get(task_id))[:1000]}")

    def unfinished(self, states: dict[str, str], tasks: set[str]) -> list[str]:
        over = ("completed", "failed", "killed")
        return sorted(task for task in tasks if task in states and states[task] not in over)

    def wait_until(self, is_so: Callable[[dict[str, str]], bool], limit_s: float) -> None:
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends and not is_so(self.look()):
            self.keep_up()
            time.sleep(0.5)

    def good_end(self, task_id: str, wanted: object) -> GoodEnd:
        try:
            task = self.client.task(task_id)
        except MpforaError as error:
            return GoodEnd(task_id, "unknown", None, wanted, str(error))
        return GoodEnd(task_id, str(task.state), task.result, wanted, str(task)[:1500])

    def leave(self) -> None:
        """Every node leaves in order; what is left of any of them then."""
        self.keep_up()
        for host in self.hosts:
            host.ask()
        ends = time.monotonic() + STOP_S + 5
        # one that had been asked in the stream may have ended just now, and is not started again
        waiting = [host for host in self.hosts if host.asked_at is not None and not host.again_at]
        while waiting and time.monotonic() < ends:
            for host in list(waiting):
                if (end := host.ended()) is not None:
                    self.evidence.ends.append(end)
                    waiting.remove(host)
            time.sleep(0.05)
        for host in waiting:
            text = "\n".join(host.node.log.lines[-30:]) if host.node else ""
            self.evidence.ends.append(NodeEnd(host.name, 0, STOP_S + 5, f"it has not ended\n{text}"))
        while (found := self.left()) and time.monotonic() < ends:
            time.sleep(0.1)
        self.evidence.left = found
        self.evidence.memory = sorted(set(shared_memory()) - self.shared)

    def left(self) -> list[str]:
        marks = {f"{MARK}={node.mark}".encode() for host in self.hosts for node in host.nodes()}
        found = []
        for stat in procfs.processes():
            with suppress(OSError):
                environ = Path(f"/proc/{stat.pid}/environ").read_bytes().split(b"\0")
                is_daemon = title(stat.pid) == DAEMON
                if not stat.is_zombie and (marks.intersection(environ) or is_daemon):
                    found.append(f"{stat.pid} {stat.state} {title(stat.pid)}")
        return found

    def put(self, key: str, text: str) -> None:
        self.etcd.post(
            "kv/put",
            {
                "key": encoded((self.layout.root + key).encode("utf-8", "surrogatepass")),
                "value": encoded(text.encode("utf-8", "surrogatepass")),
            },
        )

    def close(self) -> None:
        for host in self.hosts:
            for node in host.nodes():
                node.end()
        self.client.close()
        self.etcd.kill()


def run(folder: Path, seed: int, seconds: float, say: Say = print, plant: str = "") -> Evidence:
    """A stream of `seconds`. plant: the name of one of PLANTS, which every node has; "": none."""
    say(f"hostile: seed {seed}, {seconds:g} s{', plant ' + plant if plant else ''}, in {folder}")
    one = Run(folder, seed, seconds, plant, say)
    try:
        for host in one.hosts:
            assert host.node is not None
            host.node.wait_joined()
        one.flow(time.monotonic() + seconds)
        one.bring_to_an_end()
        one.leave()
    finally:
        one.evidence.logs = {
            f"{host.name}.{number}": node.log.text() for host in one.hosts for number, node in enumerate(host.nodes())
        }
        one.close()
    with (folder / "lines").open() as lines:
        clean = (line.replace(GARBAGE.decode(), "") for line in lines)
        one.evidence.lives, one.evidence.malformed = read_lives(clean)
    return one.evidence
