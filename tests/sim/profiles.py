"""One life by a seed and the name of what is drawn or played in it: a profile of tests/sim/scenario.py, or a probe."""

from __future__ import annotations

from dataclasses import replace

from . import probes, runner


def run_one(seed: int, profile: str) -> runner.Verdict:
    if profile == "probe":
        return runner.run_scenario(probes.slow_then_cut(seed))
    if profile == "burst":
        return runner.run_scenario(probes.burst_of_forks(seed))
    if profile == "former":
        return runner.run_scenario(probes.former_zygotes(seed))
    if profile in probes.PROBES:
        return runner.run_scenario(replace(probes.PROBES[profile], seed=seed))
    return runner.run(seed, profile=profile)
