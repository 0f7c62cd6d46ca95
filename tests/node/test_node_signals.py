"""No signal kills a node without a line; and a node that was started without standard files opens nothing in their
place."""

from __future__ import annotations

import asyncio
import logging
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site, command, environment, is_alive, until
from places import SUPPORT

from mpfora.supervisor.signals import Signals


def test_signals_that_ask_something_end_nothing_and_say_so(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep")
        site.submit("t", seconds=3600)
        child = node.child("t")
        node.send(signal.SIGHUP)
        node.log.wait("SIGHUP: importing the handlers anew")
        node.log.wait("new runs are of generation 2 of the code; 1 running task stays in the former code until it ends")
        node.send(signal.SIGUSR1)
        node.log.wait(
            "state: joined, with a lease for .* and a zygote; 1 tasks held, 1 of them with a process, 0 held up;"
        )
        node.log.wait("the longest of .* turns of the loop took .* ms")
        node.send(signal.SIGUSR2)
        node.log.wait("where the supervisor is")
        node.log.wait("thread MainThread:")
        for number in (signal.SIGALRM, signal.SIGPROF, signal.SIGIO, signal.SIGRTMIN + 3):
            node.send(number)
            node.log.wait(rf"signal {int(number)} .* means nothing to a node; it goes on")
        assert is_alive(child)
        assert node.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGXCPU], ids=["SIGQUIT", "SIGXCPU"])
def test_signals_that_end_it_leave_in_order(etcd: EtcdServer, namespace: str, number: signal.Signals) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep", stop_timeout=5)
        site.submit("t", seconds=3600)
        node.child("t")
        node.send(number)
        node.log.wait(f"{number.name}: stopping 1 tasks")
        assert node.exit_code() == 0
        assert "released/t" in site.content()
        if number == signal.SIGQUIT:
            node.log.wait("where the supervisor is")


def test_a_node_whose_terminal_closes_leaves_in_order(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Site(etcd, namespace) as site:
        argv = command("zoo:sleep", etcd=etcd.endpoint, namespace=namespace, name="n1", stop_timeout=5)
        with log.open("wb") as file:
            pid, terminal = pty.fork()
            if pid == 0:
                os.chdir(SUPPORT)
                os.dup2(file.fileno(), 2)
                os.execve(argv[0], argv, environment())
        until(lambda: b"joined namespace" in log.read_bytes(), lambda: log.read_text())
        site.submit("t", seconds=3600)
        until(lambda: b"runs as process" in log.read_bytes(), lambda: log.read_text())
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, log.read_text()
        assert "SIGHUP (its terminal has closed): stopping 1 tasks" in log.read_text()
        assert "released/t" in site.content()


def test_a_node_under_nohup_hears_no_hang_up(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        argv = command("zoo:sleep", etcd=etcd.endpoint, namespace=namespace, name="n1")
        node = site.run(["nohup", *argv])
        node.wait_joined()
        node.send(signal.SIGHUP)
        node.send(signal.SIGUSR1)
        node.log.wait("state: joined")
        assert not node.log.find("SIGHUP")


def test_a_node_without_standard_files_is_not_ended_by_what_a_task_prints(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    with Site(etcd, namespace) as site:
        argv = command("node_handlers:prints_bytes", etcd=etcd.endpoint, namespace=namespace, name="n1")
        closed = ["bash", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "bash", *argv]
        process = subprocess.Popen(closed, cwd=SUPPORT, env=environment(), start_new_session=True)
        try:
            site.submit("t")
            assert site.wait_end("t").state == "completed"
            files = {fd: os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in "012"}
            assert files == dict.fromkeys("012", "/dev/null")
            assert process.poll() is None
            process.terminate()
            assert process.wait(40) == 0
        finally:
            process.kill()
            process.wait()


async def test_what_a_program_handles_itself_is_left_to_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    heard: list[int] = []
    former = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    told: list[str] = []
    try:
        with Signals(asyncio.get_running_loop(), told.append, told.append, lambda: told.append("summary")):
            for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGTERM, signal.SIGQUIT):
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.01)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, former)
    assert heard == [signal.SIGALRM]
    assert told == ["summary", "SIGTERM", "SIGQUIT"]
    assert any("where the supervisor is" in record.getMessage() for record in caplog.records)


TELLS = """
import os, signal, time

def tell(task, ctx):
    supervisor = int(task.props["supervisor"])
    if ctx.attempt == 1:
        os.kill(supervisor, signal.SIGTERM)
    ctx.wait(600 if ctx.attempt == 1 else 0)
    return ctx.leave() if ctx.stopping else {"attempt": ctx.attempt}

def rest(task, ctx):
    ctx.wait(600)
    return ctx.leave(checkpoint=1)
"""


def test_a_task_that_tells_its_node_to_stop_is_obeyed_and_nobody_is_blamed(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    """As `pkill python` in a handler does. Whoever starts nodes again has it back."""
    (tmp_path / "tells.py").write_text(TELLS)
    with Site(etcd, namespace) as site:
        first = site.start("tells:tell", "tells:rest", name="n1", cwd=tmp_path)
        site.submit("other", "tells:rest")
        first.child("other")
        site.submit("t", "tells:tell", supervisor=first.pid)
        assert first.exit_code() == 0
        first.log.wait("SIGTERM: stopping 2 tasks")
        assert {site.kept(task_id).cause for task_id in ("t", "other")} == {"released"}
        again = site.start("tells:tell", "tells:rest", name="n1", cwd=tmp_path)
        state = site.wait_end("t")
        assert (state.state, state.result, state.errors) == ("completed", {"attempt": 2}, ())
        again.child("other")
        assert again.stop() == 0
