"""A process pool on one machine, without etcd: a call is a forked process that can be killed, and the pool goes on.

It stands on the zygote, the frames and the children of a node: nothing here forks, kills, or watches memory itself.
"""

import sys

from mpfora.pool.executor import Pool
from mpfora.pool.future import PoolFuture

__all__ = ["Pool", "PoolFuture"]

# what a call pickles that its script defines names the script as the child imported it; multiprocessing does the same
sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
