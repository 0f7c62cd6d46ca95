"""How long tasks are without a process when something dies: python bench/failover.py [--rounds N] [CASE ...]

Three members of etcd and three nodes on this machine, a lease of 4 s; each task writes a line every 20 ms, and etcd is
watched beside the nodes. A round does one thing to one node, and is over when every task that ran there runs again.

failover  from the blow until the first line of a task's next process, anywhere
released  of that, until etcd let the claim go (the rest is the grace, if there is one, the next claim and the fork)
margin    from a task's last line until etcd lets its claim go

The default takes about four minutes. A failover or a margin beyond what is wanted is told with its steps, a round that
did not come about with what it waited for. Exit code 1: something was beyond what is wanted, two processes of a task
ran at once, a process was left, or a case had no round.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

from common import machine

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from mpfora.config.settings import Settings  # noqa: E402
from mpfora.linux.syscalls import boot_ns  # noqa: E402
from tests.faults.checker import check  # noqa: E402
from tests.faults.evidence import Evidence, How, Life, S, by_task, read_lives  # noqa: E402
from tests.faults.failover import Failover  # noqa: E402
from tests.faults.nemesis import Fault  # noqa: E402
from tests.faults.report import percentile  # noqa: E402
from tests.faults.scene import TTL_S, Host, Scene, send  # noqa: E402

NODES = ("n1", "n2", "n3")
MARGIN_S = Settings(lease_ttl_s=TTL_S).margin_s
#: for whatever a round waits for
LIMIT_S = 60.0
#: a process that wrote within this lives
LATELY_NS = S // 4


def kill_supervisor(scene: Scene, host: Host) -> None:
    host.signal(signal.SIGKILL)


def kill_node(scene: Scene, host: Host) -> None:
    """Supervisor, zygote and children in one breath."""
    assert host.node is not None
    for pid in [host.node.pid, host.zygote(), *host.children()]:
        send(pid, signal.SIGKILL)


def kill_zygote(scene: Scene, host: Host) -> None:
    send(host.zygote(), signal.SIGKILL)


def stop_zygote(scene: Scene, host: Host) -> None:
    send(host.zygote(), signal.SIGSTOP)


def stop_supervisor(scene: Scene, host: Host) -> None:
    host.signal(signal.SIGSTOP)


def cut(scene: Scene, host: Host) -> None:
    for link in host.links:
        link.cut()


def stall(scene: Scene, host: Host) -> None:
    for link in host.links:
        link.stall("up", "down")


def stall_answers(scene: Scene, host: Host) -> None:
    for link in host.links:
        link.stall("down")


@dataclass(frozen=True)
class Case:
    """blow: what is done; failover_s: at most so long, margin_s: at least so much; None: nothing is wanted of it.
    once: to each node once, then all begins anew: tasks that have lost two zygotes are suspects, and run by turns."""

    blow: Callable[[Scene, Host], None]
    failover_s: float | None = None
    margin_s: float | None = None
    once: bool = False

    def __str__(self) -> str:
        if self.failover_s is not None:
            return f"failover at most {self.failover_s:g} s"
        return "" if self.margin_s is None else f"margin at least {self.margin_s:g} s"


CASES = {
    "supervisor killed": Case(kill_supervisor, failover_s=1.0),
    "node killed": Case(kill_node, failover_s=TTL_S + 1.5),
    "supervisor stopped": Case(stop_supervisor, margin_s=MARGIN_S / 2),
    "node cut off": Case(cut, margin_s=MARGIN_S / 2),
    "node cut off, connections stay": Case(stall, margin_s=MARGIN_S / 2),
    "node gets no answers": Case(stall_answers, margin_s=MARGIN_S / 2),
    "zygote killed": Case(kill_zygote, once=True),
    "zygote stopped": Case(stop_zygote, once=True),
}


class Late(Exception):
    """Something did not come about within the limit."""


class Lines:
    """The file of the tasks' lines, as far as it was read. Each look reads only what is new."""

    def __init__(self, path: Path) -> None:
        self._file = path.open()
        self._lives: dict[tuple[str, int, int], Life] = {}
        self._rest = ""

    def lives(self) -> list[Life]:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for life in read_lives(lines)[0]:
            key = life.task, life.fence, life.pid
            known = self._lives.get(key)
            self._lives[key] = (
                life
                if known is None
                else replace(known, last=life.last, lines=known.lines + life.lines, returned=life.returned)
            )
        return sorted(self._lives.values(), key=lambda life: life.first)

    def clear(self) -> None:
        """Forget what is past, but the processes that live."""
        self._lives = {(life.task, life.fence, life.pid): life for life in living(self.lives())}

    def close(self) -> None:
        self._file.close()


