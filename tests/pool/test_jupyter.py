"""A pool in a real kernel of Jupyter: what is typed into cells runs, and the bar is one display that is updated."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from places import ROOT

pytest.importorskip("ipykernel", reason="needs ipykernel: pip install ipykernel jupyter_client")
jupyter_client = pytest.importorskip("jupyter_client", reason="needs jupyter_client")

LIMIT_S = 60.0


class Kernel:
    """Runs cells; `run` returns what the cell printed, and its displays as (kind of message, data)."""

    def __init__(self) -> None:
        self.manager = jupyter_client.KernelManager()
        self.manager._kernel_spec = jupyter_client.kernelspec.KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python"
        )
        self.manager.start_kernel(cwd=str(ROOT))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(LIMIT_S)

    def run(self, code: str) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        """Raises AssertionError with the traceback of a cell that fails."""
        asked = self.client.execute(code)
        printed, shown, ends = "", list[tuple[str, dict[str, Any]]](), time.monotonic() + LIMIT_S
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, ends - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"the cell has not ended: {printed}") from None
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    printed += content["text"]
                case "display_data" | "update_display_data" | "execute_result" as kind:
                    shown.append((kind, content["data"]))
                case "error":
                    raise AssertionError("\n".join(content["traceback"]))
                case "status" if content["execution_state"] == "idle":
                    return printed, shown

    def end(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    try:
        made.run("import asyncio, os, time, mpfora\npool = mpfora.Pool(2)")
        yield made
        made.run("pool.shutdown()")
    finally:
        made.end()


def test_what_is_typed_into_a_cell_runs_as_it_is_now_in_a_process_of_its_own(kernel: Kernel) -> None:
    cell = """
def square(x):
    return x * x, os.getpid() != here

here = os.getpid()
print(pool.submit(square, 7).result(), pool.submit(lambda: [n for n in range(3)]).result())
"""
    assert kernel.run(cell)[0] == "(49, True) [0, 1, 2]\n"
    kernel.run("def f(): return 'before'\nassert pool.submit(f).result() == 'before'")
    assert kernel.run("def f(): return 'after'\nprint(pool.submit(f).result())")[0] == "after\n"


def test_a_crash_is_an_error_of_its_call_and_the_notebook_s_own_loop_waits(kernel: Kernel) -> None:
    cell = """
try:
    pool.submit(os.abort).result()
except mpfora.RunDied as death:
    print(death.cause, death.signal)
try:
    await asyncio.wait_for(asyncio.wrap_future(pool.submit(time.sleep, 60)), 0.3)
except TimeoutError:
    print('killed')
print(pool.submit(lambda: 'goes on').result())
"""
    assert kernel.run(cell)[0] == "signalled 6\nkilled\ngoes on\n"


def test_what_is_shown_under_a_cell(kernel: Kernel) -> None:
    """A bar is one display that is updated; what a call prints comes too; and a group shows how far it is."""
    _, shown = kernel.run("assert len(list(pool.map(lambda x: time.sleep(0.05), range(12), progress=True))) == 12")
    kinds = [kind for kind, _ in shown]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) == {"update_display_data"}
    assert "0 of 12" in shown[0][1]["text/html"]
    assert '<progress value="12" max="12">' in shown[-1][1]["text/html"]
    printed, _ = kernel.run("future = pool.submit(lambda: print('from within'))\nfuture.result()")
    assert "from within" in printed
    cell = "from mpfora.client import GroupProgress\nGroupProgress('<g>', 4, {'completed': 2, 'pending': 2}, {}, 0.5)"
    (kind, data), *_ = kernel.run(cell)[1]
    assert kind == "execute_result"
    assert data["text/html"].startswith('<progress value="0.5000" max="1"></progress> &lt;g&gt;: 50% of 4')
