"""The `mpfora` command as people run it: real processes, a real etcd, and nodes that are faked by their keys."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from authorities import make_authority
from etcd_server import EtcdServer
from fake_node import fake_node
from terminal import on_terminal

from mpfora import AsyncClient, Message
from mpfora.cli import render, run
from mpfora.client.info.task_info import TaskInfo
from mpfora.config.etcd_location import Where, parse_endpoints
from mpfora.config.settings import SettingsError
from mpfora.embedded.choice import etcd_settings
from mpfora.errors import UnreadableState
from mpfora.model.history import Run
from mpfora.model.state import State, TaskError, TaskState
from mpfora.model.units import format_age
from mpfora.store.claim_records import format_owner
from mpfora.store.history_records import format_history
from mpfora.store.kv import prefix_end
from mpfora.store.state_records import format_state

MPFORA = [sys.executable, "-m", "mpfora.cli"]
TASK_FIELDS = [
    "id", "state", "node", "handler", "progress", "note", "attempt", "fence", "started", "until", "errors", "result",
    "cause", "stack", "ended", "reason", "history", "kept_until", "group", "cpu", "cpu_s", "rss", "needs", "given",
    "priority",
]  # fmt: skip
NODE_FIELDS = [
    "name", "host", "pid", "tasks", "capacity", "frozen", "draining", "labels", "started", "handlers", "share", "why",
    "cost", "cost_share", "balancer", "cgroups", "counts", "trouble", "active", "code", "has", "free", "reserves",
]  # fmt: skip


@pytest.fixture
def endpoint(etcd: EtcdServer) -> str:
    return etcd.endpoint


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Cli:
    """Runs the command in the test's namespace: as a process, or (what is many times faster) in this one."""

    def __init__(self, endpoint: str, namespace: str) -> None:
        self.env = os.environ | {"MPFORA_ETCD": endpoint, "MPFORA_NAMESPACE": namespace}
        self.client = AsyncClient(endpoint, namespace)

    async def __call__(self, *words: str, stdin: str = "") -> Ended:
        process = await asyncio.create_subprocess_exec(
            *MPFORA, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Ended(process.returncode, out.decode(), err.decode())

    async def here(self, *words: str) -> Ended:
        """In this process, in a thread."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, self.env), redirect_stdout(out), redirect_stderr(err):
            code = await asyncio.wait_for(asyncio.to_thread(run, words), 30)
        return Ended(code, out.getvalue(), err.getvalue())

    async def ok(self, *words: str, stdin: str = "") -> str:
        """The text that the command prints, run as a process."""
        ended = await self(*words, stdin=stdin)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended.out

    async def ok_here(self, *words: str) -> str:
        ended = await self.here(*words)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended.out

    async def fails(self, code: int, *words: str) -> str:
        """The one line on standard error with which the command fails."""
        ended = await self.here(*words)
        assert ended.code == code, ended
        assert ended.err.startswith("mpfora: ")
        assert ended.err.count("\n") == 1, ended.err
        return ended.err.strip()


@pytest.fixture
def cli(endpoint: str, namespace: str) -> Cli:
    return Cli(endpoint, namespace)


def on_a_terminal(cli: Cli, *words: str, answer: bytes = b"", code: int = 0) -> str:
    return on_terminal([*MPFORA, *words], cli.env | {"TERM": "xterm"}, answer, code)


def parsed(text: str) -> list[dict[str, Any]]:
    rows = json.loads(text)
    assert isinstance(rows, list)
    return rows


# -- submit -----------------------------------------------------------------------------------------------------------


async def test_submit_and_its_errors(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "props.json").write_text('{"below": 7}\n')
    assert await cli.ok("submit", "p1", "--props", '{"below":5}', "--handler", "primes:count") == "submitted p1\n"
    assert await cli.ok("submit", "p2", "--props", f"@{tmp_path}/props.json") == "submitted p2\n"
    kvs = {kv.key: kv.value for kv in (await cli.client._etcd.list(*cli.client._layout.watched)).kvs}
    assert kvs[cli.client._layout.props("p1")] == b'{"below":5,"handler":"primes:count"}'
    assert kvs[cli.client._layout.props("p2")] == b'{"below":7}'
    line = await cli.fails(1, "submit", "p1")
    assert line == "mpfora: task 'p1': a task of this id exists already; use another id, or delete it first"
    assert "task id 'a/b': use 1 to 128" in await cli.fails(2, "submit", "a/b")
    assert "'--props': props is not JSON" in await cli.fails(2, "submit", "p3", "--props", "{")
    assert "'--props': props must be a JSON object" in await cli.fails(2, "submit", "p3", "--props", "[1]")
    assert "/no/file: No such file" in await cli.fails(2, "submit", "p3", "--props", "@/no/file")
    assert "give an ID or --batch FILE; see mpfora submit --help" in await cli.fails(2, "submit")


async def test_a_finished_task_is_replaced_when_it_is_said(cli: Cli, tmp_path: Path) -> None:
    for task_id in ("p1", "p2"):
        await cli.client._etcd.put(cli.client._layout.state(task_id), format_state(TaskState(State.COMPLETED)))
    assert await cli.fails(1, "submit", "p1") == (
        "mpfora: task 'p1': the state of a finished task of this id exists already;"
        " replace it (mpfora submit --replace, or replace=True), or use another id"
    )
    assert await cli.ok_here("submit", "p1", "--replace") == "submitted p1\n"
    assert "never replaced" in await cli.fails(1, "submit", "p1", "--replace")
    (tmp_path / "tasks").write_text('{"id":"p2"}\n')
    assert await cli.ok_here("submit", "--batch", str(tmp_path / "tasks"), "--replace") == "submitted 1\n"


async def test_purge_asks_only_where_nothing_limits_it(cli: Cli) -> None:
    async def finish(*task_ids: str, state: State = State.COMPLETED) -> None:
        for task_id in task_ids:
            await cli.client._etcd.put(cli.client._layout.state(task_id), format_state(TaskState(state, ended=10.0)))

    await finish("a", "b", "c")
    await finish("d", state=State.FAILED)
    nobody = await cli("purge", stdin="y\n")
    question = "Remove what is kept of all finished tasks?"
    assert (nobody.code, nobody.err) == (1, f"mpfora: {question} Nobody can answer here: give --all\n")
    assert question in on_a_terminal(cli, "purge", answer=b"n\n", code=1)
    assert await cli.ok_here("purge", "a") == "purged 1\n"
    assert await cli.ok_here("purge", "--state", "failed", "--older-than", "1d") == "purged 1\n"
    refused = await cli.here("purge", "b", "a")
    assert (refused.code, refused.out) == (1, "purged 1\n")
    assert refused.err == "mpfora: task 'a': not purged: there is no such task, and no state is kept of one\n"
    assert "purged 1" in on_a_terminal(cli, "purge", answer=b"y\n")
    assert await cli.ok_here("purge", "--all") == "purged 0\n"
    assert "--all means all finished tasks" in await cli.fails(2, "purge", "--all", "a")


async def test_a_batch_reports_bad_lines_by_number_and_submits_the_others(cli: Cli, tmp_path: Path) -> None:
    lines = [
        '{"id":"a","props":{"n":1},"handler":"h"}',
        "",
        '{"id":"a"}',
        "nonsense",
        '{"id":"b","prop":{}}',
        '{"props":{}}',
        '{"id":"x/y"}',
        '{"id":"c","props":[1]}',
        '{"id":"d"}',
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(lines))
    ended = await cli("submit", "--batch", str(path), "--handler", "other")
    assert (ended.code, ended.out) == (1, "submitted 2, 6 refused\n")
    said = dict(re.findall(r"^mpfora: .*tasks.jsonl, line (\d+): (.*)$", ended.err, re.MULTILINE))
    assert sorted(said) == ["3", "4", "5", "6", "7", "8"]
    assert "exists already" in said["3"]
    assert "not JSON" in said["4"]
    assert 'unknown field "prop"' in said["5"]
    assert 'needs a text as "id"' in said["6"]
    assert "task id 'x/y'" in said["7"]
    assert "props must be a JSON object" in said["8"]
    assert [(t.id, t.handler) for t in await cli.client.tasks()] == [("a", "h"), ("d", "other")]


async def test_a_batch_of_thousands_from_standard_input(cli: Cli) -> None:
    text = "".join(f'{{"id":"t{n}","props":{{"n":{n}}}}}\n' for n in range(3000))
    assert await cli.ok("submit", "--batch", "-", stdin=text) == "submitted 3000\n"
    assert len(parsed(await cli.ok_here("tasks", "--json"))) == 3000
    ended = await cli("submit", "--batch", "-", stdin='{"id":"t5"}\n')
    assert ended.code == 1
    assert "standard input, line 1: task 't5'" in ended.err


# -- listings ---------------------------------------------------------------------------------------------------------


async def test_listings_in_a_pipe_and_as_json(cli: Cli, endpoint: str, namespace: str) -> None:
    assert parsed(await cli.ok_here("tasks", "--json")) == []
    assert parsed(await cli.ok_here("nodes", "--json")) == []
    note = "a note " * 20
    async with fake_node(endpoint, namespace, labels={"zone": "a"}, handlers=("h",)) as node:
        for task_id in ("p1", "p2"):
            await cli.client.submit(task_id, handler="primes:count")
        fence = await node.own("p1", progress=0.42, note=note, attempt=1, started=1000.0)
        await cli.client._etcd.put(node.layout.state("done"), format_state(TaskState(State.COMPLETED, result=[1])))
        rows = parsed(await cli.ok("tasks", "--json"))
        assert [row["id"] for row in rows] == ["done", "p1", "p2"]
        assert all(list(row) == TASK_FIELDS for row in rows)
        assert rows[1] | {"note": ""} == {
            "id": "p1", "state": "runnable", "node": "n1", "handler": "primes:count", "progress": 0.42, "note": "",
            "attempt": 1, "fence": fence, "started": "1970-01-01T00:16:40Z", "until": None, "errors": [],
            "result": None, "cause": None, "stack": None, "ended": None, "reason": None, "history": None,
            "kept_until": None, "group": None, "cpu": None, "cpu_s": None, "rss": None, "needs": None, "given": None,
            "priority": 0,
        }  # fmt: skip
        assert parsed(await cli.ok_here("task", "p1", "--json")) == [rows[1] | {"history": []}]
        assert [row["id"] for row in parsed(await cli.ok_here("tasks", "--state", "pending", "--json"))] == ["p2"]
        lines = (await cli.ok("tasks")).splitlines()
        assert lines[0].split() == ["ID", "STATE", "NODE", "HANDLER", "PROGRESS", "ATTEMPT", "SINCE", "DETAIL"]
        assert re.match(rf"p1 +runnable +n1 +primes:count +42% +1 +\d+d\d\dh +{note.strip()}$", lines[2])
        why = "no live node has its handler 'primes:count': there are h (n1);"
        why += " start a node with it, or submit the task under another name"
        assert re.match(rf"p2 +pending +- +primes:count +- +- +- +{re.escape(why)}$", lines[3])
        (member,) = parsed(await cli.ok_here("nodes", "--json"))
        assert list(member) == NODE_FIELDS
        assert (member["name"], member["tasks"], member["labels"], member["capacity"]) == ("n1", 1, {"zone": "a"}, 4)
        assert re.search(
            r"^n1 +live +1 +1 +4 +1 +h1 +4711 +2026-11-24T10:00:00Z +zone=a +h$", await cli.ok("nodes"), re.M
        )
    assert "'nope': there is no such task" in await cli.fails(1, "task", "nope")


async def test_a_task_is_shown_with_its_errors_and_its_stack(cli: Cli) -> None:
    error = TaskError(at=12.0, text="no sign of progress", cause="stalled", stack="Thread 0x1\n  File x.py, line 3")
    state = TaskState(State.FAILED, errors=(error,), attempt=8, cause="stalled", node="n2")
    await cli.client._etcd.put(cli.client._layout.state("p1"), format_state(state))
    shown = await cli.ok("task", "p1")
    assert re.search(r"^state: +failed$", shown, re.M)
    assert re.search(r"^error: +1970-01-01T00:00:12Z \(stalled\) no sign of progress$", shown, re.M)
    assert shown.endswith("stack:\n  Thread 0x1\n    File x.py, line 3\n")


async def test_a_task_says_why_it_is_pending_and_shows_its_runs(cli: Cli) -> None:
    await cli.client.submit("p1")
    runs = (
        Run("n1", 1, 7, 10.0, 75.5, "raised", "ValueError: no\nmore", 90.25, 3 * 2**20),
        Run("n2", 2, 9, 100.0, 101.0, "completed"),
    )
    await cli.client._etcd.put(cli.client._layout.history("p1"), format_history(runs))
    shown = (await cli.ok_here("task", "p1")).splitlines()
    assert shown[:3] == [
        "id:         p1",
        "state:      pending",
        "reason:     no node is live in this namespace: start one, or look at --namespace and --etcd",
    ]
    assert shown[-3:] == [
        "  ATTEMPT  NODE  STARTED               FOR    CPU    MEMORY   CAUSE      ERROR",
        "  1        n1    1970-01-01T00:00:10Z  1m05s  1m30s  3.0 MiB  raised     ValueError: no more",
        "  2        n2    1970-01-01T00:01:40Z  1.00s  -      -        completed  -",
    ]
    assert (await cli.ok_here("history", "p1")).splitlines() == [line[2:] for line in shown[-3:]]
    rows = parsed(await cli.ok_here("history", "p1", "--json"))
    assert [(row["attempt"], row["cause"]) for row in rows] == [(1, "raised"), (2, "completed")]
    assert parsed(await cli.ok_here("task", "p1", "--json"))[0]["history"] == rows
    assert "'nope'" in await cli.fails(1, "history", "nope")


async def test_an_error_of_several_lines_is_shown_below_its_name(cli: Cli) -> None:
    error = TaskError(at=12.0, text="ValueError: no\nTraceback:\n  line 3\n", cause="raised")
    state = TaskState(State.FAILED, errors=(error,), attempt=1)
    await cli.client._etcd.put(cli.client._layout.state("p1"), format_state(state))
    shown = await cli.ok_here("task", "p1")
    assert shown.endswith(
        "error:      1970-01-01T00:00:12Z (raised) ValueError: no\n            Traceback:\n              line 3\n"
    )


async def test_a_result_is_printed_as_json(cli: Cli) -> None:
    keys, put = cli.client._layout, cli.client._etcd.put
    await put(keys.state("done"), format_state(TaskState(State.COMPLETED, result={"name": "é", "found": [1, None]})))
    await put(keys.state("none"), format_state(TaskState(State.COMPLETED)))
    await put(keys.state("bad"), format_state(TaskState(State.FAILED, errors=(TaskError(1.0, "ValueError: no\nx"),))))
    await cli.client.submit("new")
    assert await cli.ok("result", "done") == '{"name": "é", "found": [1, null]}\n'
    assert await cli.ok_here("result", "none") == "null\n"
    assert (
        await cli.fails(1, "result", "bad") == "mpfora: task 'bad' has no result: its state is failed: ValueError: no"
    )
    assert await cli.fails(1, "result", "new") == "mpfora: task 'new' has no result: its state is pending"
    assert "'nope'" in await cli.fails(1, "result", "nope")


async def test_settings_that_cannot_be_meant_are_refused_at_submit(cli: Cli) -> None:
    line = await cli.fails(2, "submit", "p1", "--props", '{"stop_timeout":"soon"}')
    assert line.startswith("mpfora: task 'p1': props.stop_timeout: 'soon' is not a duration")
    for wrong, shown in ((3, "3"), ("", "''"), (["a"], "['a']")):
        line = await cli.fails(2, "submit", "p1", "--props", json.dumps({"handler": wrong}))
        assert line == f"mpfora: task 'p1': props.handler: {shown}: write a handler's name, or leave it out"


async def test_every_command_has_a_help_that_fits(cli: Cli) -> None:
    listing = await cli.ok_here("--help")
    assert "..." not in listing.split("Commands:")[1]
    assert max(map(len, listing.splitlines())) <= 80
    names = re.findall(r"^  ([a-z]+) ", listing.split("Commands:")[1].split("Exit codes")[0], re.M)
    assert {"submit", "tasks", "task", "result", "history", "wait", "delete", "purge", "nodes", "node"} <= set(names)
    for name in names:
        if name != "demo":  # it has options of its own
            assert (await cli.ok_here(name, "--help")).startswith(f"Usage: mpfora {name} ")


def test_a_terminal_gets_a_table(cli: Cli) -> None:
    asyncio.run(cli.client.submit("p1" + "x" * 60))
    text = on_a_terminal(cli, "tasks")
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    header, row = (line.rstrip() for line in plain.splitlines())
    assert header.split() == ["ID", "STATE", "DETAIL"]  # columns without a value are left out
    assert row.split()[:2] == ["p1" + "x" * 60, "pending"]
    assert row.endswith("…")  # what is too long is cut at the end, and not the id


def test_on_a_terminal_an_empty_listing_says_where_it_looked(cli: Cli, namespace: str) -> None:
    assert f"mpfora: there is no task that matches state:failed in namespace '{namespace}'" in on_a_terminal(
        cli, "tasks", "--state", "failed"
    )
    assert f"mpfora: no node is live in namespace '{namespace}'" in on_a_terminal(cli, "nodes")


async def test_an_empty_etcd_option_is_refused_and_starts_no_other_etcd(cli: Cli) -> None:
    for empty in ("", " ", ","):
        line = await cli.fails(2, "--etcd", empty, "tasks")
        assert line == "mpfora: --etcd: it is empty: write HOST:PORT, or leave it out for an embedded etcd"


async def test_stop_task_of_a_finished_task_says_that_it_has_finished(cli: Cli, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        await cli.client._etcd.put(node.layout.state("done"), format_state(TaskState(State.COMPLETED)))
        line = await cli.fails(1, "node", "n1", "stop-task", "done")
        assert line == "mpfora: task 'done': it has finished (completed): too late for stop_task"
        line = await cli.fails(2, "node", "n1", "halt")
        assert line.startswith("mpfora: Invalid value for 'ACTION': 'halt' is not one of")


def test_a_reader_that_has_enough_is_no_error(cli: Cli, endpoint: str, namespace: str) -> None:
    async def fill() -> None:
        async with AsyncClient(endpoint, namespace) as client:
            await client.submit_many((f"task-{n:05}", None) for n in range(3000))

    asyncio.run(fill())
    listing = subprocess.Popen([*MPFORA, "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.env)
    assert listing.stdout is not None
    listing.stdout.read(10)
    listing.stdout.close()
    assert listing.stderr is not None
    assert listing.stderr.read() == b""
    assert listing.wait(20) == 141
    listing.stderr.close()


def test_ages_and_details() -> None:
    ages = [format_age(seconds) for seconds in (-1, 5.9, 65, 3 * 3600 + 61, 100 * 3600)]
    assert ages == ["0s", "5s", "1m05s", "3h01m", "4d04h"]


def test_the_detail_of_a_failed_task_is_what_went_wrong_and_not_that_its_policy_gave_up() -> None:
    errors = (TaskError(1.0, "ValueError: no", "raised"), TaskError(1.0, "exceeded error rate: 1 errors within 60 s"))
    assert render.detail(TaskInfo("t", "failed", errors=errors)) == "ValueError: no"
    traced = TaskError(1.0, "ValueError: no\nTraceback (most recent call last):\n  line 3\nValueError: no", "raised")
    assert render.detail(TaskInfo("t", "failed", errors=(traced,))) == "ValueError: no"
    assert render.detail(TaskInfo("t", "failed", errors=errors[1:])) == errors[1].text


# -- wait, delete, messages -------------------------------------------------------------------------------------------


async def test_wait_and_its_exit_codes(cli: Cli, endpoint: str, namespace: str) -> None:
    for task_id in ("good", "bad", "slow"):
        await cli.client.submit(task_id)
    async with fake_node(endpoint, namespace) as node:
        waiting = asyncio.create_task(cli("wait", "good", "bad"))
        await node.finish("bad", TaskState(State.FAILED, errors=(TaskError(1.0, "RuntimeError: no"),)))
        await node.finish("good", TaskState(State.COMPLETED, result={"found": 4}))
        ended = await waiting
        assert (ended.code, ended.out) == (1, 'good completed {"found": 4}\nbad failed RuntimeError: no\n')
        assert await cli.ok_here("wait", "good", "--timeout", "20s") == 'good completed {"found": 4}\n'
        assert await cli.fails(124, "wait", "good", "slow", "--timeout", "0.1") == (
            "mpfora: not finished within 0.1 s: slow: pending: no live node says which handlers it has, as Go nodes do"
            " not: n1. These claim what they find: see their logs, or start a node of mpfora"
        )
        assert "'nope'" in await cli.fails(1, "wait", "nope")
        assert "'x' is not a duration" in await cli.fails(2, "wait", "slow", "--timeout", "x")


async def test_wait_says_what_it_waits_for(cli: Cli, endpoint: str, namespace: str) -> None:
    await cli.client.submit("p1")
    await cli.client.submit("p2")
    process = await asyncio.create_subprocess_exec(
        *MPFORA, "wait", "p1", "p2", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.env
    )
    assert process.stderr is not None
    assert await asyncio.wait_for(process.stderr.readline(), 20) == (
        b"mpfora: waiting for p1, p2: pending: no node is live in this namespace: start one, or look at"
        b" --namespace and --etcd\n"
    )
    async with fake_node(endpoint, namespace) as node:
        for task_id in ("p1", "p2"):
            await node.own(task_id)
        assert await asyncio.wait_for(process.stderr.readline(), 20) == (
            b"mpfora: waiting for p1, p2: node n1 has it\n"
        )
        for task_id in ("p1", "p2"):
            await node.finish(task_id, TaskState(State.COMPLETED))
        out, err = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, out, err) == (0, b"p1 completed\np2 completed\n", b"")


async def test_delete(cli: Cli, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        for task_id in ("p1", "p2", "p3"):
            await cli.client.submit(task_id)
        await node.own("p1")
        ended = await cli("delete", "p1", "nope", "p2")
        assert (ended.code, ended.out) == (1, "deleted p1\ndeleted p2\n")
        assert ended.err == "mpfora: task 'nope': there is no such task, and no state is kept of one\n"
        assert node.rows == {}
        node.obeys = False
        await node.own("p3")
        told = await cli.fails(124, "delete", "p3", "--timeout", "0.1")
        assert "task 'p3' is being deleted on n1: its node has not answered within 0.1 s" in told
        assert "being deleted on n1: its node has not answered yet" in await cli.fails(1, "submit", "p3", "--replace")
        await cli.client.submit("p4")
        await node.own("p4")
        assert await cli.ok_here("delete", "p4", "--no-wait") == "asked the node of p4 to delete it\n"


async def test_messages_are_waited_for(cli: Cli, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        await cli.client.submit("p1")
        await node.own("p1")
        assert await cli.ok("pause", "p1") == "p1 paused\n"
        assert await cli.ok("run", "p1") == "p1 runnable\n"
        assert await cli.ok("checkpoint", "p1") == "p1 runnable\n"
        assert (await cli.ok("release", "p1")).startswith("p1 pending ")
        await node.own("p1")
        assert await cli.ok("sleep", "p1", "--until", "2096-01-01T00:00:00Z") == (
            "p1 sleeping until 2096-01-01T00:00:00Z\n"
        )
        assert re.fullmatch(r"p1 sleeping until \S+Z\n", await cli.ok_here("sleep", "p1", "--for", "10m"))
        assert await cli.ok("kill", "p1") == "p1 killed\n"
        assert "task 'p1': it has finished (killed): too late for pause" in await cli.fails(1, "pause", "p1")
        assert "task 'p2': there is no such task" in await cli.fails(1, "pause", "p2")


async def test_a_command_that_a_task_takes_in_one_state_alone(cli: Cli, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        await cli.client.submit("p1")
        await node.own("p1")
        await cli.ok_here("pause", "p1")
        assert await cli.fails(1, "complete", "p1") == "mpfora: task 'p1': a paused task takes no complete"
        await cli.ok_here("run", "p1")
        assert await cli.ok_here("complete", "p1") == "p1 completed\n"


async def test_a_state_that_cannot_be_read_is_written_over_by_no_command(cli: Cli) -> None:
    layout, etcd = cli.client._layout, cli.client._etcd
    await cli.client.submit("p1")
    await etcd.put(layout.state("p1"), "{")
    for words in (["pause"], ["run"], ["kill"], ["checkpoint"], ["sleep", "--for", "1h"]):
        told = await cli.fails(1, *words, "p1")
        assert f"and {words[0]} would write over it: mend what stands at {layout.state('p1')} in etcd" in told
        assert "or delete the task (mpfora delete p1)" in told
    assert await etcd.get(layout.commands("p1")) is None
    assert await cli.ok_here("release", "p1", "--no-wait") == "asked p1 to release\n"
    assert "delete the task" in await cli.ok_here("task", "p1")
    assert await cli.ok_here("delete", "p1") == "deleted p1\n"
    assert (await etcd.list(layout.root, prefix_end(layout.root))).kvs == ()


async def test_a_state_is_looked_at_anew_when_it_changes_while_a_command_is_written(cli: Cli) -> None:
    layout, etcd = cli.client._layout, cli.client._etcd
    await cli.client.submit("p1")
    txn, numbers = etcd.txn, itertools.count(1)

    async def meddling(*args: Any, **more: Any) -> Any:
        if next(numbers) == 2:
            await etcd.put(layout.state("p1"), "{")
        return await txn(*args, **more)

    with mock.patch.object(etcd, "txn", meddling), pytest.raises(UnreadableState):
        await cli.client.command("p1", Message.pause())
    assert await etcd.get(layout.commands("p1")) is None


async def test_messages_that_nobody_carries_out(cli: Cli) -> None:
    await cli.client.submit("p1")
    await cli.client._etcd.put(cli.client._layout.owner("p1"), format_owner("n1"))
    assert "pause not carried out within 0.1 s: it is runnable, node n1 owns it" in (
        await cli.fails(124, "pause", "p1", "--timeout", "0.1")
    )
    assert await cli.ok_here("kill", "p1", "--no-wait") == "asked p1 to kill\n"
    written = await cli.client._etcd.get(cli.client._layout.commands("p1"))
    assert written is not None
    assert json.loads(written.value)["message"] == "kill"
    assert "give --until TIME or --for S" in await cli.fails(2, "sleep", "p1")
    assert "'tomorrow' is not an RFC 3339 time" in await cli.fails(2, "sleep", "p1", "--until", "tomorrow")


async def test_balance_says_what_would_move_and_why(cli: Cli, endpoint: str, namespace: str) -> None:
    async with (
        fake_node(endpoint, namespace, handlers=("h",)) as n1,
        fake_node(endpoint, namespace, "n2", handlers=("h",)),
        fake_node(endpoint, namespace, "n3", handlers=("h",), frozen=True),
    ):
        assert await cli.ok_here("balance", "--dry-run") == "nothing would move\n"
        for task_id in ("a", "b", "c"):
            await cli.client.submit(task_id, handler="h")
            await n1.own(task_id)
        why = "n1 holds 3, its share is 2; n2 holds 0, its share is 1"
        assert await cli.ok_here("balance", "--dry-run") == f"n1 -> n2: 1 task of h: {why}\n"
        (move,) = parsed(await cli.ok_here("balance", "--dry-run", "--json"))
        assert (move["source"], move["target"], move["count"], move["handler"]) == ("n1", "n2", 1, "h")
        rows = parsed(await cli.ok_here("nodes", "--json"))
        assert [(row["share"], row["why"]) for row in rows] == [(2, ""), (1, ""), (None, "frozen")]
        await cli.ok_here("balance")
        await asyncio.wait_for(n1.commanded.wait(), 20)
        assert [verb for verb, _ in n1.commands] == ["balance"]


async def test_what_a_balancer_of_one_s_own_would_move_is_not_guessed(cli: Cli, endpoint: str, namespace: str) -> None:
    async with (
        fake_node(endpoint, namespace, handlers=("h",), balancer="resource") as n1,
        fake_node(endpoint, namespace, "n2", handlers=("h",), balancer="fair"),
    ):
        for task_id in ("a", "b", "c"):
            await cli.client.submit(task_id, handler="h")
            await n1.own(task_id)
        ended = await cli("balance", "--dry-run")
        assert (ended.code, ended.out) == (0, "nothing else is known to move\n")
        assert ended.err == "n1 has the balancer resource: nobody else can tell what it would move\n"
        rows = parsed(await cli.ok_here("nodes", "--json"))
        assert [(row["balancer"], row["share"]) for row in rows] == [("resource", None), ("fair", 1)]
        assert "BALANCER" in await cli.ok_here("nodes")


async def test_one_node(cli: Cli, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace, handlers=("h",), labels={"zone": "a"}, capacity=4, balancer="fair"):
        (row,) = parsed(await cli.ok_here("node", "n1", "--json"))
        assert list(row) == NODE_FIELDS
        assert [row] == parsed(await cli.ok_here("nodes", "--json"))
        lines = dict(re.split(r": +", line, maxsplit=1) for line in (await cli.ok_here("node", "n1")).splitlines())
        assert lines["name"] == "n1"
        assert (lines["capacity"], lines["status"], lines["balancer"], lines["labels"]) == (
            "4",
            "live",
            "fair",
            "zone=a",
        )
        assert "node 'n9': no such node is live (there are: n1)" in await cli.fails(1, "node", "n9")
        assert "--json is for the node's record" in await cli.fails(2, "node", "n1", "freeze", "--json")


async def test_node_actions(cli: Cli, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        for action in ("freeze", "unfreeze", "balance", "drain", "undrain"):
            assert await cli.ok_here("node", "n1", action) == f"done: n1 {action}\n"
        assert "task 'p1': there is no such task" in await cli.fails(1, "node", "n1", "stop-task", "p1")
        await cli.ok_here("submit", "p1")
        assert "task 'p1' is not on node 'n1': no node has it" in await cli.fails(1, "node", "n1", "stop-task", "p1")
        await node.own("p1")
        assert await cli.ok("node", "n1", "stop-task", "p1") == "done: n1 stop-task p1\n"
        verbs = [verb for verb, _ in node.commands]
        assert verbs == ["freeze", "unfreeze", "balance", "drain", "undrain", "stop_task"]
        assert node.commands[-1] == ("stop_task", {"task": "p1"})
        assert "stop-task needs the task's ID" in await cli.fails(2, "node", "n1", "stop-task")
        assert "freeze takes no task ID" in await cli.fails(2, "node", "n1", "freeze", "p1")
        assert "'melt' is not one of 'freeze'" in await cli.fails(2, "node", "n1", "melt")
        assert "node 'n9': no such node is live (there are: n1)" in await cli.fails(1, "node", "n9", "freeze")
        node.obeys = False
        assert await cli.ok_here("node", "n1", "freeze", "--no-wait") == "asked n1 freeze\n"
        assert "has not taken freeze" in await cli.fails(124, "node", "n1", "freeze", "--timeout", "0.1")


# -- etcd, options, help ----------------------------------------------------------------------------------------------


async def test_an_etcd_that_does_not_answer_is_named(cli: Cli) -> None:
    ended = await cli("--etcd", "127.0.0.1:1,127.0.0.1:2", "tasks")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("mpfora: etcd at 127.0.0.1:1,127.0.0.1:2 does not answer")
    assert ended.err.count("\n") == 1


async def test_options_in_the_wrong_place_or_wrong(cli: Cli, tmp_path: Path) -> None:
    assert "write it before the command, as in `mpfora --etcd ... tasks`" in await cli.fails(2, "tasks", "--etcd", "x")
    assert "--etcd: 'http//x': write HOST:PORT" in await cli.fails(2, "--etcd", "http//x", "tasks")
    assert "--namespace: must not be empty" in await cli.fails(2, "--namespace", "/", "tasks")
    assert "--etcd-cacert: /no/file: there is no such file" in await cli.fails(2, "--etcd-cacert", "/no/file", "tasks")
    assert "put the password of 'ann' into MPFORA_ETCD_PASSWORD" in await cli.fails(2, "--etcd-user", "ann", "tasks")
    assert "No such command 'taskz'" in await cli.fails(2, "taskz")


async def test_the_embedded_etcd_is_used_where_none_is_named(tmp_path: Path, cli: Cli) -> None:
    del cli.env["MPFORA_ETCD"]
    cli.env |= {"MPFORA_DATA_DIR": str(tmp_path / "data"), "MPFORA_ETCD_LINGER": "0.3"}
    foreground = await asyncio.create_subprocess_exec(
        *MPFORA, "etcd", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cli.env
    )
    assert foreground.stdout is not None
    endpoint = (await asyncio.wait_for(foreground.stdout.readline(), 30)).decode().strip()
    assert endpoint == f"unix:{tmp_path}/data/etcd.sock"
    ended = await cli("submit", "p1")
    assert (ended.code, ended.out) == (0, "submitted p1\n")
    assert ended.err == (f"mpfora: no --etcd given: joined the embedded etcd at {endpoint} (data in {tmp_path}/data)\n")
    assert "--etcd-cacert: needs --etcd" in await cli.fails(2, "--etcd-cacert", __file__, "tasks")
    foreground.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(foreground.communicate(), 30)
    assert foreground.returncode == 0
    assert re.fullmatch(rf"mpfora: started the embedded etcd, pid \d+; its data is in {tmp_path}/data\n", err.decode())


def test_no_etcd_program_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with mock.patch.dict(os.environ, {"MPFORA_ETCD": ""}):
        assert run(["--data-dir", str(tmp_path / "d"), "--etcd-program", "/no/etcd", "tasks"]) == 1
    assert capfd.readouterr().err == (
        "mpfora: --etcd-program /no/etcd: there is no such program, or it may not be executed\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        "submit", "tasks", "task", "wait", "delete", "pause", "run", "kill", "checkpoint", "release", "sleep", "nodes",
        "node", "demo", "etcd",
    ],
)  # fmt: skip
def test_every_command_is_in_the_help_and_has_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^  {command}  +\S", shown, re.M)
    assert "124  time is up" in shown
    if command != "demo":
        assert run([command, "--help"]) == 0
        assert f"Usage: mpfora {command}" in capsys.readouterr().out


def test_no_command_is_answered_by_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Usage: mpfora [OPTIONS] COMMAND" in capsys.readouterr().err
    assert run(["--version"]) == 0
    assert re.fullmatch(r"mpfora \d\S*\n", capsys.readouterr().out)


def test_the_demo_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    got: list[list[str]] = []
    module = types.ModuleType("mpfora.demo")
    module.main = lambda argv: got.append(argv) or 4  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mpfora.demo", module)
    assert run(["demo", "--fast", "x"]) == 4
    assert got == [["--fast", "x"]]


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("etcd1", ("etcd1:2379",)),
        ("a:1, b:2,", ("a:1", "b:2")),
        ("[::1]:5,https://x.org", ("[::1]:5", "https://x.org:2379")),
        ("http://10.0.0.1:2379/", ("http://10.0.0.1:2379",)),
    ],
)
def test_endpoints(text: str, endpoints: tuple[str, ...]) -> None:
    assert parse_endpoints(text) == endpoints


@pytest.mark.parametrize("text", ["", ",", "a:b", "a:0", "a:70000", "a b:1", "::1", "a/b", "ftp://a"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(SettingsError, match="--etcd"):
        parse_endpoints(text)


def test_what_belongs_together_in_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = make_authority(tmp_path / "ca").path
    with pytest.raises(SettingsError, match="--etcd-cert and --etcd-key go together"):
        etcd_settings(Where(etcd="a", cert=str(pem)))
    monkeypatch.setenv("MPFORA_ETCD_PASSWORD", "secret")
    settings = etcd_settings(Where(etcd="a", user="ann", cacert=str(pem)))
    assert (settings.user, settings.password, settings.cacert) == ("ann", "secret", str(pem))
    assert etcd_settings(Where(etcd="a")).password is None


def test_output_that_cannot_be_written_is_one_line(cli: Cli) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*MPFORA, "nodes"], stdout=full, stderr=subprocess.PIPE, env=cli.env, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr == b"mpfora: standard output cannot be written: No space left on device\n"
