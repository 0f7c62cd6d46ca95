"""Real faults: a three-member etcd, real nodes, a nemesis driven by a seed, and a checker that reads what the tasks
wrote.

`python -m tests.faults --minutes 30 --seed 7 --report FILE` runs it for long; tests/test_faults.py for a minute.
"""
