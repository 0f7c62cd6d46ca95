"""Balancing: the Balancer interface, the balancers by name, and what this node gives up.

`mpfora.supervisor.balance` is a name that users import from; what they need of balancer.py stands here.
"""

from mpfora.supervisor.balance.balancer import *  # noqa: F403
