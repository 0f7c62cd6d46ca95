"""Rig: one cluster of the store under test, and the hands of its clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pytest

from mpfora.model.state import Message, TaskState
from mpfora.supervisor.coordinator.interface import (
    Coordinator,
)


class Rig(ABC):
    """One cluster, empty at first, seen from outside."""

    @abstractmethod
    def coordinator(self) -> Coordinator:
        """A new coordinator of this cluster, not open yet."""

    @abstractmethod
    async def submit(self, task_id: str, props: Mapping[str, Any]) -> None: ...

    @abstractmethod
    async def delete_task(self, task_id: str) -> None:
        """As a client that takes a task away from whoever runs it."""

    async def want_removed(self, task_id: str) -> None:
        """As a client that wants the task deleted by its owner. A coordinator that removes no tasks needs none."""
        pytest.skip("this coordinator removes no tasks")

    @abstractmethod
    async def command(self, task_id: str, message: Message) -> int:
        """Put a command for a task. Returns its revision."""

    @abstractmethod
    async def node_command(self, node: str, verb: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Put a command for a node. Returns the id of its key."""

    @abstractmethod
    async def want_progress(self, reader_id: str, wanted: bool) -> None:
        """Come or go as a reader of progress."""

    @abstractmethod
    async def expire(self, node: str) -> None:
        """Let the node's lease end, as if it had not been renewed."""

    @abstractmethod
    async def state(self, task_id: str) -> TaskState | None: ...

    @abstractmethod
    async def checkpoint(self, task_id: str) -> str | None: ...

    @abstractmethod
    async def progress(self, node: str) -> Mapping[str, Mapping[str, Any]]: ...

    @abstractmethod
    async def close(self) -> None: ...
