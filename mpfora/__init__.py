"""mpfora: long-lived, CPU-heavy Python tasks on any number of machines, each in a process that can be killed.

Importing this package is cheap on purpose: the zygote and every child import it, and what they import every
handler pays for. The names that need etcd, grpc or asyncio are therefore loaded at their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mpfora._version import __version__ as __version__

if TYPE_CHECKING:
    from mpfora.child.run.context import Context as Context
    from mpfora.child.run.context import RunContext as RunContext
    from mpfora.child.run.current import current as current
    from mpfora.client import AsyncClient as AsyncClient
    from mpfora.client import Client as Client
    from mpfora.config.settings import EtcdSettings as EtcdSettings
    from mpfora.errors import MemoryLimit as MemoryLimit
    from mpfora.errors import RemoteError as RemoteError
    from mpfora.errors import RunDied as RunDied
    from mpfora.errors import Stalled as Stalled
    from mpfora.errors import TaskTimeout as TaskTimeout
    from mpfora.handlers import Handler as Handler
    from mpfora.handlers import handler as handler
    from mpfora.model.state import Message as Message
    from mpfora.model.task import Task as Task
    from mpfora.pool import Pool as Pool
    from mpfora.pool import PoolFuture as PoolFuture
    from mpfora.retry import Retry as Retry
    from mpfora.supervisor.balance.balancer import Balancer as Balancer
    from mpfora.supervisor.balance.balancer import CostBalancer as CostBalancer
    from mpfora.supervisor.balance.balancer import FairBalancer as FairBalancer
    from mpfora.supervisor.balance.balancer import NoBalancer as NoBalancer
    from mpfora.supervisor.consumer import Consumer as Consumer
    from mpfora.supervisor.coordinator.etcd import EtcdCoordinator as EtcdCoordinator
    from mpfora.supervisor.coordinator.interface import Coordinator as Coordinator
    from mpfora.supervisor.coordinator.memory import MemoryCoordinator as MemoryCoordinator

#: public name -> the module that holds it
_HOMES = {
    "AsyncClient": "mpfora.client",
    "Balancer": "mpfora.supervisor.balance",
    "Client": "mpfora.client",
    "Consumer": "mpfora.supervisor.consumer",
    "Context": "mpfora.child.run.context",
    "Coordinator": "mpfora.supervisor.coordinator.interface",
    "EtcdSettings": "mpfora.config.settings",
    "EtcdCoordinator": "mpfora.supervisor.coordinator.etcd",
    "CostBalancer": "mpfora.supervisor.balance",
    "FairBalancer": "mpfora.supervisor.balance",
    "Handler": "mpfora.handlers",
    "MemoryCoordinator": "mpfora.supervisor.coordinator.memory",
    "MemoryLimit": "mpfora.errors",
    "Message": "mpfora.model.state",
    "NoBalancer": "mpfora.supervisor.balance",
    "Pool": "mpfora.pool",
    "PoolFuture": "mpfora.pool",
    "RemoteError": "mpfora.errors",
    "Retry": "mpfora.retry",
    "RunContext": "mpfora.child.run.context",
    "RunDied": "mpfora.errors",
    "Stalled": "mpfora.errors",
    "Task": "mpfora.model.task",
    "TaskTimeout": "mpfora.errors",
    "current": "mpfora.child.run.current",
    "handler": "mpfora.handlers",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mpfora' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
