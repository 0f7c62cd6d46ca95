"""A simulated cluster: the real core, coordinator, effects and zygote of every node under one virtual clock.

`runner.run(seed)` draws a scenario, lets it happen, and returns what the checkers said. `python -m tests.sim --seed N`
runs one seed with its trace.
"""
