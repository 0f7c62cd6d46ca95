"""Hostile handlers on a real node, beside a good one: each ends with its cause, and nothing else suffers."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zoo_cases
from etcd_server import EtcdServer
from node import LIMIT_S, Node, Site, is_alive, until
from zoo_cases import CASES, Case

from mpfora.model.outcome import Cause
from mpfora.model.state import Message, TaskState

#: primes below BELOW
BELOW, PRIMES = 20_000, 2262
#: from a run's start to its end, on a machine with many others
END_S = zoo_cases.STALL_S + 20


@dataclass(frozen=True)
class Visit:
    """What was seen of one node that ran every case at once."""

    states: dict[str, TaskState]
    good: TaskState
    lines: list[str]
    daemon: int


@pytest.fixture(scope="module")
def visit(shared_etcd: EtcdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """Run all cases at once on one node, beside a good task from before the first to after the last."""
    folder = tmp_path_factory.mktemp("zoo")
    with Site(shared_etcd, folder.name) as site:
        node = site.start(*zoo_cases.HANDLERS, max_tasks=0, lease_ttl=10)
        site.submit("good", "good", below=BELOW, until=str(folder / "over"))
        node.child("good")
        submitted = site.client.submit_many(
            (case.name, {**case.props, "handler": case.name, "path": str(folder / f"{case.name}.pid")})
            for case in CASES
        )
        assert not submitted.existed
        site.client.wait([case.name for case in CASES], timeout=2 * LIMIT_S)
        states = {case.name: site.wait_end(case.name) for case in CASES}
        until(lambda: len(node.tree()) == 4, lambda: f"only the good task is left of {node.tree()}")
        (folder / "over").touch()
        good = site.wait_end("good")
        node.wait_idle()
        assert node.stop() == 0
        yield Visit(states, good, node.log.lines, int((folder / "daemonise.pid").read_text()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_ends_with_its_cause_and_explains_it(visit: Visit, case: Case) -> None:
    state = visit.states[case.name]
    assert (state.state, state.cause, state.attempt, state.node) == (case.state, case.cause, 1, "n1"), state
    assert state.started is not None
    assert state.ended is not None
    assert 0 <= state.ended - state.started <= END_S
    for text in case.stack:
        assert text in state.stack
    if case.state == "completed":
        assert state.errors == ()
        assert case.result(state.result) if callable(case.result) else state.result == case.result
    else:
        error, reason = state.errors
        assert case.error in error.text
        assert error.cause == case.cause
        assert len(error.text) <= 6_000
        assert reason.text.startswith(("exceeded error rate: 1 error", "not tried again: the value"))
        assert state.result is None


def test_the_good_task_beside_them_is_undisturbed(visit: Visit) -> None:
    assert (visit.good.state, visit.good.cause, visit.good.attempt) == ("completed", "completed", 1)
    assert visit.good.result == {"found": PRIMES}


def test_the_node_beside_them_is_undisturbed(visit: Visit) -> None:
    troubled = "the lease|zygote:|zygote lost|does not die|a bug in|not written|claim is lost"
    assert not [line for line in visit.lines if re.search(troubled, line)]


def test_what_they_print_is_in_the_log_under_their_names(visit: Visit) -> None:
    assert [line for line in visit.lines if line.endswith("[deadlock] deadlocked")]
    assert [line for line in visit.lines if line.endswith("[daemonise] daemon")]
    assert [line for line in visit.lines if "[print_binary]" in line and line.endswith(" end")]


def test_no_daemon_and_no_program_is_left(visit: Visit) -> None:
    assert not is_alive(visit.daemon)
    assert not is_alive(visit.states["leave_subprocess"].result)
    assert not is_alive(visit.states["leave_session"].result)


# -- those that harm the node -----------------------------------------------------------------------------------------


def start(site: Site, *animals: str, **options: Any) -> Node:
    """A node with these animals of the zoo, undeclared, and the good task's handler."""
    handlers = [f"{animal}=zoo:{animal}" for animal in animals]
    return site.start(*handlers, "good=zoo_cases:good", max_tasks=0, **options)


@pytest.mark.parametrize(("animal", "why"), [("kill_parent", "signal 9"), ("stop_parent", "did not answer")])
def test_a_zygote_that_a_task_kills_or_stops_is_replaced_and_its_tasks_run_again(
    etcd: EtcdServer, namespace: str, tmp_path: Path, animal: str, why: str
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, animal, lease_ttl=10)
        first = node.zygote
        site.submit("good", "good", below=2000, until=str(tmp_path / "over"))
        former = node.child("good")
        site.submit("bad", animal)
        lost = site.wait_state("bad", lambda state: state.cause == Cause.ZYGOTE_LOST)
        assert (lost.state, lost.errors) == ("runnable", ())
        node.log.wait(f"zygote lost: .*{why}")
        site.tell_task("bad", Message.kill())
        assert site.wait_end("bad").state == "killed"
        until(lambda: node.zygote != first, "another zygote")
        (tmp_path / "over").touch()
        good = site.wait_end("good")
        assert (good.state, good.result) == ("completed", {"found": 303})
        assert good.attempt >= 2
        assert not is_alive(former)
        assert not is_alive(first)
        assert site.owner("good") is None
        node.wait_idle()
        assert node.stop() == 0


def test_a_flood_of_output_loses_lines_and_nothing_else_suffers(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    size = 10**8
    with Site(etcd, namespace) as site:
        node = start(site, "print_much", lease_ttl=3)
        site.submit("good", "good", below=BELOW, until=str(tmp_path / "over"))
        node.child("good")
        site.submit("lines", "print_much", bytes=size)
        site.submit("line", "print_much", bytes=size, line=0)
        for task_id in ("lines", "line"):
            state = site.wait_end(task_id, 2 * LIMIT_S)
            assert (state.result >= size, state.attempt) == (True, 1)
        (tmp_path / "over").touch()
        assert site.wait_end("good").attempt == 1
        assert node.stop() == 0
        said = node.log.find(r"\[lines\]")
        dropped = [int(line.split("] [")[1].split()[0]) for line in said if "lines dropped: more than" in line]
        printed = sum(1 for line in said if line.endswith("xxx"))
        assert dropped
        assert printed + sum(dropped) == -(-size // 65_000) * 65
        assert len(node.log.text()) < 64 << 20
        assert len(node.log.find(r"\[line\]")) <= 3
        assert not node.log.find("the lease|zygote lost")


def test_a_handler_that_heeds_nothing_dies_by_stop_timeout(etcd: EtcdServer, namespace: str) -> None:
    """Asked to stop: with beats, with CPU time, or with signals ignored, alive is not obedient."""
    animals = ("beats_for_ever", "busy_loop", "ignores_signals", "deadlock", "async_deaf", "DeafHandler")
    with Site(etcd, namespace) as site:
        node = start(site, *animals, lease_ttl=10, stop_timeout=1)
        for animal in animals:
            site.submit(animal, animal)
        for animal in animals:
            node.child(animal)
        asked = time.time()
        for animal in animals:
            site.tell_task(animal, Message.kill())
        for animal in animals:
            state = site.wait_end(animal)
            assert (state.state, state.cause) == ("killed", Cause.STOP_TIMEOUT)
            assert state.ended is not None
            assert 1 <= state.ended - asked <= LIMIT_S
            assert "zoo.py" in state.stack
        node.wait_idle()
        assert node.stop(signal.SIGINT) == 0
