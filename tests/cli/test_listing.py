"""`mpfora tasks` with filters, pages and columns; lists that go on; bulk commands on a filter; completion."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import click
import pytest
from etcd_server import EtcdServer
from node import until

from mpfora import Client, Message
from mpfora.cli import run
from mpfora.cli.group import MODULES, cli
from mpfora.client import NewTask


class Shell:
    """Runs `mpfora` against one namespace."""

    def __init__(self, etcd: EtcdServer, namespace: str, client: Client) -> None:
        self.client = client
        self._environment = {**os.environ, "MPFORA_ETCD": etcd.endpoint, "MPFORA_NAMESPACE": namespace}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mpfora.cli", *arguments], env={**self._environment, **more}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, *arguments: str, code: int = 0, **more: str) -> tuple[str, str]:
        """(what it prints, what it says on standard error). In this process, which is many times faster."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, {**self._environment, **more}), redirect_stdout(out), redirect_stderr(err):
            ended = run(arguments)
        assert ended == code, err.getvalue()
        return out.getvalue(), err.getvalue()

    def ids(self, *arguments: str) -> list[str]:
        return self.run("tasks", "--ids", *arguments)[0].split()


@pytest.fixture
def shell(etcd: EtcdServer, namespace: str) -> Iterator[Shell]:
    with Client(etcd.endpoint, namespace) as client:
        client.submit_many(
            [NewTask(f"t{n}", {"n": n, "group": "g1", "labels": {"gpu": "yes"}}, "train") for n in range(4)]
        )
        client.submit("other", {"n": 1}, "load")
        client.command("t3", Message.kill())
        client.command("t2", Message.pause())
        yield Shell(etcd, namespace, client)


def test_filters_and_options_choose_alike(shell: Shell) -> None:
    assert shell.ids("state:pending", "handler:train") == ["t0", "t1"]
    assert shell.ids("--state", "pending", "--handler", "train") == ["t0", "t1"]
    assert shell.ids("-state:pending,paused") == ["t3"]
    assert shell.ids("--group", "g1", "--label", "gpu=yes") == ["t0", "t1", "t2"]
    assert shell.ids("group:g1") == ["t0", "t1", "t2", "t3"]  # a finished one keeps its group
    assert shell.ids("--id", "o*") == ["other"]
    assert shell.ids("props.n:1") == ["other", "t1"]
    assert shell.ids("--sort", "-id", "--limit", "2") == ["t3", "t2"]


def test_pages_say_how_to_go_on(shell: Shell) -> None:
    out, err = shell.run("tasks", "--ids", "--limit", "2")
    assert out.split() == ["other", "t0"]
    assert err == "mpfora: 2 of 5 tasks; the next ones: --after t0\n"
    assert shell.ids("--limit", "2", "--after", "t0") == ["t1", "t2"]


def test_columns(shell: Shell) -> None:
    out, _ = shell.run("tasks", "--columns", "id,group,cause", "--state", "killed")
    assert out.split() == ["ID", "GROUP", "CAUSE", "t3", "g1", "-"]
    (row,) = json.loads(shell.run("tasks", "state:killed", "--json")[0])
    assert (row["handler"], row["group"]) == ("train", "g1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tasks", "staet:failed"), "filter, at character 1: 'staet' is not a field (is 'state' meant?)"),
        (("tasks", "id:a", "state:faild"), "filter, at character 12: 'faild' is not a state (is 'failed' meant?)"),
        (("tasks", "--columns", "id,colour"), "'colour' is not a column: there are id, state"),
        (("tasks", "--sort", "name"), "'name' is none of id, since"),
        (("tasks", "--sort", "since", "--after", "t1"), "after: 't1' is not what a page in this order"),
        (("tasks", "--label", "gpu"), "--label 'gpu': write it as NAME=VALUE"),
        (("tasks", "--since", "soon"), "'soon' is neither a duration"),
        (("kill", "--filter", "nonsense:1", "--yes"), "'nonsense' is not a field"),
        (("kill", "t1", "--filter", "id:t*"), "give IDs, or --all, or one or more of"),
        (("nodes", "-w", "--counts"), "do not go together"),
        (("top",), "--once"),
        (("top", "--once", "staet:x"), "'staet' is not a field"),
    ],
)
def test_what_cannot_be_meant_is_one_line(shell: Shell, arguments: tuple[str, ...], says: str) -> None:
    out, err = shell.run(*arguments, code=2)
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_command_on_a_filter_asks_with_the_count(shell: Shell) -> None:
    _, err = shell.run("kill", "--filter", "handler:train", code=1)
    assert err == "mpfora: Kill 3 tasks (1 finished left out)? Nobody can answer here: give --yes\n"
    out, _ = shell.run("kill", "--filter", "handler:train", "--group", "g1", "--yes")
    assert out == "kill: done for 3\n"
    assert {task.id: task.state for task in shell.client.tasks()} == {
        "other": "pending", "t0": "killed", "t1": "killed", "t2": "killed", "t3": "killed"
    }  # fmt: skip
    out, _ = shell.run("delete", "--filter", "state:killed", "--yes")
    assert out == "deleted 4\n"


