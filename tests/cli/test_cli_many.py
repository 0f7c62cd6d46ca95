"""Commands for many tasks: by state, all, thousands; and what is said of those that are waited for."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import sys
from collections.abc import Iterator
from unittest import mock

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from terminal import on_terminal

from mpfora import AsyncClient, Message
from mpfora.cli import progress, run
from mpfora.cli.progress import Progress
from mpfora.client import NewTask
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.questions.overview import Overviews
from mpfora.client.reading.cluster_reader import ClusterReader
from mpfora.client.tasks.wait_reports import Standing, counted_together
from mpfora.errors import BadValue, EtcdRefused, TaskNotFound
from mpfora.model.state import State, TaskState
from mpfora.store.state_records import format_state


@pytest.fixture
def env(etcd: EtcdServer, namespace: str) -> Iterator[dict[str, str]]:
    env = {"MPFORA_ETCD": etcd.endpoint, "MPFORA_NAMESPACE": namespace}
    with mock.patch.dict(os.environ, env):
        yield env


async def here(*words: str) -> int:
    return await asyncio.wait_for(asyncio.to_thread(run, words), 60)


async def test_thousands_are_deleted_at_once(
    etcd: EtcdServer, namespace: str, env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        await client.submit_many((f"t{n:05}", None) for n in range(3000))
        await client._etcd.put(client._layout.state("done"), format_state(TaskState(State.COMPLETED)))
        before = (await client._etcd.status()).revision
        assert await here("delete", "--all", "--yes") == 0
        assert capsys.readouterr().out == "deleted 3001\n"
        assert (await client._etcd.list(f"/{namespace}/", f"/{namespace}0")).kvs == ()
        assert (await client._etcd.status()).revision - before < 1000, "many go in one request"


async def test_a_selection_needs_a_word_of_its_own(
    etcd: EtcdServer, namespace: str, env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        await client.submit_many([("t1", None), ("t2", None)])
        for words in (["kill"], ["kill", "t1", "--all"], ["kill", "--all", "--state", "pending"]):
            assert await here(*words) == 2
        with mock.patch.object(sys, "stdin", io.StringIO()):
            assert await here("kill", "--state", "pending") == 1
        assert "mpfora: Kill 2 pending tasks? Nobody can answer here: give --yes" in capsys.readouterr().err
        assert await here("kill", "--state", "sleeping") == 0, "none is none"
        assert await here("pause", "--state", "pending", "--yes", "--no-wait") == 0
        assert capsys.readouterr().out == "kill: done for 0\npause: asked 2\n"


def test_on_a_terminal_it_asks_with_the_number(etcd: EtcdServer, namespace: str, env: dict[str, str]) -> None:
    async def fill() -> None:
        async with AsyncClient(etcd.endpoint, namespace) as client:
            await client.submit_many((f"t{n}", None) for n in range(3))

    asyncio.run(fill())
    for answer, asked, code in ((b"n\n", "Delete 3 tasks? [y/N]", 1), (b"y\n", "deleted 3", 0)):
        command = [sys.executable, "-m", "mpfora.cli", "delete", "--all"]
        text = on_terminal(command, os.environ | env, answer, code)
        assert asked in text


async def test_one_that_is_refused_does_not_hold_up_the_others(etcd: EtcdServer, namespace: str) -> None:
    done: list[str] = []
    async with AsyncClient(etcd.endpoint, namespace) as client, fake_node(etcd.endpoint, namespace) as node:
        for task_id in ("t1", "t2"):
            await client.submit(task_id)
            await node.own(task_id)
        results = await client.command_many(
            ["t1", "nope", "t2"], Message.pause(), on_done=lambda task_id, result: done.append(task_id)
        )
        assert list(results) == ["t1", "nope", "t2"]
        assert isinstance(results["nope"], TaskNotFound)
        assert [result.state for result in results.values() if isinstance(result, TaskInfo)] == ["paused", "paused"]
        assert sorted(done) == ["nope", "t1", "t2"]
        assert await client.command_many(["t1"], Message.run(), wait=False) == {"t1": None}
        assert await client.delete_many([]) == {}
        with pytest.raises(BadValue, match="wait"):
            await client.delete_many(["t1"], 5)  # type: ignore[arg-type]


async def test_very_many_are_commanded_without_a_question_about_each(
    etcd: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: object) -> None:
        raise AssertionError("a node is asked, or all is read")

    ids = [f"t{n}" for n in range(50)]
    async with AsyncClient(etcd.endpoint, namespace) as client, fake_node(etcd.endpoint, namespace):
        for task_id in ids:
            await client.submit(task_id)
        monkeypatch.setattr(Overviews, "ask", asked)
        monkeypatch.setattr(ClusterReader, "snapshot", asked)
        for message, state in ((Message.pause(), "paused"), (Message.release(), "paused"), (Message.kill(), "killed")):
            results = await client.command_many(ids, message)
            assert {result.state for result in results.values() if isinstance(result, TaskInfo)} == {state}
            assert list(results) == ids


async def test_a_full_etcd_lets_go_of_tasks(tmp_path: object, namespace: str) -> None:
    server = EtcdServer(tmp_path, ["--quota-backend-bytes", "3000000"])  # type: ignore[arg-type]
    try:
        async with AsyncClient(server.endpoint, namespace) as client:
            keys, put = client._layout, client._etcd.put
            for n in range(3):
                await put(keys.state(f"done{n}"), format_state(TaskState(State.COMPLETED, result=n, kept_until=9e9)))
                await put(keys.finished_until(9e9, f"done{n}"), "")
            await client.submit_many((f"t{n}", {"x": "x" * 1000}) for n in range(4))
            large = [NewTask(f"large{n}", {"x": "x" * 500_000}) for n in range(50)]
            with pytest.raises(EtcdRefused, match=r"is full.*mpfora purge.*compact, defrag and alarm disarm"):
                await client.submit_many(large, window=1)
            assert sorted((await client.purge(state="completed")).removed) == ["done0", "done1", "done2"]
            await client.delete("t0")
            assert await client.delete_many(["t1", "t2", "gone"]) == {"t1": True, "t2": True, "gone": mock.ANY}
            with pytest.raises(TaskNotFound):
                await client.delete("t0")
            left = {task.id for task in await client.tasks()}
            assert "t3" in left
            assert not left & {"t0", "t1", "t2", "done0", "done1", "done2"}
            assert (await client._etcd.list(keys.finished, keys.finished[:-1] + "0")).kvs == ()
            with pytest.raises(EtcdRefused, match="is full"):
                await client.command("t3", Message.pause())
    finally:
        server.kill()


# -- progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_said_more_and_more_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    shown = Progress(lambda: now[0])
    for step in range(8000):
        now[0] = step / 100
        shown.show(lambda: f"{now[0]:.1f}")
    lines = capsys.readouterr().err.split()
    times = [float(line) for line in lines if line != "mpfora:"]
    assert times[0] == progress.FIRST_S
    assert 5 <= len(times) <= 8, "in 80 s"
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)


def test_many_are_counted_by_how_they_stand() -> None:
    def some(count: int, how: str) -> list[Standing]:
        return [Standing(TaskInfo("t", "pending"), how, True)] * count

    many = [*some(2, "b"), *some(3000, "a"), *some(1, "c"), *some(1, "d"), *some(1, "e")]
    assert counted_together(many) == "3,000 a; 2 b; 1 c; 2 otherwise"


async def test_waiting_for_many_says_how_many(
    etcd: EtcdServer, namespace: str, env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        ids = [f"t{n}" for n in range(30)]
        await client.submit_many((task_id, None) for task_id in ids)
        with mock.patch.object(progress, "FIRST_S", 0.0):
            assert await here("wait", *ids, "--timeout", "2.5s") == 124
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("mpfora: waiting for 30 of 30: 30 pending: no node is live in this namespace: start")
    assert sum("waiting for" in line for line in lines) == 1
