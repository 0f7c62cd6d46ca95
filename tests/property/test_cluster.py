"""Proof by simulation: thousands of lives of a cluster, and what they must never show. See tests/sim.

A failing seed tells how to run it again. `pytest tests/property/test_cluster.py --seeds 20000` runs more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sim import interrupted, planted, probes, runner, scenario
from sim.pool import run_many

REPOSITORY = Path(__file__).parents[2]
#: seeds until which a planted fault must be seen
PLANTED_SEEDS = 120


@pytest.mark.timeout(1800)  # half a minute on two idle cores
def test_no_seed_shows_what_must_not_be(request: pytest.FixtureRequest) -> None:
    tally = run_many(range(request.config.getoption("--seeds")))
    print(tally)
    assert not tally.failed, "\n\n".join(map(str, tally.failed[:3])) + f"\n{tally}"
    # without faults a claim is tried by one node, once
    assert tally.attempts <= 1.02 * tally.claims


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", planted.FAULTS)
def test_a_planted_fault_is_seen(fault: str) -> None:
    _, kinds, profile = planted.FAULTS[fault]
    with planted.planted(fault):
        for seed in range(PLANTED_SEEDS):
            told = [violation.split(":")[0] for violation in run_one(seed, profile).violations]
            if set(told) & set(kinds):
                return
    pytest.fail(f"{fault}: not seen in {PLANTED_SEEDS} seeds of {profile}")


def run_one(seed: int, profile: str) -> runner.Verdict:
    if profile == "probe":
        return runner.run_scenario(probes.slow_then_cut(seed))
    if profile in probes.PROBES:
        return runner.run_scenario(replace(probes.PROBES[profile], seed=seed))
    return runner.run(seed, profile=profile)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("probe", probes.PROBES)
def test_whatever_is_lost_and_whenever_a_node_dies_it_ends_well(probe: str) -> None:
    """Each request in turn is lost, or its reply, and each event in turn is the last of its node."""
    for case in interrupted.cases(probe):
        _, verdict = interrupted.run_case(case)
        assert not verdict.violations, f"{case}\n{verdict}"


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
