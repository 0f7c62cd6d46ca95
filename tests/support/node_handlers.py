"""Well-behaved handlers for tests of real nodes, which tell the tests what they see. Loaded as `node_handlers:NAME`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import mpfora
from mpfora import Context, Handler, Message, Retry, Task

#: what a run of `record` leaves besides its name: when it lived last, in nanoseconds of the boot clock
ALIVE_BYTES = 20


def descriptors(task: Task, ctx: Context) -> dict[str, str]:
    """What this process has open."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that read the list
    return found


def tell(task: Task, ctx: Context) -> dict[str, Any]:
    """What a function is given; says it on every way there is."""
    print(f"out {task.id}")
    print(f"err {task.id}", file=sys.stderr)
    ctx.log.info("log %s", task.id)
    ctx.log.warning("warning")
    return {"id": task.id, "props": dict(task.props), "handler": task.handler, "attempt": ctx.attempt}


async def tell_async(task: Task, ctx: Context) -> list[str]:
    """Results of coroutines."""
    return await asyncio.gather(*(_say(word) for word in task.props["words"]))


async def _say(word: str) -> str:
    await asyncio.sleep(0.01)
    return word


class TellClass(Handler):
    """Metafora's form with ctx: saves what it was given."""

    def __init__(self, task: Task, ctx: Context) -> None:
        super().__init__(task)
        self.ctx = ctx

    def run(self) -> bool:
        self.ctx.save({"fence": self.ctx.fence})
        return True

    def stop(self) -> None:
        self.ctx.log.info("never called")


@mpfora.handler(retry=Retry(max_errors=3, delay="400ms", factor=2, jitter=0))
def fail(task: Task, ctx: Context) -> None:
    """Fails for good, with growing delays."""
    raise ValueError(f"attempt {ctx.attempt}")


def record(task: Task, ctx: Context) -> Message | dict[str, Any]:
    """props: folder, until, deaf (false). Writes down that it lives, over and over, until the file `until` is there;
    saves how often. A deaf one heeds nothing, not even that nobody is left to save to, and is killed.

    Its runs are read by `runs` below."""
    folder, deaf = Path(task.props["folder"]), bool(task.props.get("deaf"))
    count = (ctx.checkpoint or {"count": 0})["count"]
    started = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    name = f"{task.id} {ctx.fence} {os.getpid()} {ctx.attempt} {count} {started}"
    with (folder / name).open("wb", buffering=0) as file:
        while not Path(task.props["until"]).exists():
            os.pwrite(file.fileno(), b"%020d" % time.clock_gettime_ns(time.CLOCK_BOOTTIME), 0)
            count += 1
            if count % 20 == 0:
                _save(ctx, count, deaf)
            ctx.beat()
            if ctx.stopping and not deaf:
                return ctx.leave(checkpoint={"count": count})
            time.sleep(0.01)
    return {"count": count, "fence": ctx.fence}


def _save(ctx: Context, count: int, deaf: bool) -> None:
    try:
        ctx.save({"count": count})
    except OSError:
        if not deaf:
            raise


class RecordedRun:
    """One run of `record`: its claim's number, process, attempt, the count it began with, and when it lived."""

    def __init__(self, path: Path) -> None:
        self.task, *numbers = path.name.split(" ")
        self.fence, self.pid, self.attempt, self.count, self.began = map(int, numbers)
        self.lived = int(path.read_bytes()[:ALIVE_BYTES] or self.began)

    def __repr__(self) -> str:
        return json.dumps(vars(self))


def runs(folder: Path, task_id: str) -> list[RecordedRun]:
    """The runs of a task so far, by their beginning."""
    found = [RecordedRun(path) for path in folder.iterdir() if path.name.split(" ")[0] == task_id]
    return sorted(found, key=lambda run: run.began)


def check_runs(folder: Path, task_id: str) -> list[RecordedRun]:
    """No two runs of the task lived at once, and their numbers grew."""
    found = runs(folder, task_id)
    for earlier, later in itertools.pairwise(found):
        assert earlier.lived < later.began, found
        assert earlier.fence <= later.fence, found
    return found


def prints_bytes(task: Task, ctx: Context) -> None:
    """Each byte as a line: among them the numbers of signals."""
    for number in range(256):
        os.write(1, bytes([number, 10]))


def given(task: Task, ctx: Context) -> dict[str, Any]:
    """What a run has of its node's resources, in its context and in its environment. Holds it for as long as the props
    say, and notes when, so that a test sees whether two runs had the same."""
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    ctx.wait(float(task.props.get("seconds", 0)))
    if ctx.stopping:
        return ctx.leave()
    return {
        "given": dict(ctx.given),
        "environment": {name: os.environ[name] for name in names if name in os.environ},
        "cores": len(os.sched_getaffinity(0)),
        "held": [began, time.clock_gettime_ns(time.CLOCK_BOOTTIME)],
    }


@mpfora.handler(needs={"gpus": 1})
def needs_gpu(task: Task, ctx: Context) -> dict[str, Any]:
    """Declares what it needs."""
    return {"given": dict(ctx.given)}


def hold_gpus(task: Task, ctx: Context) -> None:
    """Locks a file for each of its GPUs, and fails where another run has it; a grandchild holds the locks as well, and
    does not heed any signal but SIGKILL. The node's environment may say in which folder its own GPUs are."""
    import fcntl
    import signal

    folder = Path(os.environ.get("GPU_FOLDER") or task.props["folder"])
    files = [open(folder / f"gpu{number}", "w") for number in ctx.given["gpus"]]  # noqa: SIM115
    for file in files:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
    deadline = time.monotonic() + float(task.props["seconds"])
    while time.monotonic() < deadline:
        time.sleep(0.01)  # it does not look whether it is to stop
