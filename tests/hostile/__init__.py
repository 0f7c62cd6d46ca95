"""Hostile tasks: a stream of generated handlers, props, keys and commands on real nodes and a real etcd, with good
tasks among them, looked at from outside.

`python -m tests.hostile --minutes 10 --seed 7 --report FILE` runs it for long; tests/hostile/test_hostile.py for a
short while.
`python -m tests.hostile --plant all` takes one guard after another away and expects to be told (plants.py).

draw.py draws what comes, deeds.py and meddling.py are what hostile handlers do, run.py lets it happen, checker.py
judges it.
"""
