"""`mpfora top`: what keys do, how it looks at each width, and that it runs on a real terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from typing import Any

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mpfora import AsyncClient
from mpfora.cli.top_board import HELP, NODES, TASKS, Board, Deed, chosen, press
from mpfora.cli.top_scene import Scene
from mpfora.cli.top_screen import plain, screen
from mpfora.client import NodeInfo, TaskInfo
from mpfora.client.mirror.run_gauges import NodeTotals, RunGauges

NOW = 1_800_000_000.0
EVIL = "a\x1b[2J\x1b]0;x\x07\u202eb\nc\u4e16\u754c" * 5


def task(name: str, **fields: Any) -> TaskInfo:
    values = {"state": "runnable", "node": "n1", "handler": "train", "cpu": 0.97, "rss": 3 << 30, "progress": 0.42,
              "started": NOW - 3700, "note": "epoch 17"}  # fmt: skip
    return TaskInfo(name, **(values | fields))


def node(name: str, **fields: Any) -> NodeInfo:
    values = {"host": "h", "pid": 1, "tasks": 3, "capacity": 4, "frozen": False, "draining": False, "labels": {},
              "started": "", "handlers": ("train", "load"), "active": 2}  # fmt: skip
    return NodeInfo(name, **(values | fields))


SCENE = Scene(
    "prod", NOW, {"pending": 1204, "runnable": 3}, [node("n1"), node("n2", why="draining")],
    {"n1": NodeTotals(3.91, 12 << 30)}, [task("t1"), task("t2", cpu=None, note=EVIL), task("t3")], 1207, {"t1": 0.4},
)  # fmt: skip

FIRST = Board()


def pressed(keys: list[str], board: Board = FIRST, scene: Scene = SCENE) -> tuple[Board, list[Deed]]:
    deeds = []
    for key in keys:
        board, deed = press(board, key, scene)
        deeds += [] if deed is None else [deed]
    return board, deeds


def test_the_cursor_moves_within_its_list() -> None:
    assert chosen(Board(), SCENE) == "t1"
    assert pressed(["down", "down", "down", "down"])[0].chosen == "t3"
    assert pressed(["down", "up", "up"])[0].chosen == "t1"
    assert pressed(["pagedown"])[0].chosen == "t3"
    board, _ = pressed(["tab", "down"])
    assert (board.focus, board.chosen) == (NODES, "n2")
    assert pressed(["tab"], board)[0].focus == TASKS
    assert chosen(replace(board, chosen="gone"), SCENE) == "n1"
    assert chosen(Board(), Scene("prod", NOW)) == ""


def test_what_ends_something_is_asked_before() -> None:
    board, deeds = pressed(["down", "k"])
    assert deeds == []
    assert board.asked == Deed("kill", "t2")
    assert pressed(["y"], board) == (replace(board, asked=None), [Deed("kill", "t2")])
    for other in ("n", "enter", "escape", "k", " "):
        after, deeds = pressed([other], board)
        assert (after.asked, after.message, deeds) == (None, "nothing is done", [])
    assert pressed(["P", "y"])[1] == [Deed("pause", "t1")]
    assert pressed(["tab", "d", "y"])[1] == [Deed("drain", "n1")]


def test_what_harms_nothing_is_done_at_once() -> None:
    assert pressed(["s"])[1] == [Deed("stack", "t1")]
    assert pressed(["enter"])[1] == [Deed("log", "t1")]
    assert pressed(["r"])[1] == [Deed("run", "t1")]
    assert pressed(["tab", "u"])[1] == [Deed("undrain", "n1")]
    assert pressed(["q"])[1] == [Deed("quit")]


def test_a_key_of_the_other_list_says_where_that_is() -> None:
    board, deeds = pressed(["d"])
    assert deeds == []
    assert board.message == "drain is for nodes: Tab goes to them"
    assert pressed(["tab", "k"])[0].message == "kill is for tasks: Tab goes to them"


def test_with_nothing_under_the_cursor_nothing_is_done() -> None:
    empty = Scene("prod", NOW)
    for key in ("k", "s", "enter", "P", "down", "tab"):
        assert pressed([key], scene=empty)[1] == []


def test_sorting_turns_at_the_second_press() -> None:
    assert pressed(["m"])[0].sort == "rss"
    assert pressed(["m", "m"])[0].sort == "-rss"
    assert pressed(["m", "m", "m"])[0].sort == "rss"
    assert [pressed([key])[0].sort for key in "tpia"] == ["since", "progress", "id", "attempt"]


def test_a_filter_is_typed_and_checked() -> None:
    board, deeds = pressed(["/", *"state:faild", "enter"])
    assert deeds == []
    assert "is 'failed' meant?" in board.message
    board, _ = pressed(["backspace", *"ed", "enter"], board)
    assert (board.q, board.typed) == ("state:failed", None)
    assert pressed(["/", "x", "escape"], board)[0].q == "state:failed"
    assert pressed(["escape"], board)[0].q == ""
    assert pressed(["/", "q", "k"])[0].typed == "qk"  # keys are letters there


def test_a_text_is_read_and_left() -> None:
    board, _ = pressed(["?"])
    assert board.text == HELP
    assert pressed(["down", "down", "up"], board)[0].offset == 1
    assert pressed(["pagedown"] * 9, board)[0].offset == len(HELP) - 1
    assert pressed(["q"], board) == (replace(board, text=()), [])


@given(keys=st.lists(st.sampled_from([*"qkPrsduhcmptia/?yn x:", "up", "down", "enter", "tab", "escape", "backspace"])))
@settings(deadline=None)
def test_whatever_is_pressed_the_screen_is_whole(keys: list[str]) -> None:
    board, _ = pressed(keys)
    lines = screen(board, SCENE, 80, 24)
    assert len(lines) == 24
    assert all(cell_len(line.plain) <= 80 for line in lines)


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200, 500])
@pytest.mark.parametrize("height", [3, 10, 24, 60])
def test_it_fits_every_terminal(width: int, height: int) -> None:
    for board in (Board(), Board(text=("x" * 600, EVIL)), Board(typed=EVIL), Board(message=EVIL), Board(focus=NODES)):
        lines = screen(board, replace(SCENE, trouble=EVIL), width, height)
        assert len(lines) == height
        for line in lines:
            assert cell_len(line.plain) <= width
            assert line.plain.isprintable()


def test_what_it_shows() -> None:
    text = "\n".join(line.plain for line in screen(Board(), SCENE, 120, 20))
    assert re.search(r"2 nodes +1,204 pending +3 runnable", text)
    assert re.search(r"n1 +live +3 +2 of 4 +391% +12\.0 GiB +train,load", text)
    assert re.search(r"n2 +draining", text)
    assert re.search(r"t1 +runnable +n1 +train +97% +3\.0 GiB +42% +0s +1h01m +epoch 17", text)
    assert "1,207 tasks by cpu" in text
    reverse = [line.plain for line in screen(Board(), SCENE, 120, 20) if any(s.style == "reverse" for s in line.spans)]
    assert [line.split()[0] for line in reverse] == ["t1"]
    lines = plain(Board(), SCENE)
    assert any("epoch 17" in line for line in lines)


def test_the_cursor_is_always_on_the_screen() -> None:
    many = replace(SCENE, tasks=[task(f"t{n}") for n in range(200)], total=200)
    for name in ("t0", "t57", "t199"):
        lines = [line.plain for line in screen(Board(chosen=name), many, 80, 20)]
        assert any(line.startswith(f"{name} ") for line in lines)


def test_cores_are_those_of_late() -> None:
    gauges = RunGauges()
    row = {"cpu_s": 10.0, "started": NOW - 100, "rss": 5, "beats": 1}
    gauges.put("n1", {"t": row}, NOW)
    assert gauges.of("t", NOW).cpu == pytest.approx(0.1)  # since the run began
    gauges.put("n1", {"t": {**row, "cpu_s": 12.0}}, NOW + 2)
    assert gauges.of("t", NOW + 2).cpu == pytest.approx(1.0)
    gauges.put("n1", {"t": {**row, "cpu_s": 12.0}}, NOW + 3)  # the node has not looked again
    assert gauges.of("t", NOW + 3).cpu == pytest.approx(1.0)
    gauges.put("n1", {"t": {**row, "cpu_s": 12.0, "beats": 2}}, NOW + 20)
    assert gauges.of("t", NOW + 20).cpu == 0.0
    assert gauges.beat_age("t", NOW + 25) == 5.0
    assert gauges.totals(NOW + 20) == {"n1": NodeTotals(0.0, 5)}
    gauges.put("n1", {}, NOW + 21)
    assert gauges.of("t", NOW + 21).cpu is None
    assert gauges.beat_age("t", NOW + 21) is None


# -- on a terminal ----------------------------------------------------------------------------------------------------


class Glass:
    """A pseudo-terminal with `mpfora top` in it."""

    def __init__(self, endpoint: str, namespace: str, *arguments: str) -> None:
        self.fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "MPFORA_ETCD": endpoint, "MPFORA_NAMESPACE": namespace}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        command = [sys.executable, "-m", "mpfora.cli", "top", *arguments]
        self.process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment)
        os.close(child)
        self.seen = b""

    def read_until(self, pattern: str, limit_s: float = 60.0) -> str:
        """What stands on the glass when the pattern does."""
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    break
            frame = self.seen.decode(errors="replace").rpartition("\x1b[H")[2]
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame)
            if re.search(pattern, text):
                return text
        raise AssertionError(f"{pattern!r} does not come: {self.seen[-4000:]!r}")

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def ends(self) -> int:
        ends = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < ends:
            if select.select([self.fd], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.fd, 65536)
        if self.process.poll() is None:
            self.process.kill()
            raise AssertionError("it does not end")
        with contextlib.suppress(OSError):
            while select.select([self.fd], [], [], 0.1)[0] and (more := os.read(self.fd, 65536)):
                self.seen += more
        os.close(self.fd)
        return self.process.returncode


async def test_on_a_terminal(etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        await client.submit("t1", {}, "train")
        await client.submit("t2", {}, "train")
        async with fake_node(etcd.endpoint, namespace, handlers=("train",)) as node:
            await node.own(
                "t1", progress=0.42, note="epoch 17", attempt=1, started=time.time() - 5, cpu_s=1, rss=9 << 20
            )
            glass = await asyncio.to_thread(Glass, etcd.endpoint, namespace)

            def drive() -> int:
                glass.read_until(r"t1 +runnable +n1 +train.*42%")
                glass.type("/state:pending\r")
                text = glass.read_until(r"1 tasks by cpu  state:pending")
                assert "t1 " not in text
                glass.type("\x1b")
                glass.read_until(r"2 tasks by cpu")
                glass.type("i\x1b[B")
                glass.type("P")
                glass.read_until(r"pause t2\?")
                glass.type("y")
                glass.read_until(r"pause: t2 is paused")
                glass.type("q")
                return glass.ends()

            assert await asyncio.to_thread(drive) == 0
        assert (await client.task("t2")).state == "paused"
    assert glass.seen.decode(errors="replace").rstrip().endswith("\x1b[?1049l")  # the first screen is back
