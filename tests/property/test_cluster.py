"""Proof by simulation: hundreds of lives of a cluster, and what they must never show. See tests/sim.

A failing seed tells how to run it again. `pytest tests/property/test_cluster.py --seeds 20000` runs more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim import probes, runner, scenario
from sim.cluster import Cluster
from sim.kernel import Act
from sim.pool import run_many
from sim.profiles import run_one

REPOSITORY = Path(__file__).parents[2]
#: lives with processes that do not die
UNDYING_SEEDS = 60
CLOCK_SEEDS = 40
RESOURCE_SEEDS = 40
PREEMPT_SEEDS = 40


@pytest.mark.timeout(1800)
def test_no_seed_shows_what_must_not_be(request: pytest.FixtureRequest) -> None:
    tally = run_many(range(request.config.getoption("--seeds")))
    print(tally)
    assert not tally.failed, "\n\n".join(map(str, tally.failed[:3])) + f"\n{tally}"
    # without faults a claim is tried by one node, once
    assert tally.attempts <= 1.02 * tally.claims


@pytest.mark.timeout(600)
def test_what_cannot_be_killed_holds_its_own_task_and_no_other() -> None:
    failed = [verdict for seed in range(UNDYING_SEEDS) if (verdict := run_one(seed, "undying")).violations]
    assert not failed, "\n\n".join(map(str, failed[:3])) + f"\n{len(failed)} of {UNDYING_SEEDS}"


@pytest.mark.timeout(600)
def test_wall_clocks_that_are_years_wrong_and_are_set_lose_no_task_and_run_none_twice() -> None:
    failed = [verdict for seed in range(CLOCK_SEEDS) if (verdict := run_one(seed, "clocks")).violations]
    assert not failed, "\n\n".join(map(str, failed[:3])) + f"\n{len(failed)} of {CLOCK_SEEDS}"


@pytest.mark.timeout(600)
def test_no_node_gives_more_than_it_has_no_unit_is_shared_and_no_task_starves() -> None:
    failed = [verdict for seed in range(RESOURCE_SEEDS) if (verdict := run_one(seed, "resources")).violations]
    assert not failed, "\n\n".join(map(str, failed[:3])) + f"\n{len(failed)} of {RESOURCE_SEEDS}"


@pytest.mark.timeout(600)
def test_who_preempts_makes_room_for_more_urgent_tasks_only_and_no_run_loses_what_it_saved() -> None:
    failed = [verdict for seed in range(PREEMPT_SEEDS) if (verdict := run_one(seed, "preemption")).violations]
    assert not failed, "\n\n".join(map(str, failed[:3])) + f"\n{len(failed)} of {PREEMPT_SEEDS}"


def test_what_runs_in_former_zygotes_dies_before_its_claims_are_given_back_or_end() -> None:
    told = [violation for seed in range(6) for violation in run_one(seed, "former").violations]
    assert told == []


def test_a_burst_of_forks_that_outlasts_the_lease_starts_each_task_once() -> None:
    clusters: list[Cluster] = []
    verdict = runner.run_scenario(probes.burst_of_forks(1), prepare=clusters.append)
    assert not verdict.violations, str(verdict)
    (cluster,) = clusters
    assert {book.evidence.forks for book in cluster.checks.books.tasks.values()} == {1}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["kill_node", "panic"])
def test_a_task_that_takes_nodes_down_fails_and_the_good_ones_complete(kind: str) -> None:
    short, bad = probes.SHORT, Act(kind, after_s=0.3)
    for seed in range(5):
        tasks = {"bad": (bad,), **{f"g{n}": (short,) for n in range(4)}}
        clusters: list[Cluster] = []
        life = probes.scenario(2, tasks, seed=seed, ttl_s=3.0, safety_s=150.0)
        verdict = runner.run_scenario(life, prepare=clusters.append)
        assert not verdict.violations, str(verdict)
        (cluster,) = clusters
        states = {task_id: book.state for task_id, book in cluster.checks.books.tasks.items()}
        assert all(state is not None for state in states.values())
        assert {task_id: state.state.value for task_id, state in states.items() if state is not None} == {
            "bad": "failed",
            **{f"g{n}": "completed" for n in range(4)},
        }
        assert cluster.checks.books.task("bad").evidence.deaths == 5


@pytest.mark.timeout(900)
def test_the_same_seed_is_the_same_life_whatever_hashes_are() -> None:
    first, second = (digests(hash_seed) for hash_seed in ("1", "2"))
    assert first == second
    assert len(set(first)) == len(first) == 10 + len(scenario.PROFILES)


def digests(hash_seed: str) -> list[str]:
    """Of everything that happens in ten lives and one of each kind, in an interpreter of its own."""
    program = (
        "import hashlib; from tests.sim import runner, scenario\n"
        "lives = [(seed, None) for seed in range(10)] + [(99, profile) for profile in scenario.PROFILES]\n"
        "for life in lives:\n"
        "    lines = []; runner.run(life[0], lines.append, life[1])\n"
        "    print(hashlib.sha256('\\n'.join(lines).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=400
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()
