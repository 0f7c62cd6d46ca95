"""A handler whose strings a test pulls: it writes down that it lives, and does what it is told. Loaded as
`puppets:puppet`.

An order is a file, `ORDERS/TASK`, with a JSON object: {"attempt": 3, "do": "raise"}. It is for one run, so that what
comes too late for that run is nobody's. `do` is "result", "raise", "exit", "segfault", "save", "deaf" (heeds no stop
from now on), or the verb of a message to be returned; "seconds" is how long a sleep lasts.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path
from typing import Any

from mpfora import Context, Message, Task
from mpfora.model.state import Verb

ORDERS = "orders"
#: LEFT/"TASK ATTEMPT" holds what the run left behind when it was asked to stop
LEFT = "left"
#: the errors that a run can be ordered to end in, by what the node calls them
ERRORS = {"raise": "raised", "exit": "exited", "segfault": "signalled"}


def give(folder: Path, task_id: str, attempt: int, **order: Any) -> None:
    """Order it, whole or not at all. Called by tests."""
    written = folder / f"{task_id}.order"
    written.write_text(json.dumps({"attempt": attempt, **order}))
    written.rename(folder / ORDERS / task_id)


def puppet(task: Task, ctx: Context) -> Message | dict[str, int]:
    """props: folder. Its record is that of node_handlers.record: tests read it as RecordedRun. It counts on from its
    checkpoint."""
    folder = Path(task.props["folder"])
    count, is_deaf = (ctx.checkpoint or {"count": 0})["count"], False
    started = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    name = f"{task.id} {ctx.fence} {os.getpid()} {ctx.attempt} {count} {started}"
    with (folder / name).open("wb", buffering=0) as file:
        while True:
            os.pwrite(file.fileno(), b"%020d" % time.clock_gettime_ns(time.CLOCK_BOOTTIME), 0)
            count += 1
            if ctx.stopping and not is_deaf:
                (folder / LEFT / f"{task.id} {ctx.attempt}").write_text(str(count))
                return ctx.leave(checkpoint={"count": count})
            order = _order(folder / ORDERS / task.id, ctx.attempt)
            match order.get("do"):
                case None:
                    pass
                case "deaf":
                    is_deaf = True
                case "save":
                    ctx.save({"count": count})
                case "result":
                    return {"count": count}
                case error if error in ERRORS:
                    _err(error)
                case verb:
                    until = time.time() + order["seconds"] if verb == "sleep" else None
                    return Message(Verb(verb), until)
            time.sleep(0.01)


def _order(path: Path, attempt: int) -> dict[str, Any]:
    """The order for this run, which is taken by that; {} if there is none."""
    try:
        order: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    if order["attempt"] != attempt:
        return {}
    path.unlink(missing_ok=True)
    return order


def _err(how: str) -> None:
    if how == "raise":
        raise ValueError("ordered")
    if how == "exit":
        os._exit(3)
    ctypes.string_at(0)
