"""What a handler finds is what a plain Python program finds, where zygote and supervisor have a part in it."""

from __future__ import annotations

import gzip
import json
import os
import resource
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT, SUPPORT
from zygote_harness import Node, node, timeouts

from mpfora import Consumer, MemoryCoordinator
from mpfora.config.handler_spec import parse_spec
from mpfora.linux import syscalls
from mpfora.model.outcome import Cause
from mpfora.supervisor.consumer import NodeError
from mpfora.supervisor.zygote.cgroups import Groups
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes
from mpfora.supervisor.zygote.startup import HandlerImportError, ZygoteStartError


async def result(n: Node, handler: str, props: object = None) -> object:
    outcome = await n.run(handler, props)
    assert outcome.message is not None, outcome
    return outcome.message.result


async def test_arguments_are_none_of_the_nodes(plain: None) -> None:
    async with node("arguments", module="plain_zoo") as n:
        assert await result(n, "arguments") == [3, ["mpfora"], False, ["mpfora"]]


async def test_the_soft_limit_of_open_files_is_kept(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(syscalls, "_lower_nofile", None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        async with node("limits", module="plain_zoo") as n:
            assert await result(n, "limits") == [256, 256]
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_breakpoint_names_the_remedy(plain: None) -> None:
    async with node("stops_for_a_debugger", module="plain_zoo") as n:
        outcome = await n.run("stops_for_a_debugger")
    assert "has no terminal for a debugger: take breakpoint()" in outcome.error


def test_the_interpreters_flags_are_kept(plain: None) -> None:
    """In an interpreter of its own, which is started with them."""
    program = (
        "import asyncio, json\n"
        "from zygote_harness import node\n"
        "async def main():\n"
        "    async with node('flags', module='plain_zoo') as n:\n"
        "        print(json.dumps((await n.run('flags')).message.result))\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-O", "-X", "dev", "-W", "error::UserWarning", "-c", program]
    done = subprocess.run(command, cwd=SUPPORT, capture_output=True, text=True, timeout=60, check=True)
    optimize, dev_mode, warnings, debug = json.loads(done.stdout.splitlines()[-1])
    assert (optimize, dev_mode, debug) == (1, True, False)
    assert "error::UserWarning" in warnings


async def test_a_progress_bar_is_shown_while_it_goes_on(plain: None) -> None:
    async with node("bars", module="plain_zoo") as n:
        run = n.fork("bars")
        await n.line(run, "30%|###   |")
        assert not n.ends(run)


# -- what the resource tracker removes --------------------------------------------------------------------------------


def is_there(name: str) -> bool:
    return Path("/dev/shm", name.lstrip("/")).exists()


@pytest.fixture(params=["", "1"], ids=["", "and one of the zygote's"])
def tracked(plain: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module may have started a tracker at its import, which all children would share."""
    if request.param:
        monkeypatch.setenv("PLAIN_TRACKER", request.param)


@pytest.mark.parametrize("grouped", [False, True], ids=["", "with control groups"])
@pytest.mark.parametrize("props", [{}, {"aborts": True}, {"waits": True}], ids=str)
async def test_shared_memory_that_a_run_leaves_is_removed_when_it_has_ended(
    tracked: None, props: dict[str, bool], grouped: bool
) -> None:
    groups = Groups(f"test-{secrets.token_hex(4)}", "n1", may_move=False) if grouped else None
    async with node("leaves_shared_memory nothing", module="plain_zoo", groups=groups) as n:
        run = n.fork("leaves_shared_memory", props)
        line = await n.line(run, "made ")
        name = line.removeprefix("made ")
        if props.get("waits"):
            assert is_there(name)
            assert (await n.killed(run, dump=False)).cause is Cause.STOP_TIMEOUT
        else:
            await n.outcome(run)
        assert not is_there(name)
        assert (await n.run("nothing")).cause is Cause.COMPLETED


async def test_shared_memory_that_a_module_made_is_removed_when_the_zygote_leaves(
    plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIN_TRACKER", "1")
    async with node("nothing", module="plain_zoo") as n:
        name = (await n.line(0, "made ")).split()[1]
        assert (await n.run("nothing")).cause is Cause.COMPLETED
        assert is_there(name)
    assert not is_there(name)


async def test_shared_memory_is_removed_when_the_deadline_has_passed(plain: None) -> None:
    async with node("leaves_shared_memory", module="plain_zoo") as n:
        run = n.fork("leaves_shared_memory", {"waits": True})
        name = (await n.line(run, "made ")).removeprefix("made ")
        n.zygote.set_deadline(syscalls.boot_ns())
        assert (await n.outcome(run)).cause is Cause.LOST_CLAIM
        assert not is_there(name)


async def test_files_of_a_module_are_written_by_each_child_and_by_no_two(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIN_ROWS", str(tmp_path / "rows"))
    monkeypatch.setenv("PLAIN_PACKED", str(tmp_path / "packed"))
    async with node("rows nothing", module="plain_zoo") as n:
        assert (tmp_path / "rows").read_text() == "header\n"
        for handler in ("rows", "nothing"):
            assert (await n.run(handler)).cause is Cause.COMPLETED
    assert (tmp_path / "rows").read_text() == "header\nrow of t1\n"
    assert gzip.decompress((tmp_path / "packed").read_bytes()) == b"packed\n"


async def test_what_is_open_since_the_import_and_shared_is_named(
    plain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("PLAIN_PORT", str(port))
        monkeypatch.setenv("PLAIN_DATABASE", str(tmp_path / "jobs.db"))
        async with node("nothing", module="plain_zoo") as n:
            await n.run("nothing")
    assert f"a connection to 127.0.0.1:{port} (descriptor" in caplog.text
    assert f"the file {tmp_path / 'jobs.db'}, to be read and written" in caplog.text
    assert "Open these in the handler" in caplog.text
    assert "/dev/null" not in caplog.text


async def test_an_import_that_takes_long_is_told_and_its_place_is_shown(
    plain: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLAIN_IMPORT_S", "60")
    monkeypatch.setattr("mpfora.supervisor.zygote.startup._TELL_IMPORT_S", 0.2)
    monkeypatch.setattr("mpfora.supervisor.zygote.command_line._DUMP_EVERY_S", 0.3)
    caplog.set_level("INFO")
    lines: list[str] = []
    zygote = NodeZygotes(
        [parse_spec("plain_zoo:nothing")],
        "n",
        lambda _: None,
        lambda _, line: lines.append(line),
        timeouts=timeouts(start_s=8),
    )
    with pytest.raises(ZygoteStartError, match=r"took over 8 s; .* --import-timeout"):
        await zygote.start()
    assert "the handlers are still being imported, for 0.4 s now" in caplog.text
    assert any('plain_zoo.py", line' in line for line in lines), lines


async def test_an_import_that_takes_less_than_its_time_leaves_no_thread(
    plain: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLAIN_IMPORT_S", "1")
    monkeypatch.setattr("mpfora.supervisor.zygote.command_line._DUMP_EVERY_S", 0.2)
    async with node("nothing", module="plain_zoo") as n:
        assert (await n.run("nothing")).cause is Cause.COMPLETED
        assert any('plain_zoo.py", line' in line for line in n.lines[""])
    assert "threads" not in caplog.text


async def test_a_module_of_the_users_in_the_place_of_the_librarys_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wave.py").write_text("")
    (tmp_path / "shadowed.py").write_text("from wave import Wave_read\ndef f(task, ctx): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    zygote = NodeZygotes([parse_spec("shadowed:f")], "n", lambda _: None, lambda *_: None)
    with pytest.raises(HandlerImportError) as caught:
        await zygote.start()
    assert f"{tmp_path}/wave.py stands in the place of the standard library's module 'wave'" in caught.value.traceback


@pytest.mark.parametrize("name", ["queue", "email"])
def test_such_a_module_that_breaks_the_node_itself_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "jobs.py").write_text("def f(task, ctx): ...\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mpfora.supervisor", "jobs:f"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"mpfora: {tmp_path}/{name}.py stands in the place of")


def test_a_node_without_proc_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpfora.supervisor.consumer._PROC", "/nowhere/self/stat")
    with pytest.raises(NodeError, match="mount -t proc"):
        Consumer(MemoryCoordinator(), "plain_zoo:nothing", name="n1").run()


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from mpfora import Consumer, MemoryCoordinator\n"
        "def job(task, ctx): ...\n"
        "Consumer(MemoryCoordinator(), job, name='n1').run()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "put what starts it under `if __name__ == '__main__':`" in done.stderr, done.stderr


@pytest.fixture
def plain() -> Iterator[None]:
    yield
    sys.modules.pop("plain_zoo", None)
