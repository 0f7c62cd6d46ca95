"""How long tasks are without a process when something dies: python bench/failover.py [--rounds N] [CASE ...]

Three members of etcd and three nodes on this machine, a lease of 4 s; each task writes a line every 20 ms, and etcd is
watched beside the nodes. A round does one thing to one node, and is over when every task that ran there runs again.

failover  from the blow until the first line of a task's next process, anywhere
released  of that, until etcd let the claim go (the rest is the grace, if there is one, the next claim and the fork)
margin    from a task's last line until etcd lets its claim go
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mpfora.config import Settings  # noqa: E402
from mpfora.linux import boot_ns  # noqa: E402
from tests.faults.checker import check  # noqa: E402
from tests.faults.evidence import Evidence, How, Life, S, by_task, read_lives  # noqa: E402
from tests.faults.scene import TTL_S, Host, Scene, send  # noqa: E402

NODES = ("n1", "n2", "n3")
MARGIN_S = Settings(lease_ttl_s=TTL_S).margin_s
#: for whatever a round waits for
LIMIT_S = 60.0


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


#: name -> (what is done, what the figure must keep to)
CASES: dict[str, tuple[Callable[[Scene, Host], None], str]] = {
    "supervisor killed": (kill_supervisor, "failover under 1 s"),
    "node killed": (kill_node, f"failover at most TTL + 1.5 s = {TTL_S + 1.5:g} s"),
    "supervisor stopped": (stop_supervisor, f"margin at least {MARGIN_S / 2:g} s"),
    "node cut off": (cut, f"margin at least {MARGIN_S / 2:g} s"),
    "node cut off, connections stay": (stall, f"margin at least {MARGIN_S / 2:g} s"),
    "node gets no answers": (stall_answers, f"margin at least {MARGIN_S / 2:g} s"),
    "zygote killed": (kill_zygote, ""),
    "zygote stopped": (stop_zygote, ""),
}


class Lines:
    """The file of the tasks' lines, as far as it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lives(self) -> list[Life]:
        with self.path.open() as lines:
            return read_lives(line for line in lines if line.endswith("\n"))[0]

    def clear(self) -> None:
        """Forget what is past. Writers append, so that an emptied file goes on."""
        with self.path.open("r+") as file:
            file.truncate(0)


def until(look: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + LIMIT_S
    while not look():
        if time.monotonic() > ends:
            raise SystemExit(f"not within {LIMIT_S:g} s: {what}")
        time.sleep(0.1)


def all_run(scene: Scene, lines: Lines) -> bool:
    """Every task has a process that lives, and the nodes have equal shares."""
    now = boot_ns()
    alive = [life for life in lines.lives() if life.last > now - S // 4]
    shares = [sum(life.node == name for life in alive) for name in NODES]
    return len({life.task for life in alive}) == len(scene.submitted) and max(shares) - min(shares) <= 1


def round_of(
    scene: Scene, lines: Lines, host: Host, blow: Callable[[Scene, Host], None]
) -> tuple[list[float], list[float], list[float]]:
    """Failovers, releases and margins of one blow."""
    lines.clear()
    until(lambda: all_run(scene, lines), "every task runs, in equal shares")
    seen = len(scene.observer.gone)
    hit = {life.task: life for life in lines.lives() if life.node == host.name and life.last > boot_ns() - S // 4}
    at = boot_ns()
    blow(scene, host)

    def next_lives() -> dict[str, Life]:
        runs = by_task(lines.lives())
        return {
            task: later[0]
            for task, life in hit.items()
            if (
                later := [
                    one for one in runs[task] if (one.fence, one.pid) != (life.fence, life.pid) and one.first > at
                ]
            )
        }

    until(lambda: len(next_lives()) == len(hit), f"the tasks of {host.name} run again")
    failovers = [(life.first - at) / S for life in next_lives().values()]
    last = {(life.task, life.fence): life.last for life in lines.lives()}
    gone = [one for one in scene.observer.gone[seen:] if one.task in hit and one.fence == hit[one.task].fence]
    releases = [(one.at - at) / S for one in gone]
    margins = [(one.at - last[one.task, one.fence]) / S for one in gone if one.how is How.ENDED]
    violations = [one for one in check(Evidence(lines.lives(), scene.observer.gone)) if one.kind != "lost"]
    for violation in violations:
        print(f"VIOLATION {violation}", flush=True)
    return failovers, releases, margins


def heal(scene: Scene, host: Host) -> None:
    host.signal(signal.SIGCONT)
    send(host.zygote(), signal.SIGCONT)
    for link in host.links:
        link.mend()
    if not host.lives:
        host.start()
        assert host.node is not None
        host.node.wait_joined()


def row(values: Sequence[float]) -> str:
    if not values:
        return "| - | - | - | - "
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"| {ordered[0]:.2f} | {statistics.median(ordered):.2f} | {p99:.2f} | {ordered[-1]:.2f} "


def middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if values else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=30)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(CASES), help=", ".join(CASES))
    options = parser.parse_args()
    print(
        f"lease {TTL_S} s, margin {MARGIN_S:g} s, {options.tasks} tasks, {len(NODES)} nodes, {options.rounds} rounds\n"
    )
    print("| done to a node | tasks | failover s: least | median | p99 | most", end=" ")
    print("| released s, median", end=" ")
    print("| margin s: least | median | p99 | most | wanted |")
    print("|---" * 12 + "|", flush=True)
    for case in options.cases:
        print(measured(case, options.rounds, options.tasks), flush=True)


def measured(case: str, rounds: int, tasks: int) -> str:
    """A row of the table. Each case has a scene of its own: a node remembers what befell its zygotes."""
    blow, wanted = CASES[case]
    figures: tuple[list[float], list[float], list[float]] = ([], [], [])
    with tempfile.TemporaryDirectory(prefix="mpfora-failover-") as name:
        scene = Scene(Path(name), list(NODES))
        try:
            for number in range(tasks):
                scene.submit(f"t{number}", "polite")
            for number in range(rounds):
                host = scene.hosts[NODES[number % len(NODES)]]
                for kept, more in zip(figures, round_of(scene, Lines(scene.folder / "lines"), host, blow), strict=True):
                    kept += more
                heal(scene, host)
        finally:
            scene.close()
    failovers, releases, margins = figures
    return f"| {case} | {len(failovers)} {row(failovers)}| {middle(releases)} {row(margins)}| {wanted} |"


if __name__ == "__main__":
    main()
