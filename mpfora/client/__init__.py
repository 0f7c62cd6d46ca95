"""The clients: `AsyncClient`, and `Client` for programs without an event loop. They submit tasks, look at them, and
command them.

The two are thin. What they do is in a module for each thing, as functions over a store: submit, commands, unowned,
removal, purge and wait write; group and its kin stand on all of these; reads, snapshot, rows, task_info and node_info
look; why_not_running, why_waiting and wait_reports say why a task does not run, and balance_preview says which moves
would follow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpfora.client.async_client import AsyncClient as AsyncClient
    from mpfora.client.filters.pages import Page as Page
    from mpfora.client.groups.errors import GroupExists as GroupExists
    from mpfora.client.groups.errors import GroupIncomplete as GroupIncomplete
    from mpfora.client.groups.errors import GroupNotFound as GroupNotFound
    from mpfora.client.groups.errors import TaskFailed as TaskFailed
    from mpfora.client.groups.group import AsyncGroup as AsyncGroup
    from mpfora.client.groups.progress import GroupProgress as GroupProgress
    from mpfora.client.info.node_info import NodeInfo as NodeInfo
    from mpfora.client.info.task_info import TaskInfo as TaskInfo
    from mpfora.client.questions.node_code import ReloadFailed as ReloadFailed
    from mpfora.client.questions.questions import LiveStack as LiveStack
    from mpfora.client.snapshot.task_details import TaskDetails as TaskDetails
    from mpfora.client.sync_client import Client as Client
    from mpfora.client.sync_group import Group as Group
    from mpfora.client.tasks.purge import Purged as Purged
    from mpfora.client.tasks.submit import NewTask as NewTask
    from mpfora.client.tasks.submit import Submitted as Submitted
    from mpfora.client.tasks.wait_reports import Standing as Standing
    from mpfora.client.tasks.wait_reports import told_together as told_together
    from mpfora.errors import FilterError as FilterError
    from mpfora.model.history import Run as Run
    from mpfora.profiles.profile import Profile as Profile

#: public name -> the module that holds it, imported at its first use
_HOMES = {
    "AsyncClient": "mpfora.client.async_client",
    "AsyncGroup": "mpfora.client.groups.group",
    "Client": "mpfora.client.sync_client",
    "FilterError": "mpfora.errors",
    "Group": "mpfora.client.sync_group",
    "GroupExists": "mpfora.client.groups.errors",
    "GroupIncomplete": "mpfora.client.groups.errors",
    "GroupNotFound": "mpfora.client.groups.errors",
    "GroupProgress": "mpfora.client.groups.progress",
    "LiveStack": "mpfora.client.questions.questions",
    "NewTask": "mpfora.client.tasks.submit",
    "NodeInfo": "mpfora.client.info.node_info",
    "Page": "mpfora.client.filters.pages",
    "Profile": "mpfora.profiles.profile",
    "Purged": "mpfora.client.tasks.purge",
    "ReloadFailed": "mpfora.client.questions.node_code",
    "Run": "mpfora.model.history",
    "Standing": "mpfora.client.tasks.wait_reports",
    "Submitted": "mpfora.client.tasks.submit",
    "TaskDetails": "mpfora.client.snapshot.task_details",
    "TaskFailed": "mpfora.client.groups.errors",
    "TaskInfo": "mpfora.client.info.task_info",
    "told_together": "mpfora.client.tasks.wait_reports",
}

__all__ = [
    "AsyncClient",
    "AsyncGroup",
    "Client",
    "FilterError",
    "Group",
    "GroupExists",
    "GroupIncomplete",
    "GroupNotFound",
    "GroupProgress",
    "LiveStack",
    "NewTask",
    "NodeInfo",
    "Page",
    "Profile",
    "Purged",
    "ReloadFailed",
    "Run",
    "Standing",
    "Submitted",
    "TaskDetails",
    "TaskFailed",
    "TaskInfo",
    "told_together",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mpfora.client' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