def test_lists_go_on(shell: Shell) -> None:
    process = shell.start("tasks", "-w", "--json", "handler:train,load", "-state:killed")
    assert process.stdout is not None
    rows = [json.loads(process.stdout.readline()) for _ in range(4)]
    assert [row["id"] for row in rows] == ["other", "t0", "t1", "t2"]
    shell.client.command("t0", Message.pause())
    row = json.loads(process.stdout.readline())
    assert (row["id"], row["state"]) == ("t0", "paused")
    shell.client.delete("other")
    assert json.loads(process.stdout.readline()) == {"id": "other", "gone": True}
    process.terminate()
    process.communicate(timeout=30)


def test_a_task_is_watched_to_its_end(shell: Shell) -> None:
    process = shell.start("task", "t1", "-w")
    assert process.stdout is not None
    assert process.stdout.readline().split()[:3] == ["ID", "STATE", "NODE"]
    assert process.stdout.readline().split()[:2] == ["t1", "pending"]
    shell.client.command("t1", Message.kill())
    out, err = process.communicate(timeout=60)
    assert out.splitlines()[-1].split()[:2] == ["t1", "killed"], err
    assert process.returncode == 0


def test_top_in_a_pipe(shell: Shell) -> None:
    out, _ = shell.run("top", "--once", "handler:train", "-state:killed")
    assert out.splitlines()[0] == "0 nodes   1 killed  1 paused  3 pending"
    assert [line.split()[0] for line in out.splitlines()[4:]] == ["t0", "t1", "t2"]


def test_colours_are_for_terminals_that_want_them(shell: Shell) -> None:
    assert "\x1b" not in shell.run("tasks", TERM="xterm-256color")[0]
    assert "\x1b" not in shell.run("doctor", code=1, TERM="xterm-256color")[0]


def complete(shell: Shell, *words: str) -> list[str]:
    environment = {
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_MPFORA_COMPLETE": "bash_complete",
    }
    out, _ = shell.start(**environment).communicate(timeout=100)
    return [line.partition(",")[2] for line in out.splitlines()]


def test_a_shell_completes_what_there_is(shell: Shell) -> None:
    # a busy machine may be too slow for whoever presses Tab, and then nothing is offered
    until(lambda: complete(shell, "mpfora", "task", "t") == ["t0", "t1", "t2", "t3"], "the ids to be offered")
    until(lambda: complete(shell, "mpfora", "kill", "o") == ["other"], "the id to be offered")
    assert "completion" in complete(shell, "mpfora", "comp")
    assert complete(shell, "mpfora", "--etcd", "127.0.0.1:1", "task", "t") == []


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_is_told_nothing_where_nothing_fits(shell: Shell, name: str) -> None:
    """An empty line would be an entry to fish."""
    words = {"COMP_WORDS": "mpfora nosuch", "COMP_CWORD": "nosuch" if name == "fish" else "1"}
    out, errors = shell.start(**words, _MPFORA_COMPLETE=f"{name}_complete").communicate(timeout=100)
    assert (out, errors) == ("", "")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_for_shells(shell: Shell, name: str) -> None:
    out, _ = shell.run("completion", name)
    assert f"_MPFORA_COMPLETE={name}_complete" in out


def test_the_script_for_bash_is_one(shell: Shell) -> None:
    out, _ = shell.run("completion", "bash")
    subprocess.run(["bash", "-n"], input=out, text=True, check=True)


def test_the_help_lists_every_command() -> None:
    for module, names in MODULES.items():
        commands = importlib.import_module(f"mpfora.cli.{module}").COMMANDS
        assert tuple(command.name for command in commands) == names, module
    listed = [name for names in MODULES.values() for name in names]
    assert cli.list_commands(click.Context(cli)) == listed


@pytest.mark.parametrize("arguments", [["--version"], ["--wrong"]])
def test_what_needs_no_etcd_starts_without_its_client(arguments: list[str]) -> None:
    program = (
        f"import sys; from mpfora.cli import run; run({arguments});"
        " print(sorted({'grpc', 'etcd3', 'asyncio', 'ssl', 'mpfora.client'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_command_imports_what_it_needs_alone() -> None:
    program = (
        "import sys; from mpfora.cli import run; run(['task', '--help']);"
        " print(sorted({'mpfora.cli.top', 'mpfora.doctor.gather', 'mpfora.demo', 'starlette'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
