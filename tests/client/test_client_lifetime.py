"""A Client that is closed, forked, abandoned, or used where it cannot be: every call ends, with a clear error."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from etcd_server import EtcdServer

from mpfora import AsyncClient, Client
from mpfora.client import NewTask
from mpfora.errors import ClientClosed, MpforaError

CALLS: dict[str, Callable[[Client], Any]] = {
    "ping": lambda client: client.ping(),
    "submit": lambda client: client.submit(f"t{time.monotonic_ns()}"),
    "submit_many": lambda client: client.submit_many([(f"m{time.monotonic_ns()}", None)]),
    "tasks": lambda client: client.tasks(),
    "wait": lambda client: client.wait("waited"),
    "wait for many": lambda client: client.wait([f"w{n}" for n in range(6)]),
}


@pytest.fixture
def client(etcd: EtcdServer, namespace: str) -> Iterator[Client]:
    with Client(etcd.endpoint, namespace) as client:
        yield client


def use_until_it_ends(name: str, client: Client, begun: threading.Barrier, ends: dict[str, type[Exception]]) -> None:
    begun.wait()
    try:
        while True:
            CALLS[name](client)
    except Exception as error:  # noqa: BLE001 - the test says which it must be
        ends[name] = type(error)


def test_closed_while_threads_use_it(etcd: EtcdServer, namespace: str) -> None:
    """Each thread gets ClientClosed, and none hangs."""
    for _ in range(15):
        client = Client(etcd.endpoint, namespace)
        client.submit_many((task_id, None) for task_id in ("waited", *(f"w{n}" for n in range(6))))
        ends: dict[str, type[Exception]] = {}
        begun = threading.Barrier(len(CALLS) + 1)
        threads = [
            threading.Thread(target=use_until_it_ends, args=(name, client, begun, ends), daemon=True) for name in CALLS
        ]
        for thread in threads:
            thread.start()
        begun.wait()
        client.ping()
        client.close()
        for thread in threads:
            thread.join(20)
        assert ends == dict.fromkeys(CALLS, ClientClosed)


def test_closed_by_several_at_once_and_again(etcd: EtcdServer, namespace: str) -> None:
    client = Client(etcd.endpoint, namespace)
    threads = [threading.Thread(target=client.close, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    client.close()
    for call in CALLS.values():
        with pytest.raises(ClientClosed):
            call(client)


def test_a_callback_that_uses_its_client_is_told_so(client: Client) -> None:
    client.submit("t1")
    told: list[str] = []

    def use(what: Callable[[], object]) -> None:
        with pytest.raises(MpforaError, match="its own thread") as raised:
            what()
        told.append(str(raised.value))

    def tasks() -> Iterator[NewTask]:
        use(client.tasks)
        yield NewTask("t1")

    client.submit_many(tasks(), on_existed=lambda error: use(lambda: client.delete("t1")))
    with pytest.raises(MpforaError):
        client.wait("t1", 2, on_held_up=lambda standings: use(client.close))
    assert len(told) == 3
    assert [task.id for task in client.tasks()] == ["t1"]  # the Client is as good as before


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_a_callback_raises_is_raised_by_the_call(client: Client, kind: type[BaseException]) -> None:
    client.submit("t1")

    def fail(error: object) -> None:
        raise kind("mine")

    with pytest.raises(kind, match="mine"):
        client.submit_many([("t1", None)], on_existed=fail)
    assert [task.id for task in client.tasks()] == ["t1"]


def test_a_forked_copy_says_so_and_does_no_harm(client: Client) -> None:
    client.submit("t1")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            client.close()
            client.tasks()
        except MpforaError as error:
            code = 0 if "forked" in str(error) and not isinstance(error, ClientClosed) else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert [task.id for task in client.tasks()] == ["t1"]


def test_a_client_that_is_forgotten_ends_its_thread(etcd: EtcdServer, namespace: str) -> None:
    def clients_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "mpfora-client"}

    before = clients_threads()
    clients = [Client(etcd.endpoint, namespace) for _ in range(5)]
    for client in clients:
        client.ping()
    theirs = clients_threads() - before
    assert len(theirs) == 5
    del client, clients
    gc.collect()
    for thread in theirs:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "end",
    [
        "",
        "threading.Thread(target=client.wait, args=('t1',), daemon=True).start(); time.sleep(0.1)",
        "client.close(); client.close()",
        "follower = client.follow(); next(follower)",
        "sys.exit(0)",
    ],
)
def test_the_interpreter_ends_with_an_open_client(etcd: EtcdServer, namespace: str, end: str) -> None:
    program = f"""
import sys, threading, time
from mpfora import Client
client = Client({etcd.endpoint!r}, {namespace!r})
client.submit("t1")
{end}
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


async def test_an_async_client_ends_its_calls_when_it_is_closed(etcd: EtcdServer, namespace: str) -> None:
    client = AsyncClient(etcd.endpoint, namespace)
    await client.submit_many((f"w{n}", None) for n in range(6))
    waits = [asyncio.create_task(client.wait([f"w{n}" for n in range(count)])) for count in (1, 6)]
    follower = client.follow(0.01)
    await anext(follower)
    await asyncio.sleep(0.1)
    await client.close()
    ends = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 20)
    assert [type(end) for end in ends] == [ClientClosed, ClientClosed]
    with pytest.raises(ClientClosed):
        await anext(follower)
    with pytest.raises(ClientClosed):
        await client.tasks()
    await client.close()


async def test_a_caller_that_is_cancelled_is_cancelled(etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        await client.submit("t1")
        waiting = asyncio.create_task(client.wait("t1"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.wait("t1")


def test_an_async_client_belongs_to_one_loop(etcd: EtcdServer, namespace: str) -> None:
    client = AsyncClient(etcd.endpoint, namespace)

    async def use_and_leave() -> None:
        await client.submit("t1")

    asyncio.run(use_and_leave())
    with pytest.raises(MpforaError, match="another event loop"):
        asyncio.run(use_and_leave())