def living(lives: Sequence[Life]) -> list[Life]:
    since = boot_ns() - LATELY_NS
    return [life for life in lives if life.last > since and not life.returned]


def until(look: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + LIMIT_S
    while not look():
        if time.monotonic() > ends:
            raise Late(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.1)


@dataclass
class Figures:
    """Of all rounds of a case, in seconds. tried: rounds;  rounds: that came about;  bad: what was not as wanted."""

    tried: int = 0
    rounds: int = 0
    failovers: list[float] = field(default_factory=list)
    releases: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    bad: int = 0


def all_run(scene: Scene, lines: Lines) -> bool:
    """Every task has a process that lives, and every node is a member that takes tasks."""
    takes = {seen.node: seen.takes for seen in list(scene.observer.nodes)}
    return all(map(takes.get, NODES)) and len({life.task for life in living(lines.lives())}) == len(scene.submitted)


def busiest(scene: Scene, lines: Lines, former: Sequence[Host]) -> Host:
    """The node with the most tasks, of equal ones the one that was not hit for longest. Who was hit last has the
    fewest: no round waits for a balance."""
    shares = Counter(life.node for life in living(lines.lives()))
    hosts = [scene.hosts[name] for name in NODES]
    hosts.sort(key=lambda host: max((index for index, one in enumerate(former) if one is host), default=-1))
    return max(hosts, key=lambda host: shares[host.name])


def one_round(scene: Scene, lines: Lines, host: Host, name: str, figures: Figures) -> None:
    """One blow. Raises Late."""
    case, observer = CASES[name], scene.observer
    lines.clear()
    seen = len(observer.gone)
    hit = {life.task: life for life in living(lines.lives()) if life.node == host.name}
    fault = Fault(name, host.name, boot_ns(), disables=True)
    case.blow(scene, host)

    def failovers() -> list[Failover]:
        """Of those tasks that run again."""
        runs = by_task(lines.lives())
        found = []
        for task, before in hit.items():
            dead, *later = (one for one in runs[task] if one.first >= before.first)
            gone = next((one for one in observer.gone[seen:] if (one.task, one.fence) == (task, dead.fence)), None)
            if later:
                claims = [one for one in observer.claims if one.task == task and dead.fence < one.fence]
                found.append(Failover(fault, dead, gone, tuple(claims), later[0], ()))
        return found

    until(lambda: len(failovers()) == len(hit), f"the {len(hit)} tasks of {host.name} run again")
    figures.rounds += 1
    found = sorted(failovers(), key=lambda one: one.seconds, reverse=True)
    figures.failovers += [one.seconds for one in found]
    figures.releases += [(one.gone.at - fault.at) / S for one in found if one.gone is not None]
    slow = [one for one in found if case.failover_s is not None and one.seconds > case.failover_s]
    if slow:
        figures.bad += len(slow)
        tell(f"{name}, round {figures.tried}, SLOW: {len(slow)} of {len(found)} tasks, load {os.getloadavg()[0]:.1f};")
        tell(f"  {slow[0].dead.task}: {slow[0].story}")
    for one in found:
        if one.gone is None or one.gone.how is not How.ENDED:
            continue
        margin = (one.gone.at - one.dead.last) / S
        figures.margins.append(margin)
        if case.margin_s is not None and margin < case.margin_s:
            figures.bad += 1
            tell(f"{name}, round {figures.tried}, CLOSE: {one.dead.task} {margin:.2f} s: {one.story}")
    for violation in check(Evidence(lines.lives(), observer.gone)):
        if violation.kind in ("overlap", "beyond lease", "fence"):
            figures.bad += 1
            tell(f"{name}, round {figures.tried}, VIOLATION {violation}")


def heal(scene: Scene, host: Host) -> None:
    host.signal(signal.SIGCONT)
    send(host.zygote(), signal.SIGCONT)
    for link in host.links:
        link.mend()
    if not host.lives:
        host.start()  # the next round waits until it is a member


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def the_scene(tasks: int) -> Iterator[tuple[Scene, Lines]]:
    with tempfile.TemporaryDirectory(prefix="mpfora-failover-") as name:
        scene = Scene(Path(name), list(NODES))
        lines = Lines(scene.folder / "lines")
        try:
            for number in range(tasks):
                scene.submit(f"t{number}", "polite")
            yield scene, lines
        finally:
            lines.close()
            scene.close()


def measured(name: str, rounds: int, tasks: int, logs: Path | None) -> Figures:
    """Each case has a scene of its own: a node remembers what befell its zygotes."""
    figures = Figures()
    while figures.tried < rounds:
        at_once = min(len(NODES) if CASES[name].once else rounds, rounds - figures.tried)
        with the_scene(tasks) as (scene, lines):
            rounds_of(scene, lines, name, at_once, figures, logs)
    return figures


def rounds_of(scene: Scene, lines: Lines, name: str, rounds: int, figures: Figures, logs: Path | None) -> None:
    hit: list[Host] = []
    for _ in range(rounds):
        bad = figures.bad
        figures.tried += 1
        try:
            until(lambda: all_run(scene, lines), "every node is a member and every task runs")
            hit.append(busiest(scene, lines, hit))
            one_round(scene, lines, hit[-1], name, figures)
        except Late as late:
            figures.bad += 1
            tell(f"{name}, round {figures.tried} DID NOT COME ABOUT: {late}")
        for each in scene.hosts.values():
            heal(scene, each)
        if figures.bad > bad and logs is not None:
            keep_logs(scene, logs / f"{name.replace(' ', '-')}-{figures.tried}")
    try:
        figures.bad += orphans(scene, name)
    except Late as late:
        figures.bad += 1
        tell(f"{name}: {late}")


def orphans(scene: Scene, name: str) -> int:
    """How many processes there are when every node has left in order. Raises Late."""
    for host in scene.hosts.values():
        host.signal(signal.SIGTERM)
    until(lambda: not any(host.lives for host in scene.hosts.values()), "every node leaves")
    ends = time.monotonic() + 2
    while (left := scene.left()) and time.monotonic() < ends:
        time.sleep(0.1)
    for text in left:
        tell(f"{name}, LEFT: {text}")
    return len(left)


def keep_logs(scene: Scene, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scene.logs():
        (folder / f"{name}.log").write_text(text)


def spread(values: Sequence[float]) -> str:
    if not values:
        return "| - | - | - | - "
    cells = min(values), statistics.median(values), percentile(values, 0.99), max(values)
    return "".join(f"| {cell:.2f} " for cell in cells)


def row(name: str, figures: Figures) -> str:
    released = f"{statistics.median(figures.releases):.2f}" if figures.releases else "-"
    wanted = str(CASES[name])
    if wanted:
        wanted += ": no" if figures.bad or not figures.rounds else ": yes"
    return (
        f"| {name} | {figures.rounds} | {len(figures.failovers)} {spread(figures.failovers)}| {released}"
        f" {spread(figures.margins)}| {wanted} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="of each case [4]")
    parser.add_argument("--tasks", type=int, default=30, help="on all nodes together [30]")
    parser.add_argument("--logs", type=Path, help="keep the nodes' logs here when a round was not as wanted")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} [all]")
    options = parser.parse_args()
    unknown = [case for case in options.cases if case not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    print(machine())
    print(f"lease {TTL_S} s, margin {MARGIN_S:g} s, {options.tasks} tasks, {len(NODES)} nodes\n")
    print("| done to a node | rounds | tasks | failover s: least | median | p99 | most", end=" ")
    print("| released s, median", end=" ")
    print("| margin s: least | median | p99 | most | wanted |")
    print("|---" * 13 + "|", flush=True)
    bad = 0
    # a process for each case: gRPC holds on to the first event loop that it sees
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for case in options.cases or CASES:
            figures = pool.submit(measured, case, options.rounds, options.tasks, options.logs).result()
            bad += figures.bad or not figures.rounds
            print(row(case, figures), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
