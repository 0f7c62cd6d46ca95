"""A project as users have it: handlers that declare their props, checked by mypy --strict and pyright."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TypedDict

import mpfora
from mpfora import AsyncClient, Client, Context, Handler, Task


class Kind(Enum):
    DENSE = "dense"
    CONV = "conv"


@dataclass
class Layer:
    size: int
    kind: Kind = Kind.DENSE


@dataclass
class Job:
    customer: int
    layers: list[Layer] = field(default_factory=list)
    rate: float = 0.1
    since: datetime | None = None
    every: timedelta = timedelta(minutes=1)
    folder: Path = Path("/tmp")
    tags: frozenset[str] = frozenset()
    size: tuple[int, int] = (0, 0)


class Page(TypedDict):
    url: str


@mpfora.handler(props=Job, stop_timeout=5)
def train(task: Task[Job], ctx: Context) -> int:
    return task.config.customer


@mpfora.handler(props=Page)
async def fetch(task: Task[Page], ctx: Context) -> str:
    return task.config["url"]


@mpfora.handler(stop_timeout=5)
def plain(task: Task, ctx: Context) -> int:
    return int(task.props["n"])


@mpfora.handler(props=Job)
class Trainer(Handler):
    def run(self) -> bool:
        return bool(self.task.config.customer)

    def stop(self) -> None:
        pass


def submit(client: Client, jobs: Iterable[Job]) -> None:
    train.submit(client, "t1", Job(customer=17), group="g1")
    fetch.submit(client, "t2", {"url": "http://example.org"}, handler="fetch")
    client.submit("t3", {"n": 1}, "jobs:plain")
    group = client.map(train, jobs, group="g1", ids="t{n}")
    for result in group.results(timeout="10m"):
        print(result)
    for task in group:
        print(task.id, task.state, task.result)
    client.map("plain", [{"n": 1}, None], group="g2")


async def submit_async(client: AsyncClient, jobs: list[Job]) -> int:
    await train.submit(client, "t1", Job(customer=17), replace=True)
    group = await client.map(train, jobs, group="g1")
    async for task in group:
        print(task.id)
    async for result in group.results():
        print(result)
    return len(group)
