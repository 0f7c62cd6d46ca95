"""Groups on the command line: shown, waited for, commanded and submitted again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest import mock

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from terminal import on_terminal

from mpfora import AsyncClient, Message
from mpfora.cli import run
from mpfora.model.state import State, TaskError, TaskState


@pytest.fixture
def env(etcd: EtcdServer, namespace: str) -> Iterator[dict[str, str]]:
    env = {"MPFORA_ETCD": etcd.endpoint, "MPFORA_NAMESPACE": namespace}
    with mock.patch.dict(os.environ, env):
        yield env


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str, env: dict[str, str]) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def here(*words: str) -> int:
    return await asyncio.wait_for(asyncio.to_thread(run, words), 60)


async def fail(client: AsyncClient, etcd: EtcdServer, namespace: str, task_id: str) -> None:
    """As a node does it, but for the props, which this client keeps."""
    async with fake_node(etcd.endpoint, namespace) as node:
        await node.own(task_id)
        props = await client._etcd.get(client._layout.props(task_id))
        assert props is not None
        errors = (TaskError(1.0, "boom", "raised"),)
        group = json.loads(props.value)["group"]
        state = TaskState(State.FAILED, errors=errors, cause="raised", group=group, props=props.value.decode())
        await node.finish(task_id, state)


async def test_a_group_is_shown(
    client: AsyncClient, etcd: EtcdServer, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.map("train", [None] * 3, group="g1", ids="t{n}")
    await fail(client, etcd, namespace, "t1")
    await client.submit("t9", {"group": "adhoc"})
    assert await here("group", "g1") == 0
    shown = capsys.readouterr().out
    for line in ("group:      g1", "tasks:      3", "progress:   33.3%", "states:     2 pending, 1 failed",
                 "failures:   1 raised", "waiting:    no node is live"):  # fmt: skip
        assert line in shown
    assert any(row.split()[:2] == ["t1", "raised"] and row.endswith("boom") for row in shown.splitlines())
    assert await here("group", "g1", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["group"], row["size"], row["counts"], row["failures"], row["missing"]) == (
        "g1", 3, {"pending": 2, "failed": 1}, {"raised": 1}, 0
    )  # fmt: skip
    assert await here("groups") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["GROUP", "TASKS", "PENDING", "FAILED"], ["adhoc", "1", "1", "-"], ["g1", "3", "2", "1"],
    ]  # fmt: skip
    assert await here("groups", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0] == {"group": "adhoc", "states": {"pending": 1}}
    assert await here("group", "none") == 1
    assert "group 'none': no task belongs to it" in capsys.readouterr().err


async def test_a_group_is_waited_for(client: AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    await client.map("train", [None] * 3, group="g1", ids="t{n}")
    for words in (["wait"], ["wait", "t1", "--group", "g1"], ["wait", "t1", "--progress"]):
        assert await here(*words) == 2
    assert await here("wait", "--group", "g1", "--timeout", "0.1", "--progress") == 124
    assert "not finished within 0.1 s: g1: 0% of 3 (3 pending)" in capsys.readouterr().err
    waiting = asyncio.create_task(here("wait", "--group", "g1", "--progress"))
    await client.command_many(["t0", "t1", "t2"], Message.kill())
    assert await waiting == 1
    assert capsys.readouterr().out == "g1: 100% of 3 (3 killed)\n"
    assert await here("group", "g1", "-w", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"killed": 3}


def test_a_bar_on_a_terminal_and_none_in_a_pipe(etcd: EtcdServer, namespace: str, env: dict[str, str]) -> None:
    async def fill() -> None:
        async with AsyncClient(etcd.endpoint, namespace) as client:
            await client.map("train", [None] * 3, group="g1", ids="t{n}")
            await client.command_many(["t0", "t1", "t2"], Message.kill())

    asyncio.run(fill())
    command = [sys.executable, "-m", "mpfora.cli", "wait", "--group", "g1", "--progress"]
    text = on_terminal(command, os.environ | env | {"TERM": "xterm"}, code=1)
    assert "━" in text
    assert "3 of 3" in text


async def test_verbs_are_for_a_group(client: AsyncClient, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    batch.write_text('{"id":"b0"}\n{"id":"b1","group":"other"}\n')
    assert await here("submit", "--batch", str(batch), "--group", "g1") == 0
    assert await here("submit", "b2", "--group", "g1", "--props", '{"n":1}') == 0
    assert await client.groups() == {"g1": {"pending": 2}, "other": {"pending": 1}}
    assert await here("pause", "--group", "g1", "--yes") == 0
    assert await client.groups() == {"g1": {"paused": 2}, "other": {"pending": 1}}
    for verb in ("run", "kill"):
        assert await here(verb, "--group", "g1", "--yes") == 0
    capsys.readouterr()
    assert await here("retry", "--group", "g1", "--yes") == 0
    assert capsys.readouterr().out == "submitted again 0\n", "what was killed is no failure"
    assert await here("retry", "--group", "g1", "--state", "killed", "--yes") == 0
    assert capsys.readouterr().out == "submitted again 2\n"
    assert (await client.details("b2")).props == {"n": 1, "group": "g1"}
    assert await here("retry", "b0") == 1
    assert "task 'b0' is not submitted again: it has not finished" in capsys.readouterr().err
    await client.map(None, [None], group="noted")
    assert await here("delete", "--group", "noted", "--yes") == 0
    assert await client._etcd.get(client._layout.group("noted")) is None
    assert await here("delete", "--group", "g1", "--yes") == 0
    assert await client.groups() == {"other": {"pending": 1}}
