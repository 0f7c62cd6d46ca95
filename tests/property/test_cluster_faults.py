"""The simulated cluster, with faults at each point of a life, and with safeguards taken away. See tests/sim."""

from __future__ import annotations

import pytest
from sim import interrupted, planted, probes
from sim.profiles import run_one

#: seeds until which a planted fault must be seen
PLANTED_SEEDS = 120


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", planted.FAULTS)
def test_a_planted_fault_is_seen(fault: str) -> None:
    _, kinds, profile = planted.FAULTS[fault]
    first = planted.TELLING_SEEDS.get(fault, 0)
    with planted.planted(fault):
        for seed in (first, *(seed for seed in range(PLANTED_SEEDS) if seed != first)):
            told = [violation.split(":")[0] for violation in run_one(seed, profile).violations]
            if set(told) & set(kinds):
                return
    pytest.fail(f"{fault}: not seen in {PLANTED_SEEDS} seeds of {profile}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("probe", probes.PROBES)
def test_whatever_is_lost_and_whenever_a_node_dies_it_ends_well(probe: str) -> None:
    """Each request in turn is lost, or its reply, and each event in turn is the last of its node."""
    for case in interrupted.cases(probe):
        _, verdict = interrupted.run_case(case)
        assert not verdict.violations, f"{case}\n{verdict}"
