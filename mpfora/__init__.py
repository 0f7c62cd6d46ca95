"""mpfora: long-lived, CPU-heavy Python tasks on any number of machines, each in a process that can be killed.

Importing this package is cheap on purpose: the zygote and every child import it, and what they import every
handler pays for. The names that need etcd, grpc or asyncio are therefore loaded at their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mpfora.child.context import Context as Context
    from mpfora.client import AsyncClient as AsyncClient
    from mpfora.client import Client as Client
    from mpfora.handlers import Handler as Handler
    from mpfora.handlers import handler as handler
    from mpfora.model import Task as Task
    from mpfora.retry import Retry as Retry
    from mpfora.states import Message as Message
    from mpfora.supervisor.balance import Balancer as Balancer
    from mpfora.supervisor.balance import CostBalancer as CostBalancer
    from mpfora.supervisor.balance import FairBalancer as FairBalancer
    from mpfora.supervisor.balance import NoBalancer as NoBalancer
    from mpfora.supervisor.consumer import Consumer as Consumer
    from mpfora.supervisor.coordinator import Coordinator as Coordinator
    from mpfora.supervisor.etcd_coordinator import EtcdCoordinator as EtcdCoordinator
    from mpfora.supervisor.memory_coordinator import MemoryCoordinator as MemoryCoordinator

#: public name -> the module that holds it
_HOMES = {
    "AsyncClient": "mpfora.client",
    "Balancer": "mpfora.supervisor.balance",
    "Client": "mpfora.client",
    "Consumer": "mpfora.supervisor.consumer",
    "Context": "mpfora.child.context",
    "Coordinator": "mpfora.supervisor.coordinator",
    "EtcdCoordinator": "mpfora.supervisor.etcd_coordinator",
    "CostBalancer": "mpfora.supervisor.balance",
    "FairBalancer": "mpfora.supervisor.balance",
    "Handler": "mpfora.handlers",
    "MemoryCoordinator": "mpfora.supervisor.memory_coordinator",
    "Message": "mpfora.states",
    "NoBalancer": "mpfora.supervisor.balance",
    "Retry": "mpfora.retry",
    "Task": "mpfora.model",
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
