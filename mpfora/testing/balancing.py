"""Try your own balancer in a simulated cluster, beside `fair`, before it moves anybody's work.

    from mpfora.testing.balancing import compare

    print(compare(MyBalancer, nodes=6, tasks=300))

prints for each event in a cluster's life (start, a node joins, leaves, dies, hangs; a rolling restart) how even the
tasks are afterwards, how many moved, how many attempts a claim took, and after how many seconds all was quiet. The
cluster has the decisions of real nodes over a simulated store (mpfora.testing.cluster): no process, no etcd, a few
seconds.

    print(compare(MyBalancer, cpu={"t0": 1.0, "t1": 1.0}))

says what tasks use, in cores, and has a column for how evenly that is spread.

Raises AssertionError for a balancer that never comes to rest: its tasks change hands for ever; and for one that raises
an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import Balancer, FairBalancer
from mpfora.supervisor.balance.guarded import FAILED
from mpfora.testing.cluster import Cluster

NodeSettings = Mapping[str, Any]

#: long enough for tasks to be measured, and for what is moved then
MEASURING_S = 180.0


@dataclass(frozen=True, slots=True)
class Row:
    """What one event did. spread: between the fullest node and the emptiest; moves: tasks that were given away for the
    balance; attempts: per claim; quiet_s: until the last task changed hands; unclaimed: tasks that nobody has; cpu: the
    CPU that the busiest node's tasks use, by what the average node's do."""

    balancer: str
    event: str
    spread: int
    moves: int
    attempts: float
    quiet_s: float
    unclaimed: int
    cpu: float = 1.0

    def __str__(self) -> str:
        return (
            f"{self.balancer:16} {self.event:16} {self.spread:7} {self.moves:7} {self.attempts:10.3f}"
            f" {self.quiet_s:8.2f} {self.unclaimed:10} {self.cpu:8.2f}"
        )


HEADER = (
    f"{'balancer':16} {'event':16} {'spread':>7} {'moves':>7} {'attempts':>10} {'quiet s':>8} {'unclaimed':>10}"
    f" {'max/mean':>8}"
)


class Comparison(list[Row]):
    """The rows; as text, a table."""

    def __str__(self) -> str:
        return "\n".join([HEADER, *map(str, self)])


class Life:
    """One cluster under one balancer, and what happens to it; each method is an event, and makes a row.

    nodes  the settings of each node at the start, by name;  tasks  what each task asks of a node, by id
    """

    def __init__(
        self, name: str, cluster: Cluster, nodes: Mapping[str, NodeSettings], tasks: Mapping[str, Wants]
    ) -> None:
        self._name, self.cluster, self._nodes, self._tasks = name, cluster, nodes, tasks

    def start(self) -> Row:
        for name, settings in self._nodes.items():
            self.cluster.start(name, **settings)
        self.cluster.run(5.0)
        return self._row("start", lambda: self.cluster.submit(self._tasks))

    def measured(self) -> Row:
        """Some minutes pass, in which nodes that measure learn what their tasks use."""
        return self._row("minutes pass", lambda: self.cluster.run(MEASURING_S))

    def join(self) -> Row:
        settings = next(iter(self._nodes.values()))
        return self._row("a node joins", lambda: self.cluster.start("joined", **settings))

    def leave(self) -> Row:
        return self._row("it leaves", lambda: self.cluster.leave("joined"))

    def crash(self) -> Row:
        name, settings = list(self._nodes.items())[-1]
        row = self._row("a node dies", lambda: self.cluster.crash(name))
        self.cluster.start(name, **settings)
        self.cluster.settle()
        return row

    def hang(self) -> Row:
        """A node hangs while a tenth as many tasks as there are come in."""
        new = {f"{task_id}+": wants for task_id, wants in list(self._tasks.items())[: max(1, len(self._tasks) // 10)]}

        def begin() -> None:
            self.cluster.hang(next(iter(self._nodes)), 5.0)
            self.cluster.submit(new)

        return self._row("one hangs 5 s", begin)

    def roll(self) -> Row:
        def begin() -> None:
            for name, settings in self._nodes.items():
                self.cluster.leave(name)
                self.cluster.run(3.0)
                self.cluster.start(name, **settings)
                self.cluster.run(8.0)

        return self._row("all restarted", begin)

    def _row(self, event: str, begin: Callable[[], None]) -> Row:
        cluster = self.cluster
        moves, attempts, claims, at = cluster.moves, cluster.attempts, cluster.claims, cluster.now
        cluster.changed_at = at
        begin()
        last_s, begun_s = cluster.changed_at - at, cluster.now - at
        more_s = cluster.settle()
        for text in (text for node in cluster.nodes.values() for text in node.said if text.startswith(FAILED)):
            raise AssertionError(f"{self._name}, {event}: {text}")
        quiet_s = begun_s + more_s if more_s else last_s
        return Row(
            self._name,
            event,
            cluster.spread(),
            cluster.moves - moves,
            (cluster.attempts - attempts) / max(1, cluster.claims - claims),
            quiet_s,
            len(cluster.wants) - len(cluster.owners),
            cluster.unevenness(),
        )

    def all(self) -> list[Row]:
        events = [self.start, self.measured, self.join, self.leave, self.crash, self.hang, self.roll]
        return [event() for event in events if event != self.measured or self.cluster.cpu]


def compare(
    make_balancer: Callable[[], Balancer],
    *,
    nodes: int | Mapping[str, NodeSettings] = 6,
    tasks: int | Mapping[str, Wants] = 300,
    beside: Sequence[Callable[[], Balancer]] = (FairBalancer,),
    **cluster: Any,
) -> Comparison:
    """Let clusters under this balancer, and under those beside it, live through the same events.

    make_balancer  makes one for each node: the class, or a function
    nodes    how many; or the settings of each by name, e.g. {"a": {"labels": {"zone": "1"}, "weight": 2.0}}
    tasks    how many; or what each asks of a node, by id
    cluster  further arguments of mpfora.testing.cluster.Cluster: lag_s, stop_s, seed, cpu
    """
    by_name = {f"n{n}": {} for n in range(nodes)} if isinstance(nodes, int) else nodes
    by_id = {f"t{n}": Wants() for n in range(tasks)} if isinstance(tasks, int) else tasks
    rows = Comparison()
    for make in (make_balancer, *beside):
        rows += Life(type(make()).__name__, Cluster(make, **cluster), by_name, by_id).all()
    return rows
