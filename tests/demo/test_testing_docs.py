"""The examples in docs/testing.md pass as they stand there, with the handler of the README; and the fixture's ways."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from places import ROOT

from mpfora import testing
from mpfora.testing.benches import Benches

pytest_plugins = ["mpfora.testing.plugin"]
pytestmark = pytest.mark.keeps_processes("one zygote serves all runs of a handler")

BLOCK = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)


def blocks(document: str) -> dict[str, str]:
    """The code blocks that begin with the name of a file."""
    return dict(BLOCK.findall((ROOT / document).read_text()))


def test_the_examples_of_the_handbook_pass(tmp_path: Path) -> None:
    files = blocks("docs/testing.md")
    assert {"conftest.py", "test_primes.py", "test_many.py", "test_async.py", "test_hostile.py"} <= set(files)
    for name, text in (files | {"primes.py": blocks("README.md")["primes.py"]}).items():
        (tmp_path / name).write_text(text)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = sum(text.count("def test_") for text in files.values())
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= wanted


# -- the fixture ------------------------------------------------------------------------------------------------------


def where(task, ctx):
    return {"parent": os.getppid(), "n": task.props.get("n")}


def kills_its_zygote(task, ctx):
    if task.props.get("kill", True):
        os.kill(os.getppid(), 9)
        ctx.wait(60)


def raises(task, ctx):
    raise ValueError("no")


def test_one_process_serves_all_runs_of_a_handler(handler_bench: Benches) -> None:
    runs = [handler_bench(where, {"n": n}) for n in range(3)]
    assert [run.result["n"] for run in runs] == [0, 1, 2]
    assert len({run.result["parent"] for run in runs}) == 1


def test_threads_may_share_it(handler_bench: Benches) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(handler_bench(where, {"n": n}).result["n"])) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(6))


def test_a_handler_that_takes_its_zygote_along_harms_no_later_run(handler_bench: Benches) -> None:
    assert handler_bench(kills_its_zygote).cause == "zygote_lost"
    assert handler_bench(kills_its_zygote, {"kill": False}).cause == "completed"


async def test_async_tests_may_use_it(handler_bench: Benches) -> None:
    assert handler_bench(raises).error == "ValueError: no"


def test_what_cannot_be_run_is_raised(handler_bench: Benches) -> None:
    with pytest.raises(testing.HandlerImportError):
        handler_bench("no_such_module:f")
    with pytest.raises(testing.HandlerSpecError):
        handler_bench(lambda task, ctx: None)
    with pytest.raises(TimeoutError):
        handler_bench(endless, timeout=0.3)
    with pytest.raises(ValueError, match=r"props.stall_timeout: 'soon' is not a duration"):
        handler_bench(where, {"stall_timeout": "soon"})


def endless(task, ctx):
    ctx.wait()


def test_settings_in_props_hold_as_on_a_node(handler_bench: Benches) -> None:
    assert handler_bench(endless, {"stall_timeout": 0.2}).cause == "stalled"
