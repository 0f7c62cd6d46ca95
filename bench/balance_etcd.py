"""Balancing on real nodes over a real etcd: six nodes and 300 tasks that stop at once; a join, a drain and a SIGKILL.

python bench/balance_etcd.py [--nodes 6] [--tasks 300]

For each event: how many tasks changed hands and how many had to, how even they are afterwards, how long after the event
the last one had a new owner (after a SIGKILL the zygote of the node gives its claims back itself). At the end, from the
logs of the nodes that left in order: how many claims were tried for those that were won.
"""

from __future__ import annotations

import argparse
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import common

from mpfora import Client

#: nothing changed hands for so long: quiet
QUIET_S = 6.0


class Watch:
    """Looks at the tasks of a namespace again and again, and counts changes of fences."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.fences: dict[str, int | None] = {}
        self.counts: Counter[str] = Counter()

    def look(self) -> int:
        """How many claims were won since the last look."""
        rows = self._client.tasks()
        fences = {row.id: row.fence for row in rows}
        won = sum(1 for task_id, fence in fences.items() if fence is not None and fence != self.fences.get(task_id))
        self.fences.update({task_id: fence for task_id, fence in fences.items() if fence is not None})
        self.counts = Counter(row.node for row in rows if row.fence is not None and row.node)
        return won

    def event(self, name: str, begin: Callable[[], object], needed: str) -> None:
        """What follows from an event, in one line."""
        began = time.monotonic()
        begin()
        last = time.monotonic()
        won = 0
        while time.monotonic() - last < QUIET_S or sum(self.counts.values()) < len(self.fences):
            if more := self.look():
                won, last = won + more, time.monotonic()
            if time.monotonic() - began > common.LIMIT_S:
                raise TimeoutError(f"{name}: {sum(self.counts.values())} of {len(self.fences)} tasks have an owner")
            time.sleep(0.1)
        live = [count for node, count in self.counts.items() if node != "drained"]
        print(
            f"{name:22} changed hands {won:4}  needed {needed:>9}  spread {max(live) - min(live):3}"
            f"  quiet after {last - began:5.1f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--tasks", type=int, default=300)
    options = parser.parse_args()
    nodes, tasks = options.nodes, options.tasks
    print(common.machine())
    with ExitStack() as stack:
        etcd = stack.enter_context(common.own_etcd())
        client = stack.enter_context(Client(etcd.endpoint, namespace="balance"))
        running: dict[str, common.Node] = {}

        def start(name: str) -> None:
            settings = {"name": name, "max_tasks": 0, "log_level": "info"}
            running[name] = stack.enter_context(common.node(etcd.endpoint, "balance", "handlers:wait", **settings))

        def join(name: str) -> None:
            """Start a node, and wait until it is a member."""
            start(name)
            while name not in {node.name for node in client.nodes()}:
                time.sleep(0.1)

        for n in range(nodes):
            start(f"n{n}")
        watch = Watch(client)
        watch.fences = {f"t{n}": None for n in range(tasks)}
        submit = [(f"t{n}", None) for n in range(tasks)]
        watch.event("start", lambda: client.submit_many(submit), str(tasks))
        watch.event("a node joins", lambda: join("joined"), f"{tasks // (nodes + 1)}")
        before = watch.counts["n0"]
        watch.event("a node is drained", lambda: client.node_command("n0", "drain"), str(before))
        before = watch.counts["n1"]
        watch.event("a node is killed", lambda: running["n1"].process.send_signal(signal.SIGKILL), str(before))
        logs = {name: node.log for name, node in running.items() if name != "n1"}
        for name in logs:
            running[name].process.terminate()
        for name in logs:
            running[name].process.wait(common.LIMIT_S)
        print_counts("".join(log.read_text(errors="replace") for log in logs.values()))


def print_counts(text: str) -> None:
    found = re.findall(r"in all: (\d+) claims tried \((\d+) late\), (\d+) won, (\d+) lost; missed (\d+) times", text)
    tried, late, won, lost, missed = (sum(map(int, column)) for column in zip(*found, strict=True))
    print(f"claims tried {tried} for {won} won ({tried / won:.3f}), {lost} lost, {late} late, missed {missed} times")


if __name__ == "__main__":
    main()
