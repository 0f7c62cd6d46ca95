"""Real faults: a three-member etcd, real nodes, a nemesis driven by a seed, and a checker that reads what the tasks
wrote.

`python -m tests.faults --minutes 30 --seed 7 --report FILE` runs it for long; tests/faults/test_faults.py for a minute.
`python -m tests.faults --plant all` takes one safeguard after another away and expects to be told (plants.py); two of
these are in the default run. One plant, `answer`, cannot show here, and does in the simulated cluster (tests/sim).
"""
