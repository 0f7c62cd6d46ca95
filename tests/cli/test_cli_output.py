"""What the command line does with outputs that are closed, full, or not Unicode, and with texts that a terminal would
obey."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import re
import subprocess
import sys
from unittest import mock

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from terminal import on_terminal

from mpfora import AsyncClient
from mpfora.cli import printing, run
from mpfora.model.history import Run
from mpfora.model.state import State, TaskError, TaskState
from mpfora.store.history_records import format_history
from mpfora.store.state_records import format_state

MPFORA = f"{sys.executable} -m mpfora.cli"
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eä✓"
LISTINGS = ("tasks", "tasks --json", "task evil", "task evil --json", "history evil", "result done", "nodes", "node n1")


@pytest.fixture
def env(etcd: EtcdServer, namespace: str) -> dict[str, str]:
    return os.environ | {"MPFORA_ETCD": etcd.endpoint, "MPFORA_NAMESPACE": namespace, "TERM": "xterm"}


def shell(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", command.replace("mpfora", MPFORA)], capture_output=True, env=env, timeout=60, check=False
    )


async def fill(client: AsyncClient) -> None:
    """Every field of a stranger is hostile."""
    put, keys = client._etcd.put, client._layout
    error = TaskError(1.0, f"ValueError: {EVIL}\n{EVIL}", EVIL, EVIL)
    state = TaskState(State.FAILED, errors=(error,), cause=EVIL, node=EVIL, stack=f"{EVIL}\n{EVIL}", attempt=1)
    await put(keys.state("evil"), format_state(state))
    await put(keys.history("evil"), format_history((Run(EVIL, 1, 7, 1.0, 2.0, EVIL, EVIL, 1.0, 1),)))
    await put(keys.state("done"), format_state(TaskState(State.COMPLETED, result={EVIL: EVIL})))
    await client.submit("new", {"x": EVIL}, handler=EVIL)


def here(env: dict[str, str], encoding: str, command: str) -> tuple[int, str]:
    """In this process: the exit code, and what an output of this encoding gets."""
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with mock.patch.dict(os.environ, env), mock.patch.object(sys, "stdout", output):
        printing.open_streams()
        code = run(command.split())
        output.flush()
    return code, output.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


async def test_no_listing_fails_and_no_terminal_obeys(etcd: EtcdServer, namespace: str, env: dict[str, str]) -> None:
    labels, handlers = {EVIL: EVIL}, (EVIL,)
    async with (
        AsyncClient(etcd.endpoint, namespace) as client,
        fake_node(etcd.endpoint, namespace, host=EVIL, labels=labels, handlers=handlers, created=EVIL) as node,
    ):
        await fill(client)
        await client.submit("run", handler=EVIL)
        await node.own("run", note=EVIL, handler=EVIL)
        for encoding, listing in itertools.product(("utf-8", "ascii", "latin-1"), LISTINGS):
            code, text = await asyncio.to_thread(here, env, encoding, listing)
            assert code == 0, (encoding, listing)
            assert text
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), (encoding, listing)
            if "--json" in listing or listing.startswith("result"):
                json.loads(text)
            if listing.startswith("result"):
                assert json.loads(text) == {EVIL: EVIL}


async def test_a_terminal_gets_no_escapes_but_ours(etcd: EtcdServer, namespace: str, env: dict[str, str]) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        await fill(client)
        for listing in ("tasks", "task evil"):
            text = await asyncio.to_thread(on_terminal, [*MPFORA.split(), *listing.split()], env)
            rest = re.sub("\x1b\\[[0-9;]*m", "", text)
            assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", rest), listing


async def test_closed_outputs_are_no_errors(etcd: EtcdServer, namespace: str, env: dict[str, str]) -> None:
    """The work is done, and the exit code is that of the work."""
    commands = (
        ("submit t1 >&-", 0), ("submit t2 <&- >&- 2>&-", 0), ("submit t1 2>&-", 1), ("submit t1 2>/dev/full", 1),
        ("tasks >&-", 0), ("wait t1 --timeout 0.1 >&-", 124), ("--help >&-", 0),
    )  # fmt: skip
    async with AsyncClient(etcd.endpoint, namespace) as client:
        for command, code in commands:
            ended = await asyncio.to_thread(shell, f"mpfora {command}", env)
            assert ended.returncode == code, (command, ended.stderr)
            assert b"Traceback" not in ended.stderr, command
        assert [task.id for task in await client.tasks()] == ["t1", "t2"]


def test_an_output_that_takes_nothing_is_one_line(env: dict[str, str]) -> None:
    outputs = (
        ("nodes 1</dev/null", "Bad file descriptor"),
        ("--help >/dev/full", "No space left on device"),
    )
    for command, why in outputs:
        ended = shell(f"mpfora {command}", env)
        assert ended.returncode == 1
        assert ended.stderr == f"mpfora: standard output cannot be written: {why}\n".encode(), command
