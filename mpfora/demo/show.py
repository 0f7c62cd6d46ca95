"""The order of the demo: etcd, nodes, tasks, the kill, the end, the verdict; and that all is cleaned up after it."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
import webbrowser
from collections.abc import Iterator, Sequence
from types import FrameType

from rich.console import Console

from mpfora.client import Client, NewTask
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.demo.cases import BAD, CASES, GOOD, handler_specs
from mpfora.demo.cluster import NAMESPACE, Cluster
from mpfora.demo.report import print_report
from mpfora.demo.story import Kind, Scene, Story, choose_victim
from mpfora.demo.verdict import Evidence, Kill, judge
from mpfora.demo.view import View, open_view
from mpfora.demo.witness import read_runs
from mpfora.errors import MpforaError
from mpfora.linux.syscalls import boot_ns
from mpfora.model.printable import printable

NODES = ("node1", "node2")
INTERRUPTED = 130
_LOOK_EVERY_S = 0.25
_JOIN_WITHIN_S = 30.0
_LOG_LINES = 12


def main(argv: Sequence[str] | None) -> int:
    """See mpfora.demo.main."""
    options = _parse(argv)
    console = Console(highlight=False)
    try:
        with _interruptible_once(), Cluster(options.etcd_program) as cluster, _uninterrupted_end():
            return _run(console, cluster, options)
    except KeyboardInterrupt:
        console.print("interrupted: everything is stopped and removed")
        return INTERRUPTED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mpfora demo",
        description="Start an etcd and two nodes of its own, run a dozen CPU-heavy tasks and four hostile ones on "
        "them, kill a node in the middle, and check what becomes of them all. It takes less than a minute and leaves "
        "nothing behind.",
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of the live view, as without a terminal")
    parser.add_argument("--web", action="store_true", help="open the page of `mpfora web` on it; it ends with Enter")
    parser.add_argument("--timeout", type=float, default=180.0, metavar="S", help="give up after S seconds (180)")
    parser.add_argument("--etcd-program", metavar="PATH", help="the etcd to use, if not that on PATH or the wheel's")
    return parser.parse_args(argv)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _interruptible_once() -> Iterator[None]:
    """The first signal raises KeyboardInterrupt; what follows is cleaning up, which further ones must not cut short."""
    before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


@contextlib.contextmanager
def _uninterrupted_end() -> Iterator[None]:
    """Stands around the end of the demo, however it ends: to clean up takes only moments."""
    try:
        yield
    finally:
        _ignore_signals()


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _run(console: Console, cluster: Cluster, options: argparse.Namespace) -> int:
    console.print(
        f"{len(GOOD)} good tasks and {len(BAD)} hostile ones on {len(NODES)} nodes; one node is killed in the middle."
    )
    endpoint = cluster.start_etcd()
    pids = {name: cluster.start_node(name, handler_specs()) for name in NODES}
    if options.web:
        _open_page(console, cluster.start_web())
    story = Story(CASES)
    with Client(endpoint, NAMESPACE) as client:
        try:
            _wait_for_nodes(client, cluster)
        except MpforaError:
            _print_logs(console, cluster)
            raise
        client.submit_many([NewTask(case.id, case.props, case.handler) for case in CASES])
        live = console.is_terminal and not options.plain
        with open_view(console, story, pids, live) as view:
            infos = _watch(client, cluster, story, view, options.timeout)
    if options.web and sys.stdin.isatty():
        console.print("the page is there until you press Enter")
        sys.stdin.readline()
    left = cluster.stop()
    evidence = Evidence(GOOD, BAD, infos, read_runs(cluster.runs), story.kill, left)
    verdicts = judge(evidence)
    print_report(console, CASES, evidence, verdicts)
    if all(verdict.holds for verdict in verdicts):
        return 0
    _print_logs(console, cluster)
    return 1


def _open_page(console: Console, link: str) -> None:
    """In a browser, where this machine can show one; and the link, which works once."""
    console.print(f"the page: {link}", soft_wrap=True)
    if any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        webbrowser.open(link)


def _wait_for_nodes(client: Client, cluster: Cluster) -> None:
    """Wait until both nodes are live. Raises MpforaError."""
    ends = time.monotonic() + _JOIN_WITHIN_S
    while len(client.nodes()) < len(NODES):
        if ended := cluster.ended():
            raise MpforaError(f"{', '.join(ended)} ended at the start, with exit code {next(iter(ended.values()))}")
        if time.monotonic() > ends:
            raise MpforaError(f"the nodes have not joined within {_JOIN_WITHIN_S:g} s")
        time.sleep(_LOOK_EVERY_S)


def _watch(client: Client, cluster: Cluster, story: Story, view: View, timeout_s: float) -> dict[str, TaskInfo]:
    """Until every task has finished, or the time is up; kills the node on the way. Returns the tasks as they are
    then."""
    began = time.monotonic()
    infos: dict[str, TaskInfo] = {}
    for nodes, tasks in client.follow(_LOOK_EVERY_S):
        scene = _scene(nodes, tasks, cluster, time.monotonic() - began)
        infos = dict(scene.infos)
        new = story.tell(scene)
        if story.kill is None and (victim := choose_victim(scene, CASES)) is not None:
            name, doomed = victim
            cluster.kill_node(name)
            kill = Kill(name, boot_ns() / 1e9, doomed)
            new.append(story.killed(kill, scene, cluster.nodes[name].pid))
        if scene.at_s > timeout_s:
            new.append(story.say(scene.at_s, Kind.DRAMA, f"giving up: not finished within {timeout_s:g} s"))
        view.show(scene, new)
        if all(case.id in infos and infos[case.id].finished for case in CASES) or scene.at_s > timeout_s:
            break
    return infos


def _scene(nodes: Sequence[NodeInfo], tasks: Sequence[TaskInfo], cluster: Cluster, at_s: float) -> Scene:
    return Scene(at_s, nodes, {task.id: task for task in tasks}, read_runs(cluster.runs))


def _print_logs(console: Console, cluster: Cluster) -> None:
    """What the nodes said last: where something went wrong, it stands there, and the logs are removed with the rest."""
    for name in cluster.nodes:
        console.print(f"the last lines of {name}'s log:", style="bold")
        for line in cluster.log_tail(name, _LOG_LINES):
            console.print(f"  {printable(line)}", markup=False, soft_wrap=True)
